"""Proves for all things at once that no thing reaches what belongs to another, and that each can do its work.

The proof leaves the names of things open and decides the languages of the policies' resources. Two lemmas carry it:

1. A policy allows only scopes that contain the connected thing's own name as a whole level.
2. For every ordered pair of groups, what a thing of the one may do and the scopes of a thing of the other have no
   text in common, or both fix the name at the same level, so that a common text would make the two one thing.

Denials and conditions only reduce what is allowed, so the lemmas leave them out. The rights of each thing are evaluated
with them: a fleet is not isolated because nothing works.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fleet_iot.generator.diagnostics import GateError
from fleet_iot.operations.assurance.isolation.fleet import (
    Fleet,
    Group,
    Realm,
    descendants,
    foreign_scopes,
    is_within,
    own_scopes,
    rights,
)
from fleet_iot.operations.assurance.isolation.policy import (
    NAME_CHARACTERS,
    Literal,
    Pattern,
    Policy,
    Resource,
    Statement,
    Variable,
    Wild,
    common_word,
    own_levels,
    shown,
    split_wildcards,
)
from fleet_iot.operations.assurance.isolation.session import (
    IS_ATTACHED,
    THING_NAME,
    contexts,
    own_session,
    permissions,
)

CLIENT_ACTIONS = ("iot:Connect", "iot:DeleteConnection")
_SHARE = "$share/"
_STEP = 500


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """One claim that is not true: for which group, what, in which resource or thing, and a text that shows it."""

    group: str
    claim: str
    detail: str
    witness: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The figures of a proof, and every claim that is not true.

    Args:
        group_pairs: Ordered pairs of (facility, device type), a group with itself included.
        grants: An action on a resource each.
        pattern_pairs: Decisions whether a grant and a scope of others have a text in common.
        rights: Acts that a thing needs for its work, evaluated for each thing.
    """

    facilities: int
    groups: int
    group_pairs: int
    things: int
    policies: int
    grants: int
    pattern_pairs: int
    rights: int
    seconds: float
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        return not self.findings


def prove(fleet: Fleet, *, on_progress: Callable[[int, int], None] = lambda *_: None) -> Proof:
    """Prove that no thing reaches what belongs to another, or find where one does.

    Raises:
        GateError: The fleet has no things.
    """
    started = time.perf_counter()
    findings = _check_names(fleet)
    pattern_pairs = evaluated = done = 0
    for group in fleet.groups:
        findings += check_own(fleet.realm, group)
        for other in fleet.groups:
            crossings, decided = check_apart(fleet.realm, group, other)
            pattern_pairs += decided
            findings += crossings
    for group in fleet.groups:
        for thing in group.things:
            missing, count = _missing_rights(fleet.realm, group, thing)
            findings += missing
            evaluated += count
            done += 1
            if done % _STEP == 0:
                on_progress(done, fleet.thing_count)
    return Proof(
        facilities=len({group.facility for group in fleet.groups}),
        groups=len(fleet.groups),
        group_pairs=len(fleet.groups) ** 2,
        things=fleet.thing_count,
        policies=len({group.policy.name for group in fleet.groups}),
        grants=sum(len(grants(fleet.realm, group.policy)) for group in fleet.groups),
        pattern_pairs=pattern_pairs,
        rights=evaluated,
        seconds=round(time.perf_counter() - started, 3),
        findings=_one_witness_each(findings),
    )


def _check_names(fleet: Fleet) -> list[Finding]:
    """Check what the lemmas assume of names: characters that AWS allows, and each name one thing's."""
    if not fleet.thing_count:
        raise GateError("a fleet without things proves nothing", hint="run `fleet generate`")
    findings: list[Finding] = []
    seen: dict[str, Group] = {}
    for group in fleet.groups:
        for thing in group.things:
            if not thing or not NAME_CHARACTERS.issuperset(thing):
                claim = "a name is a thing name of AWS IoT"
                findings.append(Finding(group=group.name, claim=claim, detail="", witness=thing))
            if thing in seen:
                claim, detail = "a name belongs to one thing", f"also in {seen[thing].name}"
                findings.append(Finding(group=group.name, claim=claim, detail=detail, witness=thing))
            seen[thing] = group
    return findings


def _missing_rights(realm: Realm, group: Group, thing: str) -> tuple[list[Finding], int]:
    """Return the rights that a thing does not have in every reading of AWS's guides, and how many it needs."""
    needed = rights(realm, group, thing)
    allowed = [permissions((group.policy,), *each) for each in contexts(own_session(thing))]
    return [
        Finding(group=group.name, claim=f"a thing has its rights: {act.action}", detail=thing, witness=act.resource)
        for act in needed
        if not all(each.allows(act) for each in allowed)
    ], len(needed)


