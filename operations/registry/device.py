"""Find, show, activate, revoke and retire one device. Each action may be repeated, and is in the journal's history."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.lib.record.identities import Request, Status
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.lists.material import key_digest, read_material
from fleet_iot.operations.lists.record import Material, RefusedError
from fleet_iot.operations.pki.spent import End, Spent, spend
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.calls import IotCalls, UnknownOutcomeError, code_of
from fleet_iot.operations.registry.journal import HistoryEntry, Journal, Step, Write
from fleet_iot.operations.registry.registered import ThingKeys, digest_of, end_keys, keys_of
from fleet_iot.operations.registry.steps import CLOCK_SKEW_S, SETTLE_S, Work, is_of_key, unknown_certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A thing and its facility; id, ARN and `key` of its certificate are the journal's, None where it has none.

    `is_moving`: a move of it was begun and has not come to its end; `is_planned`: so is its onboarding. `own_keys` are
    those of the project, None where Terraform does not register it.
    """

    thing: ThingRow
    facility: FacilitySpec
    is_in_journal: bool
    certificate_id: str | None = None
    certificate_arn: str | None = None
    key: bytes | None = None
    is_moving: bool = False
    is_planned: bool = False
    own_keys: ThingKeys | None = None

    @property
    def unspent(self) -> tuple[Request, ...]:
        """Return its CSRs in the project whose keys are in use; none where Terraform does not register it."""
        return self.own_keys.used if self.own_keys is not None else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate as AWS IoT describes it; `key` is the SHA-256 of its public key, `der` None where it was not asked
    for."""

    id: str
    arn: str
    status: str
    key: bytes
    der: bytes | None = None


def find_thing(project: Project, journal: Journal, name: str) -> Registered:
    """Return the thing with this name, with or without the environment suffix. Raises RequestError where there is
    none."""
    suffix = f"-{project.environment_suffix}"
    full = name if name.endswith(suffix) else name + suffix
    found = journal.find_device(full)
    if found is not None and found.state != "retired":
        facility = project.facility_of(found.facility)
        return Registered(
            thing=found.planned,
            facility=facility,
            own_keys=keys_of(project, facility)(full),
            is_in_journal=True,
            certificate_id=found.certificate_id,
            certificate_arn=found.certificate_arn,
            key=found.key or None,
            is_moving=found.state == "moving",
            is_planned=found.state == "planned",
        )
    if (planned := project.planned_thing(full)) is not None:
        own_keys = keys_of(project, planned[0])(full)
        return Registered(thing=planned[1], facility=planned[0], is_in_journal=False, own_keys=own_keys)
    if found is not None:  # the plan has it no more, and its history is kept
        return Registered(thing=found.planned, facility=project.facility_of(found.facility), is_in_journal=False)
    raise RequestError(f"there is no thing {name!r}", hint="`fleet explain NAME` shows what a name means")


def principals_of(calls: IotCalls, thing: str) -> list[str]:
    """Return the ARNs of the certificates that AWS IoT has attached to the thing."""
    found = calls.call_if_exists("ListThingPrincipals", thingName=thing)
    return sorted(map(str, found["principals"])) if found is not None else []


def read_certificate(calls: IotCalls, arn: str) -> Certificate | None:
    """Describe a certificate, before anything is changed; None where it is gone."""
    found = calls.call_if_exists("DescribeCertificate", certificateId=id_of(arn))
    if found is None:
        return None
    described = found["certificateDescription"]
    certificate = x509.load_pem_x509_certificate(described["certificatePem"].encode())
    key, der = key_digest(certificate.public_key()), certificate.public_bytes(Encoding.DER)
    return Certificate(id=id_of(arn), arn=arn, status=described["status"], key=key, der=der)


def certificates_of(journal: Journal, calls: IotCalls, device: Registered) -> list[Certificate]:
    """Return all certificates that the device has or is about to have: those that AWS IoT lists for the thing, those
    that the journal knows of (AWS IoT may list an attachment late), those of a rotation, and that of the name it is
    moved to."""
    name = device.thing.name
    arns = {*principals_of(calls, name), device.certificate_arn}
    detail = json.loads(journal.steps(name).get(Step.ROTATE, (0, None, None))[2] or "{}")
    arns |= {detail.get("old"), detail.get("new")}
    move = journal.moved_from(name)
    there = journal.find_device(move.thing) if move is not None and move.ended is None else None
    arns |= {there.certificate_arn} if there is not None and there.state == "moving" else set()
    found = (read_certificate(calls, arn) for arn in sorted(filter(None, arns)))
    return [each for each in found if each is not None]


def no_certificate(journal: Journal, name: str) -> RequestError:
    """Return the error for a thing without a certificate; it names the present thing of a moved device."""
    return _moved(journal, name) or RequestError(f"{name} has no certificate in AWS IoT", hint="onboard it first")


def no_device(journal: Journal, name: str) -> RequestError:
    """Return the error for a planned thing without a device; it names the present thing of a moved device."""
    return _moved(journal, name) or RequestError(
        f"{name} is planned and not registered: there is no device to retire",
        hint="remove it from fleet.yaml if none is to come",
    )


def no_key(device: Registered) -> RequestError:
    """Return the error for a thing that Terraform registers, and none of whose keys is in use."""
    name, facility = device.thing.name, device.facility.id
    is_ended = device.own_keys is not None and device.own_keys.requests
    renew = f" --renew {name}" if is_ended else ""
    return RequestError(
        f"{name} has no key in use: {'its last one was revoked or retired' if is_ended else 'it never had one'}",
        hint=f"give it one: fleet keys create --facility {facility}{renew}; then apply the plant's stack",
    )


def _moved(journal: Journal, name: str) -> RequestError | None:
    move = journal.moved_from(name)
    if move is None or move.ended is None:
        return None
    return RequestError(
        f"{name} has no certificate: its device was moved to {move.thing}", hint=f"name that: {move.thing}"
    )


def refuse_moving(device: Registered) -> None:
    """Raise RequestError for a device that is between two plants."""
    if device.is_moving:
        raise RequestError(f"{device.thing.name} is being moved", hint="repeat the move: it continues where it stopped")


def id_of(arn: str) -> str:
    """Return the certificate's id."""
    return arn.rpartition("/")[2]


