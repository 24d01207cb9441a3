"""The isolation proof over a whole fleet: for all names at once, and again thing by thing.

The two ways share only the reading of the documents: `symbolic` decides languages, this module asks the evaluator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fleet_iot.generator.diagnostics import GateError
from fleet_iot.operations.assurance.isolation.cases import (
    attacks_on,
    hostile_client_ids,
    intrusions,
    own_session,
    strangers,
    wide_attacks,
)
from fleet_iot.operations.assurance.isolation.evaluator import Evaluator
from fleet_iot.operations.assurance.isolation.fleet import Fleet, Group, rights
from fleet_iot.operations.assurance.isolation.session import Act, Permissions, Session
from fleet_iot.operations.assurance.isolation.symbolic import Finding, check_apart, check_own, grants
from fleet_iot.operations.assurance.isolation.wildcards import NAME_CHARACTERS

OTHERS = 2
"""How many things of every other group each thing is tried against one by one."""

_STEP = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was looked at, and every claim that did not hold.

    For all names: `grants`, an action on a resource each, held in `pattern_pairs` against what belongs to others, for
    `group_pairs` ordered pairs of (facility, device type). Thing by thing: `thing_pairs`, ordered too, looked up by
    what resources without a wildcard allow; `connections` under other names and `cases` (acts on others), all to be
    denied; `rights`, all to be allowed.
    """

    facilities: int
    groups: int
    group_pairs: int
    things: int
    policies: int
    grants: int
    pattern_pairs: int
    thing_pairs: int
    connections: int
    cases: int
    rights: int
    seconds: float
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        return not self.findings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wrongs:
    """What each thing has to be spared, and whom an act would wrong: so one act is held against all things at once."""

    by_thing: dict[str, frozenset[Act]]
    wronged: dict[tuple[str, str], str]


class _Tally:
    """Counts what was tried, and keeps one witness for each claim of each group."""

    def __init__(self) -> None:
        self.connections = self.cases = self.rights = self.pattern_pairs = 0
        self.findings: dict[tuple[str, str, str], Finding] = {}

    def add(self, finding: Finding, *, of: str = "") -> None:
        self.findings.setdefault((finding.group, finding.claim, of), finding)

    def found(self, group: Group, claim: str, *, detail: str, witness: str) -> None:
        self.add(Finding(group=group.name, claim=claim, detail=detail, witness=witness))


def prove(fleet: Fleet, *, others: int = OTHERS, on_progress: Callable[[int, int], None] = lambda *_: None) -> Proof:
    """Prove that no thing reaches what belongs to another, or find where it does."""
    started = time.perf_counter()
    tally = _Tally()
    _prove_for_all_names(fleet, tally)
    _check_names(fleet, tally)
    wrongs = _wrongs(fleet)
    done = 0
    for group in fleet.groups:
        evaluator = Evaluator((group.policy,))
        for index in range(len(group.things)):
            _try_thing(fleet, group, index, evaluator=evaluator, wrongs=wrongs, others=others, tally=tally)
            done += 1
            if done % _STEP == 0:
                on_progress(done, fleet.thing_count)
    count = fleet.thing_count
    return Proof(
        facilities=len({group.facility for group in fleet.groups}),
        groups=len(fleet.groups),
        group_pairs=len(fleet.groups) ** 2,
        things=count,
        policies=len({group.policy.name for group in fleet.groups}),
        grants=sum(len(grants(fleet.realm, group.policy)) for group in fleet.groups),
        pattern_pairs=tally.pattern_pairs,
        thing_pairs=count * (count - 1),
        connections=tally.connections,
        cases=tally.cases,
        rights=tally.rights,
        seconds=round(time.perf_counter() - started, 3),
        findings=tuple(sorted(tally.findings.values())),
    )


def _prove_for_all_names(fleet: Fleet, tally: _Tally) -> None:
    for group in fleet.groups:
        for finding in check_own(fleet.realm, group):
            tally.add(finding, of=finding.detail)
        for other in fleet.groups:
            findings, decided = check_apart(fleet.realm, group, other)
            tally.pattern_pairs += decided
            for finding in findings:
                tally.add(finding, of=finding.detail)


