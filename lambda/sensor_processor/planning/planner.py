"""Plans."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from ..detection import BEGIN, DeviceDetectors, Finding, StateError, excursion_of, limits_finding
from ..ingest.catalogue import Catalogue, Metric
from ..ingest.reading import Reading
from ..numbers.minute import MINUTE_MS, Added, Minute, minute_of
from ..numbers.period import Level, OpenHour, Part, PeriodKey, Rollup, hour_of
from .chunk import Chunk, Tally, size_of, size_of_device, size_of_minute, size_of_period
from .device_cache import Memory
from .items import Device, Item, Retention, Text, device_item, event_item, minute_item, period_item, text_of
from .notice import OUTBOX, notice_of

# @@ The chunk that readings are being put into, and whether another one still fits.

CHUNK_ITEMS = 90
"""Items of one device in a transaction, below DynamoDB's 100 for a call."""

CHUNK_BYTES = 1_000_000
"""Bytes of one device's items in a transaction, well below DynamoDB's 4 MB for a call."""

FEW_MINUTES = 15
"""With the hours and days that they may end, they leave room for a reading's anomalies in a chunk."""

MAX_FINDINGS = 40
"""Anomalies of one reading; a message with more metrics out of order than this says nothing new with the rest."""


class OpenChunk(msgspec.Struct):
    """What was taken since the last chunk: all `readings`, and of them those that are `fresh` or had no room."""

    readings: list[Reading] = []
    overflow: list[Reading] = []
    fresh: list[Reading] = []
    touched: dict[int, Minute] = {}
    anomalies: dict[str, Item] = {}
    notices: list[str] = []
    tally: Tally = msgspec.field(default_factory=Tally)

    def takes(self, reading: Reading, minute: Minute, *, metrics: int) -> bool:
        """Whether what the reading may make fits in, too; its device type has so many metrics."""
        touched, is_other = self.touched, minute.start not in self.touched
        # Whatever a reading makes fits into a chunk that has little in it yet.
        if not touched or not (is_other or self.anomalies or len(touched) > FEW_MINUTES):
            return True
        periods = 2 * len({hour_of(start) for start in (minute.start, *touched)}) + 2
        items = 1 + len(touched) + len(self.anomalies) + is_other + periods
        if items + min(4 * len(reading.metrics) + 4, MAX_FINDINGS) > CHUNK_ITEMS:
            return False
        if not is_other:
            return True
        size = periods * size_of_period(metrics)
        size += sum([size_of_minute(of, metrics) for of in (*touched.values(), minute)])
        return size <= CHUNK_BYTES


# @@ How a device moves on by readings: its item one version on, and static limits for those that come out of
# @@ order.


def advanced(
    before: Device | None,
    readings: Sequence[Reading],
    *,
    messages: int,
    detectors: DeviceDetectors,
    outbox: tuple[str, ...] = (),
) -> Device:
    """The device after `readings`, which are in order, one version on."""
    contacts = [reading.envelope.received_at for reading in readings]
    last_contact = max(contacts)
    # Of messages that arrived in one millisecond, the last one: readings come in order.
    who = readings[len(contacts) - 1 - contacts[::-1].index(last_contact)].envelope
    last_sequence = detectors.newest[1]
    # Who it is follows the message that arrived last.
    is_overtaken = before is not None and last_contact < before.last_contact
    return Device(
        name=who.thing,
        facility=before.facility if before and is_overtaken else who.facility,
        device_type=before.device_type if before and is_overtaken else who.device_type,
        certificate_id=before.certificate_id if before and is_overtaken else who.principal,
        first_contact=min(contacts) if before is None else min(before.first_contact, *contacts),
        last_contact=last_contact if before is None else max(before.last_contact, last_contact),
        newest_reading=_newest_reading(before, readings),
        version=1 if before is None else before.version + 1,
        messages=messages if before is None else before.messages + messages,
        last_sequence=last_sequence if last_sequence >= 0 else None if before is None else before.last_sequence,
        detectors=detectors.pack(),
        outbox=outbox,
    )


def _newest_reading(before: Device | None, readings: Sequence[Reading]) -> int | None:
    """The newest device time (ms); None where the device was there before anybody noted it."""
    newest = readings[-1].time
    if before is None:
        return newest
    return None if before.newest_reading is None else max(before.newest_reading, newest)


def straggler_findings(reading: Reading, *, metrics: Mapping[str, Metric], minute: Minute) -> list[Finding]:
    """Static limits for a reading older than the newest: one anomaly a minute, metric and side."""
    findings = []
    for name, value in reading.metrics.items():
        metric = metrics.get(name)
        side = excursion_of(metric, value) if metric is not None else 0
        if metric is None or not side:
            continue
        seen = minute.metrics.get(name)
        if seen is not None and excursion_of(metric, seen.max if side > 0 else seen.min) == side:
            continue
        findings.append(limits_finding(metric, value, late_at=reading.time))
    return findings


