"""Run a simulation: connect the things, publish their schedules, and record the truth."""

from __future__ import annotations

import heapq
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError, RequestError
from fleet_iot.generator.naming import basic_ingest_topic, telemetry_topic
from fleet_iot.lib.specs import DeviceTypeSpec, FacilitySpec, suffixed
from fleet_iot.operations.aws import Aws, reporting_aws_errors
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.progress import Patience
from fleet_iot.operations.project import Project, Thing
from fleet_iot.operations.rehearsal.simulator.device import Device, certificates, private_keys, tls_context
from fleet_iot.operations.rehearsal.simulator.schedule import (
    Anomaly,
    Dose,
    Message,
    ThingSchedule,
    choose_things,
    schedules,
)
from fleet_iot.operations.rehearsal.simulator.signals import read_recording

# The truth file, JSON lines: one `run`, then `anomaly` lines, then a `reading`, `poison` or `repeat` line for each
# acknowledged publish, with the metrics that were sent.


class TruthFile:
    """Records what the broker acknowledged, from many device threads, and counts it; `refused` is by thing."""

    def __init__(self, path: Path, *, run: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")
        self._fault: OSError | None = None
        self._lock = threading.Lock()
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.things: set[str] = set()
        self._write({"line": "run", **run})

    def injected(self, anomaly: Anomaly) -> None:
        """Note an anomaly that is put into the signals."""
        self._write({"line": "anomaly", **asdict(anomaly)})

    def answered(self, message: Message, is_accepted: bool) -> None:
        """Note the broker's answer to one publish."""
        with self._lock:
            if not is_accepted:
                self.refused[message.thing.name] += 1
                return
            self.accepted[message.kind] += 1
            self.things.add(message.thing.name)
            self._write(
                {
                    "line": message.kind,
                    "thing": message.thing.name,
                    "facility": message.thing.facility,
                    "device_type": message.thing.device_type,
                    "time": message.time_ms,
                    "sequence": message.sequence,
                    "metrics": message.metrics,
                    "poison": message.poison,
                }
            )

    def close(self) -> None:
        """Flush and close the file. Raises OSError, with its path, where not all of it could be written."""
        try:
            self._file.close()
        except OSError as error:
            self._fault = self._fault or error
        if self._fault is not None:
            raise OSError(self._fault.errno, self._fault.strerror, self._file.name) from self._fault

    def _write(self, line: dict[str, Any]) -> None:
        # An error in a thread of the MQTT client would be lost: `close` raises it.
        try:
            self._file.write(json.dumps(line) + "\n")
        except OSError as error:
            self._fault = self._fault or error


def read_truth(path: Path) -> Iterator[dict[str, Any]]:
    """Read the lines of a truth file; `line` is their kind, and numbers keep every digit that was sent (Decimal)."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line, parse_float=Decimal)


_CONNECT_THREADS = 8
_CONNECT_TIMEOUT_S = 30.0
_ANSWER_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationRequest:
    """What to simulate; `rate` is messages a second (None: each thing at its own sample interval)."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the broker acknowledged: distinct readings, poison and repeats, and how many things they came from.

    `refused` counts publishes; `failed` maps each thing that could not publish all of its messages to the reason.
    """

    things: int
    readings: int
    poison: int
    repeats: int
    refused: int
    failed: Mapping[str, str]


def run_request(
    project: Project,
    request: SimulationRequest,
    *,
    aws: Aws,
    store: KeyStore,
    on_progress: Callable[[int, int], None],
) -> Outcome:
    """Run a simulation. A thing that cannot publish is reported in the outcome, and the others go on.

    Args:
        project: The project whose things publish.
        request: What to simulate.
        aws: Where they publish.
        store: The private keys.
        on_progress: Called with messages sent and planned.

    Raises:
        OutcomeError: The facilities have no things.
        RequestError: A column is for a metric that no device type has.
        EnvironmentFault: No thing can publish, or the broker stops answering.
    """
    chosen = choose_things(project, request.facilities, request.things)
    if not chosen:
        raise OutcomeError("the chosen facilities have no things", hint="see `things:` in fleet.yaml")
    metrics = {metric.name for _, device_type in chosen for metric in device_type.metrics}
    if unknown := sorted(set(request.columns) - metrics):
        raise RequestError(
            f"no chosen thing has a metric {unknown[0]!r}", hint=f"there are: {', '.join(sorted(metrics))}"
        )
    plan = _plan(request, chosen)
    run = {
        "seed": request.seed,
        "things": len(chosen),
        "samples": sum(schedule.samples for schedule in plan),
        "started_ms": request.now_ms,
    }
    failed: dict[str, str] = {}
    truth = TruthFile(request.truth, run=run)
    devices: dict[str, Device] = {}
    try:
        devices = _devices([thing for thing, _ in chosen], aws, store, on_answer=truth.answered, failed=failed)
        _connect_all(devices, failed)
        ready = [schedule for schedule in plan if schedule.thing.name in devices]
        for schedule in ready:
            if anomaly := schedule.anomaly():
                truth.injected(anomaly)
        _publish(ready, devices, request, topic_of=_topics(project, request), on_progress=on_progress)
        _wait_answers(devices, failed)
    finally:
        for device in devices.values():
            device.close()
        truth.close()
    refused = {name: f"the broker refused {count} publishes" for name, count in truth.refused.items()}
    return Outcome(
        things=len(truth.things),
        readings=truth.accepted["reading"],
        poison=truth.accepted["poison"],
        repeats=truth.accepted["repeat"],
        refused=truth.refused.total(),
        failed=dict(sorted((failed | refused).items())),
    )


def _devices(
    things: Sequence[Thing],
    aws: Aws,
    store: KeyStore,
    *,
    on_answer: Callable[[Message, bool], None],
    failed: dict[str, str],
) -> dict[str, Device]:
    """Make a device for each thing that has a key and an active certificate; add the others to `failed`."""
    broker = aws.broker()
    keys = private_keys(store, things)
    with reporting_aws_errors("cannot read the things' certificates from AWS IoT"):
        pems = certificates(aws.client("iot"), things)
    devices = {}
    for name in (thing.name for thing in things):
        if name not in keys:
            failed[name] = "the key store has no private key for it"
        elif name not in pems:
            failed[name] = "it has no active certificate in AWS IoT"
        else:
            try:
                context = tls_context(broker, certificate=pems[name], key=keys[name])
                devices[name] = Device(name, broker=broker, context=context, on_answer=on_answer)
            except EnvironmentFault as fault:
                failed[name] = fault.message
    _refuse_none(devices, failed, hint="`fleet keys create`, then apply or onboard; FLEET_KEYS_DIR names the key store")
    return devices


def _connect_all(devices: dict[str, Device], failed: dict[str, str]) -> None:
    """Connect the devices; close and drop those that the broker does not accept, and add them to `failed`."""

    def connect(device: Device) -> str | None:
        try:
            device.connect()
        except OSError as error:  # refused, unreachable, or TLS (ssl.SSLError is an OSError)
            return f"it cannot reach {device.broker.host}:{device.broker.port}: {error}"
        if not device.wait_connected(_CONNECT_TIMEOUT_S):
            return f"{device.broker.host}:{device.broker.port} does not accept it: {device.refusal or 'no answer'}"
        return None

    with ThreadPoolExecutor(_CONNECT_THREADS) as pool:
        faults = zip(list(devices), pool.map(connect, list(devices.values())), strict=True)
        for name, fault in list(faults):
            if fault:
                failed[name] = fault
                devices.pop(name).close()
    _refuse_none(devices, failed, hint="check that the facility is applied and that the certificates are active")


def _refuse_none(devices: Mapping[str, Device], failed: Mapping[str, str], *, hint: str) -> None:
    if not devices:
        name, reason = next(iter(failed.items()))
        raise EnvironmentFault(f"none of {len(failed)} things can publish: {name}: {reason}", hint=hint)


def _publish(
    schedules: list[ThingSchedule],
    devices: Mapping[str, Device],
    request: SimulationRequest,
    *,
    topic_of: Callable[[Message], str],
    on_progress: Callable[[int, int], None],
) -> None:
    total = sum(schedule.samples for schedule in schedules)
    for sent, message in enumerate(_in_time(schedules, request.duration_s), start=1):
        devices[message.thing.name].publish(topic_of(message), message)
        on_progress(sent, total)


def _in_time(schedules: list[ThingSchedule], duration_s: float) -> Iterator[Message]:
    """Yield the messages of all things, each when it is due; a thing's messages keep their order."""

    def timed(position: int, schedule: ThingSchedule) -> Iterator[tuple[float, int, int, Message]]:
        step_s = duration_s / schedule.samples
        for number, message in enumerate(schedule.messages()):
            offset_s = step_s * (message.sequence + position / len(schedules))
            yield offset_s, position, number, message

    started = time.monotonic()
    streams = [timed(position, schedule) for position, schedule in enumerate(schedules)]
    for offset_s, _position, _number, message in heapq.merge(*streams, key=lambda entry: entry[:3]):
        time.sleep(max(0.0, started + offset_s - time.monotonic()))
        yield message


def _wait_answers(devices: Mapping[str, Device], failed: dict[str, str]) -> None:
    """Wait for every answer; devices that get none, such as one that was revoked meanwhile, are added to `failed`."""
    patience = Patience(_ANSWER_TIMEOUT_S)
    while True:
        waiting = {name: count for name, device in devices.items() if (count := device.outstanding())}
        if not waiting:
            return
        if patience.is_over(waiting):
            break
        time.sleep(0.05)
    if len(waiting) == len(devices):
        raise EnvironmentFault(
            f"{sum(waiting.values())} publishes are open, and the broker has answered none for "
            f"{_ANSWER_TIMEOUT_S:.0f} s",
            hint="lower --rate, and see the broker's log",
        )
    failed |= {name: f"the broker did not answer {count} publishes" for name, count in waiting.items()}


def _plan(request: SimulationRequest, chosen: list[tuple[Thing, DeviceTypeSpec]]) -> list[ThingSchedule]:
    """Plan each thing's messages; with a rate, each sends its share of it, at the pace of its own clock."""
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
    """Return the function from a message to its topic; `basic_ingest`'s share uses the facility's rule directly."""
    rules = {facility.id: suffixed(facility.topic_rule, project.environment_suffix) for facility in request.facilities}

    def topic(message: Message) -> str:
        thing = message.thing
        plain = telemetry_topic(project.fleet.application, thing.facility, thing.device_type, thing.name)
        if (message.sequence * 0.618034) % 1.0 < request.basic_ingest:
            return basic_ingest_topic(rules[thing.facility], plain)
        return plain

    return topic