TRIES = 12
PAUSE_S = 1.0
"""AWS IoT detaches asynchronously: for seconds a certificate or thing may still seem to be in use.
https://docs.aws.amazon.com/iot/latest/apireference/API_DetachThingPrincipal.html"""
_NOT_YET = ("DeleteConflictException", "CertificateStateException", "InvalidRequestException")

REVOKED = "REVOKED"
"""AWS IoT never changes this status again, not to INACTIVE either."""
LOCKED_OUT = ("INACTIVE", REVOKED, "REGISTER_INACTIVE")
"""Certificates with which no device can connect, and which may be deleted.
https://docs.aws.amazon.com/iot/latest/apireference/API_DeleteCertificate.html"""
_IN_TRANSFER = "PENDING_TRANSFER"


def check_activation(work: Work, device: Registered) -> list[Certificate]:
    """Return the device's certificates. Raises RequestError where it has none, or is revoked; nothing is activated."""
    found = _certificates(work, device)
    if device.own_keys is not None:
        found = [each for each in found if each.key not in device.own_keys.ended]
        if not found:
            raise no_key(device)
    refuse_revoked(work, device, found)
    return found


def activate(work: Work, device: Registered, *, reason: str) -> int:
    """Make the device's certificates ACTIVE; return how many. Raises RequestError where it has none or is revoked."""
    found = check_activation(work, device)
    for each in found:
        if each.status != "ACTIVE":
            _note(work, device, "ACTIVE begun", each.id, reason)
            work.calls.call("UpdateCertificate", certificateId=each.id, newStatus="ACTIVE")
        _set_status(work, device.thing.name, each, "ACTIVE", reason)
    return len(found)


def check_revocation(work: Work, device: Registered) -> list[Certificate]:
    """Return the device's certificates. Raises RequestError where there is nothing to revoke."""
    found = certificates_of(work.journal, work.calls, device)
    if not (found or device.key or device.unspent):
        raise no_certificate(work.journal, device.thing.name)
    return found


