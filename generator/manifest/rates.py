"""The load of a fleet, by the second: what its devices send, and what the sensor processor makes of it.

Rules hold it against AWS's quotas, and `fleet_iot.generator.cost` multiplies it by prices. Nothing here is measured at
run time: the constants of the processor are below, and `python -m benchmarks units` measures what follows from them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from fleet_iot.generator import naming
from fleet_iot.generator.manifest.models import (
    MONTH_DAYS,
    DeviceType,
    FleetManifest,
    budget_of,
    has_former_detector,
)
from fleet_iot.lib.specs import WINDOW_S

# Constants of the sensor processor and of the services around it.

BATCH_RECORDS = 2000
"""Records of a batch, at most; `BATCH_SIZE` of the event source mapping."""
MEMORIES_MB, OTHER_MB = (1_024, 2_048, 3_008), 768
"""Memory of the function, by the devices' states; and what all else needs."""
PACKED_BYTES = (500, 1_200)
"""Packed state of a device, and of each of its metrics."""
STREAM_HOURS = 168
"""Retention of the stream; `RETENTION_HOURS` of the telemetry stream."""
EVENT_BYTES = 6_000_000
"""Payload of an invocation: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
EVENT_OVERHEAD = 480
"""Bytes of a record in an invocation's payload, besides its data in base64."""

LEAST_SHARDS, SHARD_RECORDS, SHARD_MEGABYTES, HEADROOM = 4, 1_000, 1.0, 2
"""An on-demand stream has four shards at first, and then room for twice its peak of the last 30 days:
https://docs.aws.amazon.com/streams/latest/dev/how-do-i-size-a-stream.html"""

LEAST_LANES = 4
LANE_READINGS, LANE_DEVICES = 500, 10_000
"""Readings a second and devices for which another lane is planned: no fewer lanes than shards."""
CHAIN = 13
"""Objects of a lane's chain: each commit writes one, with the devices that it changed or, the first, with all."""
SWEEP_S = 60
"""Seconds from one sweep to the next: it reads every lane."""
METADATA_S = 900
"""A device's metadata are written at most every 15 minutes, each device at a time of its own."""
RECENT_MINUTES = 3
"""Minutes of a device that are kept in its state after they ended; `RECENT` of the processor."""
STATE_DAYS = 31
"""Days that state objects are kept: thirty, and a day as deleted ones."""

UNIT_BYTES = 1024
"""Of a write unit; a read unit is four of these: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html"""
ITEM_BYTES = 105
"""A minute's item without metrics and ids: keys, times, counts. Measured: 538 bytes with 4 metrics and 6 readings."""
MINUTE_METRIC_BYTES, HOUR_METRIC_BYTES = 79, 114
"""A metric in the item of a minute, and of an hour or day, in addition to its name; sketches included."""
MOST_IN_ARRAY = 10
"""Readings of one message, where devices send arrays; the processor takes up to a thousand."""
ID_BYTES = 13
"""The id of a reading in its minute's item."""
STATE_BYTES, MACHINE_BYTES, DETECTOR_BYTES = 300, 1_000, 480
"""A device in a lane's state, compressed: its counters, and each of its metrics with machine or another detector."""
_STATES = {"limits": 0, "machine": MACHINE_BYTES}

