"""Downsampled history: hours and days of a device, summed from its minutes and hours.

An hour is closed when a reading of a later hour has been counted; so is a day. A change of a minute of a closed hour
recomputes that hour and its day. So the items of closed hours and days always agree with those of their minutes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache

import msgspec

from .minute import MINUTE_MS, Minute, MinuteDelta, Totals, key_of, minute_bucket

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Level(Enum):
    """Length of a period; the value is the prefix of its items' range keys."""

    HOUR = "hour"
    DAY = "day"


PeriodKey = tuple[str, Level, int]
"""Device, level, and start (ms) of one of its hours or days."""


class Part(msgspec.Struct, kw_only=True):
    """A minute of an hour, or an hour of a day, as its period needs it; `start` is in ms."""

    start: int
    facility: str
    device_type: str
    messages: int
    late: int
    metrics: Mapping[str, Totals]


class Period(Part, kw_only=True):
    """An hour or a day (UTC) of a device; `parts` counts its minutes or hours that have readings."""

    level: Level
    device: str
    parts: int
    metrics: dict[str, Totals]


class OpenHour(msgspec.Struct):
    """Rollup of a device's current hour, kept in memory: avoids a Query of its minutes when the hour closes.

    It exists only where this process counted the whole hour from its first reading on. `minutes` are the starts (ms)
    of its minutes that have readings.
    """

    hour: Period
    minutes: set[int]

    def covers(self, time: int) -> bool:
        """Return whether `time` (ms) is in this hour."""
        return self.hour.start <= time < self.hour.start + HOUR_MS

    def add(self, minute: Minute, delta: MinuteDelta) -> None:
        """Add what was just folded into one of its minutes."""
        if not delta.messages:
            return
        hour = self.hour
        self.minutes.add(minute.start)
        hour.parts = len(self.minutes)
        hour.messages += delta.messages
        hour.late += delta.late
        _absorb(hour.metrics, delta.metrics)
        # The newest minute decides facility and device type.
        is_other = minute.device_type != hour.device_type or minute.facility != hour.facility
        if is_other and minute.start == max(self.minutes):
            hour.facility, hour.device_type = minute.facility, minute.device_type


def hour_of(time: int) -> int:
    """Return the start (ms) of the hour of `time` (ms)."""
    return time - time % HOUR_MS


def day_of(time: int) -> int:
    """Return the start (ms) of the UTC day of `time` (ms)."""
    return time - time % DAY_MS


def period_bucket(level: Level, start: int) -> str:
    """Return the range key of the period's item: `hour#2026-11-23T14Z`, `day#2026-11-23`."""
    moment = datetime.fromtimestamp(start / 1000, UTC)
    return f"hour#{moment:%Y-%m-%dT%HZ}" if level is Level.HOUR else f"day#{moment:%Y-%m-%d}"


@lru_cache(maxsize=64)
def part_buckets(level: Level, start: int) -> Mapping[str, int]:
    """Map the range keys of all possible parts of a period, in order, to their starts (ms)."""
    if level is Level.HOUR:
        return {minute_bucket(at): at for at in range(start, start + HOUR_MS, MINUTE_MS)}
    return {period_bucket(Level.HOUR, at): at for at in range(start, start + DAY_MS, HOUR_MS)}


def closed_periods(
    previous_newest_ms: int | None, times_ms: Iterable[int], *, since_ms: int = 0
) -> tuple[list[int], list[int]]:
    """List the hours and days that a batch of readings closes, or changes after they were closed.

    Args:
        previous_newest_ms: time of the device's newest reading before, None if unknown.
        times_ms: times of the new readings.
        since_ms: minutes and hours from then on are still there; periods of earlier ones are left as they are.

    Returns:
        The starts (ms) of the hours, and those of the days, sorted.
    """
    times = list(times_ms) if previous_newest_ms is None else [previous_newest_ms, *times_ms]
    newest = max(times)
    if hour_of(min(times)) == hour_of(newest):  # nearly always
        return [], []
    hours = sorted(start for start in {hour_of(time) for time in times} - {hour_of(newest)} if start >= since_ms)
    return hours, sorted({day_of(hour) for hour in hours} - {day_of(newest)})