def revoke(work: Work, device: Registered, *, reason: str) -> int:
    """Make all certificates of the device REVOKED, for good; return how many. Raises RequestError where there is
    nothing to revoke.

    AWS IoT closes the connections of a revoked certificate and refuses new ones. The keys are spent before it is asked,
    so that none comes back, whatever stops this. A device that has no certificate yet gets none with its key. Where
    Terraform registers it, its CSRs are marked, so that no apply activates a certificate or makes one.
    """
    found = check_revocation(work, device)
    name, by = device.thing.name, "device revoke"
    keys: list[tuple[str | None, bytes | None]] = [(each.id, each.key) for each in found]
    certified = {each.key for each in found}
    if device.key not in certified and device.certificate_id not in {each.id for each in found}:
        keys.append((device.certificate_id, device.key))
    keys += [(None, key) for key in map(digest_of, device.unspent) if key not in certified]
    ends = [
        spend(End.REVOKED, key=key, certificate_id=id_, thing=name, at=work.clock(), by=by, reason=reason)
        for id_, key in keys
    ]
    begun = [
        entries.history(name, f"{REVOKED} begun", at=work.clock(), certificate_id=id_, reason=reason) for id_, _ in keys
    ]
    work.journal.write(*ends, *begun)
    # One that is being transferred can be neither revoked nor used: the others first.
    for each in sorted(found, key=lambda each: each.status == _IN_TRANSFER):
        _refuse_transfer(device, each)
        if each.status != REVOKED:
            work.calls.call("UpdateCertificate", certificateId=each.id, newStatus=REVOKED)
        _set_status(work, name, each, REVOKED, reason)
    if device.own_keys is not None:
        # A key without a certificate gets none; the certificate of the others stays in the stack, inactive.
        marks = {
            each.generation: Status.REVOKED if digest_of(each) in certified else Status.RETIRED
            for each in device.unspent
        }
        end_keys(device.own_keys, marks)
    return len(found)


def check_retirement(work: Work, device: Registered) -> list[Certificate]:
    """Return the device's certificates. Raises RequestError for a device that cannot be retired from here, and where
    there is none: a planned thing of which neither the journal nor AWS IoT knows."""
    refuse_moving(device)
    found = certificates_of(work.journal, work.calls, device)
    if device.own_keys is not None:
        if not (found or device.unspent):
            raise no_key(device)
        return found
    if (
        not (found or device.is_in_journal)
        and work.calls.call_if_exists("DescribeThing", thingName=device.thing.name) is None
    ):
        raise no_device(work.journal, device.thing.name)
    return found


def retire(work: Work, device: Registered, *, reason: str, sleep: Callable[[float], None] = time.sleep) -> list[str]:
    """Take the device out of AWS IoT; return the ids of its certificates, each confirmed INACTIVE before it was
    deleted.

    The certificates are made inactive first, whatever happens after. May be repeated after any interruption. A thing
    that Terraform registers stays until it leaves the manifest; its CSRs are marked, so that no apply makes another
    certificate of one.
    """
    found = check_retirement(work, device)
    name, by = device.thing.name, "device retire"
    # Of this device: who had the thing before it was retired earlier, or moved away.
    events = work.journal.history(name)
    left = max((each.id for each in events if each.what == "retired" or each.what.startswith("moved to ")), default=0)
    begun = {str(each.certificate_id) for each in events if each.what == "retire begun" and each.id > left}
    arns = {each.arn for each in found}
    arns |= {device.certificate_arn} if device.certificate_arn else set()
    # Also where its certificate is gone already, or was never made.
    for key in filter(None, (device.key, *map(digest_of, device.unspent))):
        at, own = work.clock(), device.certificate_id if key == device.key else None
        work.journal.write(spend(End.RETIRED, key=key, certificate_id=own, thing=name, at=at, by=by, reason=reason))
    for arn in sorted(arns):
        _note(work, device, "retire begun", id_of(arn), reason)
        remove_certificate(work, name, arn, end=End.RETIRED, by=by, reason=reason, sleep=sleep)
    if device.own_keys is None:
        group = work.groups[device.thing.device_type].thing_group
        work.calls.call_if_exists("RemoveThingFromThingGroup", thingName=name, thingGroupName=group)
        eventually(lambda: work.calls.call_if_exists("DeleteThing", thingName=name), sleep)
    else:
        end_keys(device.own_keys, {each.generation: Status.RETIRED for each in device.own_keys.requests})
    work.journal.write(
        entries.retired(name),
        entries.forget_all(name),
        entries.history(name, "retired", at=work.clock(), certificate_id=None, reason=reason),
    )
    return sorted({id_of(arn) for arn in arns} | begun)


