"""Run what is left of an onboarding, and report the result and the failed rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.lib import names
from fleet_iot.lib.specs import FacilitySpec, suffixed
from fleet_iot.operations.lists.formats import Source, create_private, read_records, write_again
from fleet_iot.operations.lists.record import Fault, Record
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry.bulk import place_of, run_tasks
from fleet_iot.operations.registry.calls import IotCalls, Pacer, Quotas, calls_for, least_seconds
from fleet_iot.operations.registry.journal import Failure, Journal, Run
from fleet_iot.operations.registry.preparation import Request, RevokedInAws, Started, mark_of, refusals_of
from fleet_iot.operations.registry.preparation import start as begin
from fleet_iot.operations.registry.steps import (
    Activated,
    Group,
    OnProgress,
    Work,
    activate_devices,
    refuse_spent,
    run_devices,
)
from fleet_iot.operations.registry.target import Target
from fleet_iot.operations.storage import exclusive


def write_failures(folder: Path, source: Source, failures: Iterable[Failure], *, is_unchanged: bool) -> Path | None:
    """Write the failed rows in their list's format (only while the list is still the one that was read), and beside
    them `reasons.jsonl`. Returns the list of failures, or of reasons where there is no other; None without failures."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    reasons = folder / "reasons.jsonl"
    rows: list[int] = []
    with create_private(reasons) as file:
        for failure in failures:
            rows.append(failure.row)
            fields = {name: getattr(failure, name) for name in Failure.__slots__ if getattr(failure, name) is not None}
            file.write(json.dumps(fields).encode() + b"\n")
    if not rows:
        reasons.unlink()
        return None
    if not is_unchanged:
        return reasons
    target = folder / source.path.name
    write_again(source, target, _chosen(read_records(source), rows))
    return target


