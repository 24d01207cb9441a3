"""The demo's story, step by step, each step timed: from the manifest to a verdict, and everything taken down."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fleet_iot.generator.diagnostics import FleetError
from fleet_iot.operations.local import deployment, emulator
from fleet_iot.operations.local.aws import FACTS, LocalAws, applied_stacks, count_resources, load
from fleet_iot.operations.local.drain import wait_until_drained
from fleet_iot.operations.pki.create import create_missing
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.project import Project
from fleet_iot.operations.rehearsal.demo.measure import Measurement, exposed_private_keys, measure
from fleet_iot.operations.rehearsal.demo.report import Report
from fleet_iot.operations.rehearsal.simulator.request import SimulationRequest, run_request
from fleet_iot.operations.rehearsal.simulator.run import Outcome
from fleet_iot.operations.rehearsal.simulator.schedule import Dose
from fleet_iot.operations.rehearsal.simulator.target import target_of

DOSE = Dose(anomalies=0.8, poison=0.01, repeats=0.01)
REDELIVERED_SHARE = 0.3
BASIC_INGEST_SHARE = 0.5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRequest:
    """How large a demo: things that publish, messages a second in all, seconds, and the seed of it all."""

    folder: Path
    things: int
    rate: float
    duration_s: float
    seed: int


@dataclass(slots=True)
class Clock:
    """Times the steps and says each as it begins."""

    say: Say
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """One step of the story."""
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
    """Run it all and count; `generate` brings the record up to date and gives the project that it declares.

    Whatever happens, everything that was started is stopped. Raises FleetError.
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
            outcome = run_request(project, simulation, target=target_of(local), store=store, on_progress=on_progress)
        with clock.step("drain", "until everything is processed"):
            drained = wait_until_drained(local)
        with clock.step("verify", "what was sent against what arrived"):
            measured = measure(project, local, truth_file=simulation.truth)
            exposed = exposed_private_keys(project, local)
            applied = _resources(local)
        with clock.step("destroy", "every stack"):
            deployment.destroy(local, say=say)
            left = _resources(local)
        with clock.step("down", "the local AWS"):
            _take_down(folder)
    except FleetError as fault:
        # Its logs are kept elsewhere when it goes.
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


def _make_room(folder: Path) -> None:
    """What an earlier demo left goes, a local AWS that it could not stop included."""
    _take_down(folder)
    for name in ("keys", "identities", "logs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("truth.jsonl", "report.json"):
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    # Keys, logs and states of the demo are nothing for other users of the machine.
    folder.chmod(0o700)
    (folder / "logs").mkdir()


def _take_down(folder: Path) -> None:
    """Stop the demo's local AWS where one is left, and keep its logs: verdicts and faults name them."""
    if not (folder / "local" / FACTS).exists():
        return
    local: LocalAws = load(folder / "local", is_to_stop=True)
    with suppress(OSError):
        shutil.copytree(local.logs, folder / "logs", dirs_exist_ok=True)
    emulator.stop(local)


def _resources(local: LocalAws) -> int:
    """What Terraform's states hold, all stacks together."""
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
