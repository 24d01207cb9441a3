"""Chooses which planned thing of another plant a moved device becomes."""

from __future__ import annotations

import msgspec

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.generator.naming import serial_prefix
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.planned import PlannedThing, read_planned
from fleet_iot.operations.registry.registered import Registered


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
