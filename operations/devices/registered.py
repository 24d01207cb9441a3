"""Finds one thing in the approved record, in the journal and in AWS IoT."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from botocore.exceptions import ClientError

from generator.diagnostics import RequestError
from lib.specs import FacilitySpec
from operations.onboarding.calls import IotCalls, code_of
from operations.onboarding.journal import Journal
from operations.onboarding.planned import PlannedThing, read_planned
from operations.project import Project

NOT_FOUND = "ResourceNotFoundException"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A thing and its facility; `certificate_id` and `certificate_arn` are the journal's, None where it has none.

    `is_moving`: a move of it was begun and has not come to its end.
    """

    thing: PlannedThing
    facility: FacilitySpec
    is_in_journal: bool
    certificate_id: str | None
    certificate_arn: str | None
    is_moving: bool = False


def find_thing(project: Project, journal: Journal, name: str) -> Registered:
    """The thing with this name, with or without the environment suffix. Raises RequestError where there is none."""
    suffix = f"-{project.environment_suffix}"
    full = name if name.endswith(suffix) else name + suffix
    query = """SELECT line, facility, certificate_id, certificate_arn, state = 'moving' FROM devices
        WHERE thing = ? AND state <> 'retired'"""
    found = journal.read(query, full)
    if found:
        line, facility_id, certificate_id, certificate_arn, is_moving = found[0]
        return Registered(
            thing=msgspec.json.decode(line, type=PlannedThing),
            facility=project.facility(facility_id),
            is_in_journal=True,
            certificate_id=certificate_id,
            certificate_arn=certificate_arn,
            is_moving=bool(is_moving),
        )
    for facility in project.facilities:
        if not full.startswith(f"{facility.id}-"):
            continue
        for thing in read_planned(project, facility):
            if thing.name == full:
                return Registered(
                    thing=thing, facility=facility, is_in_journal=False, certificate_id=None, certificate_arn=None
                )
    raise RequestError(f"there is no thing {name!r}", hint="`fleet explain NAME` tells what a name is")


def principals_of(calls: IotCalls, thing: str) -> list[str]:
    """The ARNs of the certificates that AWS IoT has attached to the thing."""
    try:
        return sorted(map(str, calls.call("ListThingPrincipals", thingName=thing)["principals"]))
    except ClientError as error:
        if code_of(error) == NOT_FOUND:
            return []
        raise


def refuse_moving(device: Registered) -> None:
    """Raises RequestError for a device that is between two plants."""
    if device.is_moving:
        raise RequestError(
            f"{device.thing.name} is being moved", hint="ask for the move again: it goes on where it stopped"
        )


def id_of(arn: str) -> str:
    """The certificate's id."""
    return arn.rpartition("/")[2]
