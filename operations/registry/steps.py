"""Onboard devices step by step, many in parallel: the journal has each step before its call, and again after it.

A run may be killed, or an answer lost, after AWS IoT has made a certificate. The journal's intent names the key and
the time; AWS IoT lists certificates by creation date. One that has the key and is in no other device's row is the
device's; where there is none, the intent is withdrawn.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from botocore.exceptions import ClientError
from cryptography import x509

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.operations.lists.material import key_digest, read_certificate
from fleet_iot.operations.pki.spent import Spent
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.calls import IotCalls, UnknownOutcomeError, code_of, message_of
from fleet_iot.operations.registry.journal import Device, Journal, Step, Write


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The thing group and policy of a device type; names end in the environment suffix."""

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
        """The status of new certificates."""
        return "INACTIVE" if self.is_staged else "ACTIVE"


class DeviceFaultError(Exception):
    """One device cannot be onboarded; the others go on."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def onboard_device(work: Work, device: Device) -> bool:
    """Do what is left for the device; return False where its certificate has to be found first.

    A device that cannot be onboarded is failed in the journal; what stops all devices is raised as EnvironmentFault.
    """
    ended = {step for step, (_, end, _) in work.journal.steps(device.thing).items() if end is not None}
    thing = device.planned
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
        lock_out_spent(work, work.journal.device(device.thing).certificate_id)
        raise DeviceFaultError(f"its key {found.clause}", found.remedy)


def spent_of(work: Work, device: Device) -> Spent | None:
    """Return why the device's key or certificate must not be used; None where it may be."""
    own = device.fingerprint.hex() if device.is_certificate else device.certificate_id
    return work.journal.spent(device.key, own, device.certificate)


def lock_out_spent(work: Work, certificate_id: str | None) -> None:
    """Make the certificate of a spent key INACTIVE where an earlier try has made it ACTIVE."""
    if certificate_id is not None and work.calls.status_of(certificate_id) == "ACTIVE":
        work.calls.call("UpdateCertificate", certificateId=certificate_id, newStatus="INACTIVE")
        work.journal.write(entries.status_of(certificate_id, "INACTIVE"))


def _steps(work: Work) -> tuple[Step, ...]:
    """Return the steps, the thing first: if its name is taken, no certificate is made."""
    own_policy = (Step.POLICY,) if work.policy_on == "certificate" else ()
    return (Step.THING, Step.CERTIFICATE, *own_policy, Step.GROUP, Step.ATTACH)


def _do(work: Work, step: Step, thing: ThingRow, arn: str) -> None:
    group = work.groups[thing.device_type]
    call = work.calls.call
    if step is Step.THING:
        if not work.calls.create_thing(thing):
            raise DeviceFaultError(
                f"AWS IoT has another thing {thing.name}, with other attributes or of another type",
                "compare it with fleet.yaml; delete it, or rename the planned thing",
            )
    elif step is Step.GROUP:
        call("AddThingToThingGroup", thingGroupName=group.thing_group, thingName=thing.name)
    elif step is Step.ATTACH:
        call("AttachThingPrincipal", thingName=thing.name, principal=arn)
    elif step is Step.POLICY:
        call("AttachPolicy", policyName=group.policy, target=arn)


def _certificate(work: Work, device: Device) -> tuple[str, list[Write]]:
    """Make or register the device's certificate; return its ARN, and the writes that record it."""
    if device.is_certificate:
        answer = _register(work, device)
        certificate_id, arn = device.fingerprint.hex(), answer["certificateArn"]
        expires = x509.load_der_x509_certificate(device.der).not_valid_after_utc.timestamp()
        if answer["certificateId"] != certificate_id:
            raise DeviceFaultError(
                f"AWS IoT calls the certificate {answer['certificateId']}, its SHA-256 is {certificate_id}",
                "do not use it: report it to AWS support",
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
                f"the certificate {certificate_id} that AWS IoT made has another key than the device's CSR",
                "it was not attached: delete it, and report it to AWS support",
            )
        expires = expiry_of(answer["certificatePem"])
    return arn, [
        entries.certificate(device.thing, certificate_id=certificate_id, arn=arn, status=work.status, expires=expires),
        entries.end(device.thing, Step.CERTIFICATE, at=work.clock()),
    ]


