"""Activates, revokes and retires: each step may be done again, and stands in the journal's history."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from generator.diagnostics import EnvironmentFault, RequestError
from operations.devices.registered import NOT_FOUND, Registered, id_of, principals_of, refuse_moving
from operations.onboarding import entries
from operations.onboarding.calls import code_of
from operations.onboarding.steps import Work

TRIES = 12
PAUSE_S = 1.0
"""AWS IoT detaches by and by: for seconds a certificate or thing may still seem to be in use.
https://docs.aws.amazon.com/iot/latest/apireference/API_DetachThingPrincipal.html"""
_NOT_YET = ("DeleteConflictException", "CertificateStateException", "InvalidRequestException")


def set_status(work: Work, device: Registered, status: str, *, reason: str) -> int:
    """Makes all certificates of the device ACTIVE or REVOKED; returns how many. Raises RequestError where it has none.

    AWS IoT closes the connections of a revoked certificate and refuses new ones; a revocation stays.
    """
    arns = principals_of(work.calls, device.thing.name)
    if status == "REVOKED" and device.is_moving and device.certificate_arn and not arns:
        arns = [device.certificate_arn]  # between two plants it is attached to neither, and can be stolen all the same
    if not arns:
        raise RequestError(f"{device.thing.name} has no certificate in AWS IoT", hint="onboard it first")
    for arn in arns:
        _note(work, device, f"{status} begun", id_of(arn), reason)
        work.calls.call("UpdateCertificate", certificateId=id_of(arn), newStatus=status)
        work.journal.write(
            entries.history(device.thing.name, status, at=work.clock(), certificate_id=id_of(arn), reason=reason),
            entries.status(device.thing.name, certificate_status=status),
        )
    return len(arns)


def retire(work: Work, device: Registered, *, reason: str, sleep: Callable[[float], None] = time.sleep) -> list[str]:
    """Takes the device out of AWS IoT; returns the ids of its certificates, each seen INACTIVE before it was deleted.

    It is locked out first, whatever happens after. Taken up where it stopped when it is asked for again.
    """
    if device.facility.registration != "bulk":
        raise RequestError(
            f"Terraform holds {device.thing.name}",
            hint="take it out of fleet.yaml, generate, and apply the plant's stack",
        )
    refuse_moving(device)
    name = device.thing.name
    begun = work.journal.read("SELECT certificate_id FROM history WHERE thing = ? AND what = 'retire begun'", name)
    arns = set(principals_of(work.calls, name)) | ({device.certificate_arn} if device.certificate_arn else set())
    for arn in sorted(arns):
        _note(work, device, "retire begun", id_of(arn), reason)
        remove_certificate(work, name, arn, reason=reason, sleep=sleep)
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
    work: Work, thing: str, arn: str, *, reason: str, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Inactive and seen to be so, without policies, detached, deleted: in that order, each step where it is left."""
    certificate_id = id_of(arn)
    lock_out(work, thing, arn, reason=reason)
    gone(work, "DetachThingPrincipal", thingName=thing, principal=arn)
    eventually(lambda: gone(work, "DeleteCertificate", certificateId=certificate_id), sleep)
    work.journal.write(entries.history(thing, "deleted", at=work.clock(), certificate_id=certificate_id, reason=reason))


def lock_out(work: Work, thing: str, arn: str, *, reason: str) -> None:
    """Makes the certificate inactive, sees it to be so, and takes its policies away; nothing where it is gone."""
    certificate_id = id_of(arn)
    if gone(work, "UpdateCertificate", certificateId=certificate_id, newStatus="INACTIVE"):
        return
    described = work.calls.call("DescribeCertificate", certificateId=certificate_id)["certificateDescription"]
    if described["status"] != "INACTIVE":
        raise EnvironmentFault(
            f"the certificate {certificate_id} of {thing} is {described['status']}, not INACTIVE", hint="try again"
        )
    work.journal.write(
        entries.history(thing, "INACTIVE", at=work.clock(), certificate_id=certificate_id, reason=reason)
    )
    for policy in work.calls.call("ListAttachedPolicies", target=arn)["policies"]:
        gone(work, "DetachPolicy", policyName=policy["policyName"], target=arn)


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
