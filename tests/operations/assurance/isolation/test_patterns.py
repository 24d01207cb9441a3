"""The language of resource patterns, held against a regex engine and against counting out."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.operations.assurance.isolation.policy import (
    Pattern,
    Wild,
    common_word,
    exact_text,
    own_levels,
    regex_of,
    split_wildcards,
)

PARTS = st.sampled_from(["a", "b", "/", Wild.ONE, Wild.ANY, Wild.OWN])
PATTERNS = st.lists(PARTS, max_size=5).map(tuple)
TEXTS = st.text(alphabet="ab/+#*?$\n", max_size=8)


def walks(pattern: Pattern, text: str) -> bool:
    """A matcher that tries everything: slow, and too simple to be wrong."""
    if not pattern:
        return text == ""
    head, rest = pattern[0], pattern[1:]
    if head is Wild.ANY:
        return any(walks(rest, text[length:]) for length in range(len(text) + 1))
    if head is Wild.ONE:
        return text != "" and walks(rest, text[1:])
    if head is Wild.OWN:
        length = len(re.match(r"[a-zA-Z0-9:_-]*", text)[0])  # type: ignore[index]  # matches the empty text too
        return any(walks(rest, text[taken:]) for taken in range(1, length + 1))
    return text.startswith(str(head)) and walks(rest, text[len(str(head)) :])


@given(PATTERNS, TEXTS)
def test_a_pattern_matches_what_trying_everything_matches(pattern: Pattern, text: str) -> None:
    """The regular expression of a pattern and the plain definition of wildcards agree on every text."""
    assert walks(pattern, text) == bool(regex_of(pattern).fullmatch(text))


@given(TEXTS)
def test_mqtt_wildcards_are_plain_characters(text: str) -> None:
    """Only `*` and `?` are wildcards: a text without them is matched by itself alone, `+`, `#` and `$` included."""
    pattern = split_wildcards(text)
    assert ("*" in text or "?" in text) == (exact_text(pattern) is None)
    assert regex_of(pattern).fullmatch(text)


@pytest.mark.slow
@settings(max_examples=400)
@given(PATTERNS, PATTERNS)
def test_a_common_word_is_found_exactly_where_counting_out_finds_one(one: Pattern, other: Pattern) -> None:
    """Emptiness of an intersection equals brute force over all short texts of a small alphabet."""
    word = common_word(one, other)
    if word is not None:
        assert walks(one, word) and walks(other, word)
        return
    texts = ("".join(letters) for length in range(7) for letters in product("ab/", repeat=length))
    assert not any(regex_of(one).fullmatch(text) and regex_of(other).fullmatch(text) for text in texts)


@pytest.mark.slow
@given(PATTERNS, PATTERNS)
def test_a_common_word_does_not_depend_on_the_order(one: Pattern, other: Pattern) -> None:
    """Two patterns have a common word in either order or in neither."""
    assert (common_word(one, other) is None) == (common_word(other, one) is None)


@pytest.mark.parametrize(
    ("pattern", "levels"),
    [
        (("dt/", Wild.OWN, "/x"), {1}),
        (("dt/", Wild.OWN), {1}),
        ((Wild.OWN,), {0}),
        (("dt/", Wild.OWN, Wild.ANY), set()),
        (("dt/", Wild.OWN, "/", Wild.ANY), {1}),
        (("dt/", Wild.OWN, "-x/y"), set()),
        (("dt/x", Wild.OWN, "/y"), set()),
        (("dt/", Wild.ANY, "/", Wild.OWN), set()),
        (("d?t/", Wild.ONE, "/", Wild.OWN), set()),
        (("a/", Wild.OWN, "/b/", Wild.OWN), {1, 3}),
        (("a/", Wild.OWN, Wild.OWN), set()),
    ],
)
def test_only_a_level_of_its_own_at_a_fixed_place_tells_things_apart(pattern: Pattern, levels: set[int]) -> None:
    """A name that is only a part of a level, or whose level `*` can move, pins nothing."""
    assert levels == own_levels(pattern)


@pytest.mark.slow
@given(PATTERNS, PATTERNS, st.permutations(["a", "b", "ab", "b-a"]))
def test_a_level_that_both_pin_keeps_two_names_apart(one: Pattern, other: Pattern, names: list[str]) -> None:
    """Two patterns that pin the same level have no word in common for two different names."""
    if own_levels(one) & own_levels(other):
        mine = tuple(names[0] if part is Wild.OWN else part for part in one)
        theirs = tuple(names[1] if part is Wild.OWN else part for part in other)
        assert common_word(mine, theirs) is None
