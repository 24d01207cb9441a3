"""What a device's readings change: successive transactions, each moving the device's version on by one.

The device item is the lock: whoever writes any item of a device also moves its version on, on the condition that it
is the one that was read before the minutes were. So a plan either takes effect whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from sensor_processor.aggregate import Added, Minute, minute_of
from sensor_processor.catalogue import Catalogue
from sensor_processor.chunk import Chunk, Tally
from sensor_processor.detection import BEGIN, DeviceDetectors, Finding, StateError
from sensor_processor.items import Device, Item, device_item, event_item, minute_item, size_of
from sensor_processor.memory import Memory
from sensor_processor.notice import OUTBOX, notice_of
from sensor_processor.progress import advanced, straggler_findings
from sensor_processor.reading import Reading

CHUNK_ITEMS = 90
"""Items of one device in a transaction, below DynamoDB's 100 for a call."""

CHUNK_BYTES = 1_000_000
"""Bytes of one device's items in a transaction, well below DynamoDB's 4 MB for a call."""

DEVICE_BYTES = 1_000
"""A device item without its detectors and its outbox is smaller: a name, three ids, three times and three numbers."""

MAX_FINDINGS = 40
"""Anomalies of one reading; a message with more metrics out of order than this says nothing new with the rest."""


@dataclass(slots=True)
class _Open:
    """The chunk that readings are being put into."""

    readings: list[Reading] = field(default_factory=list)
    overflow: list[Reading] = field(default_factory=list)
    fresh: list[Reading] = field(default_factory=list)
    touched: dict[int, Minute] = field(default_factory=dict)
    anomalies: dict[str, Item] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A device's chunks, to be written in this order, and the device as it is after them.

    `lost_state` says why learned state was not taken over; `notices` are to be published once all is written.
    """

    chunks: tuple[Chunk, ...]
    device: Device | None
    lost_state: str | None
    notices: tuple[str, ...]


def plan_device(
    *,
    device: Device | None,
    minutes: Mapping[int, Minute],
    readings: Sequence[Reading],
    catalogue: Catalogue,
    retention_days: int,
    memory: Memory,
) -> Plan:
    """The plan for `readings` of one device, given what the tables hold; `minutes` by start, changed in place."""
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
    planner = _Planner(
        device=device, minutes=dict(minutes), detectors=detectors, catalogue=catalogue, retention_days=retention_days
    )
    planner.take(ordered)
    planner.close()
    if planner.device is not None and (lost_state is None or planner.device is not device):
        memory.keep_detectors(planner.device, device_type, detectors)
    return Plan(
        chunks=tuple(planner.chunks), device=planner.device, lost_state=lost_state, notices=tuple(planner.notices)
    )


_order = attrgetter("order")


class _Planner:
    """Folds ordered readings into minutes and detectors, and closes a chunk where a transaction would be full."""

    def __init__(
        self,
        *,
        device: Device | None,
        minutes: dict[int, Minute],
        detectors: DeviceDetectors,
        catalogue: Catalogue,
        retention_days: int,
    ) -> None:
        self.chunks: list[Chunk] = []
        self.device = device
        self.notices: list[str] = [] if device is None else list(device.outbox)
        self._minutes = minutes
        self._detectors = detectors
        self._catalogue = catalogue
        self._retention_days = retention_days
        self._open = _Open()

    def take(self, readings: Sequence[Reading]) -> None:
        """Folds readings in, which come in order."""
        detectors, device_types = self._detectors, self._catalogue.device_types
        for reading in readings:
            start = minute_of(reading.time)
            minute = self._minutes.get(start)
            if minute is None:
                minute = self._minutes[start] = Minute(device=reading.envelope.thing, start=start)
            chunk = self._open
            if start not in chunk.touched or chunk.anomalies or len(chunk.touched) > CHUNK_ITEMS // 2:
                self._make_room(reading, start=start, minute=minute)
                chunk = self._open
            metrics = device_types[reading.envelope.device_type]
            is_in_order = reading.order >= detectors.newest
            # Asked before the reading is counted in: a minute that shows an excursion already needs no second anomaly.
            stragglers = [] if is_in_order else straggler_findings(reading, metrics=metrics, minute=minute)
            added = minute.add(reading, known=metrics)
            chunk.readings.append(reading)
            if added is Added.NEW:
                chunk.touched[start] = minute
                chunk.fresh.append(reading)
                findings = (
                    detectors.learn(reading.order, reading.metrics, metrics=metrics) if is_in_order else stragglers
                )
                if findings:
                    self._note(reading, findings)
            elif added is Added.FULL:
                chunk.overflow.append(reading)
            elif added is Added.DUPLICATE:
                chunk.tally.duplicates += 1
            else:
                chunk.tally.conflicts += 1
                chunk.touched[start] = minute

    def _note(self, reading: Reading, findings: Sequence[Finding]) -> None:
        for finding in findings[:MAX_FINDINGS]:
            told: dict[str, Any] = {
                "device": reading.envelope.thing,
                "facility": reading.envelope.facility,
                "device_type": reading.envelope.device_type,
                "time": reading.time,
                "retention_days": self._retention_days,
            }
            item = event_item(finding, **told)
            # By key: two readings of one millisecond may find the same, and a transaction takes a key once.
            if item["bucket"]["S"] not in self._open.anomalies:
                self._open.anomalies[item["bucket"]["S"]] = item
                self._open.tally.anomalies += finding.kind == BEGIN
                unit = self._catalogue.device_types[reading.envelope.device_type][finding.metric].unit
                self._open.notices.append(notice_of(item, kind=finding.kind, unit=unit))

    def _make_room(self, reading: Reading, *, start: int, minute: Minute) -> None:
        """Closes the chunk if the reading's items might not fit in it any more."""
        chunk = self._open
        items = 1 + len(chunk.touched) + len(chunk.anomalies) + (start not in chunk.touched)
        if items + min(4 * len(reading.metrics) + 4, MAX_FINDINGS) > CHUNK_ITEMS:
            self.close()
        elif start not in chunk.touched:
            size = sum(_size_of_minute(touched) for touched in chunk.touched.values())
            if chunk.touched and size + _size_of_minute(minute) > CHUNK_BYTES:
                self.close()

    def close(self) -> None:
        """Makes a chunk of what was taken since the last one."""
        taken, self._open = self._open, _Open()
        if not taken.readings:
            return
        last = taken.readings[-1].envelope
        expected = None if self.device is None else self.device.version
        item = None
        items: tuple[Item, ...] = ()
        tally = taken.tally
        tally.processed = len(taken.fresh)
        tally.late = sum(reading.is_late for reading in taken.fresh)
        for reading in taken.fresh:
            known = self._catalogue.device_types[reading.envelope.device_type].keys()
            if not reading.metrics.keys() <= known:
                tally.unknown_metrics += len(reading.metrics.keys() - known)
        if taken.touched:
            self.notices += taken.notices
            self.device = advanced(
                self.device,
                taken.fresh or taken.readings,
                messages=tally.processed,
                detectors=self._detectors,
                outbox=tuple(self.notices[-OUTBOX:]),
            )
            item = device_item(self.device)
            items = tuple(
                minute_item(minute, retention_days=self._retention_days) for minute in taken.touched.values()
            ) + tuple(taken.anomalies.values())
        self.chunks.append(
            Chunk(
                device=last.thing,
                facility=last.facility,
                device_type=last.device_type,
                expected_version=expected,
                device_item=item,
                items=items,
                size=sum(map(_size_of_minute, taken.touched.values()))
                + sum(map(size_of, taken.anomalies.values()))
                + (_size_of_device(self.device) if item and self.device else 0),
                readings=tuple(taken.readings),
                overflow=tuple(taken.overflow),
                tally=tally,
            )
        )


def _size_of_device(device: Device) -> int:
    return DEVICE_BYTES + len(device.detectors) + sum(len(message.encode()) for message in device.outbox)


def _size_of_minute(minute: Minute) -> int:
    """About the bytes that DynamoDB counts for a minute, never less: its parts have known lengths."""
    return 500 + 13 * (len(minute.entries) + len(minute.conflicts)) + 400 * len(minute.metrics)
