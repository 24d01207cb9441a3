"""From what was asked on the command line to a running simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleet_iot.generator.diagnostics import OutcomeError
from fleet_iot.generator.naming import basic_ingest_topic, telemetry_topic
from fleet_iot.lib.specs import DeviceTypeSpec, FacilitySpec, suffixed
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.project import Project, Thing
from fleet_iot.operations.rehearsal.simulator.credentials import Broker, certificates, private_keys
from fleet_iot.operations.rehearsal.simulator.replay import read_recording
from fleet_iot.operations.rehearsal.simulator.run import Identity, Outcome, simulate
from fleet_iot.operations.rehearsal.simulator.schedule import Dose, Message, ThingSchedule, schedules
from fleet_iot.operations.rehearsal.simulator.selection import choose_things
from fleet_iot.operations.rehearsal.simulator.truth import TruthFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The AWS that takes the messages: its broker, and an IoT client that knows the certificates."""

    broker: Broker
    iot: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationRequest:
    """What to simulate; `rate` in messages a second (None: each thing at its own sample interval)."""

    facilities: tuple[FacilitySpec, ...]
    things: int | None
    rate: float | None
    duration_s: float
    dose: Dose
    basic_ingest: float
    seed: int
    replay: Path | None
    columns: Mapping[str, str]
    truth: Path
    now_ms: int


def run_request(
    project: Project,
    request: SimulationRequest,
    *,
    target: Target,
    store: KeyStore,
    on_progress: Callable[[int, int], None],
) -> Outcome:
    """Run it; `on_progress` gets messages sent and planned. Raises OutcomeError without things."""
    chosen = choose_things(project, request.facilities, request.things)
    if not chosen:
        raise OutcomeError("the chosen facilities have no things", hint="see `things:` in fleet.yaml")
    plan = _plan(request, chosen)
    things = [thing for thing, _ in chosen]
    keys, pems = private_keys(store, things), certificates(target.iot, things)
    anomalies = [anomaly for schedule in plan if (anomaly := schedule.anomaly())]
    total = sum(schedule.samples for schedule in plan)
    run = {"seed": request.seed, "things": len(things), "samples": total, "started_ms": request.now_ms}
    return simulate(
        plan,
        broker=target.broker,
        identities={name: Identity(certificate=pems[name], key=keys[name]) for name in pems},
        topic_of=_topics(project, request),
        duration_s=request.duration_s,
        truth=TruthFile(request.truth, run=run, anomalies=anomalies),
        on_progress=lambda sent: on_progress(sent, total),
    )


def _plan(request: SimulationRequest, chosen: list[tuple[Thing, DeviceTypeSpec]]) -> list[ThingSchedule]:
    """With a rate, each thing sends its share of it and its clock plays the time that those samples take."""
    rate = request.rate

    def samples(device_type: DeviceTypeSpec) -> int:
        if rate is None:
            return max(1, round(request.duration_s / device_type.sample_interval_s))
        return max(1, round(rate * request.duration_s / len(chosen)))

    end_ms = request.now_ms + (round(request.duration_s * 1000) if rate is None else 0)
    plan = schedules(chosen, seed=request.seed, samples=samples, end_ms=end_ms, dose=request.dose)
    if request.replay is None:
        return plan
    recordings = {
        device_type.id: read_recording(request.replay, device_type, columns=request.columns)
        for _, device_type in chosen
    }
    return [replace(schedule, injection=None, recording=recordings[schedule.device_type.id]) for schedule in plan]


def _topics(project: Project, request: SimulationRequest) -> Callable[[Message], str]:
    """A message's topic; the things of `basic_ingest`'s share go straight to their facility's rule."""
    rules = {facility.id: suffixed(facility.topic_rule, project.environment_suffix) for facility in request.facilities}

    def topic(message: Message) -> str:
        thing = message.thing
        plain = telemetry_topic(project.fleet.application, thing.facility, thing.device_type, thing.name)
        if (message.sequence * 0.618034) % 1.0 < request.basic_ingest:
            return basic_ingest_topic(rules[thing.facility], plain)
        return plain

    return topic
