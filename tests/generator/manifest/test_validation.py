"""Whatever a manifest holds, it is judged by diagnostics with places, and never by a traceback."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.generator.diagnostics import DataPath, ManifestError
from fleet_iot.generator.manifest.load import read_manifest, validate
from fleet_iot.generator.manifest.yaml import parse_document, resolve, trap
from tests.places import PROJECT, SAMPLE

ROOT = PROJECT
TEXT = (SAMPLE / "fleet.yaml").read_text("utf-8")


def faults_of(text: str) -> tuple[Any, ...]:
    """The diagnostics of a text; anything but `ManifestError` gets through."""
    try:
        validate(parse_document(text, name="fleet.yaml"))
    except ManifestError as error:
        return error.diagnostics
    return ()


def is_placed(text: str, faults: tuple[Any, ...]) -> bool:
    """Every fault lies within the text."""
    lines = len(text.splitlines()) + 1
    return all(1 <= fault.location.line <= lines and fault.location.column >= 1 for fault in faults)


JUNK = ["{", "}", "[", "]", ":", "- ", "? ", "&a ", "*a", "<<: ", "!x ", "|", ">", "#", '"', "'", "\t", "\n", "  ", "%"]
JUNK += ["012", "NO", "~", "null", "1e999", ".nan", "2026-11-23", "\u2028", "\u202e", "\0", "\ufeff", "é", "-0", "0x1F"]


FUZZ = int(os.environ.get("FLEET_FUZZ", "400"))
"""Number of mutated manifests; `FLEET_FUZZ=100000` is the long run."""
SMALL = (ROOT / "tests" / "golden" / "valid" / "fleet.yaml").read_text("utf-8")
SOURCES = (SMALL, SMALL, SMALL, TEXT)
SOURCES += tuple(
    file.read_text("utf-8")
    for name in (
        "valid_all_kinds_of_things",
        "fault_behind_a_merge_key",
        "tags",
        "attributes",
        "serials_collide",
        "escapes_in_keys",
    )
    for file in [ROOT / "tests" / "golden" / name / "fleet.yaml"]
)


def mutated(choose: random.Random) -> str:
    """A manifest whose lines are cut, doubled and moved, with junk in any place, or a byte of another one."""
    text = choose.choice(SOURCES)
    for _ in range(choose.randint(1, 4)):
        place = choose.randrange(len(text))
        kind = choose.randrange(6)
        if kind == 0:
            text = text[:place] + choose.choice(JUNK) + text[place:]
        elif kind == 1:
            text = text[:place] + text[place + choose.randint(1, 30) :]
        elif kind == 2:
            text = (
                text[:place] + chr(choose.choice((choose.randrange(128), choose.randrange(0xD800)))) + text[place + 1 :]
            )
        else:
            lines = text.splitlines(keepends=True)
            source, target = choose.randrange(len(lines)), choose.randrange(len(lines))
            line = lines[source] if kind < 5 else lines.pop(source)
            lines.insert(target, line)
            text = "".join(lines)
        text = text or "x"
    return text


@pytest.mark.parametrize("chunk", range(8))
def test_mutated_manifest_raises_nothing_but_diagnostics(chunk: int) -> None:
    """Every answer is a list of placed faults, each with its rule."""
    for number in range(chunk, FUZZ, 8):
        text = mutated(random.Random(number))
        faults = faults_of(text)
        assert is_placed(text, faults), number
        assert all(fault.rule for fault in faults), number


DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=200)
@given(part=DATA, path=st.sampled_from(["", "tags", "stream", "processor", "device_types", "facilities", "version"]))
def test_any_data_in_any_part_raises_nothing_but_diagnostics(part: Any, path: str) -> None:
    """A part of another type, depth or content ends in placed faults."""
    data = yaml.safe_load(TEXT) | {path: part} if path else part
    text = yaml.safe_dump(data, allow_unicode=True)
    assert is_placed(text, faults_of(text))


@pytest.mark.slow
@settings(max_examples=200)
@given(part=DATA, depth=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_any_data_deep_inside_raises_nothing_but_diagnostics(part: Any, depth: int, seed: int) -> None:
    """The same for a part deep inside a device type or a facility."""
    choose, data = random.Random(seed), yaml.safe_load(TEXT)
    node = data[choose.choice(["device_types", "facilities"])]
    for _ in range(depth):
        key = choose.choice(sorted(node))
        if not isinstance(node[key], dict) or not node[key]:
            break
        node = node[key]
    node[choose.choice(sorted(node))] = part
    text = yaml.safe_dump(data, allow_unicode=True)
    assert is_placed(text, faults_of(text))


def test_every_value_has_its_place() -> None:
    """At the place of each scalar of the sample stands the scalar; at the place of each key, the key."""
    document = parse_document(TEXT, name="fleet.yaml")
    lines = TEXT.splitlines()
    seen = 0

    def walk(value: Any, path: DataPath) -> None:
        nonlocal seen
        if isinstance(value, dict):
            for key, item in value.items():
                place = document.at((*path, key), is_key=True)
                assert lines[place.line - 1][place.column - 1 :].startswith(key)
                walk(item, (*path, key))
            return
        place = document.at(path)
        written = lines[place.line - 1][place.column - 1 :].lstrip('"')
        assert written.startswith(str(value)) or float(written.split(",")[0].split("}")[0].split()[0]) == value
        seen += 1

    walk(document.data, ())
    assert seen >= 100


TRAPS = ("NO", "yes", "On", "off", "012", "0o14", "0x1F", "0b1", "1_000", "1:30", "2026-11-23", "+07", "089")
TRAPS += ("190:20:30", "1:30:59.5", "1_0:30", "1_0.5", "1.5_0", ".5_0", "0b1_0", "-0x1", "2026-11-23T10:00:00Z", "=")
TRAPS += ("2026-1-2 10:00:00", "OFF", "Yes", "0_7", "-012")
PLAIN = ("mfg", "dev", "none", "north", "on-site", "yesterday", "10", "-10", "1.5", "0", "4/h", "a:b", "1e3")


@pytest.mark.parametrize("text", TRAPS)
def test_trap_is_known(text: str) -> None:
    """A scalar that YAML readers disagree about is never taken in silence."""
    assert trap(text)


@pytest.mark.parametrize("text", PLAIN)
def test_plain_words_and_numbers_are_no_traps(text: str) -> None:
    """Words and numbers that all readers understand alike are no traps."""
    assert trap(text) is None


@pytest.mark.slow
@settings(max_examples=400)
@given(
    st.text("0123456789_.:-+eExobTZnyf ", min_size=1, max_size=10) | st.from_regex(r"\A[-+]?[0-9][0-9_.:eE+-]{0,9}\Z")
)
def test_what_yaml_1_1_reads_in_another_way_is_a_trap(text: str) -> None:
    """PyYAML's own resolver takes each plain scalar that is no trap for text, or for the very same value."""
    word = text.strip()
    try:
        theirs = yaml.safe_load(f"[{word}]")
    except (yaml.YAMLError, ValueError):
        return
    if trap(word) or not (isinstance(theirs, list) and len(theirs) == 1) or isinstance(theirs[0], dict):
        return
    ours = resolve(word)
    is_exponent_alone = isinstance(ours, float) and "e" in word.lower() and isinstance(theirs[0], str)
    assert is_exponent_alone or repr(theirs[0]) == repr(ours)


