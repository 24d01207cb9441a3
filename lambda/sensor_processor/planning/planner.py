"""Folds readings into devices: minutes, hours, days, detectors and events, and what follows for the tables; no I/O.

A device's minute, hour or day is emitted once when it closes, and again, as a later revision, with each batch that adds
a late reading to it. Its revision is the lane's version, which names one commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

import msgspec

from ..detection import BEGIN, DeviceDetectors, Finding, StateError, detectors_after, unpack_detectors
from ..ingest.catalogue import Catalogue
from ..ingest.reading import Reading
from ..numbers.minute import MINUTE_MS, Added, Minute, MinuteDelta, minute_of
from ..numbers.period import DAY_MS, HOUR_MS, Level, Period, day_of, hour_of
from .device_cache import DeviceCache
from .device_state import (
    DESCRIBED_MS,
    RECENT,
    Device,
    DeviceState,
    closing_of,
    pack_minute,
    pack_period,
    slot_of,
    unpack_minute,
    unpack_period,
    unpack_state,
)
from .items import Device as Described
from .items import DeviceEvent, Retention, device_item, event_item, minute_item, notice_of, period_item
from .lane import Outbox, Resident

MAX_FINDINGS = 10_000
"""Findings that are reported with one reading: all of them, for a message has at most 256 metrics."""

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


class Stored(msgspec.Struct):
    """Items of a device that the readings table or the outbox has and its state has not; by start (ms)."""

    minutes: dict[int, Minute] = {}
    hours: dict[int, Period] = {}
    days: dict[int, Period] = {}


class Wanted(msgspec.Struct):
    """Starts (ms) of minutes, hours and days that readings change and the state does not have."""

    minutes: set[int] = set()
    hours: set[int] = set()
    days: set[int] = set()

    def __bool__(self) -> bool:
        """Return whether anything has to be read."""
        return bool(self.minutes or self.hours or self.days)


class Folded(msgspec.Struct, kw_only=True):
    """Outcome of one device: `resident` is None if nothing changed. `overflow`: their minute is full.

    `lost_state` is why learned detectors could not be read.
    """

    facility: str
    device_type: str
    resident: Resident | None = None
    outbox: Outbox = msgspec.field(default_factory=Outbox)
    overflow: list[Reading] = []
    tally: Tally = msgspec.field(default_factory=Tally)
    lost_state: str | None = None


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """Folds devices with one catalogue, retention and cache."""

    catalogue: Catalogue
    retention: Retention
    cache: DeviceCache

    def fold(
        self,
        name: str,
        resident: Resident | None,
        *,
        readings: Sequence[Reading],
        stored: Stored,
        revision: int,
    ) -> Folded:
        """Fold `readings` of one device, in the stream's order, into its state.

        Args:
            name: of the device.
            resident: its state before; None if it is new.
            readings: one or more.
            stored: what the readings change and the state does not have.
            revision: the lane's version after this commit.
        """
        ordered = sorted(readings, key=_order)  # stable: readings of one order stay in the stream's order
        envelope = ordered[-1].envelope
        if resident is None:
            state = DeviceState(
                facility=envelope.facility,
                device_type=envelope.device_type,
                certificate_id=envelope.principal,
                first_contact=envelope.received_at,
                last_contact=0,
                newest=-1,
            )
            device, lost = Device(name, state, DeviceDetectors(), {}), None
        else:
            device, lost = self._device(name, resident)
        fold = _Fold(device, folder=self, stored=stored, revision=revision)
        for reading in ordered:
            fold.add(reading)
        return fold.folded(ordered, lost_state=lost)

    def close(self, name: str, resident: Resident, *, now: int, revision: int) -> Folded:
        """Close what is over by the clock (`now`, ms) of a device that is silent, and describe it if that is due."""
        device, lost = self._device(name, resident)
        fold = _Fold(device, folder=self, stored=Stored(), revision=revision)
        return fold.closed(now, lost_state=lost)

    def _device(self, name: str, resident: Resident) -> tuple[Device, str | None]:
        """Return the device for changes, and why its detectors are lost, if they are."""
        known = self.cache.pop(name, resident.packed)
        if known is not None:
            return known, None
        state = unpack_state(resident.packed)
        detectors, lost = DeviceDetectors(), None
        if state.detectors:
            try:
                metrics = self.catalogue.device_types.get(state.device_type, {})
                detectors = unpack_detectors(state.detectors, metrics=metrics)
            except StateError as error:
                lost = str(error)
                detectors = detectors_after(error)
        minutes = {start: unpack_minute(each, device=name, start=start) for start, each in state.minutes.items()}
        return Device(name, state, detectors, minutes), lost


def wanted_of(state: DeviceState, readings: Sequence[Reading]) -> Wanted:
    """List what the readings of a known device change and its state does not have."""
    wanted = Wanted()
    for reading in readings:
        start = minute_of(reading.time)
        if start > state.minutes_through or start in state.minutes:
            continue
        hour, day = hour_of(start), day_of(start)
        if start not in state.recent:
            wanted.minutes.add(start)
        if hour <= state.hours_through and hour not in state.hours:
            wanted.hours.add(hour)
            if day <= state.days_through and day not in state.days:
                wanted.days.add(day)
    return wanted


class _Fold:
    """Adds ordered readings to a device and collects what follows."""

    def __init__(self, device: Device, *, folder: Folder, stored: Stored, revision: int) -> None:
        self._device = device
        self._state = device.state
        self._device_types = folder.catalogue.device_types
        self._retention = folder.retention
        self._cache = folder.cache
        self._stored = stored
        self._revision = revision
        self._closed: dict[int, Minute] = {}  # minutes that are not open and in this batch; those in `recent`, too
        self._touched: dict[int, Minute] = {}
        self._hours: dict[int, Period] = {}
        self._days: dict[int, Period] = {}
        self._new: list[Reading] = []
        self._events: dict[str, tuple[str, bytes]] = {}
        self._notices: list[str] = []
        self._overflow: list[Reading] = []
        self._tally = Tally()

    # Readings.

    def add(self, reading: Reading) -> None:
        """Add the next reading: to its minute, and to the detectors if it is new and in order."""
        start = minute_of(reading.time)
        minute = self._minute(start)
        metrics = self._device_types[reading.envelope.device_type]
        detectors, order, ahead = self._device.detectors, reading.order, reading.ahead
        is_in_order = detectors.is_in_order(order, ahead=ahead)
        known = {}
        if not is_in_order:
            # Before the reading is added: a minute that already shows an excursion begins no second event.
            self._fold(minute)
            known = {name: (each.min, each.max) for name, each in minute.metrics.items()}
        added = minute.add(reading)
        if added is Added.NEW:
            self._touched[start] = minute
            self._new.append(reading)
            findings: Sequence[Finding]
            if is_in_order:
                findings = detectors.learn(order, reading.metrics, metrics=metrics, ahead=ahead, most=MAX_FINDINGS)
            else:
                findings = detectors.check_late(
                    order, reading.metrics, metrics=metrics, ahead=ahead, known=known, most=MAX_FINDINGS
                )
            if findings:
                self._add_events(reading, findings)
        elif added is Added.FULL:
            self._overflow.append(reading)
        elif added is Added.DUPLICATE:
            self._tally.duplicates += 1
        else:
            self._tally.conflicts += 1
            self._touched[start] = minute

    def _minute(self, start: int) -> Minute:
        """Return the minute: open, just closed, stored, or new."""
        minute = self._device.minutes.get(start) or self._closed.get(start)
        if minute is not None:
            return minute
        state, name = self._state, self._device.name
        if start in state.recent:
            minute = unpack_minute(state.recent[start], device=name, start=start)
        elif start > state.minutes_through:
            minute = self._device.minutes[start] = Minute(device=name, start=start)
            return minute
        else:
            minute = self._stored.minutes.get(start) or Minute(device=name, start=start)
        self._closed[start] = minute
        return minute

    def _fold(self, minute: Minute) -> None:
        if not minute.pending:
            return
        is_new = len(minute.entries) == len(minute.pending)
        delta = minute.fold_pending(self._device_types)
        self._tally.late += delta.late
        self._tally.unknown_metrics += delta.unknown
        if minute.start not in self._device.minutes:
            self._add_late(minute, delta, is_new=is_new)

    def _add_late(self, minute: Minute, delta: MinuteDelta, *, is_new: bool) -> None:
        """Add a late delta to its hour and, if that has closed, to its day."""
        state, hour_start = self._state, hour_of(minute.start)
        hour = self._period(Level.HOUR, hour_start)
        hour_is_new = not hour.parts
        hour.add(minute, delta, is_new=is_new)
        if hour_start in state.hours or hour_start > state.hours_through:
            return
        added = Period(
            level=Level.HOUR,
            device=hour.device,
            start=hour_start,
            facility=hour.facility,
            device_type=hour.device_type,
            messages=delta.messages,
            late=delta.late,
            metrics=dict(delta.metrics),
        )
        self._period(Level.DAY, day_of(hour_start)).add(added, is_new=hour_is_new)

    def _period(self, level: Level, start: int) -> Period:
        """Return the hour or day for changes: open, stored, or new."""
        state, name = self._state, self._device.name
        changed, open_, stored = (
            (self._hours, state.hours, self._stored.hours)
            if level is Level.HOUR
            else (self._days, state.days, self._stored.days)
        )
        period = changed.get(start)
        if period is None:
            if start in open_:
                period = unpack_period(open_[start], device=name, level=level, start=start)
            else:
                period = stored.get(start) or Period(level=level, device=name, start=start)
            changed[start] = period
        return period

    def _add_events(self, reading: Reading, findings: Sequence[Finding]) -> None:
        envelope = reading.envelope
        for finding in findings:
            event = DeviceEvent(
                finding=finding,
                device=envelope.thing,
                facility=envelope.facility,
                device_type=envelope.device_type,
                time=reading.time,
            )
            # By key: two readings of one millisecond may find the same.
            if event.bucket not in self._events:
                item = _encode(event_item(event, retention_days=self._retention.anomalies))
                self._events[event.bucket] = finding.kind, item
                self._notices.append(notice_of(event))
                self._tally.anomalies += finding.kind == BEGIN

    # Ends.

    def folded(self, readings: Sequence[Reading], *, lost_state: str | None) -> Folded:
        """Return the outcome after the last reading."""
        for minute in self._touched.values():
            self._fold(minute)
        envelope = readings[-1].envelope
        outcome = Folded(facility=envelope.facility, device_type=envelope.device_type, lost_state=lost_state)
        outcome.tally, outcome.overflow = self._tally, self._overflow
        self._tally.processed = len(self._new)
        if not self._touched:
            return outcome
        state = self._state
        was = (state.facility, state.device_type, state.certificate_id) if state.last_contact else None
        if self._new:
            self._contact()
        now = min(state.newest, state.last_contact)
        self._close(now)
        slot = slot_of(self._device.name, state.last_contact)
        is_other = was != (state.facility, state.device_type, state.certificate_id)
        # With a minute: a lane whose outbox is empty needs no acknowledgement, which is a write.
        is_due = slot > state.described_slot and any(start not in self._device.minutes for start in self._touched)
        return self._finished(outcome, slot=slot if is_other or is_due else None)

    def closed(self, now: int, *, lost_state: str | None) -> Folded:
        """Return the outcome of a silent device at `now` (ms)."""
        state = self._state
        outcome = Folded(facility=state.facility, device_type=state.device_type, lost_state=lost_state)
        self._close(now - state.lag)
        slot = slot_of(self._device.name, now)
        return self._finished(outcome, slot=slot if not state.is_described and slot > state.described_slot else None)

    def _contact(self) -> None:
        """Update what the device is, after new readings, which are in order."""
        state, readings = self._state, self._new
        contacts = [reading.envelope.received_at for reading in readings]
        last = max(contacts)
        state.first_contact = min(state.first_contact, *contacts)
        if last >= state.last_contact:
            # The message that arrived last decides what the device is; of several in one ms, the last in order.
            envelope = next(each.envelope for each in reversed(readings) if each.envelope.received_at == last)
            state.last_contact = last
            state.facility, state.device_type = envelope.facility, envelope.device_type
            state.certificate_id = envelope.principal
        state.newest = max(state.newest, readings[-1].time)
        state.messages += len(readings)
        sequence = self._device.detectors.newest[1]
        state.last_sequence = sequence if sequence >= 0 else state.last_sequence
        state.is_described = False

    def _close(self, now: int) -> None:
        """Move minutes, hours and days that are over by the device's clock (`now`, ms) to the outbox."""
        device, state = self._device, self._state
        closing = closing_of(device.name)
        for start in _over(device.minutes, at=now - closing.minute):
            minute = device.minutes.pop(start)
            state.minutes_through = max(state.minutes_through, start)
            if minute.entries:
                self._period(Level.HOUR, hour_of(start)).add(minute, is_new=True)
                self._closed[start] = self._touched[start] = minute
        through = state.hours_through
        for start in _over({*state.hours, *(start for start in self._hours if start > through)}, at=now - closing.hour):
            hour = self._period(Level.HOUR, start)
            state.hours.pop(start, None)
            state.hours_through = max(state.hours_through, start)
            state.minutes_through = max(state.minutes_through, start + HOUR_MS - MINUTE_MS)
            self._period(Level.DAY, day_of(start)).add(hour, is_new=True)
        through = state.days_through
        for start in _over({*state.days, *(start for start in self._days if start > through)}, at=now - closing.day):
            self._period(Level.DAY, start)
            state.days.pop(start, None)
            state.days_through = max(state.days_through, start)
            state.hours_through = max(state.hours_through, start + DAY_MS - HOUR_MS)

    def _finished(self, outcome: Folded, *, slot: int | None) -> Folded:
        """Make the outbox and the packed device."""
        device, state, outbox = self._device, self._state, outcome.outbox
        closed = {start: minute for start, minute in self._touched.items() if start not in device.minutes}
        for minute in closed.values():
            revision = self._revision if minute.is_stored else 0
            minute.is_stored = True
            outbox.items.append(_encode(minute_item(minute, revision=revision, retention_days=self._retention.minutes)))
        recent = {**state.recent, **{start: pack_minute(minute) for start, minute in closed.items()}}
        state.recent = {start: recent[start] for start in sorted(recent)[-RECENT:]}
        levels = (
            (self._hours, state.hours, state.hours_through, self._retention.hours),
            (self._days, state.days, state.days_through, self._retention.days),
        )
        for changed, open_, through, days in levels:
            for start, period in changed.items():
                if start in open_ or start > through:
                    open_[start] = pack_period(period)
                else:
                    revision = self._revision if period.is_stored else 0
                    outbox.items.append(_encode(period_item(period, revision=revision, retention_days=days)))
        for kind, item in self._events.values():
            (outbox.begins if kind == BEGIN else outbox.items).append(item)
        outbox.notices += self._notices
        if slot is not None:
            state.described_slot, state.is_described = slot, True
            outbox.devices.append((device.name, _encode(device_item(_described(device, self._revision)))))
        outcome.resident = device.pack()
        self._cache.put(device, outcome.resident.packed)
        return outcome


