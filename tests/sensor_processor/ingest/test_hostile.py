"""Which characters a message may not have: the sensor processor, the published schema and the manifest say the same."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest

from fleet_iot.generator.diagnostics import is_hidden
from fleet_iot.generator.manifest.schema import CLEAN_TEXT
from fleet_iot.sensor_processor.ingest.reading import PoisonReading, check_text

CHARACTERS = [
    *(chr(code) for code in (*range(0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE2000))),
    *(chr(code) for code in (*range(0x20000, 0xE0000, 251), *range(0xE2000, 0x110000, 251))),
]
"""Code points that Unicode may give a special meaning, and some of the planes of ideographs or nothing."""
TEXT = frozenset("\t\n\r")
"""Escaped, these are text; raw, they are no JSON."""
NEVER_SEEN = (
    *("\xad", "\u034f", "\u115f", "\u17b4", "\u180b", "\u180e", "\u200b", "\u2065", "\u206a", "\u206f", "\u3164"),
    *("\ufe0f", "\uffa0", "\ufff9", "\ufffb", "\U0001d173", "\U000e0000", "\U000e0001", "\U000e0041", "\U000e007f"),
    *("\U000e0100", "\U000e01ef"),
)
SEEN = ("\xac", "\xae", "é", "\u3163", "\u3165", "\ufffc", "\ufffd", "東", "\U0001f600", "\U000dffff", "\U000f0000")


def is_refused(payload: str) -> bool:
    """Return whether the processor refuses the payload for its text."""
    try:
        check_text(payload.encode())
    except PoisonReading as poison:
        return poison.reason == "hostile_text"
    return False


@pytest.mark.slow
def test_raw_escaped_and_in_the_schema() -> None:
    """Every character of Unicode is refused, or taken, in all three ways alike."""
    clean = re.compile(CLEAN_TEXT)
    escapes = [json.dumps(character)[1:-1] for character in CHARACTERS]
    hostile = {character for character in CHARACTERS if not clean.search(character)}
    assert set(NEVER_SEEN) <= hostile
    assert hostile.isdisjoint(SEEN)
    by_escape = {
        each for each, escape in zip(CHARACTERS, escapes, strict=True) if "\\" in escape and is_refused(escape)
    }
    assert hostile == by_escape
    raw = {each for each in CHARACTERS if is_refused(f"é{each}")}
    assert {each for each in hostile if each >= "\x7f"} | {"\0"} == raw


@pytest.mark.parametrize("character", NEVER_SEEN)
def test_in_any_spelling_of_the_escape(character: str) -> None:
    """Upper and lower case, behind another escape, and not where its backslash is one that was escaped."""
    escape = json.dumps(character)[1:-1]
    assert is_refused(escape.upper().replace("\\U", "\\u"))
    assert is_refused(f"\\u0041{escape}")
    assert is_refused(f"\\\\{escape}")
    assert not is_refused(f"\\{escape}".replace("\\ud", "\\\\ud"))


def test_what_messages_may_not_have_manifests_may_not() -> None:
    """The manifest accepts less: no line ends, no unassigned characters."""
    clean = re.compile(CLEAN_TEXT)
    assert [] == [each for each in CHARACTERS if not clean.search(each) and not is_hidden(each)]
    more = {unicodedata.category(each) for each in CHARACTERS if is_hidden(each) and clean.search(each)}
    assert {"Cc", "Cf", "Co", "Cn"} == more
