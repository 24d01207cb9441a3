"""Run the demo step by step, from the manifest to a verdict, and report what it measured."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fleet_iot.generator.diagnostics import EnvironmentFault, FleetError
from fleet_iot.generator.text import table
from fleet_iot.operations.aws import local_aws
from fleet_iot.operations.local import deployment, emulator
from fleet_iot.operations.local.aws import FACTS, LocalAws, applied_stacks, count_resources, load
from fleet_iot.operations.local.drain import wait_until_drained
from fleet_iot.operations.pki.csr import create_missing
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.project import Project
from fleet_iot.operations.rehearsal.demo.measure import Measurement, exposed_private_keys, measure
from fleet_iot.operations.rehearsal.simulator.run import Outcome, SimulationRequest, run_request
from fleet_iot.operations.rehearsal.simulator.schedule import Dose

DETECTED_SHARE = 0.9
READINGS_A_FALSE_ANOMALY = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The figures of one demo run; docs/demo.md says where each is counted."""

    facilities: int
    things: int
    things_published: int
    certificates: int
    resources_applied: int
    readings_published: int
    readings_archived: int
    records_archived: int
    readings_processed: int
    poison_injected: int
    quarantined: int
    redelivered: int
    repeats_published: int
    anomalies_injected: int
    anomalies_within_limits: int
    anomalies_detected: int
    anomalies_false: int
    lost: int
    duplicated: int
    wrong_sums: int
    rule_errors: int
    devices_known: int
    resources_left: int
    private_keys_found: list[str]
    seconds_by_step: dict[str, float]


def faults(report: Report) -> list[str]:
    """Return what is wrong with the figures, a sentence each; empty for a clean run."""
    good = report.readings_published - report.poison_injected
    rules = [
        (
            report.things == report.certificates > 0,
            f"{report.things} things but {report.certificates} active certificates",
        ),
        (
            report.devices_known == report.things_published > 0,
            f"{report.things_published} things published but the device table knows {report.devices_known}",
        ),
        (report.readings_processed == good, f"{report.readings_processed} readings processed of {good} good ones"),
        (report.readings_archived == good, f"{report.readings_archived} readings archived of {good} good ones"),
        (report.lost == 0, f"{report.lost} readings lost"),
        (report.duplicated == 0, f"{report.duplicated} readings duplicated"),
        (report.wrong_sums == 0, f"{report.wrong_sums} sums differ from what was sent"),
        (report.redelivered > 0, "no record was delivered twice, so nothing was proven about it"),
        (
            report.quarantined == report.poison_injected > 0,
            f"{report.quarantined} messages in quarantine for {report.poison_injected} poison messages sent",
        ),
        (report.rule_errors == 0, f"{report.rule_errors} messages went to the topic rules' error action"),
        (
            report.anomalies_detected >= DETECTED_SHARE * report.anomalies_injected > 0,
            f"{report.anomalies_detected} of {report.anomalies_injected} anomalies detected",
        ),
        (
            report.anomalies_false * READINGS_A_FALSE_ANOMALY <= good,
            f"{report.anomalies_false} false anomalies in {good} good readings",
        ),
        (report.resources_left == 0, f"{report.resources_left} resources are left after destroy"),
        (not report.private_keys_found, f"private keys found in {', '.join(report.private_keys_found)}"),
    ]
    return [sentence for is_right, sentence in rules if not is_right]


def summary(report: Report) -> str:
    """Format the report for people, in lines."""
    rows = [
        ("Fleet", f"{report.facilities} facilities, {report.things} things, {report.certificates} certificates"),
        ("Platform", f"{report.resources_applied} resources applied by Terraform, {report.resources_left} left"),
        (
            "Published",
            f"{report.readings_published} messages by {report.things_published} things over mutual TLS, "
            f"{report.poison_injected} of them poison, {report.repeats_published} sent again",
        ),
        ("Processed", f"{report.readings_processed} readings in DynamoDB, {report.readings_archived} in S3"),
        ("Quarantine", f"{report.quarantined} messages, each with its reason"),
        ("Delivered again", f"{report.redelivered} records: {report.lost} lost, {report.duplicated} duplicated"),
        (
            "Anomalies",
            f"{report.anomalies_detected} of {report.anomalies_injected} detected "
            f"({report.anomalies_within_limits} stayed within their limits), {report.anomalies_false} false",
        ),
        (
            "Private keys",
            "none in repository, synthesised output or state" if not report.private_keys_found else "FOUND",
        ),
        ("Seconds", ", ".join(f"{step} {seconds:.0f}" for step, seconds in report.seconds_by_step.items())),
    ]
    return "\n".join(f"  {line}" for line in table(rows, "<<"))


DOSE = Dose(anomalies=0.8, poison=0.01, repeats=0.01)
REDELIVERED_SHARE = 0.3
BASIC_INGEST_SHARE = 0.5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRequest:
    """The size of a demo: things that publish, messages a second in all, seconds, and the seed."""

    folder: Path
    things: int
    rate: float
    duration_s: float
    seed: int


@dataclass(slots=True)
class Clock:
    """Time the steps, and announce each when it starts."""

    say: Say
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """Time one step."""
        self.say(f"==> {name}: {what}")
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)


