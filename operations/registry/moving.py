"""Moves a device to another plant: another thing, group, policy and topic, under the same certificate or another one.

Names of things cannot change, and topics and policies carry the plant, so the device gets the name of a planned thing
there. It is authorised in one plant at a time: the new thing is made first and has nothing; the certificate is made
inactive and loses all of the old plant; only then it gets what is the new plant's, and works again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.operations.pki.spent import End, Spent, spend
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry import entries, moves
from fleet_iot.operations.registry.actions import REVOKED, eventually, gone, lock_out, remove_certificate
from fleet_iot.operations.registry.move_keys import MoveKeys, Renewal, material_for, take_key_along, tidy_keys
from fleet_iot.operations.registry.move_plan import PlannedMove
from fleet_iot.operations.registry.moves import Move, last_move
from fleet_iot.operations.registry.perform import groups_of
from fleet_iot.operations.registry.planned import PlannedThing
from fleet_iot.operations.registry.records import Step
from fleet_iot.operations.registry.registered import Registered, id_of, principals_of, read_certificate
from fleet_iot.operations.registry.renewal import find_certificate, make_certificate, policy_on, refuse_used
from fleet_iot.operations.registry.run import prepare_group
from fleet_iot.operations.registry.steps import Work, expiry_of, pem_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What became of a device: its certificate's id, and the one that was taken away (None: it kept it)."""

    former: str
    thing: str
    certificate_id: str
    removed: str | None


def move_device(
    project: Project,
    work: Work,
    planned: PlannedMove,
    *,
    keys: MoveKeys,
    renewal: Renewal | None,
    reason: str,
    sleep: Callable[[float], None] = time.sleep,
) -> Moved:
    """Moves the device. Every step may be done again, so that a move that was stopped anywhere goes on from the top."""
    device, name = planned.device, planned.thing.name
    there = replace(work, groups=groups_of(project, planned.to))
    group, policy = there.groups[planned.thing.device_type], policy_on(work, device.thing.name)
    move = _intend(work, planned, keys=keys, renewal=renewal, reason=reason)
    prepare_group(there, group, policy_on=policy)
    _make_thing(there, planned.thing)
    take_key_along(work, keys, planned)
    arn = _new_certificate(work, move, sleep=sleep) if move.is_rotated else move.certificate_arn
    _leave(work, device, move, reason=reason, sleep=sleep)
    if policy == "certificate":
        work.calls.call("AttachPolicy", policyName=group.policy, target=arn)
    work.calls.call("AttachThingPrincipal", thingName=name, principal=arn)
    status = _wake(work, move, arn)
    eventually(lambda: gone(work, "DeleteThing", thingName=move.former), sleep)
    tidy_keys(work, keys, planned)
    kept = () if move.is_rotated else (moves.kept_certificate(move),)
    work.journal.write(
        *kept, *moves.ended(move, status=status, certificate_id=id_of(arn), reason=reason, at=work.clock())
    )
    removed = id_of(move.certificate_arn) if move.is_rotated else None
    return Moved(former=move.former, thing=name, certificate_id=id_of(arn), removed=removed)


def _intend(work: Work, planned: PlannedMove, *, keys: MoveKeys, renewal: Renewal | None, reason: str) -> Move:
    """The move in the journal, before any call; the one that was cut off, where there is one."""
    device, former = planned.device, planned.device.thing.name
    begun = last_move(work.journal, former)
    if device.is_moving and begun is not None:
        if renewal is not None and not begun.is_rotated:
            raise RequestError(f"the move of {former} was begun with its own certificate", hint="rotate it afterwards")
        return begun
    assert device.certificate_arn is not None  # noqa: S101 - find_destination refuses that
    material = material_for(work, planned, keys, renewal)
    if renewal is not None or material.key != device.key:
        refuse_used(work, material.key)
    move = Move(
        id=0,
        former=former,
        thing=planned.thing.name,
        certificate_arn=device.certificate_arn,
        status=planned.status,
        is_rotated=renewal is not None,
        ended=None,
    )
    work.journal.write(
        *moves.begun(move, planned.to.id, planned.thing, material, at=work.clock()),
        entries.history(
            former, "move begun", at=work.clock(), certificate_id=id_of(move.certificate_arn), reason=reason
        ),
    )
    return move


