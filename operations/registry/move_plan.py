"""Plan a move: choose the planned thing that a device becomes, and refuse what cannot be moved."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from botocore.exceptions import ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.generator.naming import serial_prefix
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.lists.record import Material
from fleet_iot.operations.pki.spent import End
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.calls import code_of
from fleet_iot.operations.registry.device import NOT_FOUND, Registered, principals_of, read_certificate
from fleet_iot.operations.registry.journal import Journal, Step, Write
from fleet_iot.operations.registry.matching import PlannedThing, read_planned
from fleet_iot.operations.registry.runner import groups_of
from fleet_iot.operations.registry.steps import Work


def find_destination(
    project: Project, journal: Journal, device: Registered, to: FacilitySpec, *, name: str | None, given: set[str]
) -> PlannedThing:
    """The thing with the device's serial, where the plant's list has it; else the one called `name`, else the next that
    is free and meant for no other serial. Names in `given` are taken. Raises RequestError where there is none.

    A serial that is the maker's, and not made from a name, goes with the device.
    """
    _refuse(device, to)
    device_type, serial = device.thing.device_type, device.thing.serial
    full = _full(name, project.environment_suffix) if name else None
    taken = given | _taken(journal, to.id)
    by_name, next_free = None, None
    for thing in read_planned(project, to):
        if thing.serial == serial:
            if full not in (None, thing.name):
                raise RequestError(f"{to.id} plans serial {serial} as {thing.name}", hint="leave --as out")
            return _free(thing, device, taken)
        if thing.name == full:
            by_name = thing
        elif next_free is None and full is None and thing.device_type == device_type and thing.name not in taken:
            next_free = None if _is_makers(thing, to) else thing
    if full is not None and by_name is None:
        raise RequestError(f"{to.id} plans no thing {full}", hint="see lib/facilities, or leave --as out")
    if by_name is not None and _is_makers(by_name, to):
        raise RequestError(
            f"{by_name.name} is planned for serial {by_name.serial}, the device's is {serial}",
            hint="name another, or correct the plant's list and run `fleet generate`",
        )
    found = by_name or next_free
    if found is None:
        raise RequestError(
            f"there is no planned {device_type} left in {to.id}",
            hint="raise its count in fleet.yaml and run `fleet generate`",
        )
    return _carrying(_free(found, device, taken), device)


def _refuse(device: Registered, to: FacilitySpec) -> None:
    name = device.thing.name
    if not device.is_in_journal or device.certificate_arn is None:
        raise RequestError(
            f"{name} was not onboarded from here",
            hint="onboard it first; things that Terraform registers move with fleet.yaml and an apply",
        )
    if to.id == device.facility.id:
        raise RequestError(f"{name} is in {to.id} already", hint="say another plant: --to FACILITY")
    if to.registration != "bulk":
        raise RequestError(
            f"Terraform registers the things of {to.id}",
            hint="set `registration: bulk` for it in fleet.yaml, generate and apply; or move the thing in fleet.yaml",
        )
    if device.thing.device_type not in {group.device_type for group in to.groups}:
        raise RequestError(
            f"{to.id} has no device type {device.thing.device_type}",
            hint="plan such things there in fleet.yaml, generate, and apply the plant's stack",
        )


def _taken(journal: Journal, facility: str) -> set[str]:
    """The plant's things that have a certificate, or are about to get one."""
    query = """SELECT thing FROM devices
        WHERE facility = ? AND (certificate_id IS NOT NULL OR state IN ('planned', 'moving'))"""
    return {str(thing) for (thing,) in journal.read(query, facility)}


def _free(thing: PlannedThing, device: Registered, taken: set[str]) -> PlannedThing:
    if thing.device_type != device.thing.device_type:
        raise RequestError(
            f"{thing.name} is a {thing.device_type}, {device.thing.name} is a {device.thing.device_type}",
            hint="name a thing of the same type, or correct the plant's list",
        )
    if thing.name in taken:
        raise RequestError(
            f"{thing.name} has a certificate already, or is being onboarded",
            hint="retire the device that has it, or name another: --as NAME",
        )
    return thing


def _carrying(thing: PlannedThing, device: Registered) -> PlannedThing:
    """The thing, with the device's own serial."""
    if not _is_makers(device.thing, device.facility):
        return thing
    serial = device.thing.serial
    return msgspec.structs.replace(thing, serial=serial, attributes=thing.attributes | {"serial": serial})


def _is_makers(thing: PlannedThing, facility: FacilitySpec) -> bool:
    """Whether somebody said the serial: otherwise it is made from the thing's name."""
    return not thing.serial.startswith(serial_prefix(facility.id, thing.device_type))


def _full(name: str, suffix: str) -> str:
    return name if name.endswith(f"-{suffix}") else f"{name}-{suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One move: `certificate_arn` and `status` are those that the device had before; `is_rotated`: it gets another."""

    id: int
    former: str
    thing: str
    certificate_arn: str
    status: str
    is_rotated: bool
    ended: float | None


def last_move(journal: Journal, former: str) -> Move | None:
    """The last move of a device away from this name, if it came to its end or not."""
    return _one(journal, "former", former)


def move_to(journal: Journal, thing: str) -> Move | None:
    """The last move of a device to this name."""
    return _one(journal, "thing", thing)


def _one(journal: Journal, column: str, name: str) -> Move | None:
    found = journal.read(
        f"""SELECT id, former, thing, certificate_arn, status, is_rotated, ended FROM moves
        WHERE {column} = ? ORDER BY id DESC LIMIT 1""",  # noqa: S608 - our own words
        name,
    )
    if not found:
        return None
    id_, former, thing, arn, status, is_rotated, ended = found[0]
    return Move(
        id=id_,
        former=former,
        thing=thing,
        certificate_arn=arn,
        status=status,
        is_rotated=bool(is_rotated),
        ended=ended,
    )


