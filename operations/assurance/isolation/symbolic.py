"""The proof for all things at once: the languages of the policies' resources, with names left open.

Two lemmas carry it. *Own*: everything that a policy allows lies in places that hold the connected thing's own name as
a whole level. *Apart*: for every ordered pair of groups, what a thing of the one may do and what belongs to a thing of
the other have no word in common, or both fix the name at the same level, so that a common word would make the two one
thing. Denials and conditions only take away, so leaving them out errs on the safe side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fleet_iot.operations.assurance.isolation.fleet import Group, Realm, below, foreign_places, is_within, own_places
from fleet_iot.operations.assurance.isolation.policy import Literal, Policy, Resource, Statement, Variable
from fleet_iot.operations.assurance.isolation.session import IS_ATTACHED, THING_NAME
from fleet_iot.operations.assurance.isolation.wildcards import (
    Pattern,
    Wild,
    common_word,
    own_levels,
    shown,
    split_wildcards,
)

CLIENT_ACTIONS = ("iot:Connect", "iot:DeleteConnection")
_SHARE = "$share/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One action on one resource of a group's policy, as the places that it reaches for a thing of any name."""

    action: str
    text: str
    reach: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """One claim that does not hold: of whom, what, and a text or a thing that shows it."""

    group: str
    claim: str
    detail: str
    witness: str


def grants(realm: Realm, policy: Policy) -> tuple[Grant, ...]:
    """Everything that the policy's Allow statements reach."""
    return tuple(
        Grant(action=action, text=resource.text, reach=reach_of(realm, action, resource))
        for statement in policy.statements
        if statement.is_allow
        for resource in statement.resources
        for action in sorted(statement.actions)
    )


def check_own(realm: Realm, group: Group) -> list[Finding]:
    """Where the policy reaches beyond its thing's own places, or lets in who is not that thing."""
    places = own_places(realm, group)
    findings = [
        Finding(
            group=group.name,
            claim=f"{grant.action} stays within the thing's own places",
            detail=grant.text,
            witness=shown(pattern),
        )
        for grant in grants(realm, group.policy)
        for pattern in grant.reach
        if not _is_own(grant.action, pattern, places)
    ]
    findings += [
        Finding(
            group=group.name,
            claim="iot:Connect asks for a certificate that belongs to the thing",
            detail="no condition Bool iot:Connection.Thing.IsAttached true",
            witness=", ".join(resource.text for resource in statement.resources),
        )
        for statement in group.policy.statements
        if statement.is_allow and "iot:Connect" in statement.actions and not _needs_attachment(statement)
    ]
    return findings


def _is_own(action: str, pattern: Pattern, places: tuple[Pattern, ...]) -> bool:
    """Whether the place is the thing's own; a client id is so only whole: there is nothing below it."""
    if action in CLIENT_ACTIONS:
        return pattern in places
    return any(is_within(pattern, place) for place in places)


def check_apart(realm: Realm, group: Group, other: Group) -> tuple[list[Finding], int]:
    """Where a thing of the group meets another thing, of `other`, or its topics; and how many pairs were decided.

    `other` may be the same group: then the two things are different ones of it. What its policy allows beyond its own
    places is no concern here: it is a finding of its own.
    """
    places = own_places(realm, other)
    targets = [(target, "what belongs to another thing", False) for target in (*places, *map(below, places))]
    targets += [(target, "another group's topics", True) for target in foreign_places(realm, group, other)]
    findings, decided = [], 0
    for grant in grants(realm, group.policy):
        for pattern in grant.reach:
            decided += len(targets)
            for target, what, is_foreign in targets:
                word = common_word(pattern, target)
                if word is not None and (is_foreign or not own_levels(pattern) & own_levels(target)):
                    claim = f"{grant.action} never reaches {what}"
                    findings.append(Finding(group=group.name, claim=claim, detail=grant.text, witness=word))
    return findings, decided


def _needs_attachment(statement: Statement) -> bool:
    return any(
        condition.operator == "Bool"
        and condition.key == IS_ATTACHED
        and condition.expected == ("true",)
        and not condition.if_exists
        and condition.qualifier != "ForAllValues"
        for condition in statement.conditions
    )


def _pattern(resource: Resource) -> Pattern:
    """The resource for a thing of any name: its name is OWN, every other variable may be anything.

    The client id too: a device chooses it, and over HTTPS nobody asks for the right to connect. That is how Device
    Defender sees it: https://docs.aws.amazon.com/iot-device-defender/latest/devguide/audit-chk-iot-policy-permissive.html
    A name that a broker leaves as text, for want of a thing, is no thing's: names hold no `$`.
    """
    pattern: list[str | Wild] = []
    for part in resource.parts:
        if isinstance(part, Variable):
            pattern.append(Wild.OWN if part.name == THING_NAME else Wild.ANY)
        elif isinstance(part, Literal):
            pattern.append(part.character)
        else:
            pattern += split_wildcards(part)
    return _joined(pattern)


def _joined(parts: Iterable[str | Wild]) -> Pattern:
    """The pattern with neighbouring texts made one, so that equal patterns are equal rows."""
    joined: list[str | Wild] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return tuple(joined)


def reach_of(realm: Realm, action: str, resource: Resource) -> tuple[Pattern, ...]:
    """The places that the action reaches by the resource: for a filter, the topics that it may hear."""
    pattern = _pattern(resource)
    if action != "iot:Subscribe":
        return (pattern,)
    head, everything = realm.arn("topicfilter", ""), (realm.arn("topic", ""), Wild.ANY)
    first = pattern[0] if pattern else ""
    if not isinstance(first, str) or not first.startswith(head):
        return (everything,) if common_word(pattern, (head, Wild.ANY)) is not None else ()
    topics = _heard(_joined((first.removeprefix(head), *pattern[1:])))
    return tuple(_joined((realm.arn("topic", ""), *topic)) for topic in topics)


def _heard(filters: Pattern) -> tuple[Pattern, ...]:
    """The topics that are heard through the filters that a pattern matches, and rather more than fewer.

    A filter chosen where the pattern has `*` or `?` may hold MQTT's `+` and `#`, so both may be anything; a filter
    `a/#` hears `a` too (MQTT 5, 4.7.1.2); `$share/<any>/a` hears what `a` does (4.8.2).
    """
    first = filters[0] if filters and isinstance(filters[0], str) else ""
    if len(filters) > 1 and len(first) < len(_SHARE) and _SHARE.startswith(first):
        return ((Wild.ANY,),)
    if first.startswith(_SHARE):
        name, slash, rest = first.removeprefix(_SHARE).partition("/")
        return _heard(_joined((rest, *filters[1:]))) if slash and name else ((Wild.ANY,),)
    wide: list[str | Wild] = []
    for part in filters:
        if isinstance(part, str):
            for character in part:
                wide.append(Wild.ANY if character in "+#" else character)
        else:
            wide.append(part if part is Wild.OWN else Wild.ANY)
    topics = [_joined(wide)]
    last = topics[0]
    if len(last) > 1 and last[-1] is Wild.ANY and isinstance(last[-2], str) and last[-2].endswith("/"):
        topics.append(_joined((*last[:-2], last[-2].removesuffix("/"))))
    return tuple(topics)
