"""Builds the DynamoDB writes for one device's readings, split into chunks of one conditional transaction each.

The device item is the lock. Every write of a device's items also increments its version, on the condition that it is
still the version that was read before the minutes were: so a chunk takes effect whole or not at all, and once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter

import msgspec

from ..detection import BEGIN, DeviceDetectors, Finding, StateError, detectors_after
from ..ingest.catalogue import Catalogue
from ..ingest.reading import Reading
from ..numbers.minute import Added, Minute, minute_of
from ..numbers.period import Level, OpenHour, Part, PeriodKey, Rollup, hour_of
from ..numbers.sketch import ITEM_BINS, MINUTE_BINS, PERIOD_BINS
from .device_cache import DeviceCache
from .items import OUTBOX, Device, DeviceEvent, Retention, device_item, event_item, minute_item, notice_of, period_item

CHUNK_ITEMS = 90
"""Items of one device in a transaction, below DynamoDB's 100 a call."""

CHUNK_BYTES = 1_000_000
"""Estimated bytes of one device's items in a transaction, well below DynamoDB's 4 MB a call."""

FEW_MINUTES = 15
"""Up to so many minutes, with the hours and days that they may close, leave room for a reading's anomalies."""

MAX_FINDINGS = 40
"""Anomalies that are written with one reading where other items leave no room for more; the rest follows."""

_encode = msgspec.json.Encoder().encode
_order = attrgetter("order")


class Tally(msgspec.Struct, kw_only=True):
    """Counts of readings by what became of them."""

    processed: int = 0
    duplicates: int = 0
    conflicts: int = 0
    late: int = 0
    anomalies: int = 0
    unknown_metrics: int = 0

    def add(self, other: Tally) -> None:
        """Add another tally."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One device's share of one transaction.

    `device_item` and `items` (for the readings table) are DynamoDB JSON, `size` is their length in bytes, which is
    never less than DynamoDB counts. `device_item` None means that all `readings` were duplicates and nothing is
    written; `expected_version` None, that the device must not exist yet. `overflow` are readings whose minute is full.
    """

    device: str
    facility: str
    device_type: str
    expected_version: int | None
    device_item: bytes | None
    items: tuple[bytes, ...]
    size: int
    readings: tuple[Reading, ...]
    overflow: tuple[Reading, ...]
    tally: Tally


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A device's chunks, to be written in this order, and the device as it is after them.

    `lost_state` is why learned detectors could not be read; `notices` are to be published once all is written.
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
    cache: DeviceCache,
) -> Plan:
    """Plan the writes for `readings` of one device, given what the tables contain.

    Args:
        device: None if it is new.
        minutes: stored minutes that the readings belong to, by start (ms); changed in place.
        parts: stored parts of the hours and days that the readings close or change.
        open_hour: hour of the device's newest reading, if known; changed in place.
        readings: one or more, in the stream's order.
    """
    ordered = sorted(readings, key=_order)  # stable: readings of one order stay in the stream's order
    lost_state = None
    detectors = DeviceDetectors()
    if device is not None:
        known = catalogue.device_types
        device_type = device.device_type if device.device_type in known else ordered[0].envelope.device_type
        try:
            detectors = cache.pop_detectors(device, device_type, metrics=known[device_type])
        except StateError as error:
            lost_state = str(error)
            detectors = detectors_after(error)
    planner = _Planner(
        ordered[-1].envelope.thing,
        device=device,
        minutes=dict(minutes),
        parts=parts,
        open_hour=open_hour,
        since=retention.kept_since(reading.arrived_at for reading in readings),
        detectors=detectors,
        catalogue=catalogue,
        retention=retention,
    )
    for reading in ordered:
        planner.add(reading)
    planner.close()
    if planner.device is not None and (lost_state is None or planner.device is not device):
        cache.put_detectors(planner.device, planner.device.device_type, detectors)
    newest = None if planner.device is None else planner.device.newest_reading
    return Plan(
        chunks=tuple(planner.chunks),
        device=planner.device,
        lost_state=lost_state,
        notices=tuple(planner.notices),
        open_hour=None if newest is None else planner.rollup.open_hour(newest),
    )


