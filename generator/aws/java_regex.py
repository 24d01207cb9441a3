"""Matches text against the regular expressions of AWS's service models, which are Java's.

Python's `re` reads most of them alike. What it does not know (`\\p{…}` classes, surrogate pairs) is translated; what
can be neither read from the pattern nor translated is refused, so that no pattern silently matches something else.
Source: https://docs.oracle.com/en/java/javase/21/docs/api/java.base/java/util/regex/Pattern.html
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache
from itertools import groupby

_POSIX = {
    "Lower": "a-z",
    "Upper": "A-Z",
    "ASCII": r"\x00-\x7f",
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
    "Alnum": "a-zA-Z0-9",
    "Punct": r"!-/:-@\[-`{-~",
    "Graph": "!-~",
    "Print": " -~",
    "Blank": r" \t",
    "Cntrl": r"\x00-\x1f\x7f",
    "XDigit": "0-9a-fA-F",
    "Space": r" \t\n\x0b\f\r",
}
"""The classes that Java takes from POSIX: only ASCII."""

_SAME_ESCAPES = frozenset("wWdDsSbBAtnrfa0123456789")
"""Escapes that both languages read alike, once Python is limited to ASCII."""

_NO_LINE_END = r"[^\n\r\x85\u2028\u2029]"
"""The characters that `.` matches in Java; in Python it matches all but a line feed."""


class UntranslatableError(ValueError):
    """A pattern that cannot be put into Python's language without changing what it matches."""


def matches(pattern: str, text: str) -> bool:
    """Return whether `pattern` matches the whole of `text`, as AWS's services match it.

    Raises: UntranslatableError.
    """
    # Classes of Unicode are spelt out code point by code point: no further than the text needs.
    return _compiled(pattern, last=0x7F if text.isascii() else sys.maxunicode).fullmatch(text) is not None


def translate(pattern: str, *, last: int = sys.maxunicode) -> str:
    """Return the pattern in the language of Python's `re`, to be compiled with `re.ASCII`.

    Args:
        pattern: As it is in the service model.
        last: The greatest code point of the texts that it is for.

    Raises: UntranslatableError.
    """
    done: list[str] = []
    is_dot_all = pattern.startswith("(?s)")
    place, is_class = (4 if is_dot_all else 0), False
    before = start = place
    while place < len(pattern):
        character, before, start = pattern[place], start, place
        if character == "\\":
            text, place = _escape(pattern, place, is_class=is_class, last=last)
        elif is_class:
            if character == "[" or pattern.startswith("&&", place):
                raise _refused(pattern, "a class within a class")
            # After a class such as \\w a hyphen is one, not the start of a range.
            text = r"\-" if character == "-" and re.match(r"\\[wWdDsSpP]", pattern[before:]) else character
            place, is_class = place + 1, character != "]"
        elif character == "[":
            opening = "[^" if pattern.startswith("[^", place) else "["
            if pattern.startswith("]", place + len(opening)):
                raise _refused(pattern, "a class that begins with its own end")
            text, place, is_class = opening, place + len(opening), True
        elif character == ".":
            text, place = (r"[\s\S]" if is_dot_all else _NO_LINE_END), place + 1
        elif match := re.compile(r"\(\?<([A-Za-z][A-Za-z0-9]*)>").match(pattern, place):
            text, place = f"(?P<{match[1]}>", match.end()
        elif character == "(" and re.compile(r"\(\?[a-zA-Z-]").match(pattern, place):
            raise _refused(pattern, "a flag within the pattern")
        else:
            text, place = character, place + 1
        done.append(text)
    return "".join(done)


def _escape(pattern: str, place: int, *, is_class: bool, last: int) -> tuple[str, int]:
    """Return the escape at `place` in Python's language, and where it ends."""
    if match := re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})").match(pattern, place):
        pair = bytes.fromhex(match[1] + match[2]).decode("utf-16-be")
        return f"\\U{ord(pair):08x}", match.end()
    if match := re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|\\x\{([0-9a-fA-F]{1,6})\}").match(pattern, place):
        point = int(match[1] or match[2] or match[3], 16)
        if 0xD800 <= point <= 0xDFFF or point > sys.maxunicode:
            raise _refused(pattern, f"{match[0]}, which is no character")
        return f"\\U{point:08x}", match.end()
    if match := re.compile(r"\\([pP])(?:\{(\w+)\}|([A-Z]))").match(pattern, place):
        ranges = _class(pattern, match[2] or match[3], is_negated=match[1] == "P", last=last)
        return (ranges if is_class else f"[{ranges}]"), match.end()
    following = pattern[place + 1 : place + 2]
    if following == "z":
        return r"\Z", place + 2
    if not following or following in _SAME_ESCAPES or not following.isalnum():
        return pattern[place : place + 2], place + 2
    raise _refused(pattern, f"\\{following}")


def _class(pattern: str, name: str, *, is_negated: bool, last: int) -> str:
    """Return the ranges of a `\\p{…}` class, without brackets."""
    name = name.removeprefix("Is") if name != "Is" else name
    if name in _POSIX and not is_negated:
        return _POSIX[name]
    if re.fullmatch(r"[LMNPSZC][a-z]?", name):
        return _category(name, is_negated=is_negated, last=last)
    raise _refused(pattern, f"the class {name}")


@lru_cache
def _category(name: str, *, is_negated: bool, last: int) -> str:
    """Return the ranges of code points whose Unicode category begins with `name`."""
    ranges, point = [], 0
    for is_inside, group in groupby(_categories(last), key=lambda category: category.startswith(name)):
        end = point + sum(1 for _ in group)
        if is_inside is not is_negated:
            ranges.append(f"\\U{point:08x}-\\U{end - 1:08x}")
        point = end
    return "".join(ranges) or f"\\U{sys.maxunicode:08x}"  # none as far as `last`: one that no text contains


@lru_cache
def _categories(last: int) -> tuple[str, ...]:
    return tuple(map(unicodedata.category, map(chr, range(last + 1))))


@lru_cache
def _compiled(pattern: str, *, last: int) -> re.Pattern[str]:
    try:
        return re.compile(translate(pattern, last=last), re.ASCII)
    except re.error as error:
        raise _refused(pattern, str(error)) from error


def _refused(pattern: str, what: str) -> UntranslatableError:
    return UntranslatableError(f"the pattern {pattern!r} holds {what}, which Python's re cannot be told")
