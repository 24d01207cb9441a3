"""Count what a reading costs in AWS's units: the real handler on tables and buckets in memory, in simulated time.

A fleet of three plants and five device types sends over four shards to four execution environments, of which a random
one handles each batch, as Lambda ties no shard to an environment; now and then one of them starts anew.
"""

from __future__ import annotations

import base64
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from random import Random
from statistics import median
from typing import Any

import boto3

from benchmarks import processor, readings
from benchmarks.aws import Units, new_units
from benchmarks.aws.dynamodb import DynamoDb
from benchmarks.aws.s3 import S3
from benchmarks.aws.server import counted, running_server
from benchmarks.aws.sns import Sns
from benchmarks.function import BUCKETS, REGION, TABLES, TOPIC, Clients, Clock, Context, environment, new_process
from benchmarks.kinesis import even_ranges, hash_key
from benchmarks.result import Result, peak_memory_mb
from fleet_iot.operations.local.event_source import EventSource, Invoke, SourceSettings, StreamRecord, kinesis_event
from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.planning.items import binary, iso
from fleet_iot.sensor_processor.planning.plant import event_key, unpack_plant

DEVICES = 1_000
SHARDS = 4
"""Of a new on-demand stream, and the most that are simulated of a larger one."""

BATCH_RECORDS, WINDOW_S = 2_000, 5.0
"""Of the event source mapping, as it is deployed."""

SHARD_RECORDS = 800
"""Records a second for which another shard is planned; 1,000 and 1 MB are the limits."""

INTERVALS = {"1s": 1, "10s": 10, "60s": 60}
"""Seconds between two readings of a device."""

MINUTES = {"1s": 1, "10s": 4, "60s": 12}
"""Simulated minutes that are measured, before the end of an hour, which is measured apart."""

LEARN_S = 600
"""Before that, each device sends so long every ten seconds, in windows of a minute, so that its state has a size."""

PAUSE_S = 120
"""Between that and the measured intervals, for all of it to be handled."""

HOUR_END = 3
"""Minutes from the end of an hour in which what it costs is done."""

SWEEP_S = 60
"""Of the schedule of sweeps, as it is deployed."""

COLD = 1 / 200
"""Share of the invocations that meet a new process: with four shards, one in four minutes."""

EXCURSION_S = 3_600
"""Each device passes a limit with one reading in so long: two events, its begin and its end."""

HOUR_ENDS = 1_795_446_000.0
"""2026-11-23T15:00:00Z, the end of the hour that is simulated."""

FACILITIES = ("sg-01", "my-jb-01", "th-ry-01")
DEVICE_TYPES = ("press-monitor", "compressor", "conveyor", "boiler", "cnc-spindle")
CATALOGUE = {
    "application": "mfg",
    "device_types": dict.fromkeys(DEVICE_TYPES, readings.CATALOGUE["device_types"]["press-monitor"]),  # type: ignore[index]
}
"""Four metrics each, three of them with the context detector."""

STREAM = "arn:aws:kinesis:ap-southeast-1:000000000000:stream/stream-telemetry-dev"
SEQUENCE = 49_600_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000
PEER_READINGS = 500
COUNTED = ("write_units", "read_units", "s3_puts", "s3_gets")
CALLS = (
    *("GetItem", "PutItem", "UpdateItem", "Query", "BatchGetItem", "BatchWriteItem", "TransactWriteItems"),
    *("s3_puts", "s3_gets"),
)