def run_demo(
    request: DemoRequest,
    *,
    generate: Callable[[], Project],
    say: Say,
    on_progress: Callable[[int, int], None],
) -> Report:
    """Run every step and report what was measured; everything that was started is stopped, whatever happens.

    Args:
        request: The size of the demo.
        generate: Generates the record and loads the project.
        say: Called with each step.
        on_progress: Called with messages sent and planned.

    Raises:
        FleetError: A step failed.
    """
    clock = Clock(say)
    folder = request.folder
    _make_room(folder)
    with clock.step("generate", "lib/facilities from fleet.yaml"):
        project = generate()
    with clock.step("keys", "throw-away keys and CSRs for every thing"):
        store = _make_keys(project, folder)
    try:
        with clock.step("up", "a local AWS"):
            local = emulator.start(folder=folder / "local", region=project.fleet.region)
        with clock.step("apply", "synthesis and Terraform, every stack"):
            deployment.apply(
                local,
                root=project.root,
                identities=folder / "identities",
                redeliver=REDELIVERED_SHARE,
                seed=request.seed,
                say=say,
            )
        with clock.step("simulate", f"{request.things} things publish over mutual TLS"):
            simulation = _simulation(project, request)
            outcome = run_request(
                project, simulation, aws=local_aws(local.folder), store=store, on_progress=on_progress
            )
            _refuse_failed(outcome)
        with clock.step("drain", "until everything is processed"):
            drained = wait_until_drained(local)
        with clock.step("verify", "published readings against DynamoDB and S3"):
            measured = measure(project, local, truth_file=simulation.truth)
            exposed = exposed_private_keys(project, local)
            applied = _resources(local)
        with clock.step("destroy", "every stack"):
            deployment.destroy(local, say=say)
            left = _resources(local)
        with clock.step("down", "the local AWS"):
            _take_down(folder)
    except FleetError as fault:
        # The logs are moved when the local AWS is stopped.
        if fault.hint:
            fault.hint = fault.hint.replace(str(folder / "local" / "logs"), str(folder / "logs"))
        raise
    finally:
        _take_down(folder)
    return _report(
        project,
        outcome=outcome,
        measured=measured,
        redelivered=drained.redelivered,
        resources=(applied, left),
        exposed=exposed,
        seconds=clock.seconds,
    )


def _refuse_failed(outcome: Outcome) -> None:
    for name, reason in outcome.failed.items():
        raise EnvironmentFault(
            f"{len(outcome.failed)} things did not publish all: {name}: {reason}", hint="see the logs"
        )


def _make_room(folder: Path) -> None:
    """Remove what an earlier demo left, with a local AWS that it could not stop."""
    _take_down(folder)
    for name in ("keys", "identities", "logs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("truth.jsonl", "report.json"):
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    # Other users of the machine must not read keys, logs and states of the demo.
    folder.chmod(0o700)
    (folder / "logs").mkdir()


def _take_down(folder: Path) -> None:
    """Stop the demo's local AWS where one is left, and keep its logs, which messages refer to."""
    if not (folder / "local" / FACTS).exists():
        return
    local: LocalAws = load(folder / "local", is_to_stop=True)
    with suppress(OSError):
        shutil.copytree(local.logs, folder / "logs", dirs_exist_ok=True)
    emulator.stop(local)


def _resources(local: LocalAws) -> int:
    """Count the resources in Terraform's states, of all stacks together."""
    return sum(map(count_resources, applied_stacks(local)))


def _make_keys(project: Project, folder: Path) -> KeyStore:
    store = KeyStore(folder / "keys", secrets.token_urlsafe(32))
    for facility in project.facilities:
        create_missing(project, facility, store=store, folder=folder / "identities")
    return store


def _simulation(project: Project, request: DemoRequest) -> SimulationRequest:
    return SimulationRequest(
        facilities=project.facilities,
        things=request.things,
        rate=request.rate,
        duration_s=request.duration_s,
        dose=DOSE,
        basic_ingest=BASIC_INGEST_SHARE,
        seed=request.seed,
        replay=None,
        columns={},
        truth=request.folder / "truth.jsonl",
        now_ms=int(time.time() * 1000),
    )


def _report(
    project: Project,
    *,
    outcome: Outcome,
    measured: Measurement,
    redelivered: int,
    resources: tuple[int, int],
    exposed: list[str],
    seconds: dict[str, float],
) -> Report:
    applied, left = resources
    return Report(
        facilities=len(project.facilities),
        things=measured.registry.things,
        certificates=measured.registry.certificates,
        things_published=outcome.things,
        resources_applied=applied,
        readings_published=outcome.readings + outcome.poison,
        readings_archived=len(measured.archive.readings),
        records_archived=measured.archive.lines,
        readings_processed=measured.processed,
        poison_injected=outcome.poison,
        quarantined=measured.archive.quarantined,
        redelivered=redelivered,
        repeats_published=outcome.repeats,
        rule_errors=measured.archive.rule_errors,
        devices_known=measured.devices,
        resources_left=left,
        private_keys_found=exposed,
        seconds_by_step=seconds,
        **asdict(measured.difference),
    )
