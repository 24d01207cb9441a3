"""Activates, revokes and retires: each step may be done again, and stands in the journal's history."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.operations.pki.spent import End, Spent, spend
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.calls import code_of
from fleet_iot.operations.registry.records import Write
from fleet_iot.operations.registry.registered import (
    NOT_FOUND,
    Certificate,
    Registered,
    certificates_of,
    id_of,
    no_certificate,
    no_device,
    read_certificate,
    refuse_moving,
)
from fleet_iot.operations.registry.steps import Work

TRIES = 12
PAUSE_S = 1.0
"""AWS IoT detaches by and by: for seconds a certificate or thing may still seem to be in use.
https://docs.aws.amazon.com/iot/latest/apireference/API_DetachThingPrincipal.html"""
_NOT_YET = ("DeleteConflictException", "CertificateStateException", "InvalidRequestException")

REVOKED = "REVOKED"
"""AWS IoT never changes this status again, not to INACTIVE either."""
LOCKED_OUT = ("INACTIVE", REVOKED, "REGISTER_INACTIVE")
"""What lets no device in, and may be deleted.
https://docs.aws.amazon.com/iot/latest/apireference/API_DeleteCertificate.html"""
_IN_TRANSFER = "PENDING_TRANSFER"


def check_activation(work: Work, device: Registered) -> list[Certificate]:
    """The device's certificates. Raises RequestError where it has none, or is revoked; nothing is activated."""
    found = _certificates(work, device)
    refuse_revoked(work, device, found)
    return found


def activate(work: Work, device: Registered, *, reason: str) -> int:
    """Makes the device's certificates ACTIVE; returns how many. Raises RequestError where it has none or is revoked."""
    found = check_activation(work, device)
    for each in found:
        if each.status != "ACTIVE":
            _note(work, device, "ACTIVE begun", each.id, reason)
            work.calls.call("UpdateCertificate", certificateId=each.id, newStatus="ACTIVE")
        work.journal.write(
            entries.history(device.thing.name, "ACTIVE", at=work.clock(), certificate_id=each.id, reason=reason),
            entries.status_of(each.id, "ACTIVE"),
        )
    return len(found)


def check_revocation(work: Work, device: Registered) -> list[Certificate]:
    """The device's certificates. Raises RequestError where there is nothing to revoke."""
    found = certificates_of(work.journal, work.calls, device)
    if not found and not device.key:
        raise no_certificate(work.journal, device.thing.name)
    return found


def revoke(work: Work, device: Registered, *, reason: str) -> int:
    """Makes all certificates of the device REVOKED, for good; returns how many. Raises RequestError where there is
    nothing to revoke.

    AWS IoT closes the connections of a revoked certificate and refuses new ones. The keys are spent before it is asked,
    so that none comes back, whatever stops this. A device that has no certificate yet gets none with its key.
    """
    found = check_revocation(work, device)
    name, by = device.thing.name, "device revoke"
    keys: dict[str | None, bytes | None] = {each.id: each.key for each in found}
    if device.key not in keys.values():
        keys.setdefault(device.certificate_id, device.key)
    ends = [
        spend(End.REVOKED, key=key, certificate_id=id_, thing=name, at=work.clock(), by=by, reason=reason)
        for id_, key in keys.items()
    ]
    begun = [
        entries.history(name, f"{REVOKED} begun", at=work.clock(), certificate_id=id_, reason=reason) for id_ in keys
    ]
    work.journal.write(*ends, *begun)
    # One that is being transferred can be neither revoked nor used: the others first.
    for each in sorted(found, key=lambda each: each.status == _IN_TRANSFER):
        _refuse_transfer(device, each)
        if each.status != REVOKED:
            work.calls.call("UpdateCertificate", certificateId=each.id, newStatus=REVOKED)
        work.journal.write(
            entries.history(name, REVOKED, at=work.clock(), certificate_id=each.id, reason=reason),
            entries.status_of(each.id, REVOKED),
        )
    return len(found)


