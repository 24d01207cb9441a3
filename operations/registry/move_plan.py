"""Plan a move: choose the planned thing that a device becomes, and refuse what cannot be moved."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from botocore.exceptions import ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.generator.naming import serial_prefix
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.pki.spent import End
from fleet_iot.operations.project import PlannedThing, Project
from fleet_iot.operations.registry.calls import code_of
from fleet_iot.operations.registry.device import Registered, principals_of, read_certificate
from fleet_iot.operations.registry.journal import Journal, Step
from fleet_iot.operations.registry.runner import groups_of
from fleet_iot.operations.registry.steps import Work


def find_destination(
    project: Project, journal: Journal, device: Registered, to: FacilitySpec, *, name: str | None, given: set[str]
) -> PlannedThing:
    """Return the thing with the device's serial, where the plant's list has it; else the one called `name`, else the
    next that is free and meant for no other serial. Names in `given` are taken. Raises RequestError where there is
    none.

    A serial that is the maker's, and not made from a name, goes with the device.
    """
    _refuse(device, to)
    device_type, serial = device.thing.device_type, device.thing.serial
    full = _full(name, project.environment_suffix) if name else None
    taken = given | journal.taken(to.id)
    by_name, next_free = None, None
    for thing in project.planned(to):
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
    """Return the thing, with the device's own serial."""
    if not _is_makers(device.thing, device.facility):
        return thing
    serial = device.thing.serial
    return msgspec.structs.replace(thing, serial=serial, attributes=thing.attributes | {"serial": serial})


def _is_makers(thing: PlannedThing, facility: FacilitySpec) -> bool:
    """Return whether the serial was given, not made from the thing's name."""
    return not thing.serial.startswith(serial_prefix(facility.id, thing.device_type))


def _full(name: str, suffix: str) -> str:
    return name if name.endswith(f"-{suffix}") else f"{name}-{suffix}"


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
    """Plan the move; nothing is changed. Things in `given` are taken. Raises RequestError, or EnvironmentFault where
    the plant's stack is not applied."""
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
            hint="compare: fleet device show; retire it and onboard it again",
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
    """Return the interrupted move."""
    move = work.journal.moved_from(device.thing.name)
    there = work.journal.find_device(move.thing) if move else None
    if move is None or there is None or there.state != "moving":
        raise RequestError(f"{device.thing.name} is where a device is being moved to", hint="name its former thing")
    if there.facility != to.id:
        raise RequestError(
            f"{device.thing.name} is being moved to {there.facility}, as {move.thing}",
            hint=f"go on with that first: --to {there.facility}",
        )
    return PlannedMove(device=device, to=to, thing=there.planned, status=move.status)


def _refuse_other(work: Work, thing: PlannedThing) -> None:
    """Raise RequestError where AWS IoT has another thing of the name, or one with a certificate."""
    found = work.calls.call_if_exists("DescribeThing", thingName=thing.name)
    if found is None:
        return
    is_same = found.get("attributes", {}) == thing.attributes and found.get("thingTypeName") == thing.thing_type
    if not is_same or principals_of(work.calls, thing.name):
        raise RequestError(
            f"AWS IoT has another thing {thing.name}, with other attributes, of another type or with a certificate",
            hint="delete it if it is not needed, or name another: --as NAME",
        )
