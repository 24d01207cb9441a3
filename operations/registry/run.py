"""Runs the devices of one run through their steps, many at a time, until nothing is left to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from botocore.exceptions import ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.calls import code_of, message_of
from fleet_iot.operations.registry.orphans import settle_certificates
from fleet_iot.operations.registry.records import Device, Step
from fleet_iot.operations.registry.steps import Group, Work, lock_out_spent, onboard_device, spent_of

THREADS = 32
"""Devices at a time: at 15 devices a second, calls that take half a second each still keep the pace."""
ROUNDS = 5
_SHOWN_EVERY_S = 0.5

Item = TypeVar("Item")


@dataclass(slots=True)
class Meter:
    """How far a run is; `rate` is devices a second since it began."""

    total: int
    done: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)
    _counting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, *, is_failed: bool = False) -> None:
        """One device more; from any thread."""
        with self._counting:
            self.failed += is_failed
            self.done += not is_failed

    @property
    def rate(self) -> float:
        passed = time.monotonic() - self.started
        return (self.done + self.failed) / passed if passed > 0 else 0.0


OnProgress = Callable[[Meter], None]


def run_devices(work: Work, run: int, *, on_progress: OnProgress, threads: int = THREADS) -> None:
    """Onboards every planned device of the run and marks it finished. Raises EnvironmentFault for what stops all."""
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
    """How many devices were activated; `refused` are those that were not: thing, and why."""

    count: int
    refused: tuple[tuple[str, str], ...]


def refuse_spent(work: Work, run: int) -> None:
    """Fails what the run still has to do for keys that were revoked or retired since its list was matched."""
    for device in work.journal.devices(run, "planned"):
        found = spent_of(work, device)
        if found is not None:
            lock_out_spent(work, device.certificate_id)
            work.journal.write(entries.failed(device.thing, reason=f"its key {found.told}", remedy=found.remedy))


def activate_devices(work: Work, facility: str, *, on_progress: OnProgress, threads: int = THREADS) -> Activated:
    """Activates the certificates that were staged for a facility; none that was revoked meanwhile."""
    query = """SELECT thing, key, certificate_id, iif(is_certificate, der, NULL) FROM devices
        WHERE facility = ? AND state = 'done' AND certificate_status = 'INACTIVE' ORDER BY thing"""
    staged = work.journal.read(query, facility)
    meter = Meter(total=len(staged))
    refused: list[tuple[str, str]] = []

    def activate(found: tuple[str, bytes, str, bytes | None]) -> None:
        thing, key, certificate_id, der = found
        status = work.calls.status_of(certificate_id)
        if status == "REVOKED":
            work.journal.write(*entries.seen_revoked(thing, key, certificate_id, at=work.clock()))
        ended = work.journal.spent(key, certificate_id, der)
        if ended is not None or status in (None, "PENDING_TRANSFER"):
            is_what = f"has a certificate that is {status or 'gone from AWS IoT'}"
            refused.append((thing, f"has a key that {ended.told}" if ended else is_what))
            meter.count(is_failed=True)
            return
        work.journal.write(entries.begin(thing, Step.ACTIVATE, at=work.clock()))
        work.calls.call("UpdateCertificate", certificateId=certificate_id, newStatus="ACTIVE")
        work.journal.write(
            entries.end(thing, Step.ACTIVATE, at=work.clock()), entries.status(thing, certificate_status="ACTIVE")
        )
        meter.count()

    found = [(str(thing), bytes(key), str(certificate_id), der) for thing, key, certificate_id, der in staged]
    _each(found, activate, threads=threads, after=lambda: on_progress(meter))
    return Activated(count=meter.done, refused=tuple(sorted(refused)))


def prepare_group(work: Work, group: Group, *, policy_on: str) -> None:
    """Makes sure that the group is there, with its policy where things get that from it. Raises EnvironmentFault."""
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
    """Makes sure that the groups are there, and that their policies are attached where things get them from there."""
    query = "SELECT DISTINCT json_extract(line, '$.device_type') FROM devices WHERE run = ? AND state = 'planned'"
    for (device_type,) in work.journal.read(query, run):
        prepare_group(work, work.groups[device_type], policy_on=work.policy_on)


def _one(work: Work, device: Device, meter: Meter) -> None:
    if onboard_device(work, device):
        state = work.journal.read("SELECT state FROM devices WHERE thing = ?", device.thing)[0][0]
        meter.count(is_failed=state == "failed")


def _each(
    items: Iterable[Item],
    work: Callable[[Item], None],
    *,
    threads: int,
    after: Callable[[], None],
) -> None:
    """Does work for each item on so many threads; the first error stops them all and is raised."""
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
