"""Moves the devices of one command: all are planned before the first is moved, so that none is stopped half way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.lib.specs import FacilitySpec, suffixed
from fleet_iot.operations.pki.csr import csr_path
from fleet_iot.operations.pki.keystore import KeyStore, identities_folder
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.locks import alone
from fleet_iot.operations.registry.move_keys import MoveKeys, Renewal
from fleet_iot.operations.registry.move_plan import PlannedMove, plan_move
from fleet_iot.operations.registry.moves import Move, last_move
from fleet_iot.operations.registry.moving import move_device
from fleet_iot.operations.registry.perform import groups_of
from fleet_iot.operations.registry.registered import find_thing
from fleet_iot.operations.registry.steps import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRequest:
    """Which devices go where; `name` is the thing that the one device becomes, None where it is chosen."""

    things: Sequence[str]
    to: FacilitySpec
    name: str | None
    renewal: Renewal | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveLine:
    """What is said of one device; `is_done` is False in a dry run."""

    former: str
    thing: str
    text: str
    is_done: bool


def move_all(
    project: Project,
    journal: Journal,
    work: Work,
    request: MoveRequest,
    *,
    store: Callable[[], KeyStore | None],
    is_dry: bool,
) -> Iterator[MoveLine]:
    """Moves the devices one by one; those that are there already are told and left alone. Raises what `plan_move` does,
    before anything is changed."""
    to = request.to
    names = []
    for name in dict.fromkeys(request.things):
        if (done := _done(project, journal, name, to)) is None:
            names.append(name)
            continue
        text = f"is in {to.id} already, as {done.thing}"
        yield MoveLine(former=done.former, thing=done.thing, text=text, is_done=True)
    if is_dry:
        for _, move in _plan(project, journal, work, request, names):
            told = _told(move, request)
            yield MoveLine(former=move.device.thing.name, thing=move.thing.name, text=told, is_done=False)
        return
    opened = store() if names else None
    plants = {to.id} | {find_thing(project, journal, name).facility.id for name in names}
    with ExitStack() as locks:
        for plant in sorted(plants):
            locks.enter_context(alone(journal.path, plant))
        for here, move in _plan(project, journal, work, request, names):
            keys = MoveKeys(
                store=opened,
                requests_from=_requests(project, move.device.facility),
                requests_to=_requests(project, to),
            )
            moved = move_device(project, here, move, keys=keys, renewal=request.renewal, reason=request.reason)
            old = f"; {moved.removed} was seen locked out, then deleted" if moved.removed else ""
            text = f"is {moved.thing} now, under {moved.certificate_id}{old}; its shadow stays under its former name"
            yield MoveLine(former=moved.former, thing=moved.thing, text=text, is_done=True)


def _plan(
    project: Project, journal: Journal, work: Work, request: MoveRequest, names: Sequence[str]
) -> list[tuple[Work, PlannedMove]]:
    """Each move, and what works on the things of the plant that the device leaves."""
    planned: list[tuple[Work, PlannedMove]] = []
    for name in names:
        found = find_thing(project, journal, name)
        here = replace(work, groups=groups_of(project, found.facility))
        given = {move.thing.name for _, move in planned}
        planned.append((here, plan_move(project, here, found, request.to, name=request.name, given=given)))
    return planned


def _done(project: Project, journal: Journal, name: str, to: FacilitySpec) -> Move | None:
    """The move of an earlier command, where the thing has had no other device since."""
    full = name if name.endswith(f"-{project.environment_suffix}") else suffixed(name, project.environment_suffix)
    move = last_move(journal, full)
    if move is None or move.ended is None:
        return None
    query = "SELECT 1 FROM devices WHERE thing = ? AND state <> 'retired'"
    if journal.read(query, full):
        return None
    facility = journal.read("SELECT facility FROM devices WHERE thing = ? AND state = 'done'", move.thing)
    if facility == [(to.id,)]:
        return move
    where = f"it was moved to {move.thing}"
    raise RequestError(f"{full} is no device any more: {where}", hint=f"move {move.thing}, or see `fleet device show`")


def _told(move: PlannedMove, request: MoveRequest) -> str:
    key = "another key and certificate" if request.renewal else "its certificate"
    groups = {group.device_type: group for group in move.to.groups}
    group = groups[move.thing.device_type].thing_group
    return (
        f"would become {move.thing.name} in {group}, serial {move.thing.serial}, under {key}; {move.status} as before"
    )


def _requests(project: Project, facility: FacilitySpec) -> Path:
    return csr_path(identities_folder(project), project.environment_suffix, facility.id)