# @@ Folds a device's readings, in order, into chunks: its minutes, detectors, hours and days as they go on.

_time = attrgetter("time")


class Planner:
    """Folds ordered readings into minutes and detectors, and closes a chunk where a transaction would be full."""

    def __init__(
        self,
        name: str,
        *,
        device: Device | None,
        minutes: dict[int, Minute],
        parts: Mapping[PeriodKey, Mapping[int, Part]],
        open_hour: OpenHour | None,
        detectors: DeviceDetectors,
        catalogue: Catalogue,
        retention: Retention,
    ) -> None:
        self.chunks: list[Chunk] = []
        self.device = device
        self.notices: list[str] = [] if device is None else list(device.outbox)
        self._minutes = minutes
        self.rollup = Rollup(
            name,
            before=None if device is None else device.newest_reading,
            parts=parts,
            minutes=minutes,
            open_hour=open_hour,
        )
        self._detectors = detectors
        self._catalogue = catalogue
        self._retention = retention
        self._open = OpenChunk()

    def take(self, readings: Sequence[Reading]) -> None:
        """Folds readings in, which come in order."""
        at = 0
        while at < len(readings):
            minute = self._minute(readings[at])
            end = minute.start + MINUTE_MS
            to = len(readings) if readings[-1].time < end else bisect_left(readings, end, at, key=_time)
            self._make_room(readings[at], minute)
            at += self._take_new(readings[at:to], minute)
            for reading in readings[at:to]:
                self._make_room(reading, minute)
                self._take_one(reading, minute)
            at = to

    def _minute(self, reading: Reading) -> Minute:
        start = minute_of(reading.time)
        minute = self._minutes.get(start)
        if minute is None:
            minute = self._minutes[start] = Minute(device=reading.envelope.thing, start=start)
        return minute

    def _make_room(self, reading: Reading, minute: Minute) -> None:
        metrics = self._catalogue.device_types[reading.envelope.device_type]
        if not self._open.takes(reading, minute, metrics=len(metrics)):
            self.close()

    def _take_new(self, readings: Sequence[Reading], minute: Minute) -> int:
        """Takes new readings of one minute, up to the first in which something is found; how many it took.

        0 where one of them is not new or comes out of order, or the chunk has little room: each is looked at by itself.
        """
        chunk, detectors = self._open, self._detectors
        if chunk.anomalies or len(chunk.touched) >= FEW_MINUTES or readings[0].order < detectors.newest:
            return 0
        if not minute.are_new(readings):
            return 0
        learn, device_types = detectors.learn, self._catalogue.device_types
        findings: list[Finding] = []
        for number, reading in enumerate(readings, 1):
            findings = learn(reading.order, reading.metrics, metrics=device_types[reading.envelope.device_type])
            if findings:
                readings = readings[:number]
                break
        minute.add_new(readings)
        chunk.readings += readings
        chunk.fresh += readings
        chunk.touched[minute.start] = minute
        if findings:
            self._note(reading, findings)
        return len(readings)

    def _take_one(self, reading: Reading, minute: Minute) -> None:
        chunk, detectors = self._open, self._detectors
        metrics = self._catalogue.device_types[reading.envelope.device_type]
        is_in_order = reading.order >= detectors.newest
        # Asked before the reading is counted in: a minute that shows an excursion already needs no second anomaly.
        findings = [] if is_in_order else self._stragglers(reading, minute)
        added = minute.add(reading)
        chunk.readings.append(reading)
        if added is Added.NEW:
            chunk.touched[minute.start] = minute
            chunk.fresh.append(reading)
            if is_in_order:
                findings = detectors.learn(reading.order, reading.metrics, metrics=metrics)
            if findings:
                self._note(reading, findings)
        elif added is Added.FULL:
            chunk.overflow.append(reading)
        elif added is Added.DUPLICATE:
            chunk.tally.duplicates += 1
        else:
            chunk.tally.conflicts += 1
            chunk.touched[minute.start] = minute

    def _stragglers(self, reading: Reading, minute: Minute) -> list[Finding]:
        self._settle(minute)
        metrics = self._catalogue.device_types[reading.envelope.device_type]
        return straggler_findings(reading, metrics=metrics, minute=minute)

    def _settle(self, minute: Minute) -> None:
        settled = minute.settle(self._catalogue.device_types)
        self.rollup.count(minute, settled)
        self._open.tally.late += settled.late
        self._open.tally.unknown_metrics += settled.unknown

    def _note(self, reading: Reading, findings: Sequence[Finding]) -> None:
        for finding in findings[:MAX_FINDINGS]:
            told: dict[str, Any] = {
                "device": reading.envelope.thing,
                "facility": reading.envelope.facility,
                "device_type": reading.envelope.device_type,
                "time": reading.time,
                "retention_days": self._retention.anomalies,
            }
            item = event_item(finding, **told)
            # By key: two readings of one millisecond may find the same, and a transaction takes a key once.
            if item["bucket"]["S"] not in self._open.anomalies:
                self._open.anomalies[item["bucket"]["S"]] = item
                self._open.tally.anomalies += finding.kind == BEGIN
                unit = self._catalogue.device_types[reading.envelope.device_type][finding.metric].unit
                self._open.notices.append(notice_of(item, kind=finding.kind, unit=unit))

    def close(self) -> None:
        """Makes a chunk of what was taken since the last one."""
        for minute in self._open.touched.values():
            self._settle(minute)
        taken, self._open = self._open, OpenChunk()
        if not taken.readings:
            return
        last = taken.readings[-1].envelope
        before = self.device
        item = None
        items: list[Text] = []
        size = 0
        taken.tally.processed = len(taken.fresh)
        if taken.touched:
            self.notices += taken.notices
            self.device = advanced(
                before,
                taken.fresh or taken.readings,
                messages=taken.tally.processed,
                detectors=self._detectors,
                outbox=tuple(self.notices[-OUTBOX:]),
            )
            item = device_item(self.device)
            periods = self._periods(before, self.device, taken.touched)
            size = size_of_device(self.device)
            for minute in taken.touched.values():
                items.append(minute_item(minute, retention_days=self._retention.minutes))
                size += size_of_minute(minute, len(minute.metrics))
            for other in (*periods, *taken.anomalies.values()):
                items.append(text_of(other))
                size += size_of(other)
        self.chunks.append(
            Chunk(
                device=last.thing,
                facility=last.facility,
                device_type=last.device_type,
                expected_version=None if before is None else before.version,
                device_item=item,
                items=tuple(items),
                size=size,
                readings=tuple(taken.readings),
                overflow=tuple(taken.overflow),
                tally=taken.tally,
            )
        )

    def _periods(self, before: Device | None, device: Device, touched: Collection[int]) -> list[Item]:
        """The items of hours and days that end or change."""
        if device.newest_reading is None:
            return []
        periods = self.rollup.periods(
            before=None if before is None else before.newest_reading, newest=device.newest_reading, touched=touched
        )
        days = {Level.HOUR: self._retention.hours, Level.DAY: self._retention.days}
        return [period_item(period, retention_days=days[period.level]) for period in periods]