class _OpenChunk(msgspec.Struct):
    """Additions since the last chunk: all `readings`; of them, those that are `new` and those without room."""

    readings: list[Reading] = []
    overflow: list[Reading] = []
    new: list[Reading] = []
    touched: dict[int, Minute] = {}
    events: dict[str, bytes] = {}
    notices: list[str] = []
    tally: Tally = msgspec.field(default_factory=Tally)

    def room(self, minute: Minute) -> int:
        """Return how many events still fit in with a reading of this minute."""
        periods = 2 * len({hour_of(start) for start in (minute.start, *self.touched)}) + 2
        return CHUNK_ITEMS - 1 - len({minute.start, *self.touched}) - len(self.events) - periods

    def has_room(self, reading: Reading, minute: Minute, *, metrics: int, deferred: int) -> bool:
        """Return whether everything that the reading may add fits in; its device type has so many metrics.

        `deferred` is how many findings wait to be written with it.
        """
        touched, is_other = self.touched, minute.start not in self.touched
        # Whatever a reading adds fits into a chunk that has little in it.
        if not touched or not (is_other or self.events or len(touched) > FEW_MINUTES):
            return True
        if min(4 * len(reading.metrics) + 4 + deferred, MAX_FINDINGS) > self.room(minute):
            return False
        if not is_other:
            return True
        periods = 2 * len({hour_of(start) for start in (minute.start, *touched)}) + 2
        size = periods * period_size(metrics)
        size += sum([_minute_size(each, metrics) for each in (*touched.values(), minute)])
        return size <= CHUNK_BYTES


class _Planner:
    """Adds ordered readings to minutes and detectors, and closes a chunk when a transaction would be full."""

    def __init__(
        self,
        name: str,
        *,
        device: Device | None,
        minutes: dict[int, Minute],
        parts: Mapping[PeriodKey, Mapping[int, Part]],
        open_hour: OpenHour | None,
        since: int,
        detectors: DeviceDetectors,
        catalogue: Catalogue,
        retention: Retention,
    ) -> None:
        self.chunks: list[Chunk] = []
        self.device = device
        self.notices: list[str] = [] if device is None else list(device.outbox)
        self.rollup = Rollup(
            name,
            previous_newest=None if device is None else device.newest_reading,
            parts=parts,
            minutes=minutes,
            open_hour=open_hour,
            since=since,
        )
        self._name = name
        self._minutes = minutes
        self._detectors = detectors
        self._device_types = catalogue.device_types
        self._retention = retention
        self._open = _OpenChunk()

    def add(self, reading: Reading) -> None:
        """Add the next reading: to its minute, and to the detectors if it is new and in order."""
        start = minute_of(reading.time)
        minute = self._minutes.get(start)
        if minute is None:
            minute = self._minutes[start] = Minute(device=self._name, start=start)
        metrics = self._device_types[reading.envelope.device_type]
        detectors = self._detectors
        if not self._open.has_room(reading, minute, metrics=len(metrics), deferred=len(detectors.deferred)):
            self.close()
        chunk = self._open
        is_in_order = detectors.is_in_order(reading.order, ahead=reading.ahead)
        known = {}
        if not is_in_order:
            # Before the reading is added: a minute that already shows an excursion begins no second event.
            self._fold(minute)
            known = {name: (each.min, each.max) for name, each in minute.metrics.items()}
        added = minute.add(reading)
        chunk.readings.append(reading)
        if added is Added.NEW:
            chunk.touched[start] = minute
            chunk.new.append(reading)
            is_small = len(reading.metrics) < MAX_FINDINGS // 4 and not detectors.deferred
            most = MAX_FINDINGS if is_small else max(chunk.room(minute), MAX_FINDINGS)
            order, ahead = reading.order, reading.ahead
            findings: Sequence[Finding]
            if is_in_order:
                findings = detectors.learn(order, reading.metrics, metrics=metrics, ahead=ahead, most=most)
            else:
                findings = detectors.check_late(
                    order, reading.metrics, metrics=metrics, ahead=ahead, known=known, most=most
                )
            if findings:
                self._add_events(reading, findings)
        elif added is Added.FULL:
            chunk.overflow.append(reading)
        elif added is Added.DUPLICATE:
            chunk.tally.duplicates += 1
        else:
            chunk.tally.conflicts += 1
            chunk.touched[start] = minute

    def _fold(self, minute: Minute) -> None:
        delta = minute.fold_pending(self._device_types)
        self.rollup.add(minute, delta)
        self._open.tally.late += delta.late
        self._open.tally.unknown_metrics += delta.unknown

    def _add_events(self, reading: Reading, findings: Sequence[Finding]) -> None:
        chunk, envelope = self._open, reading.envelope
        for finding in findings:
            event = DeviceEvent(
                finding=finding,
                device=envelope.thing,
                facility=envelope.facility,
                device_type=envelope.device_type,
                time=reading.time,
            )
            # By key: two readings of one millisecond may find the same, and a transaction has each key once.
            if event.bucket not in chunk.events:
                chunk.events[event.bucket] = _encode(event_item(event, retention_days=self._retention.anomalies))
                chunk.notices.append(notice_of(event))
                chunk.tally.anomalies += finding.kind == BEGIN

    def close(self) -> None:
        """Make a chunk of what was added since the last one."""
        for minute in self._open.touched.values():
            self._fold(minute)
        chunk, self._open = self._open, _OpenChunk()
        if not chunk.readings:
            return
        last = chunk.readings[-1].envelope
        before = self.device
        item = None
        items: list[bytes] = []
        chunk.tally.processed = len(chunk.new)
        if chunk.touched:
            self.notices += chunk.notices
            self.device = _next_device(
                before,
                chunk.new or chunk.readings,
                messages=chunk.tally.processed,
                detectors=self._detectors,
                outbox=tuple(self.notices[-OUTBOX:]),
            )
            # Encoded one by one: as dicts, the items of a batch would be half of all its objects.
            item = _encode(device_item(self.device))
            periods = self._periods(before, self.device, chunk.touched)
            days = self._retention.minutes
            items += [_encode(minute_item(minute, retention_days=days)) for minute in chunk.touched.values()]
            items += [*periods, *chunk.events.values()]
        self.chunks.append(
            Chunk(
                device=last.thing,
                facility=last.facility,
                device_type=last.device_type,
                expected_version=None if before is None else before.version,
                device_item=item,
                items=tuple(items),
                size=sum(map(len, items)) + len(item or b""),
                readings=tuple(chunk.readings),
                overflow=tuple(chunk.overflow),
                tally=chunk.tally,
            )
        )

    def _periods(self, before: Device | None, device: Device, touched: Collection[int]) -> list[bytes]:
        """Encode the items of hours and days that close or change."""
        if device.newest_reading is None:
            return []
        periods = self.rollup.periods(
            previous_newest=None if before is None else before.newest_reading,
            newest=device.newest_reading,
            touched=touched,
        )
        days = {Level.HOUR: self._retention.hours, Level.DAY: self._retention.days}
        return [_encode(period_item(period, retention_days=days[period.level])) for period in periods]