@given(st.integers(-(10**29), 10**29) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none())
def test_scalar_is_read_as_json_would(value: Any) -> None:
    """Numbers, truth values and null are what they are in JSON."""
    assert (value, type(value)) == (resolve(json.dumps(value)), type(resolve(json.dumps(value))))


@given(st.text("abcxyz :/", min_size=1).filter(lambda text: text not in ("true", "false", "null")))
def test_word_is_text(text: str) -> None:
    """Text that looks like no number, boolean or null is kept as it is."""
    assert text == resolve(text)


def test_valid_manifest_has_no_fault() -> None:
    """The committed manifest passes, with all that it says."""
    manifest = read_manifest(SAMPLE / "fleet.yaml", name="fleet.yaml")
    assert ["my-jb-01", "sg-01", "th-ry-01"] == sorted(manifest.facilities)


def test_thousands_of_faults_are_all_told() -> None:
    """A long manifest with a fault in each line is answered with each of them, in order."""
    count = 1_100
    body = "".join(f"  f-{number}: {{name: x, timezone: UTC, things: {{pres: 1}}}}\n" for number in range(count))
    text = TEXT[: TEXT.index("facilities:")] + "facilities:\n" + body
    lines = [fault.location.line for fault in faults_of(text)]
    assert count == len(lines)
    assert sorted(lines) == lines


@pytest.mark.slow
def test_fault_behind_a_thousand_merges_has_its_place() -> None:
    """Merge keys that lead from one to the next, however far, are followed without recursion."""
    count = 2_000
    text = TEXT[: TEXT.index("facilities:")] + "facilities:\n"
    text += "  p-0: &p0 {name: x, timezone: Nowhere, things: {boiler: 1}}\n"
    text += "".join(f"  p-{number}: &p{number} {{<<: *p{number - 1}}}\n" for number in range(1, count))
    faults = faults_of(text)
    line = text[: text.index("Nowhere")].count("\n") + 1
    assert {line} == {fault.location.line for fault in faults if "time zone" in fault.message}


def test_pipe_is_refused(tmp_path: Path) -> None:
    """A manifest that would never end, or make the command wait, is told."""
    pipe = tmp_path / "fleet.yaml"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(ManifestError) as caught:
            read_manifest(path, name="fleet.yaml")
        assert "fleet.yaml:1:1: this is a pipe or a device, not a manifest" == caught.value.lines()[0]


@pytest.mark.parametrize(
    "character",
    ["\xad", "\u034f", "\u180e", "\u3164", "\uffa0", "\ufe0f", "\u206a", "\ufff9", "\U000e0001", "\U000e007f"],
)
@pytest.mark.parametrize("place", ["name", "description", "unit", "tag"])
def test_what_nobody_sees_is_refused(character: str, place: str) -> None:
    """Also letters and marks that are shown as nothing: Hangul fillers, joiners, variation selectors, tags."""
    data = yaml.safe_load(SMALL)
    facility, device_type = (next(iter(data[section].values())) for section in ("facilities", "device_types"))
    text = f"Plant{character} 1"
    if place == "name":
        facility["name"] = text
    elif place == "tag":
        facility["tags"] = {"site": text}
    elif place == "description":
        device_type["description"] = text
    else:
        next(iter(device_type["metrics"].values()))["unit"] = text
    (fault,) = faults_of(json.dumps(data, ensure_ascii=False))
    assert character not in str(fault)
    assert (f"U+{ord(character):04X}" if place != "tag" else "the tag `site` may contain") in fault.message
