"""Folds a device's readings, in order, into chunks: its minutes, detectors, hours and days as they go on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

from ..detection import BEGIN, DeviceDetectors, Finding
from ..ingest.catalogue import Catalogue
from ..ingest.reading import Reading
from ..numbers.minute import MINUTE_MS, Added, Minute, minute_of
from ..numbers.open_hour import OpenHour
from ..numbers.period import Level, Part, PeriodKey
from ..numbers.rollup import Rollup
from .attributes import Item, Text, text_of
from .chunk import Chunk
from .history_items import period_item
from .items import Device, device_item, event_item, minute_item
from .notice import OUTBOX, notice_of
from .open_chunk import FEW_MINUTES, MAX_FINDINGS, OpenChunk
from .progress import advanced, straggler_findings
from .retention import Retention
from .sizes import size_of, size_of_device, size_of_minute

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