def check_retirement(work: Work, device: Registered) -> list[Certificate]:
    """The device's certificates. Raises RequestError for a device that cannot be retired from here, and where there is
    none: a planned thing of which neither the journal nor AWS IoT knows."""
    if device.facility.registration != "bulk":
        raise RequestError(
            f"Terraform holds {device.thing.name}",
            hint="take it out of fleet.yaml, generate, and apply the plant's stack",
        )
    refuse_moving(device)
    found = certificates_of(work.journal, work.calls, device)
    if not (found or device.is_in_journal) and gone(work, "DescribeThing", thingName=device.thing.name):
        raise no_device(work.journal, device.thing.name)
    return found


def retire(work: Work, device: Registered, *, reason: str, sleep: Callable[[float], None] = time.sleep) -> list[str]:
    """Takes the device out of AWS IoT; returns the ids of its certificates, each seen locked out before it was deleted.

    It is locked out first, whatever happens after. Taken up where it stopped when it is asked for again.
    """
    found = check_retirement(work, device)
    name, by = device.thing.name, "device retire"
    # Of this device: who had the thing before it was retired earlier, or moved away.
    query = """SELECT certificate_id FROM history WHERE thing = ?1 AND what = 'retire begun' AND id > coalesce(
        (SELECT max(id) FROM history WHERE thing = ?1 AND (what = 'retired' OR what LIKE 'moved to %')), 0)"""
    begun = work.journal.read(query, name)
    arns = {each.arn for each in found}
    arns |= {device.certificate_arn} if device.certificate_arn else set()
    if device.key:
        # Also where its certificate is gone already, or was never made.
        at, own = work.clock(), device.certificate_id
        work.journal.write(
            spend(End.RETIRED, key=device.key, certificate_id=own, thing=name, at=at, by=by, reason=reason)
        )
    for arn in sorted(arns):
        _note(work, device, "retire begun", id_of(arn), reason)
        remove_certificate(work, name, arn, end=End.RETIRED, by=by, reason=reason, sleep=sleep)
    group = work.groups[device.thing.device_type].thing_group
    gone(work, "RemoveThingFromThingGroup", thingName=name, thingGroupName=group)
    eventually(lambda: gone(work, "DeleteThing", thingName=name), sleep)
    work.journal.write(
        entries.retired(name),
        entries.forget_all(name),
        entries.history(name, "retired", at=work.clock(), certificate_id=None, reason=reason),
    )
    return sorted({id_of(arn) for arn in arns} | {str(found) for (found,) in begun})


