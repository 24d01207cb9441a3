"""Simulate devices: real MQTT over mutual TLS, believable signals, and the exact truth of what was sent."""

from __future__ import annotations

import heapq
import json
import os
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from itertools import cycle, zip_longest
from pathlib import Path
from typing import Any, Literal

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError, RequestError
from fleet_iot.generator.naming import basic_ingest_topic, telemetry_topic
from fleet_iot.lib.specs import DeviceTypeSpec, FacilitySpec, suffixed
from fleet_iot.operations.aws import Aws, Broker, reporting_aws_errors
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.progress import Patience
from fleet_iot.operations.project import Project, Thing
from fleet_iot.operations.rehearsal.signals import (
    BURST,
    BURSTS_S,
    FAULTS,
    HISTORY_S,
    HISTORY_SAMPLES,
    Injection,
    plan_fault,
    plan_injection,
    poison_payload,
    read_recording,
    samples_of,
    with_history,
)

# Plan a simulation: which things publish what, and when.


def choose_things(
    project: Project, facilities: tuple[FacilitySpec, ...], count: int | None
) -> list[tuple[Thing, DeviceTypeSpec]]:
    """Choose `count` things (None: all) with their types, one of each facility and device type in turn."""
    types = {device_type.id: device_type for device_type in project.fleet.device_types}
    queues: dict[tuple[str, str], list[Thing]] = {}
    for facility in facilities:
        for thing in project.things(facility):
            queue = queues.setdefault((thing.facility, thing.device_type), [])
            if count is None or len(queue) < count:
                queue.append(thing)
    in_turn = [thing for row in zip_longest(*queues.values()) for thing in row if thing is not None]
    return [(thing, types[thing.device_type]) for thing in in_turn[:count]]


MOST_HISTORIES, MOST_OF_TYPE = 6, 2
"""Things that send a history before they publish nothing else, and those of one device type."""


