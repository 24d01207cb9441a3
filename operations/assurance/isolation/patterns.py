"""The language of resource patterns: what one matches, and whether two have a text in common.

A pattern is a sequence of literal texts and wildcards. `*` and `?` are AWS IoT's own and match any characters, slashes
included; `+` and `#` are plain characters in a policy
(https://docs.aws.amazon.com/iot/latest/developerguide/pub-sub-policy.html). `OWN` is the name of a thing, left open:
every pattern of the proof is about all names at once.
"""

from __future__ import annotations

import re
import string
from collections import deque
from enum import Enum
from functools import lru_cache


class Wild(Enum):
    """The wildcards of a pattern."""

    ONE = "?"
    ANY = "*"
    OWN = "<thing>"


Pattern = tuple[str | Wild, ...]
"""Literal texts and wildcards, in order."""

NAME_CHARACTERS = frozenset(string.ascii_letters + string.digits + ":_-")
"""Of a thing's name: no slash, no wildcard. https://docs.aws.amazon.com/iot/latest/apireference/API_CreateThing.html"""

_REGEX = {Wild.ONE: ".", Wild.ANY: ".*", Wild.OWN: "[a-zA-Z0-9:_-]+"}
_Step = tuple[frozenset[str] | None, bool]
"""The characters of a step (None: all), and whether it may be repeated or left out."""
_Place = tuple[int, int]
"""A position in each of two patterns."""


def split_wildcards(text: str) -> Pattern:
    """Return the pattern of a text in which `*` and `?` are wildcards."""
    parts = re.split(r"([*?])", text)
    return tuple(Wild(part) if part in ("*", "?") else part for part in parts if part)


def exact_text(pattern: Pattern) -> str | None:
    """Return the one text that the pattern matches, or None where it holds a wildcard."""
    return None if any(isinstance(part, Wild) for part in pattern) else "".join(map(str, pattern))


def shown(pattern: Pattern) -> str:
    """Format the pattern for a reader."""
    return "".join(part.value if isinstance(part, Wild) else part for part in pattern)


@lru_cache(maxsize=4096)
def regex_of(pattern: Pattern) -> re.Pattern[str]:
    """Return the regular expression that fully matches what the pattern does."""
    parts = (_REGEX[part] if isinstance(part, Wild) else re.escape(part) for part in pattern)
    return re.compile("".join(parts), re.DOTALL)


@lru_cache(maxsize=4096)
def own_levels(pattern: Pattern) -> frozenset[int]:
    """Return the levels (between slashes, from 0) that are exactly the thing's own name in every text of the pattern.

    A level after `*` or `?` does not count: both match slashes, so its index is not fixed.
    """
    fixed: list[str] = []
    for part in pattern:
        if part in (Wild.ANY, Wild.ONE):
            # What shares its level with the wildcard is not the whole level.
            fixed.append("?")
            break
        fixed.append("\0" if isinstance(part, Wild) else part.replace("\0", "?"))
    return frozenset(index for index, level in enumerate("".join(fixed).split("/")) if level == "\0")


def common_word(one: Pattern, other: Pattern) -> str | None:
    """Return a text that both patterns match, or None where there is none: decided, not sampled."""
    if _heads_differ(_head(one), _head(other)):
        return None
    left, right = _steps(one), _steps(other)
    came_from: dict[_Place, tuple[_Place, str]] = {}
    start, end = (0, 0), (len(left), len(right))
    seen, waiting = {start}, deque([start])
    while waiting:
        place = waiting.popleft()
        if place == end:
            return _word(came_from, end)
        for following, character in _moves(left, right, place):
            if following not in seen:
                seen.add(following)
                came_from[following] = (place, character)
                waiting.append(following)
    return None


def _moves(left: tuple[_Step, ...], right: tuple[_Step, ...], place: _Place) -> list[tuple[_Place, str]]:
    i, j = place
    moves: list[tuple[_Place, str]] = []
    if i < len(left) and left[i][1]:
        moves.append(((i + 1, j), ""))
    if j < len(right) and right[j][1]:
        moves.append(((i, j + 1), ""))
    if i < len(left) and j < len(right):
        character = _shared(left[i][0], right[j][0])
        if character is not None:
            moves.append(((i if left[i][1] else i + 1, j if right[j][1] else j + 1), character))
    return moves


def _shared(one: frozenset[str] | None, other: frozenset[str] | None) -> str | None:
    if one is None or other is None:
        return min(one or other or {"x"})
    both = one & other
    return min(both) if both else None


def _word(came_from: dict[_Place, tuple[_Place, str]], place: _Place) -> str:
    characters = []
    while place in came_from:
        place, character = came_from[place]
        characters.append(character)
    return "".join(reversed(characters))


@lru_cache(maxsize=4096)
def _steps(pattern: Pattern) -> tuple[_Step, ...]:
    steps: list[_Step] = []
    for part in pattern:
        if part is Wild.ONE:
            steps.append((None, False))
        elif part is Wild.ANY:
            steps.append((None, True))
        elif part is Wild.OWN:
            steps += [(NAME_CHARACTERS, False), (NAME_CHARACTERS, True)]
        else:
            steps += [(frozenset(character), False) for character in str(part)]
    return tuple(steps)


@lru_cache(maxsize=4096)
def _head(pattern: Pattern) -> str:
    """Return the literal prefix of everything that the pattern matches."""
    head = []
    for part in pattern:
        if isinstance(part, Wild):
            break
        head.append(part)
    return "".join(head)


def _heads_differ(one: str, other: str) -> bool:
    return not (one.startswith(other) or other.startswith(one))