def _next_device(
    before: Device | None,
    readings: Sequence[Reading],
    *,
    messages: int,
    detectors: DeviceDetectors,
    outbox: tuple[str, ...],
) -> Device:
    """Make the next version of a device, after `readings`, which are in order."""
    contacts = [reading.envelope.received_at for reading in readings]
    last_contact = max(contacts)
    # The message that arrived last decides what the device is; of several in one millisecond, the last in order.
    last = next(reading.envelope for reading in reversed(readings) if reading.envelope.received_at == last_contact)
    newest = readings[-1].time
    last_sequence = detectors.newest[1]
    if before is None:
        return Device(
            name=last.thing,
            facility=last.facility,
            device_type=last.device_type,
            certificate_id=last.principal,
            first_contact=min(contacts),
            last_contact=last_contact,
            newest_reading=newest,
            version=1,
            messages=messages,
            last_sequence=last_sequence if last_sequence >= 0 else None,
            detectors=detectors.pack(),
            outbox=outbox,
        )
    is_overtaken = last_contact < before.last_contact
    return Device(
        name=last.thing,
        facility=before.facility if is_overtaken else last.facility,
        device_type=before.device_type if is_overtaken else last.device_type,
        certificate_id=before.certificate_id if is_overtaken else last.principal,
        first_contact=min(before.first_contact, *contacts),
        last_contact=max(before.last_contact, last_contact),
        # None where the device was stored before newest readings were.
        newest_reading=None if before.newest_reading is None else max(before.newest_reading, newest),
        version=before.version + 1,
        messages=before.messages + messages,
        last_sequence=last_sequence if last_sequence >= 0 else before.last_sequence,
        detectors=detectors.pack(),
        outbox=outbox,
    )


def _minute_size(minute: Minute, metrics: int) -> int:
    """Estimate a minute item of at most so many metrics, in bytes as DynamoDB counts, never too low."""
    messages = len(minute.entries) + len(minute.conflicts)
    return 500 + 13 * messages + (400 + 4 * min(messages, MINUTE_BINS)) * metrics


def period_size(metrics: int) -> int:
    """Return the largest size of an hour's or a day's item with so many metrics, in bytes as DynamoDB counts."""
    return 500 + 400 * metrics + 5 * min(PERIOD_BINS * metrics, ITEM_BINS)