def begun(move: Move, facility: str, thing: PlannedThing, material: Material, *, at: float) -> tuple[Write, ...]:
    """The intent, and the new name given away: no onboarding takes it from now on. Keeps the certificate unless the
    device gets another."""
    line = msgspec.json.encode(thing)
    return (
        ("UPDATE devices SET state = 'moving' WHERE thing = ?", (move.former,)),
        (
            """INSERT OR REPLACE INTO devices
            SELECT ?, ?, run, row, place, ?, ?, ?, ?, ?, 'moving', NULL, NULL, NULL, NULL, NULL, NULL
            FROM devices WHERE thing = ?""",
            (
                *(thing.name, facility, line, material.is_certificate, material.der, material.fingerprint),
                *(material.key, move.former),
            ),
        ),
        entries.forget_all(thing.name),
        (
            """INSERT INTO moves (former, thing, certificate_arn, status, is_rotated, begun)
            VALUES (?, ?, ?, ?, ?, ?)""",
            (move.former, move.thing, move.certificate_arn, move.status, move.is_rotated, at),
        ),
    )


def kept_certificate(move: Move) -> Write:
    """That the device has its certificate under its new name."""
    return (
        """UPDATE devices SET (certificate_id, certificate_arn, certificate_status, expires) =
        (SELECT certificate_id, certificate_arn, certificate_status, expires FROM devices WHERE thing = ?)
        WHERE thing = ?""",
        (move.former, move.thing),
    )


def ended(move: Move, *, status: str, certificate_id: str, reason: str, at: float) -> tuple[Write, ...]:
    """That the device is there: its former thing may get another one, and both histories say so."""
    return (
        entries.retired(move.former),
        entries.forget_all(move.former),
        entries.forget_all(move.thing),
        entries.done(move.thing),
        entries.status(move.thing, status),
        ("UPDATE moves SET ended = ? WHERE former = ? AND ended IS NULL", (at, move.former)),
        entries.history(move.former, f"moved to {move.thing}", at=at, certificate_id=certificate_id, reason=reason),
        entries.history(move.thing, f"moved from {move.former}", at=at, certificate_id=certificate_id, reason=reason),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMove:
    """A device, where it goes and what it is there; `status` is its certificate's, to be the same after the move."""

    device: Registered
    to: FacilitySpec
    thing: PlannedThing
    status: str


def plan_move(
    project: Project, work: Work, device: Registered, to: FacilitySpec, *, name: str | None, given: set[str]
) -> PlannedMove:
    """Where the device goes; nothing is changed. `given` are the things that others get. Raises RequestError, or
    EnvironmentFault where the plant's stack is not applied."""
    former = device.thing.name
    if device.is_moving:
        return _begun(work, device, to)
    thing = find_destination(project, work.journal, device, to, name=name, given=given)
    if Step.ROTATE in work.journal.steps(former):
        raise RequestError(f"{former} is being rotated", hint="finish that first: fleet device rotate --finish")
    arns = principals_of(work.calls, former)
    if arns != [device.certificate_arn]:
        raise RequestError(
            f"{former} has {len(arns)} certificates in AWS IoT, and not the journal's one",
            hint="compare: fleet device show; retire it and onboard it anew",
        )
    described = read_certificate(work.calls, arns[0])
    ended = work.journal.spent(device.key, device.certificate_id, described.der if described else None)
    status = "REVOKED" if ended is not None and ended.what is End.REVOKED else described.status if described else "gone"
    if status not in ("ACTIVE", "INACTIVE"):
        raise RequestError(
            f"the certificate of {former} is {status}",
            hint="a revoked device stays where it is: retire it, and onboard another at the other plant",
        )
    _refuse_other(work, thing)
    group = groups_of(project, to)[thing.device_type]
    try:
        work.calls.call("DescribeThingGroup", thingGroupName=group.thing_group)
    except ClientError as error:
        raise EnvironmentFault(
            f"{group.thing_group} is not in AWS IoT: {code_of(error)}", hint=f"apply the stack of {to.id} first"
        ) from None
    return PlannedMove(device=device, to=to, thing=thing, status=status)


def _begun(work: Work, device: Registered, to: FacilitySpec) -> PlannedMove:
    """The move that was cut off."""
    move = last_move(work.journal, device.thing.name)
    query = "SELECT line, facility FROM devices WHERE thing = ? AND state = 'moving'"
    rows = work.journal.read(query, move.thing) if move else []
    if move is None or not rows:
        raise RequestError(f"{device.thing.name} is where a device is being moved to", hint="name its former thing")
    line, facility = rows[0]
    if facility != to.id:
        raise RequestError(
            f"{device.thing.name} is being moved to {facility}, as {move.thing}",
            hint=f"go on with that first: --to {facility}",
        )
    thing = msgspec.json.decode(line, type=PlannedThing)
    return PlannedMove(device=device, to=to, thing=thing, status=move.status)


def _refuse_other(work: Work, thing: PlannedThing) -> None:
    """Raises RequestError where AWS IoT has another thing of the name, or one with a certificate."""
    try:
        found = work.calls.call("DescribeThing", thingName=thing.name)
    except ClientError as error:
        if code_of(error) != NOT_FOUND:
            raise
        return
    is_same = found.get("attributes", {}) == thing.attributes and found.get("thingTypeName") == thing.thing_type
    if not is_same or principals_of(work.calls, thing.name):
        raise RequestError(
            f"AWS IoT has another thing {thing.name}, with other attributes, of another type or with a certificate",
            hint="delete it if nobody needs it, or name another: --as NAME",
        )
