"""What is done for one device, step by step: each is in the journal before its call, and again after it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from botocore.exceptions import ClientError
from cryptography import x509

from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.pki.spent import Spent
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.calls import IotCalls, UnknownOutcomeError, code_of, message_of
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.planned import PlannedThing
from fleet_iot.operations.registry.records import Device, Step, Write


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Where the things of a device type belong: names with the environment suffix."""

    thing_group: str
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """All that the steps of one run need; `groups` by device type."""

    calls: IotCalls
    journal: Journal
    groups: Mapping[str, Group]
    is_staged: bool
    policy_on: str
    clock: Callable[[], float] = time.time

    @property
    def status(self) -> str:
        """What new certificates are."""
        return "INACTIVE" if self.is_staged else "ACTIVE"


class DeviceFaultError(Exception):
    """One device cannot be onboarded; the others go on."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def onboard_device(work: Work, device: Device) -> bool:
    """Does what is left to do for the device. False where its certificate has to be looked for first.

    A device that cannot be onboarded is failed in the journal; what stops all devices is raised as EnvironmentFault.
    """
    ended = {step for step, (_, end, _) in work.journal.steps(device.thing).items() if end is not None}
    thing = msgspec.json.decode(device.line, type=PlannedThing)
    before: list[Write] = []
    try:
        arn = device.certificate_arn or ""
        for step in _steps(work):
            if step in ended:
                continue
            if step in (Step.CERTIFICATE, Step.ATTACH):
                # It may have been revoked or retired since the list was matched.
                _refuse_spent(work, device)
            # The step before ends in the transaction in which this one begins: one wait for the disk, not two.
            detail = device.fingerprint.hex() if step is Step.CERTIFICATE else None
            work.journal.write(*before, entries.begin(device.thing, step, at=work.clock(), detail=detail))
            if step is Step.CERTIFICATE:
                arn, before = _certificate(work, device)
            else:
                _do(work, step, thing, arn)
                before = [entries.end(device.thing, step, at=work.clock())]
    except UnknownOutcomeError:
        return False
    except DeviceFaultError as fault:
        work.journal.write(*before, entries.failed(device.thing, reason=fault.reason, remedy=fault.remedy))
        return True
    except ClientError as error:
        reason = f"AWS IoT refuses it: {code_of(error)}: {message_of(error)}"
        work.journal.write(
            entries.failed(device.thing, reason=reason, remedy="put that right and onboard the row again")
        )
        return True
    work.journal.write(*before, entries.done(device.thing))
    return True


def _refuse_spent(work: Work, device: Device) -> None:
    found = spent_of(work, device)
    if found is not None:
        # As it is now: the certificate may have been made since the device was read.
        query = "SELECT certificate_id FROM devices WHERE thing = ?"
        lock_out_spent(work, work.journal.read(query, device.thing)[0][0])
        raise DeviceFaultError(f"its key {found.told}", found.remedy)


def spent_of(work: Work, device: Device) -> Spent | None:
    """Why the device's key, or the certificate that it has brought or got, must not be used; None where it may be."""
    own = device.fingerprint.hex() if device.is_certificate else device.certificate_id
    return work.journal.spent(device.key, own, device.der if device.is_certificate else None)


def lock_out_spent(work: Work, certificate_id: str | None) -> None:
    """Makes the certificate of a spent key INACTIVE where an earlier try has made it ACTIVE."""
    if certificate_id is not None and work.calls.status_of(certificate_id) == "ACTIVE":
        work.calls.call("UpdateCertificate", certificateId=certificate_id, newStatus="INACTIVE")
        work.journal.write(entries.status_of(certificate_id, "INACTIVE"))


def _steps(work: Work) -> tuple[Step, ...]:
    """The thing first: where its name is taken, no certificate is made in vain."""
    own_policy = (Step.POLICY,) if work.policy_on == "certificate" else ()
    return (Step.THING, Step.CERTIFICATE, *own_policy, Step.GROUP, Step.ATTACH)


