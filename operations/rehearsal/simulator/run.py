"""Run a simulation: connect the things, publish their schedules, and record the truth."""

from __future__ import annotations

import heapq
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError
from fleet_iot.generator.naming import basic_ingest_topic, telemetry_topic
from fleet_iot.lib.specs import DeviceTypeSpec, FacilitySpec, suffixed
from fleet_iot.operations.local.aws import LocalAws, load
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.progress import Patience
from fleet_iot.operations.project import Project, Thing
from fleet_iot.operations.rehearsal.simulator.device import Broker, Device, certificates, private_keys, tls_context
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
    """Appends to the truth from many device threads and counts what it wrote."""

    def __init__(self, path: Path, *, run: dict[str, Any], anomalies: Iterable[Anomaly]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")
        self._fault: OSError | None = None
        self._lock = threading.Lock()
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.things: set[str] = set()
        self._write({"line": "run", **run})
        for anomaly in anomalies:
            self._write({"line": "anomaly", **asdict(anomaly)})

    def answered(self, message: Message, is_accepted: bool) -> None:
        """Note the broker's answer to one publish."""
        with self._lock:
            if not is_accepted:
                self.refused[message.kind] += 1
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
        """Flush and close the file. Raises OSError, with its path, where the disk did not take all of it."""
        try:
            self._file.close()
        except OSError as error:
            self._fault = self._fault or error
        if self._fault is not None:
            raise OSError(self._fault.errno, self._fault.strerror, self._file.name) from self._fault

    def _write(self, line: dict[str, Any]) -> None:
        # In a thread of the MQTT client nobody would see it: devices go on, and `close` says it.
        try:
            self._file.write(json.dumps(line) + "\n")
        except OSError as error:
            self._fault = self._fault or error


def read_truth(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a truth file, `line` telling their kind; numbers keep every digit that was sent (Decimal)."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line, parse_float=Decimal)


_CONNECT_THREADS = 8
_CONNECT_TIMEOUT_S = 30.0
_ANSWER_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the broker acknowledged: distinct readings, poison and repeats, and the things they came from."""

    things: int
    readings: int
    poison: int
    repeats: int
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a thing connects with."""

    certificate: str
    key: ec.EllipticCurvePrivateKey


def simulate(
    schedules: list[ThingSchedule],
    *,
    broker: Broker,
    identities: Mapping[str, Identity],
    topic_of: Callable[[Message], str],
    duration_s: float,
    truth: TruthFile,
    on_progress: Callable[[int], None],
) -> Outcome:
    """Publish every schedule's messages spread over `duration_s` seconds and wait for the broker's answers.

    `on_progress` gets the number of messages sent so far. Raises EnvironmentFault where a thing cannot
    connect or an answer does not come; every connection is closed in any case.
    """
    devices = {
        schedule.thing.name: Device(
            schedule.thing.name,
            broker=broker,
            context=tls_context(
                broker,
                certificate=identities[schedule.thing.name].certificate,
                key=identities[schedule.thing.name].key,
            ),
            on_answer=truth.answered,
        )
        for schedule in schedules
    }
    try:
        _connect_all(devices, broker)
        started = time.monotonic()
        for sent, (offset_s, message) in enumerate(_in_time(schedules, duration_s), start=1):
            wait_s = started + offset_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            devices[message.thing.name].publish(topic_of(message), message)
            on_progress(sent)
        _wait_answers(devices)
    finally:
        for device in devices.values():
            device.close()
        truth.close()
    return Outcome(
        things=len(truth.things),
        readings=truth.accepted["reading"],
        poison=truth.accepted["poison"],
        repeats=truth.accepted["repeat"],
        refused=truth.refused.total(),
    )


def _in_time(schedules: list[ThingSchedule], duration_s: float) -> Iterator[tuple[float, Message]]:
    """(seconds from the start, message) of all things, in order; a thing's messages keep theirs."""

    def timed(position: int, schedule: ThingSchedule) -> Iterator[tuple[float, int, int, Message]]:
        step_s = duration_s / schedule.samples
        for number, message in enumerate(schedule.messages()):
            offset_s = step_s * (message.sequence + position / len(schedules))
            yield offset_s, position, number, message

    streams = [timed(position, schedule) for position, schedule in enumerate(schedules)]
    for offset_s, _position, _number, message in heapq.merge(*streams, key=lambda entry: entry[:3]):
        yield offset_s, message


def _connect_all(devices: Mapping[str, Device], broker: Broker) -> None:
    def connect(device: Device) -> str | None:
        try:
            device.connect()
        except OSError as error:  # refused, unreachable, or TLS (ssl.SSLError is an OSError)
            return f"{device.client_id} cannot reach {broker.host}:{broker.port}: {error}"
        if not device.wait_connected(_CONNECT_TIMEOUT_S):
            return f"{broker.host}:{broker.port} does not let {device.client_id} in: {device.refusal or 'no answer'}"
        return None

    with ThreadPoolExecutor(_CONNECT_THREADS) as pool:
        faults = [fault for fault in pool.map(connect, devices.values()) if fault]
    if faults:
        more = f" (and {len(faults) - 1} more things)" if len(faults) > 1 else ""
        raise EnvironmentFault(
            faults[0] + more, hint="check that the facility is applied and that the things' certificates are active"
        )


def _wait_answers(devices: Mapping[str, Device]) -> None:
    patience = Patience(_ANSWER_TIMEOUT_S)
    while True:
        outstanding = sum(device.outstanding() for device in devices.values())
        if not outstanding:
            return
        if patience.is_over(outstanding):
            raise EnvironmentFault(
                f"{outstanding} publishes are open, and the broker has answered none for {_ANSWER_TIMEOUT_S:.0f} s",
                hint="lower --rate, and see the broker's log",
            )
        time.sleep(0.05)


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


_MQTT_PORT = 8883


def local_target(folder: Path) -> Target:
    """The local AWS in `folder`. Raises EnvironmentFault where none is up."""
    return target_of(load(folder))


def target_of(local: LocalAws) -> Target:
    """A local AWS that is known already."""
    broker = Broker(host=local.mqtt_host, port=local.mqtt_port, ca_file=local.mqtt_authority)
    return Target(broker=broker, iot=local.client("iot"))


def aws_target() -> Target:
    """AWS itself, with the credentials and region of the environment."""
    try:
        iot = boto3.client("iot")
        host = iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
    except (BotoCoreError, ClientError) as error:
        raise EnvironmentFault(
            f"AWS IoT does not tell its endpoint: {error}", hint="check AWS_REGION and the credentials"
        ) from None
    return Target(broker=Broker(host=host, port=_MQTT_PORT, ca_file=None), iot=iot)