def _make_thing(work: Work, thing: PlannedThing) -> None:
    """The thing in its group; without a certificate it is nobody yet."""
    if not work.calls.create_thing(thing):
        raise RequestError(
            f"AWS IoT has another thing {thing.name}, with other attributes or of another type",
            hint="the device is where it was: delete that thing if nobody needs it, then ask for the move again",
        )
    group = work.groups[thing.device_type].thing_group
    work.calls.call("AddThingToThingGroup", thingGroupName=group, thingName=thing.name)


def _new_certificate(work: Work, move: Move, *, sleep: Callable[[float], None]) -> str:
    """The ARN of the device's other certificate: the journal's, else one that was lost, else made now."""
    der, key, arn = work.journal.read("SELECT der, key, certificate_arn FROM devices WHERE thing = ?", move.thing)[0]
    if arn is not None:
        return str(arn)
    begun = work.journal.steps(move.thing).get(Step.CERTIFICATE)
    found = find_certificate(work, key, begun[0], sleep) if begun else None
    work.journal.write(entries.begin(move.thing, Step.CERTIFICATE, at=work.clock(), detail=key.hex()))
    pem = pem_of(der, "CERTIFICATE REQUEST")
    is_active = move.status == "ACTIVE" and _revocation(work, move) is None
    made = found or make_certificate(work, pem, key=key, is_active=is_active)
    certificate_id, arn = made["certificateId"], made["certificateArn"]
    expires = expiry_of(made["certificatePem"])
    work.journal.write(
        entries.certificate(move.thing, certificate_id=certificate_id, arn=arn, status=move.status, expires=expires),
        entries.end(move.thing, Step.CERTIFICATE, at=work.clock()),
    )
    return arn


def _leave(work: Work, device: Registered, move: Move, *, reason: str, sleep: Callable[[float], None]) -> None:
    """Takes away all that the device may do at the old plant, its certificate inactive meanwhile."""
    name, arn = move.former, move.certificate_arn
    if move.is_rotated:
        remove_certificate(work, name, arn, end=End.REPLACED, by="device move --rotate", reason=reason, sleep=sleep)
    elif arn in principals_of(work.calls, name):
        found = read_certificate(work.calls, arn)
        if found is not None:
            lock_out(work, name, found, reason=reason)
        gone(work, "DetachThingPrincipal", thingName=name, principal=arn)
    group = work.groups[device.thing.device_type].thing_group
    gone(work, "RemoveThingFromThingGroup", thingName=name, thingGroupName=group)


def _wake(work: Work, move: Move, arn: str) -> str:
    """Gives the certificate the status that the device had; one that was revoked meanwhile stays so, and so does its
    device, whatever other certificate it got. Returns the status."""
    found = read_certificate(work.calls, arn)
    if found is None:
        raise RequestError(f"the certificate {id_of(arn)} is gone from AWS IoT", hint="see `fleet device show`")
    ended = _revocation(work, move)
    status = REVOKED if ended is not None or found.status == REVOKED else move.status
    if status == REVOKED:
        reason = ended.reason if ended else "seen REVOKED in AWS IoT"
        at, by = work.clock(), ended.by if ended else "AWS IoT"
        work.journal.write(
            spend(End.REVOKED, key=found.key, certificate_id=found.id, thing=move.thing, at=at, by=by, reason=reason)
        )
    if found.status != status:
        work.calls.call("UpdateCertificate", certificateId=found.id, newStatus=status)
    return status


def _revocation(work: Work, move: Move) -> Spent | None:
    """The device's revocation, if it was revoked since the move was planned."""
    query = "SELECT key, iif(is_certificate, der, NULL) FROM devices WHERE thing = ?"
    (former, der), *_ = work.journal.read(query, move.former)
    (key, _), *_ = work.journal.read(query, move.thing)
    known = (work.journal.spent(former, id_of(move.certificate_arn), der), work.journal.spent(key, None))
    return next((ended for ended in known if ended is not None and ended.what is End.REVOKED), None)