TROUBLES_A_DEVICE_MONTH = 1
"""True anomalies of a device; the false ones are those of its budget."""
FORMER_EVENTS_A_DEVICE_MONTH = 600
"""Anomalies of a device with a detector that keeps no budget: 79 to 227 a week with context, depending on how the
machine works."""
READINGS_AN_EVENT = 10
"""Of a slow device, at least: a day has too few readings for so many anomalies."""
NOTICES_AN_EVENT, WRITES_AN_EVENT = 2, 3
"""Its begin and its end, each an item and a notification; the begin is in the index of open anomalies as well."""
RECONNECTS_A_DEVICE_DAY = 1
"""Each is two presence events, which are archived."""

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
BYTES_PER_MEGABYTE = 1_000_000
PART_BYTES = 5 * 1024
"""AWS IoT meters messages and rules by 5 kB: https://aws.amazon.com/iot-core/pricing/additional-details/"""
RECORD_UNIT = 1024
"""Kinesis meters records by 1 kB: https://aws.amazon.com/kinesis/data-streams/pricing/"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The devices of one type, in plants whose names are as long: how many, and how often they send what.

    Args:
        name_bytes: Names of all metrics together.
        detector_bytes: State of the detectors of a device, compressed.
        events_a_month: Anomalies of a device in a month.
        reading_bytes: A message with one reading, without its topic.
        topic_bytes: The topic of a message.
        envelope_bytes: A record without its payload, with its partition key.
    """

    device_type: str
    devices: int
    interval_s: float
    metrics: int
    name_bytes: int
    detector_bytes: int
    events_a_month: float
    reading_bytes: int
    topic_bytes: int
    envelope_bytes: int

    @property
    def readings(self) -> float:
        """Readings a second."""
        return self.devices / self.interval_s

    @property
    def minutes(self) -> float:
        """Minutes with a reading that end, a second."""
        return self.devices / max(MINUTE_S, self.interval_s)

    @property
    def minute_bytes(self) -> float:
        """Bytes of a minute's item at its end."""
        ids = ID_BYTES * max(1.0, MINUTE_S / self.interval_s)
        return ITEM_BYTES + MINUTE_METRIC_BYTES * self.metrics + self.name_bytes + ids

    @property
    def minute_units(self) -> int:
        """Write units of a minute."""
        return math.ceil(self.minute_bytes / UNIT_BYTES)

    @property
    def hour_bytes(self) -> float:
        """Bytes of an hour's item, and of a day's."""
        return ITEM_BYTES + HOUR_METRIC_BYTES * self.metrics + self.name_bytes

    @property
    def state_bytes(self) -> float:
        """Bytes of a device in its lane's state, with its open minute."""
        return STATE_BYTES + self.detector_bytes + self.minute_bytes

    def readings_a_message(self, array_s: float) -> int:
        """Readings of a message that has those of `array_s` seconds; 0 for single ones."""
        return max(1, min(MOST_IN_ARRAY, int(array_s // self.interval_s)))

    def payload_bytes(self, readings: int) -> int:
        """Bytes of a message with so many readings: an array from the second on."""
        return self.reading_bytes if readings == 1 else (self.reading_bytes + 1) * readings + 1

    def message_bytes(self, readings: int) -> int:
        """Bytes that AWS IoT meters: payload and topic."""
        return self.payload_bytes(readings) + self.topic_bytes

    def record_bytes(self, readings: int) -> int:
        """Bytes of the record that the topic rule makes of a message: its payload is in base64."""
        return self.envelope_bytes + -(-self.payload_bytes(readings) // 3 * 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Load of a fleet, and of the processor that it causes; rates are by the second, of all groups together.

    What depends on time is in the methods of a group and in `windows`, `sweeps`, `reconnects` and `events`: the load of
    a run (`generator/cost/measured.py`) counts these, and has all other formulas from here.

    Args:
        window_s: Seconds for a batch to fill.
        array_s: Devices send the readings of so many seconds in one message; 0 for each by itself.
    """

    groups: tuple[Group, ...]
    window_s: float = WINDOW_S
    array_s: float = 0

    @property
    def devices(self) -> int:
        """Devices that are connected."""
        return sum(group.devices for group in self.groups)

    @property
    def readings(self) -> float:
        """Readings."""
        return self._sum(self.readings_of)

    @property
    def messages(self) -> float:
        """Messages, each of which is a record of the stream."""
        return self._of_messages(lambda group, readings: 1)

    @property
    def message_parts(self) -> float:
        """Messages as AWS IoT meters them: by 5 kB."""
        return self._of_messages(lambda group, readings: math.ceil(group.message_bytes(readings) / PART_BYTES))

    @property
    def megabytes(self) -> float:
        """Megabytes that the stream takes."""
        return self._of_messages(Group.record_bytes) / BYTES_PER_MEGABYTE

    @property
    def metered_bytes(self) -> float:
        """Bytes that the stream bills: each record up to the next kB."""
        units = self._of_messages(lambda group, readings: math.ceil(group.record_bytes(readings) / RECORD_UNIT))
        return units * RECORD_UNIT

    @property
    def shards(self) -> int:
        """Shards that an on-demand stream grows to under this load."""
        needed = HEADROOM * max(self.messages / SHARD_RECORDS, self.megabytes / SHARD_MEGABYTES)
        return max(LEAST_SHARDS, math.ceil(round(needed, 6)))

    @property
    def lanes(self) -> int:
        """Lanes of the processor: a power of two, as the platform is deployed with."""
        needed = max(LEAST_LANES, math.ceil(self.readings / LANE_READINGS), math.ceil(self.devices / LANE_DEVICES))
        return 1 << (needed - 1).bit_length()

    @property
    def memory_gb(self) -> float:
        """Memory of the function."""
        of_device, of_metric = PACKED_BYTES
        states = self._sum(lambda group: group.devices * (of_device + of_metric * group.metrics))
        wanted = OTHER_MB + states / BYTES_PER_MEGABYTE
        return next((each for each in MEMORIES_MB if each >= wanted), MEMORIES_MB[-1]) / 1024

    @property
    def most_records(self) -> float:
        """Records that a batch has room for, by number and by bytes of its event."""
        if not self.messages:
            return BATCH_RECORDS
        data = self.megabytes * BYTES_PER_MEGABYTE / self.messages
        return min(BATCH_RECORDS, EVENT_BYTES / (data * 4 / 3 + EVENT_OVERHEAD))

    @property
    def batches(self) -> float:
        """Batches: one a window and shard, more where they are full, fewer where there are fewer records."""
        a_shard = self.messages / self.shards
        return self.shards * min(a_shard, max(self.windows, a_shard / self.most_records))

    @property
    def windows(self) -> float:
        """Windows of a shard."""
        return 1 / self.window_s

    @property
    def records_a_batch(self) -> float:
        """Records of a batch."""
        return self.messages / self.batches if self.batches else 0.0

    @property
    def commits(self) -> float:
        """Commits: one for each lane that a batch touches; a shard has the records of as many lanes as it spans."""
        of_shard = max(1.0, self.lanes / self.shards)
        touched: float = of_shard * (1 - (1 - 1 / of_shard) ** self.records_a_batch)
        return self.batches * touched

    @property
    def acknowledged(self) -> float:
        """The share of commits that are acknowledged by a second write, as something follows from them.

        Minutes end in those of one sample interval, and in the batch after it; metadata go with a minute.
        """
        if not self.readings:
            return 0.0
        ending = self._sum(
            lambda group: (
                self.readings_of(group) * min(MINUTE_S, min(group.interval_s, MINUTE_S) + self.batch_s_of(group))
            )
        )
        return ending / self.readings / MINUTE_S

    @property
    def batch_s(self) -> float:
        """Seconds between two batches of a shard."""
        return self.shards / self.batches if self.batches else self.window_s

    @property
    def minute_writes(self) -> float:
        """Write units of minutes."""
        return self._sum(lambda group: self.ended(group, MINUTE_S) * group.minute_units)

    @property
    def rollup_writes(self) -> float:
        """Write units of hours and days."""
        return self._sum(
            lambda group: (
                (self.ended(group, HOUR_S) + self.ended(group, DAY_S)) * math.ceil(group.hour_bytes / UNIT_BYTES)
            )
        )

    @property
    def metadata_writes(self) -> float:
        """Write units of devices' metadata."""
        return self._sum(self.described)

    @property
    def pointer_writes(self) -> float:
        """Write units of lanes: each commit moves the pointer, and some are acknowledged."""
        return self.commits * (1 + self.acknowledged)

    @property
    def events(self) -> float:
        """Anomalies."""
        month_s = MONTH_DAYS * DAY_S
        return self._sum(
            lambda group: min(group.devices * group.events_a_month / month_s, group.readings / READINGS_AN_EVENT)
        )

    @property
    def reconnects(self) -> float:
        """Times that devices connect again."""
        return self.devices * RECONNECTS_A_DEVICE_DAY / DAY_S

    @property
    def sweeps(self) -> float:
        """Sweeps of all lanes."""
        return 1 / SWEEP_S

    @property
    def writes(self) -> float:
        """Write units of readings, without those of anomalies."""
        return self.minute_writes + self.rollup_writes + self.metadata_writes + self.pointer_writes

    @property
    def reads(self) -> float:
        """Read units: one consistent read of the lane for each commit, and of all lanes for each sweep."""
        return self.commits + self.lanes * self.sweeps

    @property
    def state_puts(self) -> float:
        """State objects written."""
        return self.commits

    @property
    def state_gets(self) -> float:
        """State objects read: what the other environments, as many as shards, have written since, or a chain's half."""
        return self.commits * min(self.shards - 1, CHAIN / 2)

    @property
    def state_megabytes(self) -> float:
        """Megabytes of state written: the devices that a commit changes, or all of its lane."""
        if not self.commits:
            return 0.0
        size = self._sum(lambda group: group.devices * group.state_bytes) / self.devices
        every = self.devices / self.lanes
        changed = min(self.readings / self.commits, every)
        return self.commits * size * (changed + (every - changed) / CHAIN) / BYTES_PER_MEGABYTE

    @property
    def peak_writes(self) -> float:
        """Write units in the second when most minutes end: spread over a sample interval, or a batch."""
        ends = self._sum(lambda group: group.devices * group.minute_units / max(group.interval_s, self.batch_s))
        return ends + self.pointer_writes + self.metadata_writes

    def readings_of(self, group: Group) -> float:
        """Return the readings of a group."""
        return group.readings

    def readings_a_message(self, group: Group) -> int:
        """Return the readings of one message of a group."""
        return group.readings_a_message(self.array_s)

    def messages_of(self, group: Group, readings: int) -> float:
        """Return the messages of a group, each with so many readings."""
        return self.readings_of(group) / readings

    def ended(self, group: Group, seconds: int) -> float:
        """Return the minutes, hours or days, by their seconds, of a group's devices that have readings and end."""
        return group.devices / max(seconds, group.interval_s)

    def described(self, group: Group) -> float:
        """Return how often the metadata of a group's devices are written."""
        return group.devices / max(METADATA_S, group.interval_s)

    def batch_s_of(self, group: Group) -> float:
        """Return the seconds between two batches, by the clock of a group's devices."""
        return self.batch_s

    def _sum(self, value: Callable[[Group], float]) -> float:
        return sum(value(group) for group in self.groups)

    def _of_messages(self, value: Callable[[Group, int], float]) -> float:
        """Sum up a value of messages, given their group and the readings in each."""
        counts = [(group, self.readings_a_message(group)) for group in self.groups]
        return sum(self.messages_of(group, readings) * value(group, readings) for group, readings in counts)


def expected_load(manifest: FleetManifest, facilities: Iterable[str] | None = None) -> Load:
    """Estimate the load: every thing sends one reading per sample interval of its type.

    Args:
        facilities: Ids of the plants to count; None for all.
    """
    chosen = manifest.facilities if facilities is None else facilities
    things = [(id_, type_id, each.count) for id_ in chosen for type_id, each in manifest.facilities[id_].things.items()]
    return load_of(manifest, things)


def load_of(manifest: FleetManifest, things: Iterable[tuple[str, str, int]]) -> Load:
    """Return the load of things, given by facility, device type and number."""
    groups: dict[tuple[int, str], Group] = {}
    for id_, type_id, count in things:
        device_type = manifest.device_types.get(type_id)
        if device_type is None:
            continue
        kind = (len(id_), type_id)  # ids are ASCII: of the facility's, its length is all that counts
        group = groups.get(kind) or _group(manifest.application, id_, type_id, device_type)
        groups[kind] = replace(group, devices=group.devices + count)
    return Load(groups=tuple(groups.values()), window_s=manifest.processor.window_s)


def _group(application: str, facility: str, type_id: str, device_type: DeviceType) -> Group:
    """Make an empty group; its sizes are those of a message, and of the record that the topic rule makes."""
    thing = f"{naming.thing_name(facility, type_id, 1)}-{'s' * naming.SUFFIX_MAX_LENGTH}"
    message = {"time": 10**12, "sequence": 10**6, "metrics": dict.fromkeys(device_type.metrics, 1234.567)}
    envelope = {
        "raw": "",
        "facility": facility,
        "device_type": type_id,
        "thing": thing,
        "client_id": thing,
        "principal": "f" * 64,
        "received_at": 10**12,
        "trace_id": "0" * 36,
    }
    return Group(
        device_type=type_id,
        devices=0,
        interval_s=device_type.sample_interval_s,
        metrics=len(device_type.metrics),
        name_bytes=sum(map(len, device_type.metrics)),
        detector_bytes=sum(_STATES.get(metric.detector, DETECTOR_BYTES) for metric in device_type.metrics.values()),
        events_a_month=TROUBLES_A_DEVICE_MONTH
        + budget_of(device_type)
        + FORMER_EVENTS_A_DEVICE_MONTH * has_former_detector(device_type),
        reading_bytes=_size(message),
        topic_bytes=len(f"dt/{application}/{facility}/{type_id}/{thing}/telemetry"),
        envelope_bytes=_size(envelope) + len(thing),
    )


def _size(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":")))