def choose_histories(chosen: Sequence[tuple[Thing, DeviceTypeSpec]]) -> list[tuple[Thing, DeviceTypeSpec]]:
    """Choose the things that send a history, one of each device type at first: half of all at most."""
    known: Counter[str] = Counter()
    ranked = []
    for thing, device_type in chosen:
        learned = with_history(device_type)
        if learned is not None and known[device_type.id] < MOST_OF_TYPE:
            ranked.append((known[device_type.id], thing, learned))
            known[device_type.id] += 1
    ranked.sort(key=lambda each: each[0])
    return [(thing, learned) for _, thing, learned in ranked[: min(MOST_HISTORIES, len(chosen) // 2)]]


WARM_UP_SAMPLES = 130
"""Samples before an anomaly within the limits: the adaptive detector does not score its first 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One publish. `kind` is `reading`, `poison` or `repeat` (the same bytes again); `metrics` is the truth.

    `rest` are the other readings of an array.
    """

    thing: Thing
    kind: str
    poison: str | None
    time_ms: int
    sequence: int
    metrics: Mapping[str, float]
    payload: bytes
    rest: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One injected anomaly, for `detector` to find; times are those of the device's clock, ms since the epoch."""

    thing: str
    metric: str
    detector: str
    within_limits: bool
    first_ms: int
    last_ms: int
    interval_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """Shares (0–1) of things with an anomaly, and of messages that are poison or repeated."""

    anomalies: float
    poison: float
    repeats: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingSchedule:
    """One thing's whole run; `array` is the number of readings in a message.

    Readings are an interval apart; with `bursts_ms`, so many ms after its begin the next burst begins.
    """

    thing: Thing
    device_type: DeviceTypeSpec
    seed: int
    first_ms: int
    interval_ms: int
    samples: int
    injection: Injection | None
    dose: Dose
    recording: tuple[Mapping[str, float], ...] = ()
    array: int = 1
    bursts_ms: int | None = None

    def time_of(self, sequence: int) -> int:
        """Return the time (ms) of a reading."""
        if self.bursts_ms is None:
            return self.first_ms + sequence * self.interval_ms
        burst, place = divmod(sequence, BURST)
        return self.first_ms + burst * self.bursts_ms + place * self.interval_ms

    def anomaly(self) -> Anomaly | None:
        """Return the injected anomaly, by the device's clock."""
        if self.injection is None:
            return None
        return Anomaly(
            thing=self.thing.name,
            metric=self.injection.metric,
            detector=self.injection.detector,
            within_limits=self.injection.within_limits,
            first_ms=self.time_of(self.injection.first),
            last_ms=self.time_of(self.injection.last),
            interval_ms=self.interval_ms,
        )

    def messages(self) -> Iterator[Message]:
        """Generate the messages in the order of sending; the same schedule gives the same bytes."""
        signal: Iterator[Mapping[str, float]]
        if self.recording:
            signal = cycle(self.recording)
        else:
            rng = _rng(self.seed, self.thing.name, "signal")
            signal = samples_of(self.device_type, rng=rng, injection=self.injection)
        chance = _rng(self.seed, self.thing.name, "chance")
        poisoned = chance.randrange(1_000)
        for first in range(0, self.samples, self.array):
            readings = [
                _reading(self.thing, self.time_of(sequence), sequence, next(signal))
                for sequence in range(first, min(first + self.array, self.samples))
            ]
            reading = readings[0] if self.array == 1 else _array(readings)
            sequence, time_ms = reading.sequence, reading.time_ms
            yield reading
            if chance.random() < self.dose.repeats:
                yield replace(reading, kind="repeat")
            if chance.random() < self.dose.poison:
                kind, payload = poison_payload(poisoned, time_ms)
                poisoned += 1
                yield Message(
                    thing=self.thing,
                    kind="poison",
                    poison=kind,
                    time_ms=time_ms,
                    sequence=sequence,
                    metrics={},
                    payload=payload,
                )


def schedules(
    things: list[tuple[Thing, DeviceTypeSpec]],
    *,
    seed: int,
    samples: Callable[[DeviceTypeSpec], int],
    end_ms: int,
    dose: Dose,
) -> list[ThingSchedule]:
    """Plan a schedule for each thing: `samples` readings, the last at `end_ms`, a sample interval apart.

    Every second anomaly stays within the limits; things get theirs in a seeded order.
    """
    order = list(range(len(things)))
    _rng(seed, "fleet", "anomalies").shuffle(order)
    chosen = {index: rank for rank, index in enumerate(order[: round(dose.anomalies * len(things))])}
    result = []
    for index, (thing, device_type) in enumerate(things):
        interval_ms = max(1, round(device_type.sample_interval_s * 1000))
        injection, count = None, samples(device_type)
        if index in chosen:
            injection = plan_injection(
                device_type,
                rng=_rng(seed, thing.name, "injection"),
                samples=count,
                warm_up=WARM_UP_SAMPLES,
                within_limits=chosen[index] % 2 == 0,
            )
        result.append(
            ThingSchedule(
                thing=thing,
                device_type=device_type,
                seed=seed,
                first_ms=end_ms - (count - 1) * interval_ms,
                interval_ms=interval_ms,
                samples=count,
                injection=injection,
                dose=dose,
            )
        )
    return result


HISTORY_ARRAY = 120
"""Readings of a message of a history."""


def histories(
    things: Sequence[tuple[Thing, DeviceTypeSpec]], *, seed: int, end_ms: int, dose: Dose
) -> list[ThingSchedule]:
    """Plan the history of each thing until `end_ms`, of a week in which it is learned and a day with a fault."""
    bursts_ms = BURSTS_S * 1000
    first_ms = end_ms - HISTORY_SAMPLES // BURST * bursts_ms
    return [
        ThingSchedule(
            thing=thing,
            device_type=device_type,
            seed=seed,
            first_ms=first_ms - first_ms % 60_000,
            interval_ms=round(device_type.sample_interval_s * 1000),
            samples=HISTORY_SAMPLES,
            injection=plan_fault(device_type, rng=_rng(seed, thing.name, "fault"), kind=kind) if kind else None,
            dose=dose,
            array=HISTORY_ARRAY,
            bursts_ms=bursts_ms,
        )
        for (thing, device_type), kind in zip(things, cycle(FAULTS), strict=False)
    ]


def _array(readings: Sequence[Message]) -> Message:
    payload = b"[" + b",".join(reading.payload for reading in readings) + b"]"
    return replace(readings[0], payload=payload, rest=tuple(readings[1:]))


def _reading(thing: Thing, time_ms: int, sequence: int, metrics: Mapping[str, float]) -> Message:
    payload = json.dumps({"time": time_ms, "sequence": sequence, "metrics": dict(metrics)}).encode()
    return Message(
        thing=thing,
        kind="reading",
        poison=None,
        time_ms=time_ms,
        sequence=sequence,
        metrics=metrics,
        payload=payload,
    )


def _rng(seed: int, *parts: str) -> random.Random:
    return random.Random(":".join((str(seed), *parts)))  # noqa: S311 - signals, not secrets


# Connect one simulated device: its certificate and key, TLS and MQTT 5.

# DescribeCertificate allows 10 a second in an account by default.
_THREADS = 4


_SETTLING_S = (0.0, 1.0, 2.0)
"""Pauses before reading certificates: AWS IoT lists an attachment some seconds after it was made."""


def certificates(iot: Any, things: Sequence[Thing], keys: Mapping[str, ec.EllipticCurvePrivateKey]) -> dict[str, str]:
    """Read the active certificates (PEM) of things from AWS IoT, by thing name; things without one are left out.

    Of a thing that is being rotated it is the one of its key, so that the device is seen with it.
    """

    def certificate(thing: Thing) -> str | None:
        active: list[str] = []
        try:
            principals = iot.list_thing_principals(thingName=thing.name)["principals"]
        except iot.exceptions.ResourceNotFoundException:
            return None
        for principal in principals:
            described = iot.describe_certificate(certificateId=principal.rpartition("/")[2])["certificateDescription"]
            if described["status"] == "ACTIVE":
                active.append(str(described["certificatePem"]))
        key = keys[thing.name].public_key() if thing.name in keys else None
        own = (pem for pem in active if x509.load_pem_x509_certificate(pem.encode()).public_key() == key)
        return next(own, active[0] if active else None)

    found: dict[str, str] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for pause in _SETTLING_S:
            missing = [thing for thing in things if thing.name not in found]
            if not missing:
                break
            time.sleep(pause)
            read = zip(missing, pool.map(certificate, missing), strict=True)
            found |= {thing.name: pem for thing, pem in read if pem is not None}
    return found


def private_keys(store: KeyStore, things: Sequence[Thing]) -> dict[str, ec.EllipticCurvePrivateKey]:
    """Read the private keys of things from the key store, by thing name; things without one are left out."""
    keys: dict[str, ec.EllipticCurvePrivateKey] = {}
    for facility in sorted({thing.facility for thing in things}):
        keys |= store.keys(facility, {thing.name for thing in things if thing.facility == facility})
    return keys


def tls_context(broker: Broker, *, certificate: str, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    """Build a TLS 1.2+ client context; the key goes through an anonymous memory file, never through a disk."""
    presented = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    if presented != key.public_key():
        raise EnvironmentFault(
            "a certificate in AWS IoT and the key in the store do not belong together",
            hint="rotate the device, or restore its key",
        )
    context = ssl.create_default_context(cafile=str(broker.ca_file) if broker.ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    load_identity(context, certificate.encode() + pem)
    return context


def load_identity(context: ssl.SSLContext, pem: bytes) -> None:
    """Load certificate and key from PEM in memory, which `ssl` can read only from a path."""
    descriptor = os.memfd_create("identity")
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


_KEEPALIVE_S = 60
_IN_FLIGHT = 50
# PUBACK reason codes below 0x80 are successes (MQTT 5, 3.4.2.1); 0x87 is "not authorized".
_FIRST_FAILURE = 0x80


class Device:
    """A connected thing. `on_answer` is called for every accepted or refused publish, from paho's thread."""

    def __init__(
        self, client_id: str, *, broker: Broker, context: ssl.SSLContext, on_answer: Callable[[Message, bool], None]
    ) -> None:
        self.refusal: str | None = None
        self._on_answer = on_answer
        self.broker = broker
        self._connected = threading.Event()
        self._pending: dict[int, Message] = {}
        self._early: dict[int, bool] = {}
        self._lock = threading.Lock()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
        self._client.tls_set_context(context)
        self._client.max_inflight_messages_set(_IN_FLIGHT)
        self._client.on_connect = self._handle_connect
        self._client.on_publish = self._handle_publish

    def connect(self) -> None:
        """Start to connect; `wait_connected` waits for the answer. Raises OSError, ssl.SSLError."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho types all but this
        # The session outlives a dropped socket, so that what was not acknowledged is sent again.
        properties.SessionExpiryInterval = 300
        self._client.connect(self.broker.host, self.broker.port, _KEEPALIVE_S, clean_start=True, properties=properties)
        self._client.loop_start()

    def wait_connected(self, timeout_s: float) -> bool:
        """Return whether the broker accepted the connection within `timeout_s` seconds."""
        return self._connected.wait(timeout_s) and self.refusal is None

    def publish(self, topic: str, message: Message) -> None:
        """Publish at QoS 1."""
        # Not under the lock: paho calls back under its own, so each would wait for the other.
        mid = self._client.publish(topic, message.payload, qos=1).mid
        with self._lock:
            is_accepted = self._early.pop(mid, None)
            if is_accepted is None:
                self._pending[mid] = message
        if is_accepted is not None:
            self._on_answer(message, is_accepted)

    def outstanding(self) -> int:
        """Count the publishes that the broker has not answered yet."""
        with self._lock:
            return len(self._pending)

    def close(self) -> None:
        """Disconnect and end the device's thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def _handle_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.refusal = str(reason)
        self._connected.set()

    def _handle_publish(self, _client: Any, _userdata: Any, mid: int, reason: Any, _properties: Any) -> None:
        is_accepted = reason.value < _FIRST_FAILURE
        with self._lock:
            message = self._pending.pop(mid, None)
            if message is None:  # faster than `publish` could note it
                self._early[mid] = is_accepted
        if message is not None:
            self._on_answer(message, is_accepted)


# Run a simulation: connect the things, publish their schedules, and record the truth.

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
            self.accepted[message.kind] += 1 + len(message.rest)
            self.things.add(message.thing.name)
            for each in (message, *message.rest):
                self._write(
                    {
                        "line": each.kind,
                        "thing": each.thing.name,
                        "facility": each.thing.facility,
                        "device_type": each.thing.device_type,
                        "time": each.time_ms,
                        "sequence": each.sequence,
                        "metrics": each.metrics,
                        "poison": each.poison,
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
    """A request to simulate; `rate` is messages a second (None: each thing at its own sample interval).

    Of a demo's things, some send a `history`, and those that are left run `live`.
    """

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
    part: Literal["all", "history", "live"] = "all"

    def choose(self, project: Project) -> list[tuple[Thing, DeviceTypeSpec]]:
        """Choose the things that publish, with their types as they play them.

        Those of a history have its metrics only; what runs live has no reading older than is accepted.
        """
        chosen = choose_things(project, self.facilities, self.things)
        if self.part == "all":
            return chosen
        learned = choose_histories(chosen)
        names = {thing.name for thing, _ in learned}
        if self.part == "history":
            return learned
        live = [each for each in chosen if each[0].name not in names]
        most_s = HISTORY_S / share_of(self.rate or 0, self.duration_s, max(1, len(live)))
        return [(thing, replace(each, sample_interval_s=min(each.sample_interval_s, most_s))) for thing, each in live]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The messages that the broker acknowledged: distinct readings, poison, repeats, and the number of their things.

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
    chosen = request.choose(project)
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
        pems = certificates(aws.client("iot"), things, keys)
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
    sent = 0
    for message in _in_time(schedules, request.duration_s):
        devices[message.thing.name].publish(topic_of(message), message)
        sent += 1 + len(message.rest)
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


def share_of(rate: float, duration_s: float, things: int) -> int:
    """Return the readings that each of so many things sends at a rate of all together."""
    return max(1, round(rate * duration_s / things))


def _plan(request: SimulationRequest, chosen: list[tuple[Thing, DeviceTypeSpec]]) -> list[ThingSchedule]:
    """Plan each thing's messages; with a rate, each sends its share of it, at the pace of its own clock."""
    if request.part == "history":
        return histories(chosen, seed=request.seed, end_ms=request.now_ms, dose=request.dose)
    rate = request.rate

    def samples(device_type: DeviceTypeSpec) -> int:
        if rate is None:
            return max(1, round(request.duration_s / device_type.sample_interval_s))
        return share_of(rate, request.duration_s, len(chosen))

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