def _register(work: Work, device: Device) -> dict[str, Any]:
    """Register the device's own certificate; one that exists must not be attached to another thing."""
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
    """Return PEM with the label that AWS IoT expects."""
    text = ssl.DER_cert_to_PEM_cert(der)
    return text if label == "CERTIFICATE" else text.replace("CERTIFICATE-----", f"{label}-----")


def is_of_key(pem: str, key: bytes) -> bool:
    """Return whether the certificate has the public key with this digest."""
    return key_digest(x509.load_pem_x509_certificate(pem.encode()).public_key()) == key


def expiry_of(pem: str) -> float:
    """Return when the certificate expires, in seconds since 1970."""
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp()


SETTLE_S = 3.0
"""A call of a killed run may still be in flight: wait so long before searching for its effect."""
CLOCK_SKEW_S = 300.0
"""Most seconds between this machine's clock and AWS's."""
_PAGE = 250


def settle_certificates(work: Work, run: int, *, sleep: Callable[[float], None] = time.sleep) -> int:
    """Find the certificate of each device whose call has no known outcome; return how many were found."""
    begun = work.journal.unsettled(run)
    if not begun:
        return 0
    sleep(SETTLE_S)
    wanted = {key: thing for thing, key, _ in begun}
    since = min(at for _, _, at in begun) - CLOCK_SKEW_S
    found: set[bytes] = set()
    for described in unknown_certificates(work, since):
        try:
            key = key_digest(read_certificate(described["certificatePem"].encode()).public_key())
        except ValueError:  # somebody else's: those that come from our CSRs can be read
            continue
        thing = wanted.get(key)
        if thing is None:
            continue
        certificate_id, arn = described["certificateId"], described["certificateArn"]
        if key in found:
            work.journal.write(entries.orphan(certificate_id, thing=thing, at=work.clock()))
            continue
        found.add(key)
        work.journal.write(
            entries.certificate(
                thing,
                certificate_id=certificate_id,
                arn=arn,
                status=described["status"],
                expires=expiry_of(described["certificatePem"]),
            ),
            entries.end(thing, Step.CERTIFICATE, at=work.clock()),
        )
    lost = [thing for key, thing in wanted.items() if key not in found]
    if lost:
        work.journal.write(*(entries.forget(thing, Step.CERTIFICATE) for thing in lost))
    return len(found)


def unknown_certificates(work: Work, since: float) -> Iterator[dict[str, Any]]:
    """Yield certificates made since a time that no device in the journal has, newest first."""
    for page in work.calls.pages("ListCertificates", pageSize=_PAGE, ascendingOrder=False):
        recent = [each for each in page["certificates"] if each["creationDate"].timestamp() >= since]
        for each in recent:
            certificate_id = each["certificateId"]
            if not work.journal.knows_certificate(certificate_id):
                yield work.calls.call("DescribeCertificate", certificateId=certificate_id)["certificateDescription"]
        if not recent:
            return


THREADS = 32
"""Devices in parallel: enough for 15 devices a second with calls of half a second."""
ROUNDS = 5
_SHOWN_EVERY_S = 0.5

Item = TypeVar("Item")


@dataclass(slots=True)
class Meter:
    """Progress of a run; `rate` is devices a second since it began."""

    total: int
    done: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)
    _counting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, *, is_failed: bool = False) -> None:
        """Count one more device, from any thread."""
        with self._counting:
            self.failed += is_failed
            self.done += not is_failed

    @property
    def rate(self) -> float:
        passed = time.monotonic() - self.started
        return (self.done + self.failed) / passed if passed > 0 else 0.0


OnProgress = Callable[[Meter], None]


