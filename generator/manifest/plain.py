"""Reads the plain part of YAML, which manifests are written in, line by line; declines whatever goes beyond it.

Plain are block mappings of one-word keys whose values stand on the key's own line: words, a number, quoted text
without escapes, or a flow mapping of those; and comments. For such a text the data is what the YAML parser would give,
in a small part of its time. All else, and whatever has a fault, is for the parser: nothing is judged here.
"""

from __future__ import annotations

import re
from typing import Any

from fleet_iot.generator.manifest.scalars import Scalar, resolve, trap

MAXIMUM_CHARACTERS = 5_000_000
"""So that not even a text of nothing but short keys holds more values than a manifest may."""
_MAXIMUM_DEPTH = 32

_BEYOND = re.compile("[\t\r\x7f-\xa0\u2000-\u202f\ud800-\udfff\ufeff\ufffe\uffff]")
"""Tabs, what else YAML takes for the end of a line, and what no word holds."""


def _one_of(signs: str) -> str:
    """A letter, a digit, one of these signs or anything beyond ASCII. What it is not is short, and compiles fast."""
    others = (chr(code) for code in range(128) if not chr(code).isalnum() and chr(code) not in signs)
    return f"[^{re.escape(''.join(others))}]"


_KEY = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
_FIRST = rf"(?:{_one_of('_./+~(')}|-(?={_one_of('.')}))"
_REST = "_./+~()=$^;-"
_QUOTED = r'"[^"\\]*"|\'[^\']*\''
_WORDS_IN_FLOW = rf"{_FIRST}{_one_of(_REST)}*(?: +{_one_of(_REST)}+)*"
_WORDS = rf"{_FIRST}{_one_of(_REST + ',%*&!@')}*(?: +{_one_of(_REST + ',%*&!@')}+)*"
_LINE = re.compile(
    rf"( *)(?:({_KEY}):(?: +(?:({_WORDS})|({_QUOTED})|(\{{.*\}})))?)?(?: *| +#.*)|( *#.*)",
)
_PAIR = re.compile(rf" *({_KEY}): +(?:({_WORDS_IN_FLOW})|({_QUOTED})|(?=\{{))")
_AFTER = re.compile(r" *([,}])")


class _BeyondPlainError(Exception):
    """The text is not plain."""


def read_plain(text: str) -> dict[str, Any] | None:
    """The data of a plain text; None where it is not plain, or has a fault."""
    if len(text) > MAXIMUM_CHARACTERS or _BEYOND.search(text):
        return None
    try:
        return _Plain().read(text)
    except _BeyondPlainError:
        return None


class _Plain:
    """One pass over a text. Words, keys and flow mappings that were seen before are not read again."""

    def __init__(self) -> None:
        self._words: dict[str, Scalar] = {}
        self._keys: set[str] = set()
        self._flows: dict[str, dict[str, Any]] = {}

    def read(self, text: str) -> dict[str, Any] | None:
        root: dict[str, Any] = {}
        mapping, indent, open_key = root, -1, None
        outer: list[tuple[int, dict[str, Any]]] = []
        match_line, words, keys = _LINE.fullmatch, self._words, self._keys
        for line in text.split("\n"):
            found = match_line(line)
            if found is None:
                return None
            spaces, key, word, quoted, flow, _ = found.groups()
            if key is None:
                continue
            depth = len(spaces)
            if depth != indent:
                if depth < indent:
                    while depth < indent:
                        if not outer:
                            return None
                        indent, mapping = outer.pop()
                    if depth != indent:
                        return None
                elif indent < 0:
                    indent = depth
                else:
                    if open_key is None or len(outer) >= _MAXIMUM_DEPTH:
                        return None
                    outer.append((indent, mapping))
                    mapping[open_key] = mapping = {}
                    indent = depth
            if key in mapping or (key not in keys and not self._is_plain_key(key)):
                return None
            open_key = None
            if word is not None:
                mapping[key] = words[word] if word in words else self._word(word)
            elif quoted is not None:
                mapping[key] = quoted[1:-1]
            elif flow is not None:
                mapping[key] = self._flow(flow)
            else:
                mapping[key] = None
                open_key = key
        return root or None

    def _is_plain_key(self, key: str) -> bool:
        value = resolve(key)
        if trap(key) or value is None or isinstance(value, bool):
            return False
        self._keys.add(key)
        return True

    def _word(self, text: str) -> Scalar:
        if trap(text):
            raise _BeyondPlainError
        value = self._words[text] = resolve(text)
        return value

    def _flow(self, text: str) -> dict[str, Any]:
        known = self._flows.get(text)
        if known is None:
            known, end = self._flow_at(text, 0, 0)
            if end != len(text):
                raise _BeyondPlainError
            self._flows[text] = known
        return known

    def _flow_at(self, text: str, start: int, depth: int) -> tuple[dict[str, Any], int]:
        """The flow mapping whose brace stands at `start`, and the place after its end."""
        mapping: dict[str, Any] = {}
        place = start + 1
        if text.startswith("}", place):
            return mapping, place + 1
        while depth < _MAXIMUM_DEPTH and (pair := _PAIR.match(text, place)):
            key, word, quoted = pair.groups()
            if key in mapping or not self._is_plain_key(key):
                break
            place = pair.end()
            if word is not None:
                mapping[key] = self._word(word)
            elif quoted is not None:
                mapping[key] = quoted[1:-1]
            else:
                mapping[key], place = self._flow_at(text, place, depth + 1)
            after = _AFTER.match(text, place)
            if after is None:
                break
            place = after.end()
            if after[1] == "}":
                return mapping, place
        raise _BeyondPlainError