def sum_parts(level: Level, parts: Sequence[Part], *, device: str, start: int) -> Period:
    """Sum one or more parts into their period."""
    metrics: dict[str, Totals] = {}
    for part in sorted(parts, key=lambda part: part.start):  # in order, for the first one's units have the plain names
        _absorb(metrics, part.metrics)
    newest = max(parts, key=lambda part: part.start)
    return Period(
        level=level,
        device=device,
        start=start,
        facility=newest.facility,
        device_type=newest.device_type,
        parts=len(parts),
        messages=sum(part.messages for part in parts),
        late=sum(part.late for part in parts),
        metrics=metrics,
    )


def _absorb(metrics: dict[str, Totals], added: Mapping[str, Totals]) -> None:
    for name, totals in added.items():
        key = key_of(metrics, name, unit=totals.unit)
        if key not in metrics:
            metrics[key] = Totals.empty(unit=totals.unit)
        metrics[key].absorb(totals)


class Rollup:
    """Compute the hours and days of one device that a batch of readings closes or changes.

    Args:
        previous_newest: time (ms) of the device's newest reading before the batch, None if unknown.
        parts: the stored parts of each hour and day in question.
        minutes: the minutes that the batch changes, by start; they replace stored ones.
        open_hour: the hour of `previous_newest`, if known; changed in place.
        since: hours that begin earlier (ms) are left as they are: some of their minutes may have expired.
    """

    def __init__(
        self,
        device: str,
        *,
        previous_newest: int | None,
        parts: Mapping[PeriodKey, Mapping[int, Part]],
        minutes: Mapping[int, Minute],
        open_hour: OpenHour | None,
        since: int = 0,
    ) -> None:
        self._since = since
        self._device = device
        self._previous_newest = previous_newest
        self._parts = parts
        self._minutes = minutes
        self._open_hour = open_hour
        self._hours: dict[int, Period] = {}

    def add(self, minute: Minute, delta: MinuteDelta) -> None:
        """Add what was just folded into a minute to the open hour, if it is in there."""
        if self._open_hour is not None and self._open_hour.covers(minute.start):
            self._open_hour.add(minute, delta)

    def periods(self, *, previous_newest: int | None, newest: int, touched: Collection[int]) -> list[Period]:
        """Compute what changes with the minutes that start at `touched` and with the newest reading; times in ms."""
        made = []
        hours, days = closed_periods(previous_newest, [*touched, newest], since_ms=self._since)
        for start in hours:
            hour = self._hour(start)
            if hour is not None:
                self._hours[start] = hour
                made.append(hour)
        for start in days:
            changed = {at: hour for at, hour in self._hours.items() if start <= at < start + DAY_MS}
            day = self._sum(Level.DAY, start, changed)
            if day is not None:
                made.append(day)
        return made

    def open_hour(self, newest: int) -> OpenHour | None:
        """Return the hour of the newest reading (ms) after the batch, if all of it is known."""
        start = hour_of(newest)
        # An hour that begins in this batch has no minutes but those of the batch.
        if self._previous_newest is not None and hour_of(self._previous_newest) < start:
            minutes = self._changed_minutes(start)
            if not minutes:
                return None
            return OpenHour(
                sum_parts(Level.HOUR, list(minutes.values()), device=self._device, start=start), set(minutes)
            )
        return self._open_hour

    def _hour(self, start: int) -> Period | None:
        if self._open_hour is not None and self._open_hour.hour.start == start:
            return self._open_hour.hour
        return self._sum(Level.HOUR, start, self._changed_minutes(start))

    def _changed_minutes(self, start: int) -> dict[int, Part]:
        return {
            at: Part(
                start=at,
                facility=minute.facility,
                device_type=minute.device_type,
                messages=len(minute.entries),
                late=minute.late,
                metrics=minute.metrics,
            )
            for at in range(start, start + HOUR_MS, MINUTE_MS)
            if (minute := self._minutes.get(at)) is not None and minute.entries
        }

    def _sum(self, level: Level, start: int, changed: Mapping[int, Part]) -> Period | None:
        """Sum stored and changed parts; None where all of them have expired."""
        parts = {**self._parts.get((self._device, level, start), {}), **changed}
        return sum_parts(level, list(parts.values()), device=self._device, start=start) if parts else None