def _chosen(entries: Iterator[Record | Fault], rows: list[int]) -> Iterator[Record | Fault]:
    """Yield the entries with these numbers, both in order."""
    wanted = iter(rows)
    number = next(wanted, None)
    for entry in entries:
        if number is None:
            return
        if entry.number == number:
            yield entry
            number = next(wanted, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The result of a run. `seconds` and `rate` (devices a second) are of the calls only, `ceiling` is the quotas'
    rate; `orphans` are certificates in AWS IoT that were made for a device which has another one."""

    facility: str
    run: int
    rows: int
    onboarded: int
    already: int
    failed: int
    calls: Mapping[str, int]
    throttles: int
    seconds: float
    rate: float
    ceiling: float | None
    failures: str | None
    orphans: tuple[str, ...]


def perform(
    project: Project,
    run: Run,
    *,
    target: Target,
    journal: Journal,
    on_progress: OnProgress,
    already: int = 0,
    by_api: bool = False,
    asks_to_stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Do what is left of a run, and write the failed rows to a file.

    `by_api`: what AWS IoT's own task has not registered yet is registered call by call; `asks_to_stop` is called
    when that task is interrupted.
    """
    facility = project.facility(run.facility)
    work = work_of(project, target, journal, facility=facility, is_staged=run.is_staged, policy_on=run.policy_on)
    before = journal.count(run.id)
    started = time.monotonic()
    try:
        refuse_spent(work, run.id)
        if run.is_bulk:
            place = place_of(project, facility, target, run.id, asks_to_stop=asks_to_stop)
            run_tasks(work, run.id, place, on_progress=on_progress, starts=not by_api)
        run_devices(work, run.id, on_progress=on_progress)
    finally:
        work.calls.pacer.close()
    seconds = time.monotonic() - started
    counted = journal.count(run.id)
    failures = journal.failures(run.id)
    source = source_of(run)
    is_unchanged = source.path.exists() and mark_of(source.path) == run.mark
    folder = project.build / "onboarding" / run.facility / f"run-{run.id}"
    written = write_failures(folder, source, failures, is_unchanged=is_unchanged)
    done = counted.get("done", 0)
    return RunResult(
        facility=run.facility,
        run=run.id,
        rows=done + already + len(failures),
        onboarded=done,
        already=already,
        failed=len(failures),
        calls=dict(sorted(work.calls.pacer.calls.items())),
        throttles=sum(work.calls.pacer.throttles.values()),
        seconds=round(seconds, 2),
        rate=round((done - before.get("done", 0)) / seconds, 2) if seconds else 0.0,
        ceiling=ceiling_of(journal, run, target.quotas),
        failures=str(written.relative_to(project.root)) if written else None,
        orphans=journal.orphans(run.id),
    )


@contextmanager
def opened_journal(project: Project, target: Target, *, local: Path) -> Iterator[Journal]:
    """Open the target's journal, with the spent keys of other files on this machine and in the project; `local` is the
    folder of a local AWS whose journals count too."""
    elsewhere = refusals_of(project, None, local=local)
    with closing(elsewhere), Journal(target.journal, elsewhere=elsewhere) as journal:
        yield journal


def start(project: Project, request: Request, target: Target, journal: Journal) -> Started:
    """Write a new run into the journal, before any change; see `preparation.start`."""
    calls = calls_of(target)
    try:
        return begin(project, request, journal, in_aws=RevokedInAws(calls))
    finally:
        calls.pacer.close()


def activate(
    project: Project, facility: FacilitySpec, *, target: Target, journal: Journal, on_progress: OnProgress
) -> Activated:
    """Activate what was staged."""
    work = work_of(project, target, journal, facility=facility, is_staged=False, policy_on="group")
    try:
        return activate_devices(work, facility.id, on_progress=on_progress)
    finally:
        work.calls.pacer.close()


def work_of(
    project: Project, target: Target, journal: Journal, *, facility: FacilitySpec, is_staged: bool, policy_on: str
) -> Work:
    """Return what the steps of a facility's devices need."""
    return Work(
        calls=calls_of(target),
        journal=journal,
        groups=groups_of(project, facility),
        is_staged=is_staged,
        policy_on=policy_on,
    )


def calls_of(target: Target) -> IotCalls:
    """Return the calls of the target's AWS IoT, below its quotas; close their pacer when done."""
    rates = target.quotas.rates() if target.quotas else {}
    return IotCalls(target.iot, Pacer(target.rates, account=target.account, rates=rates))


def groups_of(project: Project, facility: FacilitySpec, *, device_type: str | None = None) -> dict[str, Group]:
    """Return the facility's groups by device type; other facilities have the same types, and groups of their own.

    `device_type` is that of a registered device: it may have left the record.
    """
    suffix = project.environment_suffix
    found = {group.device_type: (group.thing_group, group.policy) for group in facility.groups}
    if device_type is not None:
        own = names.thing_group(facility.id, device_type), names.policy(facility.id, device_type)
        found.setdefault(device_type, own)
    return {
        type_: Group(thing_group=suffixed(group, suffix), policy=suffixed(policy, suffix))
        for type_, (group, policy) in found.items()
    }


def source_of(run: Run) -> Source:
    """Return the list of a run."""
    return Source(
        path=Path(run.source), format=run.format, bundle=run.bundle, signers=Path(run.signers) if run.signers else None
    )


def ceiling_of(journal: Journal, run: Run, quotas: Quotas | None) -> float | None:
    """Return the devices a second that the quotas allow for the run; None for AWS IoT's own task."""
    if quotas is None or run.is_bulk:
        return None
    devices, certificates = journal.count_certificates(run.id)
    calls = calls_for(devices=devices, certificates=certificates, policy_on=run.policy_on, groups=0)
    seconds, _ = least_seconds(calls, quotas.per_second)
    return round(devices / seconds, 2) if seconds else None


@contextmanager
def facility_lock(journal: Path, facility: str) -> Iterator[None]:
    """Lock the facility for one command, with a file beside the journal.

    Raises RequestError where another process has it.
    """
    journal.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as lock:
        try:
            lock.enter_context(exclusive(journal.with_suffix(f".{facility}.lock"), waits=False))
        except BlockingIOError:
            raise RequestError(f"{facility} is being onboarded already", hint="wait until that run is done") from None
        yield
