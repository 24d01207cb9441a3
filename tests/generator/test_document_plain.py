"""What is read as plain text is what the YAML parser reads, and a text that has a fault is never read so."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fleet_iot.generator.diagnostics import ManifestError
from fleet_iot.generator.manifest.document import compose_document, parse_document
from fleet_iot.generator.manifest.plain import MAXIMUM_CHARACTERS, read_plain

ROOT = Path(__file__).parents[2]
SAMPLE = (ROOT / "fleet.yaml").read_text("utf-8")
GOLDEN = sorted(file for file in (ROOT / "tests" / "golden").rglob("*.yaml") if file.is_file())


def parser_agrees(text: str) -> bool:
    """The text is not plain, or the parser reads the same from it, without a fault, types and order included."""
    plain = read_plain(text)
    if plain is None:
        return True
    try:
        document = compose_document(text, name="fleet.yaml")
    except ManifestError:
        return False
    return not document.faults and repr(plain) == repr(document.data)


def test_sample_is_plain() -> None:
    """The committed manifest, comments and flow mappings and all, needs no parser; what it says is the same."""
    assert read_plain(SAMPLE) is not None
    assert parser_agrees(SAMPLE)


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_golden_manifest_is_read_as_the_parser_does(file: Path) -> None:
    """Also where it is faulty."""
    assert parser_agrees(file.read_bytes().decode("utf-8", "replace"))


WORDS = ["a", "b", "key", "12", "1.5", "-3", "NO", "012", "~", "null", "true", ".inf", "'q'", '"q"', "'it''s'", '"\\n"']
WORDS += ["*a", "&a", "!t", "<<", "é", "\u2028", "\xa0", "\x85", "- x", "-", "?", "?x", "|", ">-", "%", "@", "`", "[1]"]
WORDS += ["{}", "{a: 1}", "{a: {b: 'x, y'}, c: -}", "{a: 1,}", "{a}", "{a:1}", "{'a': 1}", "{a: 1} x", "{a: #\n1}"]
WORDS += [
    "x y",
    "x  y",
    "x#y",
    "x #y",
    "#",
    "# c",
    "---",
    "...",
    "--- a",
    "x:y",
    "x: y",
    "x:",
    "a,b",
    "a]b",
    "a}b",
    "1:30",
]
SPACES = ["", " ", "  ", "    ", "\t", "\n", "\n ", "\n  ", "\n    ", "\r\n"]
TEXTS = st.lists(
    st.tuples(
        st.sampled_from(["", " ", "  ", "    "]),
        st.sampled_from([*WORDS[:14], "", "#"]),
        st.sampled_from([": ", ":", " : ", "", ":  "]),
        st.sampled_from(["", *WORDS]),
        st.sampled_from(["\n", " \n", " # c\n", "# c\n", "", "\n\n", *SPACES]),
    ).map("".join),
    min_size=1,
    max_size=6,
).map("".join)


@settings(max_examples=300, deadline=None)
@example("a: x\n  y: 1\n")
@example("a:\n  b: 1\n c: 2\n")
@example("a:\n  b: 1\n  b: 2\n")
@example("a: {b: 1, b: 2}\n")
@example("a: b # c\n d\n")
@example("a: 'x\n")
@example("a:\n\n# c\n  b: 1\nc:\n")
@example("  a: 1\nb: 2\n")
@example("NO: 1\n")
@example("a: 1_000\n")
@example("a: 2026-11-23\n")
@example("a: x\n---\nb: y\n")
@example("%YAML 1.1\n---\na: 1\n")
@example("a: .\n")
@example("a: -\n")
@example("a: -.5\n")
@given(TEXTS)
def test_near_plain_text_is_read_as_the_parser_does(text: str) -> None:
    """Lines put together from what is plain and what is only nearly so."""
    assert parser_agrees(text)


@settings(max_examples=1_000, deadline=None)
@given(st.text(st.sampled_from("ab1-.:,#{}[]'\"\\ \n~|>&*!%@`?<=_/é\u2028\xa0\t"), max_size=24))
def test_any_text_is_read_as_the_parser_does(text: str) -> None:
    """Also as a value, in a flow mapping, and as a key."""
    for around in ("{}", "a: {}", "a: {{b: {}}}", "{}: 1", "a:\n  b: {}\nc: 1"):
        assert parser_agrees(around.format(text))


@pytest.mark.parametrize(
    "text", ["a: 1\n", "a:\n  b: 'x # y'  # c\n", '# c\n\na: {b: 1, c: {d: "e"}}\n', "a:\n", "a: x, y z\n"]
)
def test_plain_text_is_taken(text: str) -> None:
    """The short way is not only right, it is taken."""
    assert read_plain(text) is not None
    assert parser_agrees(text)


def test_places_are_those_of_the_parser() -> None:
    """A document that was read as plain text knows the place of everything, once it is asked."""
    plain, parsed = parse_document(SAMPLE, name="f"), compose_document(SAMPLE, name="f")
    facilities = plain.data["facilities"]
    paths = [("facilities", id_, "things", type_) for id_ in facilities for type_ in facilities[id_]["things"]]
    assert len(paths) >= 10
    for path in paths:
        assert parsed.sources.at(path) == plain.sources.at(path)
        assert parsed.sources.at(path, is_key=True) == plain.sources.at(path, is_key=True)


def test_text_that_might_hold_too_many_values_is_for_the_parser() -> None:
    """The limit on values is the parser's to tell."""
    assert read_plain("a: 1\n" + "#" * MAXIMUM_CHARACTERS) is None


def test_words_put_into_lines_are_read_as_the_parser_does() -> None:
    """The sample with one character changed, taken out or put in, at each of a thousand places."""
    choose = random.Random(7)
    for _ in range(1_000):
        place = choose.randrange(len(SAMPLE))
        line_start = SAMPLE.rfind("\n", 0, place) + 1
        part = SAMPLE[line_start : line_start + 400]
        place = min(place - line_start, len(part) - 1)
        text = part[:place] + choose.choice(["", " ", "\n", *":#{},'\"-&*!", "é"]) + part[place + choose.randrange(2) :]
        assert parser_agrees(text), text