def run_devices(work: Work, run: int, *, on_progress: OnProgress, threads: int = THREADS) -> None:
    """Onboard every planned device of the run and mark the run as finished. Raises EnvironmentFault for what stops
    all."""
    counted = work.journal.count(run)
    meter = Meter(total=counted.get("planned", 0))
    _prepare(work, run)
    for _ in range(ROUNDS):
        settle_certificates(work, run)
        _each(
            work.journal.devices(run, "planned"),
            lambda device: _one(work, device, meter),
            threads=threads,
            after=lambda: on_progress(meter),
        )
        if not work.journal.count(run).get("planned"):
            work.journal.write(entries.finished(run, at=work.clock()))
            return
    raise EnvironmentFault(
        f"AWS IoT leaves {work.journal.count(run)['planned']} devices without an answer",
        hint="go on later with --resume",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Activated:
    """The number of activated devices; `refused` are the others: thing and reason."""

    count: int
    refused: tuple[tuple[str, str], ...]


def refuse_spent(work: Work, run: int) -> None:
    """Fail the run's planned devices whose keys were revoked or retired since the list was matched."""
    for device in work.journal.devices(run, "planned"):
        found = spent_of(work, device)
        if found is not None:
            lock_out_spent(work, device.certificate_id)
            work.journal.write(entries.failed(device.thing, reason=f"its key {found.clause}", remedy=found.remedy))


def activate_devices(work: Work, facility: str, *, on_progress: OnProgress, threads: int = THREADS) -> Activated:
    """Activate the certificates that were staged for a facility; none that was revoked meanwhile."""
    meter = Meter(total=work.journal.count_staged(facility))
    refused: list[tuple[str, str]] = []

    def activate(device: Device) -> None:
        thing, certificate_id = device.thing, str(device.certificate_id)
        status = work.calls.status_of(certificate_id)
        if status == "REVOKED":
            work.journal.write(*entries.seen_revoked(thing, device.key, certificate_id, at=work.clock()))
        ended = work.journal.spent(device.key, certificate_id, device.certificate)
        if ended is not None or status in (None, "PENDING_TRANSFER"):
            is_what = f"has a certificate that is {status or 'gone from AWS IoT'}"
            refused.append((thing, f"has a key that {ended.clause}" if ended else is_what))
            meter.count(is_failed=True)
            return
        work.journal.write(entries.begin(thing, Step.ACTIVATE, at=work.clock()))
        work.calls.call("UpdateCertificate", certificateId=certificate_id, newStatus="ACTIVE")
        work.journal.write(
            entries.end(thing, Step.ACTIVATE, at=work.clock()), entries.status(thing, certificate_status="ACTIVE")
        )
        meter.count()

    _each(work.journal.staged(facility), activate, threads=threads, after=lambda: on_progress(meter))
    return Activated(count=meter.done, refused=tuple(sorted(refused)))


def prepare_group(work: Work, group: Group, *, policy_on: str) -> None:
    """Check that the group exists, and attach its policy where things get it from there. Raises EnvironmentFault."""
    try:
        found = work.calls.call("DescribeThingGroup", thingGroupName=group.thing_group)
        if policy_on == "group":
            work.calls.call("AttachPolicy", policyName=group.policy, target=found["thingGroupArn"])
    except ClientError as error:
        raise EnvironmentFault(
            f"{group.thing_group} or {group.policy} is not in AWS IoT: {code_of(error)}: {message_of(error)}",
            hint="apply the facility's stack first, then go on with --resume",
        ) from None


def _prepare(work: Work, run: int) -> None:
    """Prepare the groups of the run's planned devices."""
    for device_type in work.journal.device_types(run):
        prepare_group(work, work.groups[device_type], policy_on=work.policy_on)


def _one(work: Work, device: Device, meter: Meter) -> None:
    if onboard_device(work, device):
        meter.count(is_failed=work.journal.device(device.thing).state == "failed")


def _each(items: Iterable[Item], work: Callable[[Item], None], *, threads: int, after: Callable[[], None]) -> None:
    """Work on each item in a pool of threads; the first error stops all and is raised."""
    errors: list[BaseException] = []
    room = threading.BoundedSemaphore(2 * threads)

    def guarded(item: Item) -> None:
        try:
            if not errors:
                work(item)
        except BaseException as error:
            errors.append(error)
        finally:
            room.release()

    with ThreadPoolExecutor(threads, thread_name_prefix="onboard") as pool:
        for item in items:
            room.acquire()
            after()
            if errors:
                room.release()
                break
            pool.submit(guarded, item)
        for _ in range(2 * threads):
            while not room.acquire(timeout=_SHOWN_EVERY_S):
                after()
    after()
    if errors:
        raise errors[0]