def remove_certificate(
    work: Work,
    thing: str,
    arn: str,
    *,
    end: End,
    by: str,
    reason: str,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Locked out and seen to be so, without policies, detached, deleted: in that order, each step where it is left.

    Its key is spent with the first of them: as `end` says, or REVOKED where AWS IoT has it so.
    """
    certificate_id = id_of(arn)
    found = read_certificate(work.calls, arn)
    if found is not None:
        lock_out(work, thing, found, reason=reason, writes=_ends(work, thing, found, end=end, by=by, reason=reason))
    gone(work, "DetachThingPrincipal", thingName=thing, principal=arn)
    eventually(lambda: gone(work, "DeleteCertificate", certificateId=certificate_id), sleep)
    work.journal.write(entries.history(thing, "deleted", at=work.clock(), certificate_id=certificate_id, reason=reason))


def lock_out(work: Work, thing: str, found: Certificate, *, reason: str, writes: tuple[Write, ...] = ()) -> None:
    """Makes the certificate inactive where it is not revoked, sees it to be so, and takes its policies away.

    `writes` are in the journal before. Raises EnvironmentFault where it does not become so.
    """
    if writes:
        work.journal.write(*writes)
    described: Certificate | None = found
    if found.status not in LOCKED_OUT:
        if found.status == _IN_TRANSFER:
            raise RequestError(_transfer(thing, found), hint=_CANCEL)
        gone(work, "UpdateCertificate", certificateId=found.id, newStatus="INACTIVE")
        described = read_certificate(work.calls, found.arn)
    if described is None:
        return
    if described.status not in LOCKED_OUT:
        raise EnvironmentFault(
            f"the certificate {found.id} of {thing} is {described.status}, not INACTIVE", hint="try again"
        )
    work.journal.write(
        entries.history(thing, described.status, at=work.clock(), certificate_id=found.id, reason=reason),
        entries.status_of(found.id, described.status),
    )
    for policy in work.calls.call("ListAttachedPolicies", target=found.arn)["policies"]:
        gone(work, "DetachPolicy", policyName=policy["policyName"], target=found.arn)


def refuse_revoked(work: Work, device: Registered, found: list[Certificate]) -> None:
    """Raises RequestError for a device that was revoked from here or in AWS IoT itself, or whose certificate is being
    transferred to another account."""
    name = device.thing.name
    for each in found:
        if each.status == REVOKED:
            work.journal.write(*seen_revoked(work, name, each))
        _refuse_transfer(device, each)
    ended = next((end for each in found if (end := _revocation(work, each.key, each.id, each.der))), None)
    ended = ended or _revocation(work, device.key, device.certificate_id)
    if ended is not None:
        raise RequestError(
            f"{name} is revoked: its key {ended.told}",
            hint="a revocation is never taken back: retire the device, then onboard one with another key in its place",
        )


def seen_revoked(work: Work, thing: str, found: Certificate) -> tuple[Write, ...]:
    """What to write down of a certificate that AWS IoT has REVOKED, whoever did that."""
    if _revocation(work, found.key, found.id) is not None:
        return ()
    return entries.seen_revoked(thing, found.key, found.id, at=work.clock())


def _revocation(work: Work, key: bytes | None, certificate_id: str | None, der: bytes | None = None) -> Spent | None:
    found = work.journal.spent(key, certificate_id, der)
    return found if found is not None and found.what is End.REVOKED else None


def _ends(work: Work, thing: str, found: Certificate, *, end: End, by: str, reason: str) -> tuple[Write, ...]:
    seen = seen_revoked(work, thing, found) if found.status == REVOKED else ()
    last = spend(end, key=found.key, certificate_id=found.id, thing=thing, at=work.clock(), by=by, reason=reason)
    return (*seen, last)


def _certificates(work: Work, device: Registered) -> list[Certificate]:
    found = certificates_of(work.journal, work.calls, device)
    if not found:
        raise no_certificate(work.journal, device.thing.name)
    return found


_CANCEL = "cancel that first: aws iot cancel-certificate-transfer --certificate-id ID"


def _refuse_transfer(device: Registered, found: Certificate) -> None:
    if found.status == _IN_TRANSFER:
        raise RequestError(_transfer(device.thing.name, found), hint=_CANCEL)


def _transfer(thing: str, found: Certificate) -> str:
    return f"the certificate {found.id} of {thing} is being transferred to another account"


def _note(work: Work, device: Registered, what: str, certificate_id: str, reason: str) -> None:
    work.journal.write(
        entries.history(device.thing.name, what, at=work.clock(), certificate_id=certificate_id, reason=reason)
    )


def gone(work: Work, api: str, **arguments: Any) -> bool:
    """Calls it; True where what it is about is gone already."""
    try:
        work.calls.call(api, **arguments)
    except ClientError as error:
        if code_of(error) != NOT_FOUND:
            raise
        return True
    return False


def eventually(call: Callable[[], object], sleep: Callable[[float], None]) -> None:
    """Calls until AWS IoT has caught up."""
    for left in range(TRIES - 1, -1, -1):
        try:
            call()
            return
        except ClientError as error:
            if code_of(error) not in _NOT_YET or not left:
                raise
        sleep(PAUSE_S)
