"""Finds one thing in the approved record, in the journal and in AWS IoT."""

from __future__ import annotations

import json
from dataclasses import dataclass

import msgspec
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry.calls import IotCalls, code_of
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.planned import PlannedThing, read_planned
from fleet_iot.operations.registry.records import Step

NOT_FOUND = "ResourceNotFoundException"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A thing and its facility; id, ARN and `key` of its certificate are the journal's, None where it has none.

    `is_moving`: a move of it was begun and has not come to its end; `is_planned`: so is its onboarding.
    """

    thing: PlannedThing
    facility: FacilitySpec
    is_in_journal: bool
    certificate_id: str | None
    certificate_arn: str | None
    key: bytes | None = None
    is_moving: bool = False
    is_planned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate as AWS IoT describes it; `key` is the SHA-256 of its public key, `der` None where nobody asked."""

    id: str
    arn: str
    status: str
    key: bytes
    der: bytes | None = None


def find_thing(project: Project, journal: Journal, name: str) -> Registered:
    """The thing with this name, with or without the environment suffix. Raises RequestError where there is none."""
    suffix = f"-{project.environment_suffix}"
    full = name if name.endswith(suffix) else name + suffix
    query = """SELECT line, facility, certificate_id, certificate_arn, key, state FROM devices
        WHERE thing = ? AND state <> 'retired'"""
    found = journal.read(query, full)
    if found:
        line, facility_id, certificate_id, certificate_arn, key, state = found[0]
        return Registered(
            thing=msgspec.json.decode(line, type=PlannedThing),
            facility=project.facility(facility_id),
            is_in_journal=True,
            certificate_id=certificate_id,
            certificate_arn=certificate_arn,
            key=bytes(key) or None,
            is_moving=state == "moving",
            is_planned=state == "planned",
        )
    for facility in project.facilities:
        if not full.startswith(f"{facility.id}-"):
            continue
        for thing in read_planned(project, facility):
            if thing.name == full:
                return Registered(
                    thing=thing, facility=facility, is_in_journal=False, certificate_id=None, certificate_arn=None
                )
    retired = journal.read("SELECT line, facility FROM devices WHERE thing = ?", full)
    if retired:  # the plan has it no more, and its history is kept
        line, facility_id = retired[0]
        return Registered(
            thing=msgspec.json.decode(line, type=PlannedThing),
            facility=project.facility(facility_id),
            is_in_journal=False,
            certificate_id=None,
            certificate_arn=None,
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


def read_certificate(calls: IotCalls, arn: str) -> Certificate | None:
    """What AWS IoT says of a certificate, before anything is asked of it; None where it is gone."""
    try:
        told = calls.call("DescribeCertificate", certificateId=id_of(arn))["certificateDescription"]
    except ClientError as error:
        if code_of(error) == NOT_FOUND:
            return None
        raise
    certificate = x509.load_pem_x509_certificate(told["certificatePem"].encode())
    key, der = key_digest(certificate.public_key()), certificate.public_bytes(Encoding.DER)
    return Certificate(id=id_of(arn), arn=arn, status=told["status"], key=key, der=der)


def certificates_of(journal: Journal, calls: IotCalls, device: Registered) -> list[Certificate]:
    """All certificates that the device has or is about to have: those that AWS IoT lists for the thing, those that the
    journal knows of (AWS IoT may list an attachment late), those of a rotation, and that of the name it is moved to."""
    name = device.thing.name
    arns = {*principals_of(calls, name), device.certificate_arn}
    detail = json.loads(journal.steps(name).get(Step.ROTATE, (0, None, None))[2] or "{}")
    arns |= {detail.get("old"), detail.get("new")}
    query = """SELECT devices.certificate_arn FROM devices JOIN moves USING (thing)
        WHERE former = ? AND ended IS NULL AND state = 'moving'"""
    arns |= {arn for (arn,) in journal.read(query, name)}
    found = (read_certificate(calls, arn) for arn in sorted(filter(None, arns)))
    return [each for each in found if each is not None]


def no_certificate(journal: Journal, name: str) -> RequestError:
    """What to raise for a thing without a certificate: where its device is now, if it was moved."""
    return _moved(journal, name) or RequestError(f"{name} has no certificate in AWS IoT", hint="onboard it first")


def no_device(journal: Journal, name: str) -> RequestError:
    """What to raise for a planned thing that no device has: where its device is now, if it was moved."""
    return _moved(journal, name) or RequestError(
        f"{name} is planned and not registered: there is no device to retire",
        hint="take it out of fleet.yaml if none is to come",
    )


def _moved(journal: Journal, name: str) -> RequestError | None:
    query = "SELECT thing FROM moves WHERE former = ? AND ended IS NOT NULL ORDER BY id DESC LIMIT 1"
    found = journal.read(query, name)
    if not found:
        return None
    thing = found[0][0]
    return RequestError(f"{name} has no certificate: its device was moved to {thing}", hint=f"name that: {thing}")


def refuse_moving(device: Registered) -> None:
    """Raises RequestError for a device that is between two plants."""
    if device.is_moving:
        raise RequestError(
            f"{device.thing.name} is being moved", hint="ask for the move again: it goes on where it stopped"
        )


def id_of(arn: str) -> str:
    """The certificate's id."""
    return arn.rpartition("/")[2]
