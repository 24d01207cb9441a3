"""Java's regular expressions in Python: what is translated, and what is refused."""

from __future__ import annotations

import warnings

import pytest

from fleet_iot.generator.aws.java_regex import UntranslatableError, matches, translate


@pytest.mark.parametrize(
    ("pattern", "taken", "refused"),
    [
        # Thing groups and types: printable ASCII, with the space that Graph leaves out.
        (r"[\p{Graph}\x20]*", ["", "Press 400 t", "~!"], ["Köln", "a\tb", "a\n", "\x7f", "東"]),
        (r"[^\p{C}]*", ["Werk Köln", "東京", "a b"], ["a\tb", "\x00", "a\u200bb", "\ud7ff\ue000"]),
        (
            r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)",
            ["Kostenstelle 4711", "größe", "東京-1", "a\u00a0b"],
            ["a;b", "a\tb", "é\u0301"],
        ),
        (r"[\p{L}\p{Z}\p{N}_.:/=+\-@]+", ["a", "Ⅷ"], ["", "#"]),
        # As Java reads a pair of surrogates: one range of the planes beyond the first.
        (
            r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\r\n\t]*",
            ["a\r\n\t", "\U00010000", "\U0010ffff", "\ufffd"],
            ["\x00", "\x1f", "\uffff"],
        ),
        (r"[\u0009\u000A\u000D\u0020-\u00FF]+", ["{}\n", "ÿ"], ["Ā", "", "\x0b"]),
        (r"[\u0009\u000A\u000D\u0020-\u007E\u00A1-\u00FF]*", ["é"], ["\u0080", "\u00a0"]),
        (r"\w+", ["a_1"], ["é", "", "a-b"]),
        (r"\d{12}", ["123456789012"], ["١٢٣٤٥٦٧٨٩٠١٢"]),
        (r"\s*", [" \t\n\x0b\f\r"], ["\u00a0", "\u2003"]),
        (r".*", ["any", ""], ["a\nb", "a\rb", "a\x85b", "a\u2028b"]),
        (r"(?s).*", ["a\nb", "a\u2028b"], []),
        (r"[\s\S]*", ["a\nb"], []),
        (r"^[a-zA-Z0-9_]+$", ["rule_x"], ["rule-x", "rule_x\n"]),
        (r"[\w-_]*", ["a-b_c"], ["a.b"]),
        (r"[a-zA-Z0-9-_$]+", ["a-b_$"], ["a.b"]),
        (r"[a-z]++1", ["ab1"], ["ab"]),
        (r"[a-z]++x", [], ["abx"]),
        (r"(?<digit>[0-9])x", ["1x"], ["x"]),
        (r"[0-9A-Za-z\.\-_]*(?<!\.)", ["a.b"], ["a.b."]),
        (r"\p{Alnum}\P{L}", ["a1", "1-"], ["ab", "1é"]),
        (r"\p{IsL}\pN", ["é1"], ["11"]),
        (r"\x{1F600}\x41", ["\U0001f600A"], ["A"]),
        (r"a\z", ["a"], ["a\n"]),
        (r"\p{M}*a", ["a"], ["b"]),
    ],
)
def test_patterns_match_what_they_match_in_java(pattern: str, taken: list[str], refused: list[str]) -> None:
    """The whole text, with Java's ASCII classes, Unicode categories, surrogate pairs and line ends."""
    assert taken == [text for text in taken if matches(pattern, text)]
    assert [] == [text for text in refused if matches(pattern, text)]


@pytest.mark.parametrize(
    "pattern",
    [
        r"[a-z&&[^b]]",
        r"[a[bc]]",
        r"[]a]",
        r"\p{IsGreek}",
        r"\p{javaLowerCase}",
        r"[\uD800-\uDFFF]",
        r"\Qa.b\E",
        r"\h",
        r"\R",
        r"\Z",
        r"(?i)a",
        r"a(?x)b",
        r"(",
        r"a{2,1}",
    ],
)
def test_patterns_that_cannot_be_told_are_refused(pattern: str) -> None:
    """Rather than match something else."""
    with pytest.raises(UntranslatableError, match=r"which Python's re cannot be told"):
        matches(pattern, "a")


def test_an_ascii_text_needs_no_unicode() -> None:
    """Classes are spelt out as far as the text goes, and mean the same."""
    assert "[\\U00000041-\\U0000005a\\U00000061-\\U0000007a]" == translate(r"\p{L}", last=0x7F)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(0x80):
            letter = chr(number)
            assert matches(r"\p{L}", letter) == letter.isalpha()
            assert matches(r"[^\p{L}]", letter) == (not letter.isalpha())