GRACE_S = 120.0
"""A minute that is not complete so long after its end is counted as incomplete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A device: when it sends, as a share of its interval, and on which shard."""

    number: int
    thing: str
    facility: str
    device_type: str
    phase: float
    shard: int

    def record(self, time: float, sequence: int, *, number: int, is_over: bool) -> StreamRecord:
        """Make the stream's record of a reading, which passes a limit if `is_over`."""
        metrics = readings.values_of(sequence // 10, self.number)
        if is_over:
            metrics["temperature"] += 30.0
        payload = readings.payload_of(round(time * 1000), sequence, metrics)
        return self.record_of(payload, arrived=time + 0.05, number=number)

    def record_of(self, payload: bytes, *, arrived: float, number: int) -> StreamRecord:
        """Make the stream's record of a payload."""
        envelope = {
            "raw": base64.b64encode(payload).decode(),
            "facility": self.facility,
            "device_type": self.device_type,
            "thing": self.thing,
            "client_id": self.thing,
            "principal": f"{self.number + 1:064x}",
            "received_at": round(arrived * 1000) - 10,
            "trace_id": f"1b7f6b0c-0000-4000-8000-{self.number:012d}",
        }
        data = json.dumps(envelope, separators=(",", ":")).encode()
        return StreamRecord(sequence=str(number), partition_key=self.thing, data=data, arrived=arrived)


def shards_for(devices: int, interval_s: int) -> int:
    """Return the shards of such a fleet: a power of two, four at least."""
    return max(SHARDS, 1 << (math.ceil(devices / interval_s / SHARD_RECORDS) - 1).bit_length())


def senders(devices: int, *, shards: int, dice: Random) -> list[Sender]:
    """Return the devices that send to the first shards of a stream, at most `SHARDS` of them."""
    ranges = even_ranges(shards)
    found = []
    for number in range(devices):
        facility, device_type = FACILITIES[number % 3], DEVICE_TYPES[number // 3 % 5]
        thing = f"{facility}-{device_type}-{number + 1:06d}-dev"
        key = hash_key(thing)
        shard = next(place for place, each in enumerate(ranges) if key in each)
        phase = dice.random()
        if shard < SHARDS:
            found.append(
                Sender(number=number, thing=thing, facility=facility, device_type=device_type, phase=phase, shard=shard)
            )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counts up to a moment."""

    units: Mapping[str, float]
    readings: int
    invocations: int

    def since(self, before: Counts) -> Counts:
        """Return the difference."""
        return Counts(
            units={name: value - before.units.get(name, 0) for name, value in self.units.items()},
            readings=self.readings - before.readings,
            invocations=self.invocations - before.invocations,
        )


@dataclass(kw_only=True)
class Watch:
    """When events were published, by themselves or in a flood's message, and minutes became complete in the table.

    `told_s` are seconds since an event's reading arrived in the stream, `waited_s` since the event source read it,
    which it does once a second.
    """

    clock: Clock
    over: dict[tuple[str, int], float] = field(default_factory=dict)
    sent: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    stored: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    told_s: list[float] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)

    def clear(self) -> None:
        """Forget what was seen."""
        for each in (self.over, self.sent, self.stored, self.told_s, self.waited_s):
            each.clear()

    def published(self, message: str) -> None:
        """Note when the begin of an event was told that a single reading makes."""
        notice = json.loads(message)
        if notice["kind"] == "begin" and notice["detector"].startswith("limits"):
            self._notified((notice["thing"], _milliseconds(notice["began_at"])))

    def _notified(self, event: tuple[str, int]) -> None:
        arrived = self.over.pop(event, None)
        if arrived is not None:
            self.told_s.append(self.clock.now - arrived)
            self.waited_s.append(self.clock.now - math.ceil(arrived))

    def written(self, table: str, item: Mapping[str, Any]) -> None:
        """Note when a minute got messages, and when a plant counted events in a flood."""
        if "state" in item:
            on = {key for flood in unpack_plant(binary(item["state"])).floods for key in flood.on}
            for thing, time in list(self.over):
                if event_key(thing, f"anomaly#{iso(time)}#temperature#limits") in on:
                    self._notified((thing, time))
        if "bucket" not in item or not item["bucket"]["S"].startswith("minute#"):
            return
        place = item["device"]["S"], item["bucket"]["S"].split("#")[1]
        messages = int(item["messages"]["N"])
        if messages > self.stored.get(place, (0, 0.0))[0]:
            self.stored[place] = messages, self.clock.now

    def incomplete(self) -> int:
        """Return how many minutes that are over lack messages in the table."""
        return sum(
            self.stored.get(place, (0, 0.0))[0] != messages
            for place, messages in self.sent.items()
            if _milliseconds(place[1]) / 1000 + 60 < self.clock.now - GRACE_S
        )

    def readable_s(self) -> list[float]:
        """Return the seconds from the end of each minute to the write that completed it, of those that are over."""
        return [
            self.stored[place][1] - end
            for place, messages in self.sent.items()
            if (end := _milliseconds(place[1]) / 1000 + 60) < self.clock.now - GRACE_S
            and self.stored.get(place, (0, 0.0))[0] == messages
        ]


def _milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


class Simulation:
    """A fleet on its stream, second by second."""

    def __init__(self, *, devices: int, interval_s: int, start: float, seed: int) -> None:
        self.dice = Random(f"{seed}:{interval_s}:units")  # noqa: S311 - the same for the same seed
        self.clock = Clock(now=start)
        self.watch = Watch(clock=self.clock)
        self.units: Units = new_units()
        self.readings = self.invocations = self.cold = 0
        self.shards = shards_for(devices, interval_s)
        self._clients = Clients(
            dynamodb=DynamoDb(TABLES, units=self.units),
            s3=S3(buckets=BUCKETS, units=self.units),
            sns=Sns(units=self.units),
        )
        self._clients.dynamodb.written = self.watch.written
        self._clients.sns.published = self.watch.published
        self.senders = senders(devices, shards=self.shards, dice=self.dice)
        self._environments = [self._process() for _ in range(self.shards)]

    def begin(self, *, interval_s: int, window_s: float = WINDOW_S) -> None:
        """Let the devices send at such an interval from now on, and batches gather for so long."""
        self._interval_s = interval_s
        self._due: dict[int, list[Sender]] = defaultdict(list)
        for sender in self.senders:
            self._due[int(sender.phase * interval_s)].append(sender)
        mapping = SourceSettings(batch_size=BATCH_RECORDS, window_s=window_s, bisects=True, reports_items=True)
        self._sources = [EventSource(mapping) for _ in range(SHARDS)]
        # Each shard's windows begin at a time of their own.
        self._opens = [self.clock.now + self.dice.randrange(int(window_s)) for _ in self._sources]
        self._unread: list[list[StreamRecord]] = [[] for _ in self._sources]

    def run(self, until: float) -> Counts:
        """Let time pass; return the counts at its end."""
        while self.clock.now < until:
            second = int(self.clock.now)
            for sender in self._due[second % self._interval_s]:
                self._unread[sender.shard].append(self._send(sender, second))
            self._handle(second + 1.0)
        return Counts(units=dict(self.units), readings=self.readings, invocations=self.invocations)

    def finish(self) -> None:
        """Handle all that was sent."""
        while any(self._unread) or not all(source.is_idle for source in self._sources):
            self._handle(int(self.clock.now) + 1.0)

    def _handle(self, now: float) -> None:
        self.clock.now = now
        if now % SWEEP_S == 0:
            handler.respond(self._environment(), {"sweep": True}, Context())
        for place, source in enumerate(self._sources):
            if now >= self._opens[place]:
                source.receive(self._unread[place], now=now)
                self._unread[place] = []
            while isinstance(action := source.next_action(now=self.clock.now), Invoke):
                source.answered(self._invoke(place, action.records), now=self.clock.now)

    def _process(self) -> handler.Runtime:
        return new_process(self._clients, dice=self.dice, clock=self.clock, sleep=self.clock.sleep)

    def _send(self, sender: Sender, second: int) -> StreamRecord:
        time = second + sender.phase * self._interval_s % 1
        is_over = self.dice.random() < self._interval_s / EXCURSION_S
        self.readings += 1
        record = sender.record(time, second, number=SEQUENCE + self.readings, is_over=is_over)
        milliseconds = round(time * 1000)
        if is_over:
            self.watch.over[sender.thing, milliseconds] = record.arrived
        self.watch.sent[sender.thing, _minute(milliseconds)] += 1
        return record

    def _invoke(self, shard: int, records: tuple[StreamRecord, ...]) -> Any:
        self.invocations += 1
        event = kinesis_event(records, shard=f"shardId-{shard:012d}", stream_arn=STREAM, role_arn="", region=REGION)
        return handler.respond(self._environment(), event, Context())

    def _environment(self) -> handler.Runtime:
        place = self.dice.randrange(len(self._environments))
        if self.dice.random() < COLD:
            self.cold += 1
            self._environments[place] = self._process()
        return self._environments[place]


def _minute(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds // 60_000 * 60, UTC).strftime("%Y-%m-%dT%H:%MZ")


def measure(name: str, *, devices: int, minutes: int | None, seed: int) -> dict[str, Any]:
    """Measure one interval: ordinary minutes, and what the end of an hour costs more, spread over the hour."""
    interval_s, minutes = INTERVALS[name], minutes or MINUTES[name]
    warm = HOUR_ENDS - 60 * minutes - max(60, 2 * interval_s)
    with environment(CATALOGUE, ANOMALY_TOPIC_ARN=TOPIC, LANES=str(shards_for(devices, interval_s))):
        start = warm - LEARN_S - PAUSE_S
        simulation = Simulation(devices=devices, interval_s=interval_s, start=start, seed=seed)
        simulation.begin(interval_s=10, window_s=60.0)
        simulation.run(warm - PAUSE_S)
        simulation.finish()
        simulation.watch.clear()
        simulation.clock.now = warm
        simulation.begin(interval_s=interval_s)
        before = simulation.run(HOUR_ENDS - 60 * minutes)
        at_hour = simulation.run(HOUR_ENDS)
        at_end = simulation.run(HOUR_ENDS + 60 * HOUR_END).since(at_hour)
    ordinary = at_hour.since(before)
    hour = ordinary.readings / minutes * 60

    def a_reading(unit: str) -> float:
        steady = ordinary.units.get(unit, 0) / ordinary.readings
        return steady + (at_end.units.get(unit, 0) - steady * at_end.readings) / hour

    watch = simulation.watch
    return {
        **{unit: round(a_reading(unit), 4) for unit in COUNTED},
        "s3_puts_1000_readings": round(1_000 * a_reading("s3_puts"), 2),
        "hour_end_write_units_a_device": round(
            (at_end.units["write_units"] - a_reading("write_units") * at_end.readings) / len(simulation.senders), 2
        ),
        "readings": ordinary.readings,
        "shards": simulation.shards,
        "invocations": simulation.invocations,
        "cold": simulation.cold,
        "calls_a_batch": round(sum(ordinary.units.get(call, 0) for call in CALLS) / ordinary.invocations, 2),
        "event_told_s": _percentiles(watch.told_s),
        "event_told_windows": _percentiles([seconds / WINDOW_S for seconds in watch.waited_s]),
        "minute_readable_s": _percentiles(watch.readable_s()),
        "minutes_incomplete": watch.incomplete(),
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the maximum, by the nearest rank."""
    if not values:
        return {}
    ordered = sorted(values)
    ranks = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[math.ceil(rank * len(ordered)) - 1], 2) for name, rank in ranks.items()}


