"""Move devices to another plant: another thing, group, policy and topic, with the same certificate or a new one.

Things cannot be renamed, and topics and policies name the plant, so the device becomes a planned thing of the new
plant. It is authorised in one plant at a time: the new thing is made first, without rights; the certificate is made
inactive and loses the old plant's rights; only then does it get the new plant's, and become active again. All moves
of a command are planned before the first one starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.generator.naming import serial_prefix
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.lib.specs import FacilitySpec, suffixed
from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.lists.record import Material
from fleet_iot.operations.pki.csr import csr_path, read_requests, sign_request, write_requests
from fleet_iot.operations.pki.keystore import KeyStore, identities_folder
from fleet_iot.operations.pki.spent import End, Spent, spend
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.calls import code_of
from fleet_iot.operations.registry.device import (
    REVOKED,
    Registered,
    eventually,
    find_certificate,
    find_thing,
    id_of,
    lock_out,
    make_certificate,
    material_of,
    principals_of,
    read_certificate,
    refuse_used,
    remove_certificate,
)
from fleet_iot.operations.registry.journal import Journal, Move, Step
from fleet_iot.operations.registry.runner import facility_lock, groups_of
from fleet_iot.operations.registry.steps import Work, expiry_of, pem_of, prepare_group

# Plan a move: choose the planned thing that a device becomes, and refuse what cannot be moved.


def find_destination(
    project: Project, journal: Journal, device: Registered, to: FacilitySpec, *, name: str | None, given: set[str]
) -> ThingRow:
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
        raise RequestError(f"{to.id} plans no thing {full}", hint="see its things.jsonl, or leave --as out")
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


def _free(thing: ThingRow, device: Registered, taken: set[str]) -> ThingRow:
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


def _carrying(thing: ThingRow, device: Registered) -> ThingRow:
    """Return the thing, with the device's own serial."""
    if not _is_makers(device.thing, device.facility):
        return thing
    serial = device.thing.serial
    return msgspec.structs.replace(thing, serial=serial, attributes=thing.attributes | {"serial": serial})


def _is_makers(thing: ThingRow, facility: FacilitySpec) -> bool:
    """Return whether the serial was given, not made from the thing's name."""
    return not thing.serial.startswith(serial_prefix(facility.id, thing.device_type))


def _full(name: str, suffix: str) -> str:
    return name if name.endswith(f"-{suffix}") else f"{name}-{suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMove:
    """A device, where it goes and what it is there; `status` is its certificate's, to be the same after the move."""

    device: Registered
    to: FacilitySpec
    thing: ThingRow
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


def _refuse_other(work: Work, thing: ThingRow) -> None:
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


# Move the devices, as planned.


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveKeys:
    """The key store, None where there is none, and the CSR files of both plants."""

    store: KeyStore | None
    requests_from: Path
    requests_to: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """Another certificate for the device: for the CSR that it handed in, else for a key that is made here."""

    request: bytes | None


def material_for(work: Work, planned: PlannedMove, keys: MoveKeys, renewal: Renewal | None) -> Material:
    """Return the device's key material at the new plant; a new key is on disk when this returns."""
    former, name, store = planned.device.thing.name, planned.thing.name, keys.store
    if renewal is not None and renewal.request is not None:
        return material_of(renewal.request.decode("ascii", "replace"))
    own = _key(store, planned.device.facility.id, former)
    if renewal is not None:
        if store is None or own is None:
            raise RequestError(
                f"the key of {former} is not in the key store: the device has made it itself",
                hint="have it make another, and hand in the CSR: --csr FILE",
            )
        store.add(planned.to.id, [(name, ec.generate_private_key(ec.SECP256R1()))])
        made = _key(store, planned.to.id, name)
        assert made is not None  # noqa: S101 - added above
        return material_of(sign_request(name, made))
    device = work.journal.device(former)
    if own is not None and key_digest(own.public_key()) == device.key and not device.is_certificate:
        return material_of(sign_request(name, own))
    return Material(
        is_certificate=device.is_certificate,
        der=device.der,
        fingerprint=device.fingerprint,
        key=device.key,
        common_name=None,
    )


def take_key_along(work: Work, keys: MoveKeys, planned: PlannedMove) -> None:
    """Copy the key that the device keeps to its new name."""
    facility, former = planned.device.facility.id, planned.device.thing.name
    own = _key(keys.store, facility, former)
    if keys.store is None or own is None:
        return
    digest = work.journal.device(planned.thing.name).key
    there = _key(keys.store, planned.to.id, planned.thing.name)
    if key_digest(own.public_key()) == digest and (there is None or key_digest(there.public_key()) != digest):
        keys.store.replace(planned.to.id, planned.thing.name, own)


