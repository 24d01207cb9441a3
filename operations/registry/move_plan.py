"""Says where a device would be moved to, and refuses what cannot be moved before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from botocore.exceptions import ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.pki.spent import End
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry.calls import code_of
from fleet_iot.operations.registry.destination import find_destination
from fleet_iot.operations.registry.moves import last_move
from fleet_iot.operations.registry.perform import groups_of
from fleet_iot.operations.registry.planned import PlannedThing
from fleet_iot.operations.registry.records import Step
from fleet_iot.operations.registry.registered import NOT_FOUND, Registered, principals_of, read_certificate
from fleet_iot.operations.registry.steps import Work


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