def _over(starts: Iterable[int], *, at: int) -> list[int]:
    """List the starts (ms) up to `at`, in order."""
    return sorted(start for start in starts if start <= at)


def _described(device: Device, version: int) -> Described:
    state = device.state
    return Described(
        name=device.name,
        facility=state.facility,
        device_type=state.device_type,
        certificate_id=state.certificate_id,
        first_contact=state.first_contact,
        last_contact=state.last_contact,
        newest_reading=state.newest,
        version=version,
        messages=state.messages,
        last_sequence=state.last_sequence,
    )


def take_over(described: Described, *, hours: Iterable[Period], days: Iterable[Period]) -> DeviceState:
    """Make the state of a device that the devices table has and its lane has not.

    Version 0.3.0 kept detectors in the table; of a lane that was lost only the description is left. All its minutes may
    be stored up to its newest reading.

    Args:
        described: the device's item.
        hours: sums of stored minutes, from the hour of its newest described reading on.
        days: sums of stored hours, from that reading's day on.
    """
    first, newest = described_newest(described), newest_of(described)
    return DeviceState(
        facility=described.facility,
        device_type=described.device_type,
        certificate_id=described.certificate_id,
        first_contact=described.first_contact,
        last_contact=described.last_contact,
        newest=newest,
        messages=described.messages,
        last_sequence=described.last_sequence,
        detectors=described.detectors or b"",
        minutes_through=minute_of(newest),
        hours={hour.start: pack_period(hour) for hour in hours},
        hours_through=hour_of(first) - HOUR_MS,
        days={day.start: pack_period(day) for day in days},
        days_through=day_of(first) - DAY_MS,
    )


def described_newest(described: Described) -> int:
    """Return the time (ms) of a device's newest reading as it is described: before it, hours and days are closed."""
    return newest_of(described) if described.newest_reading is None else described.newest_reading


def newest_of(described: Described) -> int:
    """Return the time (ms) after which a device has no stored minute."""
    newest = described.newest_reading
    if newest is None:  # items of early versions; no reading is accepted that is more than five minutes ahead
        newest = described.last_contact + 5 * MINUTE_MS
    # A description may be older than the minutes; an item of version 0.3.0 never was.
    return newest if described.detectors is not None else newest + DESCRIBED_MS + 5 * MINUTE_MS
