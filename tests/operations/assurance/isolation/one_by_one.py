"""Tries the attacks thing by thing: a cross-check of the proof, with which it shares only the reading of documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fleet_iot.operations.assurance.isolation.fleet import Fleet, Group
from fleet_iot.operations.assurance.isolation.policy import Policy
from fleet_iot.operations.assurance.isolation.session import (
    Act,
    Permissions,
    Session,
    contexts,
    own_session,
    permissions,
)
from tests.operations.assurance.isolation.attacks import (
    attacks_on,
    hostile_client_ids,
    intrusions,
    strangers,
    wide_attacks,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForbiddenActs:
    """Acts that each thing must be spared, and the victim of each, for one look-up of an act among all things."""

    by_thing: dict[str, frozenset[Act]]
    victim_of: dict[tuple[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One act that a connection may do and must not."""

    group: str
    session: Session
    act: Act


def forbidden_acts(fleet: Fleet) -> ForbiddenActs:
    by_thing = {
        thing: attacks_on(fleet.realm, group, thing) | {Act("iot:Connect", fleet.realm.arn("client", thing))}
        for group in fleet.groups
        for thing in group.things
    }
    return ForbiddenActs(by_thing=by_thing, victim_of={act: thing for thing, acts in by_thing.items() for act in acts})


def try_attacks(fleet: Fleet, *, others: int = 2) -> tuple[list[Breach], int]:
    """Try every thing's attacks on its neighbours and on `others` things of every other group; also count the acts."""
    forbidden = forbidden_acts(fleet)
    breaches, tried = [], 0
    for group in fleet.groups:
        for index, thing in enumerate(group.things):
            for session, acts in _attempts(fleet, group, index, others, forbidden):
                tried += len(acts)
                allowed = answers(session, group.policy)
                breaches += [
                    Breach(group=group.name, session=session, act=act)
                    for act in sorted(acts)
                    if any(each.allows(act) for each in allowed)
                ]
            breaches += [
                Breach(group=group.name, session=own_session(thing), act=Act(*act))
                for permitted in answers(own_session(thing), group.policy)
                for act in permitted.exact
                if forbidden.victim_of.get(act, thing) != thing
            ]
    return breaches, tried


def answers(session: Session, *policies: Policy) -> tuple[Permissions, ...]:
    """Return the permissions of the connection in each reading that makes a difference."""
    return tuple(permissions(policies, *each) for each in contexts(session))


def _attempts(
    fleet: Fleet, group: Group, index: int, others: int, forbidden: ForbiddenActs
) -> Iterator[tuple[Session, frozenset[Act]]]:
    thing, realm = group.things[index], fleet.realm
    victims = list(_victims(fleet, group, index, others))
    neighbour = victims[0] if victims else f"{thing}-other"
    own = wide_attacks(realm).union(
        *(intrusions(realm, group, thing, other) for other in fleet.groups if other is not group),
        *(forbidden.by_thing[victim] for victim in victims),
        # Things that may come: no name of today may begin with another, one of tomorrow may.
        *(attacks_on(realm, group, name) for name in (f"{thing}2", f"{thing}-x", f"x{thing}")),
    )
    yield own_session(thing), own
    for session in (own_session(thing, common_name=neighbour), Session(client_id=None, things=(thing,))):
        yield session, forbidden.by_thing.get(neighbour, frozenset())
    names = dict.fromkeys((*hostile_client_ids(thing, neighbour), *victims))
    for session in (*(Session(client_id=name, things=(thing,)) for name in names), *strangers(thing, neighbour)):
        yield session, frozenset({Act("iot:Connect", realm.arn("client", session.client_id or ""))})


def _victims(fleet: Fleet, group: Group, index: int, others: int) -> Iterator[str]:
    """The thing's neighbours in its own group, then some things of every other group, others for every thing."""
    ring = (*group.things[-1:], *group.things, *group.things[:1])
    yield from (name for name in dict.fromkeys((ring[index], ring[index + 2])) if name != group.things[index])
    for other in fleet.groups:
        if other is not group and other.things:
            size = len(other.things)
            for position in dict.fromkeys((index * others + step) % size for step in range(others)):
                yield other.things[position]