# @@ What a device's readings change: successive transactions, each moving the device's version on by one.
# @@
# @@ The device item is the lock: whoever writes any item of a device also moves its version on, on the condition
# @@ that it is the one that was read before the minutes were. So a plan either takes effect whole or not at all.


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A device's chunks, to be written in this order, and the device as it is after them.

    `lost_state` says why learned state was not taken over; `notices` are to be published once all is written.
    """

    chunks: tuple[Chunk, ...]
    device: Device | None
    lost_state: str | None
    notices: tuple[str, ...]
    open_hour: OpenHour | None


def plan_device(
    *,
    device: Device | None,
    minutes: Mapping[int, Minute],
    parts: Mapping[PeriodKey, Mapping[int, Part]],
    open_hour: OpenHour | None,
    readings: Sequence[Reading],
    catalogue: Catalogue,
    retention: Retention,
    memory: Memory,
) -> Plan:
    """The plan for `readings` of one device, given what the tables hold; `minutes` by start, changed in place.

    `parts` are those of the hours and days that the readings end or change; `open_hour`, where it is known, is that of
    the device's newest reading, changed in place.
    """
    # Stable: readings of one place stay in the stream's order, in which they come.
    ordered = sorted(readings, key=_order)
    device_type = ordered[-1].envelope.device_type
    lost_state = None
    detectors = DeviceDetectors()
    if device is not None:
        try:
            detectors = memory.take_detectors(device, device_type, metrics=catalogue.device_types[device_type])
        except StateError as error:
            lost_state = str(error)
    planner = Planner(
        ordered[-1].envelope.thing,
        device=device,
        minutes=dict(minutes),
        parts=parts,
        open_hour=open_hour,
        detectors=detectors,
        catalogue=catalogue,
        retention=retention,
    )
    planner.take(ordered)
    planner.close()
    if planner.device is not None and (lost_state is None or planner.device is not device):
        memory.keep_detectors(planner.device, device_type, detectors)
    newest = None if planner.device is None else planner.device.newest_reading
    return Plan(
        chunks=tuple(planner.chunks),
        device=planner.device,
        lost_state=lost_state,
        notices=tuple(planner.notices),
        open_hour=None if newest is None else planner.rollup.open_hour(newest),
    )


_order = attrgetter("order")