def _check_names(fleet: Fleet, tally: _Tally) -> None:
    """What the proof for all names takes for granted of the names that there are."""
    if not fleet.thing_count:
        raise GateError("a fleet without things proves nothing", hint="run `fleet generate`")
    seen: dict[str, Group] = {}
    for group in fleet.groups:
        for thing in group.things:
            if not thing or not NAME_CHARACTERS.issuperset(thing):
                tally.found(group, "a name is a thing name of AWS IoT", detail="", witness=thing)
            if thing in seen:
                tally.found(group, "a name is one thing's alone", detail=f"also in {seen[thing].name}", witness=thing)
            seen[thing] = group


def _wrongs(fleet: Fleet) -> _Wrongs:
    by_thing = {
        thing: attacks_on(fleet.realm, group, thing) | {Act("iot:Connect", fleet.realm.arn("client", thing))}
        for group in fleet.groups
        for thing in group.things
    }
    return _Wrongs(by_thing=by_thing, wronged={act: thing for thing, acts in by_thing.items() for act in acts})


def _try_thing(
    fleet: Fleet,
    group: Group,
    index: int,
    *,
    evaluator: Evaluator,
    wrongs: _Wrongs,
    others: int,
    tally: _Tally,
) -> None:
    thing, realm = group.things[index], fleet.realm
    victims = list(_victims(fleet, group, index, others))
    neighbour = victims[0][1] if victims else f"{thing}-other"
    own = own_session(thing)
    allowed = evaluator.permissions(own)
    for act in rights(realm, group, thing):
        tally.rights += 1
        if not all(each.allows(act) for each in allowed):
            tally.found(group, f"a thing has its rights: {act.action}", detail=thing, witness=act.resource)
    for permitted in allowed:
        for act_ in permitted.exact:
            if wrongs.wronged.get(act_, thing) != thing:
                tally.found(group, f"{act_[0]} is denied on all other things", detail=thing, witness=act_[1])
    _try_acts(group, own, allowed, wide_attacks(realm), tally)
    for other in fleet.groups:
        if other is not group:
            _try_acts(group, own, allowed, intrusions(realm, group, thing, other), tally)
    for _, victim in victims:
        _try_acts(group, own, allowed, wrongs.by_thing[victim], tally)
    # Things that may come: no name of today may begin with another, one of tomorrow may.
    for name in (f"{thing}2", f"{thing}-x", f"x{thing}"):
        _try_acts(group, own, allowed, attacks_on(realm, group, name), tally)
    for session in (own_session(thing, common_name=neighbour), Session(client_id=None, things=(thing,))):
        acts = wrongs.by_thing.get(neighbour, frozenset())
        _try_acts(group, session, evaluator.permissions(session), acts, tally)
    names = (*hostile_client_ids(thing, neighbour), *(victim for _, victim in victims))
    sessions = strangers(thing, neighbour)
    tally.connections += len(names) + len(sessions)
    for name in evaluator.admitted_names(realm, thing, names):
        tally.found(group, "iot:Connect is denied under any other name", detail=f"certificate of {thing}", witness=name)
    for session in evaluator.admitted(realm, sessions):
        tally.found(
            group, "iot:Connect is denied to strangers", detail=_shown(session), witness=session.client_id or ""
        )


def _try_acts(
    group: Group, session: Session, allowed: tuple[Permissions, ...], acts: frozenset[Act], tally: _Tally
) -> None:
    tally.cases += len(acts)
    for permitted in allowed:
        for act in permitted.allowed_of(acts):
            claim = f"{act.action} is denied where others are"
            tally.found(group, claim, detail=_shown(session), witness=act.resource)


def _shown(session: Session) -> str:
    return f"as {session.client_id!r} under the certificate of {', '.join(session.things) or 'no thing'}"


def _victims(fleet: Fleet, group: Group, index: int, others: int) -> Iterator[tuple[Group, str]]:
    """The thing's neighbours in its own group, then some things of every other group, others for every thing."""
    ring = (*group.things[-1:], *group.things, *group.things[:1])
    for name in dict.fromkeys((ring[index], ring[index + 2])):
        if name != group.things[index]:
            yield group, name
    for other in fleet.groups:
        if other is not group and other.things:
            size = len(other.things)
            for position in dict.fromkeys((index * others + step) % size for step in range(others)):
                yield other, other.things[position]
