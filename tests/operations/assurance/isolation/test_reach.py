"""Topics that a subscription may hear, compared with MQTT's own matching of topics and filters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.operations.assurance.isolation.fleet import PLACEHOLDER_ACCOUNT, Fleet, descendants, own_scopes, realm_of
from fleet_iot.operations.assurance.isolation.policy import (
    common_word,
    own_levels,
    read_resource,
    regex_of,
    split_wildcards,
)
from fleet_iot.operations.assurance.isolation.proof import reach_of

REALM = realm_of(application="mfg", region="eu-west-1", account_id=PLACEHOLDER_ACCOUNT)
LEVELS = st.sampled_from(["a", "b", "", "+", "a*", "*", "?", "$share", "$", "g"])
RESOURCES = st.lists(LEVELS, min_size=1, max_size=4).map("/".join) | st.lists(LEVELS, max_size=3).map(
    lambda levels: "/".join([*levels, "#"])
)
FREE_TEXTS = st.sampled_from(["", "a", "+", "#", "+/+", "a/b", "a/#", "$share/g/a", "share/g/a", "g/#"])
LEVEL_TEXTS = st.sampled_from(["a", "b", "", "ab"])


@st.composite
def subscriptions(draw: st.DrawFn) -> tuple[str, str, str]:
    """A resource, a filter that it allows, and a topic that the filter may receive."""
    resource = draw(RESOURCES)
    letters = {"*": FREE_TEXTS, "?": st.sampled_from(["a", "+", "#", "/"])}
    filter_ = "".join(draw(letters[each]) if each in letters else each for each in resource)
    levels = filter_.split("/")
    if levels[0] == "$share":
        levels = levels[2:]
    topic: list[str] = []
    for level in levels:
        if level == "#":
            topic += draw(st.lists(LEVEL_TEXTS, max_size=2))
        else:
            topic.append(draw(LEVEL_TEXTS) if level == "+" else level)
    return resource, filter_, "/".join(topic)


def hears(filter_: str, topic: str) -> bool:
    """Return whether a filter receives a topic: MQTT 5, 4.7.1 and 4.8.2; an invalid one receives nothing."""
    levels = filter_.split("/")
    if levels[0] == "$share":
        if len(levels) < 3 or not levels[1] or set("+#") & set(levels[1]):
            return False
        levels = levels[2:]
    is_valid = all(level in ("+", "#") or not set("+#") & set(level) for level in levels) and "#" not in levels[:-1]
    return is_valid and matches(levels, topic.split("/"))


def matches(levels: list[str], topic: list[str]) -> bool:
    """Level by level; `#` is the level above it too."""
    if levels[:1] == ["#"]:
        return True
    if not levels or not topic:
        return levels == topic
    return levels[0] in ("+", topic[0]) and matches(levels[1:], topic[1:])


@pytest.mark.slow
@settings(max_examples=1000)
@given(subscriptions())
def test_no_topic_is_heard_beyond_the_reach(case: tuple[str, str, str]) -> None:
    """The reach of a resource contains every topic that a filter which it allows receives."""
    resource, filter_, topic = case
    assert regex_of(split_wildcards(resource)).fullmatch(filter_)
    if hears(filter_, topic):
        reach = reach_of(REALM, "iot:Subscribe", read_resource(REALM.arn("topicfilter", resource)))
        assert any(regex_of(pattern).fullmatch(REALM.arn("topic", topic)) for pattern in reach)


@pytest.mark.slow
def test_most_made_up_topics_are_heard() -> None:
    """The property above is not kept by an empty premise."""
    heard = []

    @settings(max_examples=300, database=None, derandomize=True)
    @given(subscriptions())
    def count(case: tuple[str, str, str]) -> None:
        heard.append(hears(case[1], case[2]))

    count()
    assert sum(heard) > len(heard) / 3


def test_own_places_of_two_things_are_apart(fleet: Fleet) -> None:
    """The scopes that the first lemma allows are disjoint for any two things, by the naming rules only."""
    for group in fleet.groups:
        for other in fleet.groups:
            mine, theirs = own_scopes(fleet.realm, group), own_scopes(fleet.realm, other)
            for one in (*mine, *map(descendants, mine)):
                for two in (*theirs, *map(descendants, theirs)):
                    assert common_word(one, two) is None or own_levels(one) & own_levels(two)