def tidy_keys(work: Work, keys: MoveKeys, planned: PlannedMove) -> None:
    """Remove the device's key and CSR from its former name, so that they are not used twice; keep the CSR under the new
    one."""
    former, name = planned.device.thing.name, planned.thing.name
    own = _key(keys.store, planned.device.facility.id, former)
    if keys.store is not None and own is not None and key_digest(own.public_key()) == work.journal.device(former).key:
        keys.store.replace(planned.device.facility.id, former, ec.generate_private_key(ec.SECP256R1()))
    before, after = read_requests(keys.requests_from), read_requests(keys.requests_to)
    moved = work.journal.device(name)
    if former in before or name in after:
        after.pop(name, None)
        if not moved.is_certificate:
            after[name] = pem_of(moved.der, "CERTIFICATE REQUEST")
        write_requests(keys.requests_to, after)
    if former in before:
        del before[former]
        write_requests(keys.requests_from, before)


def _key(store: KeyStore | None, facility: str, name: str) -> ec.EllipticCurvePrivateKey | None:
    return dict(store.keys(facility, {name})).get(name) if store else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A moved device: its certificate's id, and that of the removed one (None: it kept its certificate)."""

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
    """Move the device. Every step may be repeated, so an interrupted move starts from the top again."""
    device, name = planned.device, planned.thing.name
    there = replace(work, groups=groups_of(project, planned.to))
    group, policy = there.groups[planned.thing.device_type], work.journal.policy_on(device.thing.name)
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
    eventually(lambda: work.calls.call_if_exists("DeleteThing", thingName=move.former), sleep)
    tidy_keys(work, keys, planned)
    kept = () if move.is_rotated else (entries.kept_certificate(move),)
    work.journal.write(
        *kept, *entries.move_ended(move, final_status=status, certificate_id=id_of(arn), reason=reason, at=work.clock())
    )
    removed = id_of(move.certificate_arn) if move.is_rotated else None
    return Moved(former=move.former, thing=name, certificate_id=id_of(arn), removed=removed)


def _intend(work: Work, planned: PlannedMove, *, keys: MoveKeys, renewal: Renewal | None, reason: str) -> Move:
    """Record the move before any call; return the interrupted one where there is one."""
    device, former = planned.device, planned.device.thing.name
    begun = work.journal.moved_from(former)
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
        *entries.move_begun(move, planned.to.id, planned.thing, material, at=work.clock()),
        entries.history(
            former, "move begun", at=work.clock(), certificate_id=id_of(move.certificate_arn), reason=reason
        ),
    )
    return move


def _make_thing(work: Work, thing: ThingRow) -> None:
    """Create the thing in its group, without a certificate."""
    if not work.calls.create_thing(thing):
        raise RequestError(
            f"AWS IoT has another thing {thing.name}, with other attributes or of another type",
            hint="the device is where it was: delete that thing if it is not needed, then ask for the move again",
        )
    group = work.groups[thing.device_type].thing_group
    work.calls.call("AddThingToThingGroup", thingGroupName=group, thingName=thing.name)


def _new_certificate(work: Work, move: Move, *, sleep: Callable[[float], None]) -> str:
    """Return the ARN of the device's new certificate: the journal's, else a lost one, else made now."""
    device = work.journal.device(move.thing)
    key = device.key
    if device.certificate_arn is not None:
        return device.certificate_arn
    begun = work.journal.steps(move.thing).get(Step.CERTIFICATE)
    found = find_certificate(work, key, begun[0], sleep) if begun else None
    work.journal.write(entries.begin(move.thing, Step.CERTIFICATE, at=work.clock(), detail=key.hex()))
    pem = pem_of(device.der, "CERTIFICATE REQUEST")
    is_active = move.status == "ACTIVE" and _revocation(work, move) is None
    made = found or make_certificate(work, pem, key=key, is_active=is_active)
    certificate_id, arn = made["certificateId"], str(made["certificateArn"])
    expires = expiry_of(made["certificatePem"])
    work.journal.write(
        entries.certificate(move.thing, certificate_id=certificate_id, arn=arn, status=move.status, expires=expires),
        entries.end(move.thing, Step.CERTIFICATE, at=work.clock()),
    )
    return arn