def remove_certificate(
    work: Work, thing: str, arn: str, *, end: End, by: str, reason: str, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Make the certificate inactive, confirm it, detach its policies and its thing, delete it; each step may be
    repeated.

    Its key is spent with the first of them: as `end` says, or REVOKED where AWS IoT has it so.
    """
    certificate_id = id_of(arn)
    found = read_certificate(work.calls, arn)
    if found is not None:
        lock_out(work, thing, found, reason=reason, writes=_ends(work, thing, found, end=end, by=by, reason=reason))
    work.calls.call_if_exists("DetachThingPrincipal", thingName=thing, principal=arn)
    eventually(lambda: work.calls.call_if_exists("DeleteCertificate", certificateId=certificate_id), sleep)
    work.journal.write(entries.history(thing, "deleted", at=work.clock(), certificate_id=certificate_id, reason=reason))


def lock_out(work: Work, thing: str, found: Certificate, *, reason: str, writes: tuple[Write, ...] = ()) -> None:
    """Make the certificate inactive unless it is revoked, confirm that, and detach its policies.

    `writes` go into the journal before. Raises EnvironmentFault where it does not become inactive.
    """
    if writes:
        work.journal.write(*writes)
    described: Certificate | None = found
    if found.status not in LOCKED_OUT:
        if found.status == _IN_TRANSFER:
            raise RequestError(_transfer(thing, found), hint=_CANCEL)
        work.calls.call_if_exists("UpdateCertificate", certificateId=found.id, newStatus="INACTIVE")
        described = read_certificate(work.calls, found.arn)
    if described is None:
        return
    if described.status not in LOCKED_OUT:
        raise EnvironmentFault(
            f"the certificate {found.id} of {thing} is {described.status}, not INACTIVE", hint="try again"
        )
    _set_status(work, thing, found, described.status, reason)
    for policy in work.calls.call("ListAttachedPolicies", target=found.arn)["policies"]:
        work.calls.call_if_exists("DetachPolicy", policyName=policy["policyName"], target=found.arn)


def refuse_revoked(work: Work, device: Registered, found: list[Certificate]) -> None:
    """Raise RequestError for a device that was revoked from here or in AWS IoT itself, or whose certificate is being
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
            f"{name} is revoked: its key {ended.clause}",
            hint="a revocation is never taken back: retire the device, then onboard one with another key in its place",
        )


def seen_revoked(work: Work, thing: str, found: Certificate) -> tuple[Write, ...]:
    """Return the writes for a certificate that AWS IoT has as REVOKED and the journal does not."""
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


def _set_status(work: Work, thing: str, found: Certificate, status: str, reason: str) -> None:
    """Record the certificate's status in the journal, with its history."""
    work.journal.write(
        entries.history(thing, status, at=work.clock(), certificate_id=found.id, reason=reason),
        entries.status_of(found.id, status),
    )


def _note(work: Work, device: Registered, what: str, certificate_id: str, reason: str) -> None:
    work.journal.write(
        entries.history(device.thing.name, what, at=work.clock(), certificate_id=certificate_id, reason=reason)
    )


def eventually(call: Callable[[], object], sleep: Callable[[float], None]) -> None:
    """Repeat the call until AWS IoT is consistent."""
    for left in range(TRIES - 1, -1, -1):
        try:
            call()
            return
        except ClientError as error:
            if code_of(error) not in _NOT_YET or not left:
                raise
        sleep(PAUSE_S)


def make_certificate(work: Work, pem: str, *, key: bytes, is_active: bool) -> dict[str, str]:
    """Return the certificate that AWS IoT makes of a CSR, verified to have the key with this digest.

    Raises EnvironmentFault where the answer is missing: the next try has to look for it first.
    """
    try:
        made: dict[str, str] = work.calls.call_once(
            "CreateCertificateFromCsr", certificateSigningRequest=pem, setAsActive=is_active
        )
    except UnknownOutcomeError as error:
        raise EnvironmentFault(f"AWS IoT did not answer: {error}", hint="ask for it again") from None
    if not is_of_key(made["certificatePem"], key):
        raise EnvironmentFault(
            f"the certificate {made['certificateId']} has another key than the CSR",
            hint="delete it; report it to AWS support",
        )
    return made


def find_certificate(work: Work, key: bytes, since: float, sleep: Callable[[float], None]) -> dict[str, str] | None:
    """Return the certificate of this key that an earlier try made without hearing of it."""
    sleep(SETTLE_S)
    for described in unknown_certificates(work, since - CLOCK_SKEW_S):
        if is_of_key(described["certificatePem"], key):
            return described
    return None


def material_of(pem: str) -> Material:
    """Return the CSR as key material. Raises RequestError for one that is not acceptable."""
    try:
        return read_material(None, pem.encode(), now=datetime.datetime.now(datetime.UTC))
    except RefusedError as refused:
        raise RequestError(f"the CSR {refused.reason}", hint=refused.remedy) from None