def _do(work: Work, step: Step, thing: PlannedThing, arn: str) -> None:
    group = work.groups[thing.device_type]
    call = work.calls.call
    if step is Step.THING:
        if not work.calls.create_thing(thing):
            raise DeviceFaultError(
                f"AWS IoT has another thing {thing.name}, with other attributes or of another type",
                "compare it with fleet.yaml; delete it, or name the planned thing anew",
            )
    elif step is Step.GROUP:
        call("AddThingToThingGroup", thingGroupName=group.thing_group, thingName=thing.name)
    elif step is Step.ATTACH:
        call("AttachThingPrincipal", thingName=thing.name, principal=arn)
    elif step is Step.POLICY:
        call("AttachPolicy", policyName=group.policy, target=arn)


def _certificate(work: Work, device: Device) -> tuple[str, list[Write]]:
    """The ARN of the device's certificate, made or registered now, and what to write down about it."""
    if device.is_certificate:
        answer = _register(work, device)
        certificate_id, arn = device.fingerprint.hex(), answer["certificateArn"]
        expires = x509.load_der_x509_certificate(device.der).not_valid_after_utc.timestamp()
        if answer["certificateId"] != certificate_id:
            raise DeviceFaultError(
                f"AWS IoT calls the certificate {answer['certificateId']}, its SHA-256 is {certificate_id}",
                "do not use it: tell AWS support",
            )
    else:
        answer = work.calls.call_once(
            "CreateCertificateFromCsr",
            certificateSigningRequest=pem_of(device.der, "CERTIFICATE REQUEST"),
            setAsActive=not work.is_staged,
        )
        certificate_id, arn = answer["certificateId"], answer["certificateArn"]
        if not is_of_key(answer["certificatePem"], device.key):
            work.journal.write(entries.orphan(certificate_id, thing=device.thing, at=work.clock()))
            raise DeviceFaultError(
                f"the certificate {certificate_id} that AWS IoT made bears another key than the device's CSR",
                "it was not attached: delete it, and tell AWS support",
            )
        expires = expiry_of(answer["certificatePem"])
    return arn, [
        entries.certificate(device.thing, certificate_id=certificate_id, arn=arn, status=work.status, expires=expires),
        entries.end(device.thing, Step.CERTIFICATE, at=work.clock()),
    ]


def _register(work: Work, device: Device) -> dict[str, Any]:
    """Registers the device's own certificate; one that is there already must belong to nobody else."""
    certificate_id = device.fingerprint.hex()
    try:
        return work.calls.call(
            "RegisterCertificateWithoutCA", certificatePem=pem_of(device.der, "CERTIFICATE"), status=work.status
        )
    except ClientError as error:
        if code_of(error) not in ("ResourceAlreadyExistsException", "CertificateConflictException"):
            raise
    described = work.calls.call("DescribeCertificate", certificateId=certificate_id)["certificateDescription"]
    arn, status = described["certificateArn"], described["status"]
    if status == "REVOKED":
        work.journal.write(*entries.seen_revoked(device.thing, device.key, certificate_id, at=work.clock()))
        raise DeviceFaultError("AWS IoT has its certificate REVOKED", "which is for good: give the device another key")
    if status == "PENDING_TRANSFER":
        raise DeviceFaultError(
            "AWS IoT is transferring its certificate to another account",
            "cancel that (aws iot cancel-certificate-transfer), or onboard the device there",
        )
    others = set(work.calls.call("ListPrincipalThings", principal=arn)["things"]) - {device.thing}
    if others:
        raise DeviceFaultError(
            f"AWS IoT has its certificate already, attached to {min(others)}",
            "two things would share it: find out whose it is",
        )
    if status != work.status:
        work.calls.call("UpdateCertificate", certificateId=certificate_id, newStatus=work.status)
    return {"certificateArn": arn, "certificateId": certificate_id}


def pem_of(der: bytes, label: str) -> str:
    """PEM, as AWS IoT wants it."""
    text = ssl.DER_cert_to_PEM_cert(der)
    return text if label == "CERTIFICATE" else text.replace("CERTIFICATE-----", f"{label}-----")


def is_of_key(pem: str, key: bytes) -> bool:
    """Whether the certificate bears the public key with this digest."""
    return key_digest(x509.load_pem_x509_certificate(pem.encode()).public_key()) == key


def expiry_of(pem: str) -> float:
    """When the certificate expires, in seconds since 1970."""
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp()