def _leave(work: Work, device: Registered, move: Move, *, reason: str, sleep: Callable[[float], None]) -> None:
    """Remove all rights of the device at the old plant, its certificate inactive meanwhile."""
    name, arn = move.former, move.certificate_arn
    if move.is_rotated:
        remove_certificate(work, name, arn, end=End.REPLACED, by="device move --rotate", reason=reason, sleep=sleep)
    elif arn in principals_of(work.calls, name):
        found = read_certificate(work.calls, arn)
        if found is not None:
            lock_out(work, name, found, reason=reason)
        work.calls.call_if_exists("DetachThingPrincipal", thingName=name, principal=arn)
    group = work.groups[device.thing.device_type].thing_group
    work.calls.call_if_exists("RemoveThingFromThingGroup", thingName=name, thingGroupName=group)


def _wake(work: Work, move: Move, arn: str) -> str:
    """Set the certificate to the status that the device had; a device revoked meanwhile stays revoked, also under a new
    certificate. Returns the status."""
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
    """Return the device's revocation, if it was revoked since the move was planned."""
    former = work.journal.device(move.former)
    known = (
        work.journal.spent(former.key, id_of(move.certificate_arn), former.certificate),
        work.journal.spent(work.journal.device(move.thing).key, None),
    )
    return next((ended for ended in known if ended is not None and ended.what is End.REVOKED), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRequest:
    """Devices to move to a plant; `name` is the thing that a single device becomes, None to choose one."""

    things: Sequence[str]
    to: FacilitySpec
    name: str | None
    renewal: Renewal | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveLine:
    """The message for one device; `is_done` is False in a dry run."""

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
    """Move the devices one by one; those already there are reported and skipped. Raises what `plan_move` does,
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
            text = _preview(move, request)
            yield MoveLine(former=move.device.thing.name, thing=move.thing.name, text=text, is_done=False)
        return
    opened = store() if names else None
    plants = {to.id} | {find_thing(project, journal, name).facility.id for name in names}
    with ExitStack() as locks:
        for plant in sorted(plants):
            locks.enter_context(facility_lock(journal.path, plant))
        for here, move in _plan(project, journal, work, request, names):
            keys = MoveKeys(
                store=opened, requests_from=_requests(project, move.device.facility), requests_to=_requests(project, to)
            )
            moved = move_device(project, here, move, keys=keys, renewal=request.renewal, reason=request.reason)
            old = f"; {moved.removed} was seen locked out, then deleted" if moved.removed else ""
            text = f"is {moved.thing} now, under {moved.certificate_id}{old}; its shadow stays under its former name"
            yield MoveLine(former=moved.former, thing=moved.thing, text=text, is_done=True)


def _plan(
    project: Project, journal: Journal, work: Work, request: MoveRequest, names: Sequence[str]
) -> list[tuple[Work, PlannedMove]]:
    """Return each move, and what works on the things of the plant that the device leaves."""
    planned: list[tuple[Work, PlannedMove]] = []
    for name in names:
        found = find_thing(project, journal, name)
        here = replace(work, groups=groups_of(project, found.facility))
        given = {move.thing.name for _, move in planned}
        planned.append((here, plan_move(project, here, found, request.to, name=request.name, given=given)))
    return planned


def _done(project: Project, journal: Journal, name: str, to: FacilitySpec) -> Move | None:
    """Return the move of an earlier command, where the thing has had no other device since."""
    full = name if name.endswith(f"-{project.environment_suffix}") else suffixed(name, project.environment_suffix)
    move = journal.moved_from(full)
    if move is None or move.ended is None:
        return None
    device, moved = journal.find_device(full), journal.find_device(move.thing)
    if device is not None and device.state != "retired":
        return None
    if moved is not None and moved.state == "done" and moved.facility == to.id:
        return move
    where = f"it was moved to {move.thing}"
    raise RequestError(f"{full} is no device any more: {where}", hint=f"move {move.thing}, or see `fleet device show`")


def _preview(move: PlannedMove, request: MoveRequest) -> str:
    key = "another key and certificate" if request.renewal else "its certificate"
    groups = {group.device_type: group for group in move.to.groups}
    group = groups[move.thing.device_type].thing_group
    return (
        f"would become {move.thing.name} in {group}, serial {move.thing.serial}, under {key}; {move.status} as before"
    )


def _requests(project: Project, facility: FacilitySpec) -> Path:
    return csr_path(identities_folder(project), project.environment_suffix, facility.id)