def refuse_used(work: Work, key: bytes) -> None:
    """Raise RequestError for a CSR whose key a device has, or had."""
    held, ended = work.journal.key_owner(key), work.journal.spent(key, None)
    if held is not None or ended is not None:
        reason = ended.clause if ended else f"is that of {held.thing if held else ''} already"
        raise RequestError(f"the key of the CSR {reason}", hint="have the device make another")


def request_of(path: Path) -> bytes:
    """Return a CSR in a file, as PEM. Raises RequestError."""
    try:
        request = x509.load_pem_x509_csr(path.read_bytes())
        request.public_key()  # decoded lazily
    except (OSError, ValueError, UnsupportedAlgorithm):
        raise RequestError(f"{path} is no CSR in PEM", hint="--csr FILE is the CSR that the device made") from None
    return request.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateView:
    """A certificate that AWS IoT has attached to the thing."""

    id: str
    status: str
    not_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyView:
    """A key of a thing that Terraform registers: `status` is `in use`, `revoked` or `retired`; `certificate_id` None
    where AWS IoT has none of it attached to the thing."""

    generation: int
    status: str
    certificate_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a device's history; `at` in UTC, `thing` is the name that it had then."""

    at: str
    thing: str
    what: str
    certificate_id: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """A device as AWS IoT and the journal have it; `came_from` are the names that it had before, the last one first;
    `onboarding` says how far an onboarding or a move is that has not come to its end, None where there is none. `keys`
    are those in the project, of a thing that Terraform registers."""

    name: str
    facility: str
    device_type: str
    serial: str
    registration: str
    is_registered: bool
    is_in_journal: bool
    came_from: tuple[str, ...]
    certificates: tuple[CertificateView, ...]
    keys: tuple[KeyView, ...]
    history: tuple[Event, ...]
    onboarding: str | None


def show_device(work: Work, device: Registered) -> DeviceView:
    """Describe the device with its certificates as AWS IoT has them."""
    found, by_key = [], {}
    for arn in principals_of(work.calls, device.thing.name):
        described = work.calls.call("DescribeCertificate", certificateId=id_of(arn))["certificateDescription"]
        certificate = x509.load_pem_x509_certificate(described["certificatePem"].encode())
        by_key[key_digest(certificate.public_key())] = described["certificateId"]
        found.append(
            CertificateView(
                id=described["certificateId"],
                status=described["status"],
                not_after=_time(certificate.not_valid_after_utc.timestamp()),
            )
        )
    is_registered = bool(found) or work.calls.call_if_exists("DescribeThing", thingName=device.thing.name) is not None
    former, events = _history(work.journal, device.thing.name)
    return DeviceView(
        name=device.thing.name,
        facility=device.facility.id,
        device_type=device.thing.device_type,
        serial=device.thing.serial,
        registration=device.facility.registration,
        is_registered=is_registered,
        is_in_journal=device.is_in_journal,
        came_from=tuple(former),
        certificates=tuple(found),
        keys=tuple(
            KeyView(
                generation=each.generation,
                status=each.status.value if each.status else "in use",
                certificate_id=by_key.get(digest_of(each)),
            )
            for each in (device.own_keys.requests if device.own_keys else ())
        ),
        history=tuple(
            Event(
                at=_time(each.at),
                thing=each.thing,
                what=each.what,
                certificate_id=each.certificate_id,
                reason=each.reason,
            )
            for each in events
        ),
        onboarding=_unfinished(work.journal, device.thing.name),
    )


def _unfinished(journal: Journal, name: str) -> str | None:
    found = journal.find_device(name)
    if found is None or found.state in ("done", "retired"):
        return None
    if found.state == "failed":
        return f"onboarding failed: {found.reason}; {found.remedy}"
    if found.state == "moving":
        return "being moved: repeat the move to finish it"
    steps = journal.steps(name)
    done = [step for step in Step if steps.get(step, (0, None, None))[1] is not None]
    begun = [step for step in Step if step in steps and step not in done]
    steps_text = ", ".join([*done, *(f"{step} begun" for step in begun)]) or "no step yet"
    return f"being onboarded (run {found.run}): {steps_text}; go on: fleet onboard --facility {found.facility} --resume"


def _history(journal: Journal, name: str) -> tuple[list[str], list[HistoryEntry]]:
    """Return the device's former names, and what was done under all of them, until it left each."""
    former: list[str] = []
    events, move = set(journal.history(name)), journal.moved_to(name, before=1 << 62)
    while move is not None:
        former.append(move.former)
        events.update(journal.history(move.former, until=move.ended or 0))
        move = journal.moved_to(move.former, before=move.id)
    return former, sorted(events, key=lambda event: (event.at, event.id))


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