def measure_peers(readings: int) -> dict[str, float]:
    """Return the write units a reading of handlers that put each reading as an item, on the same tables."""
    dice = Random(1)  # noqa: S311 - the simulation's dice
    fleet = senders(readings, shards=SHARDS, dice=dice)
    records = tuple(
        each.record(HOUR_ENDS + 10 * each.phase, 1, number=SEQUENCE + each.number, is_over=False) for each in fleet
    )
    event = kinesis_event(records, shard="shardId-000000000000", stream_arn=STREAM, role_arn="", region=REGION)
    found = {}
    for name, peer in (("put_item", processor.PutItem), ("batch_writer", processor.Powertools)):
        tables = {processor.PEER_TABLE: ("device", "bucket")}
        with running_server(tables) as address, environment(CATALOGUE, AWS_ENDPOINT_URL=address):
            answer = peer(boto3.session.Session()).handle(event)
            counts = counted(address)
        if answer["batchItemFailures"] or counts[processor.PEER_TABLE] != len(records):
            raise AssertionError(f"{name} stored {counts[processor.PEER_TABLE]} of {len(records)} readings")
        found[name] = counts["units"]["write_units"] / len(records)
    return found


def run(
    rounds: int, *, devices: int = DEVICES, minutes: int | None = None, peer_readings: int = PEER_READINGS
) -> Result:
    """Measure each interval with as many seeds as `rounds`; rates are readings a write unit, at ten seconds."""
    tasks = [(name, seed) for name in ("10s", "1s", "60s") for seed in range(1, rounds + 1)]
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        given = [
            (name, pool.submit(measure, name, devices=devices, minutes=minutes, seed=seed)) for name, seed in tasks
        ]
        peers = measure_peers(peer_readings)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in INTERVALS}
        for name, future in given:
            found[name].append(future.result())
    details: dict[str, Any] = {
        name: {**rounds_of[0], **{unit: round(median(each[unit] for each in rounds_of), 4) for unit in COUNTED}}
        for name, rounds_of in found.items()
    }
    return Result(
        benchmark="units",
        unit="readings a write unit at 10 s",
        ours=1 / details["10s"]["write_units"],
        peers={name: 1 / units for name, units in peers.items()},
        limit=60 / INTERVALS["10s"],
        peak_memory_mb=peak_memory_mb(),
        details={
            **details,
            "peers": {name: {"write_units": round(units, 4)} for name, units in peers.items()},
            "devices": devices,
            "window_s": WINDOW_S,
            "metrics": 4,
            "rounds": rounds,
            "limit": "one item of at most 1 kB a device and minute, put once",
        },
    )