def _one_witness_each(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Keep one finding for each claim of a group on a resource; of missing rights and names, one for each claim."""
    kept: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        resource = finding.detail if finding.detail.startswith(("arn:", "*", "no condition")) else ""
        kept.setdefault((finding.group, finding.claim, resource), finding)
    return tuple(sorted(kept.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One action on one resource of a group's policy, and the patterns that it reaches for a thing of any name."""

    action: str
    text: str
    reach: tuple[Pattern, ...]


def grants(realm: Realm, policy: Policy) -> tuple[Grant, ...]:
    """Return everything that the policy's Allow statements reach."""
    return tuple(
        Grant(action=action, text=resource.text, reach=reach_of(realm, action, resource))
        for statement in policy.statements
        if statement.is_allow
        for resource in statement.resources
        for action in sorted(statement.actions)
    )


def check_own(realm: Realm, group: Group) -> list[Finding]:
    """Find where the policy reaches beyond its thing's own scopes, or admits a client that is not that thing."""
    scopes = own_scopes(realm, group)
    findings = [
        Finding(
            group=group.name,
            claim=f"{grant.action} stays within the thing's own scopes",
            detail=grant.text,
            witness=shown(pattern),
        )
        for grant in grants(realm, group.policy)
        for pattern in grant.reach
        if not _is_own(grant.action, pattern, scopes)
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


def _is_own(action: str, pattern: Pattern, scopes: tuple[Pattern, ...]) -> bool:
    """Return whether the pattern is the thing's own; a client id only as a whole: there is nothing below it."""
    if action in CLIENT_ACTIONS:
        return pattern in scopes
    return any(is_within(pattern, place) for place in scopes)


def check_apart(realm: Realm, group: Group, other: Group) -> tuple[list[Finding], int]:
    """Find where a thing of the group reaches another thing, of `other`, or its topics; also count the decided pairs.

    `other` may be the same group: then the two things are different ones of it.
    """
    scopes = own_scopes(realm, other)
    targets = [(target, "what belongs to another thing", False) for target in (*scopes, *map(descendants, scopes))]
    targets += [(target, "another group's topics", True) for target in foreign_scopes(realm, group, other)]
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
    """Return a resource's pattern for a thing of any name: its name is OWN, every other variable may be anything.

    The client id too: a device chooses it, and HTTPS needs no permission to connect. That is how Device
    Defender sees it: https://docs.aws.amazon.com/iot-device-defender/latest/devguide/audit-chk-iot-policy-permissive.html
    A name that a broker leaves as text, for want of a thing, is no thing's: names contain no `$`.
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
    """Join neighbouring texts of a pattern, so that equal patterns compare equal."""
    joined: list[str | Wild] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return tuple(joined)


def reach_of(realm: Realm, action: str, resource: Resource) -> tuple[Pattern, ...]:
    """Return the patterns that the action reaches by the resource: for a filter, the topics that it may receive."""
    pattern = _pattern(resource)
    if action != "iot:Subscribe":
        return (pattern,)
    head, everything = realm.arn("topicfilter", ""), (realm.arn("topic", ""), Wild.ANY)
    first = pattern[0] if pattern else ""
    if not isinstance(first, str) or not first.startswith(head):
        return (everything,) if common_word(pattern, (head, Wild.ANY)) is not None else ()
    topics = _received(_joined((first.removeprefix(head), *pattern[1:])))
    return tuple(_joined((realm.arn("topic", ""), *topic)) for topic in topics)


def _received(filters: Pattern) -> tuple[Pattern, ...]:
    """Return the topics that the filters of a pattern may receive; never fewer than they do.

    A filter chosen where the pattern has `*` or `?` may contain MQTT's `+` and `#`, so both may be anything; a filter
    `a/#` receives `a` too (MQTT 5, 4.7.1.2); `$share/<any>/a` receives what `a` does (4.8.2).
    """
    first = filters[0] if filters and isinstance(filters[0], str) else ""
    if len(filters) > 1 and len(first) < len(_SHARE) and _SHARE.startswith(first):
        return ((Wild.ANY,),)
    if first.startswith(_SHARE):
        name, slash, rest = first.removeprefix(_SHARE).partition("/")
        return _received(_joined((rest, *filters[1:]))) if slash and name else ((Wild.ANY,),)
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
