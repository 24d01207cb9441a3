"""Periods: sums of a device's minutes and hours."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache

import msgspec

from .minute import MINUTE_MS, Minute, Settled, Totals, minute_bucket

# @@ Downsampled history: the hours and days of a device, each a sum of what lies in it, made when it is over.
# @@
# @@ An hour is over for a device when a reading of a later hour has been counted, and so is a day. What changes a
# @@ minute of an hour that is over makes that hour anew, and its day. So, of every hour and day that is over, the
# @@ items say at any time what their minutes say.

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Level(Enum):
    """How long a period is; the value begins its items' range keys."""

    HOUR = "hour"
    DAY = "day"


PeriodKey = tuple[str, Level, int]
"""A device, and an hour or a day of it by its start (ms)."""


class Part(msgspec.Struct, kw_only=True):
    """What a period needs to know of a minute or an hour in it; `start` is in ms."""

    start: int
    facility: str
    device_type: str
    messages: int
    late: int
    metrics: Mapping[str, Totals]


class Period(Part, kw_only=True):
    """An hour or a day (UTC) of a device; `parts` are how many of its minutes or hours have readings."""

    level: Level
    device: str
    parts: int
    metrics: dict[str, Totals]


def hour_of(time: int) -> int:
    """The start of the hour that `time` (ms) lies in."""
    return time - time % HOUR_MS


def day_of(time: int) -> int:
    """The start of the day (UTC) that `time` (ms) lies in."""
    return time - time % DAY_MS


def period_bucket(level: Level, start: int) -> str:
    """The range key of the period's item: `hour#2026-11-23T14Z`, `day#2026-11-23`."""
    moment = datetime.fromtimestamp(start / 1000, UTC)
    return f"hour#{moment:%Y-%m-%dT%HZ}" if level is Level.HOUR else f"day#{moment:%Y-%m-%d}"


@lru_cache(maxsize=64)
def part_buckets(level: Level, start: int) -> Mapping[str, int]:
    """In order, the range keys that parts of the period can have, each with the part's start."""
    if level is Level.HOUR:
        return {minute_bucket(at): at for at in range(start, start + HOUR_MS, MINUTE_MS)}
    return {period_bucket(Level.HOUR, at): at for at in range(start, start + DAY_MS, HOUR_MS)}


def over(*, before: int | None, times: Iterable[int]) -> tuple[list[int], list[int]]:
    """The hours and days, by start, that readings of `times` end or change, of a device whose newest was `before`."""
    all_times = list(times) if before is None else [before, *times]
    newest = max(all_times)
    # Nearly always everything lies in one hour.
    if hour_of(min(all_times)) == hour_of(newest):
        return [], []
    hours = sorted({hour_of(time) for time in all_times} - {hour_of(newest)})
    return hours, sorted({day_of(hour) for hour in hours} - {day_of(newest)})


def part_of(minute: Minute) -> Part:
    """A minute, as its hour needs it."""
    return Part(
        start=minute.start,
        facility=minute.facility,
        device_type=minute.device_type,
        messages=len(minute.entries),
        late=minute.late,
        metrics=minute.metrics,
    )


def summed(level: Level, parts: Sequence[Part], *, device: str, start: int) -> Period:
    """The period that consists of `parts`, of which there is at least one."""
    metrics: dict[str, Totals] = {}
    for part in parts:
        for name, more in part.metrics.items():
            totals = metrics.get(name)
            if totals is None:
                totals = metrics[name] = Totals.none()
            totals.absorb(more)
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


# @@ The hour of a device that is not over yet, as this process has counted it: so that its end reads nothing.
# @@
# @@ It is known only where this process has counted all of it, from its first reading on. Else the tables are
# @@ asked.


class OpenHour(msgspec.Struct):
    """The hour as it is, and the starts (ms) of its minutes that have readings."""

    hour: Period
    minutes: set[int]

    def covers(self, time: int) -> bool:
        """Whether `time` (ms) lies in it."""
        return self.hour.start <= time < self.hour.start + HOUR_MS

    def count(self, minute: Minute, settled: Settled) -> None:
        """Counts in what has just been settled in one of its minutes."""
        if not settled.messages:
            return
        hour, metrics = self.hour, self.hour.metrics
        self.minutes.add(minute.start)
        hour.parts = len(self.minutes)
        hour.messages += settled.messages
        hour.late += settled.late
        for name, fresh in settled.metrics.items():
            totals = metrics.get(name)
            if totals is None:
                totals = metrics[name] = Totals.none()
            totals.absorb(fresh)
        # Who it is of follows its newest minute.
        is_other = minute.device_type != hour.device_type or minute.facility != hour.facility
        if is_other and minute.start == max(self.minutes):
            hour.facility, hour.device_type = minute.facility, minute.device_type


def open_hour_of(minutes: Mapping[int, Part], *, device: str, start: int) -> OpenHour:
    """The hour that has these minutes, by start; at least one."""
    return OpenHour(summed(Level.HOUR, list(minutes.values()), device=device, start=start), set(minutes))


# @@ The hours and days that a transaction ends or changes, from what the tables held and what it changes itself.


class Rollup:
    """Of one device. `parts` are what the tables hold of each hour and day in question, `minutes` what is known now.

    `before` is the newest reading's time (ms) before all this, None where nobody knows; `open_hour` its hour, where
    that is known.
    """

    def __init__(
        self,
        device: str,
        *,
        before: int | None,
        parts: Mapping[PeriodKey, Mapping[int, Part]],
        minutes: Mapping[int, Minute],
        open_hour: OpenHour | None,
    ) -> None:
        self._device = device
        self._before = before
        self._parts = parts
        self._minutes = minutes
        self._open_hour = open_hour
        self._hours: dict[int, Period] = {}

    def count(self, minute: Minute, settled: Settled) -> None:
        """Takes notice of what was settled in a minute."""
        if self._open_hour is not None and self._open_hour.covers(minute.start):
            self._open_hour.count(minute, settled)

    def periods(self, *, before: int | None, newest: int, touched: Collection[int]) -> list[Period]:
        """What changes as minutes that begin at `touched` do, and the newest reading's time from `before` to `newest`.

        The minutes are settled; all times are in ms.
        """
        # Nearly always the hour just goes on.
        if before is not None:
            start = hour_of(before)
            if start <= min(touched) and newest < start + HOUR_MS:
                return []
        hours, days = over(before=before, times=[*touched, newest])
        made = []
        for start in hours:
            hour = self._hour(start)
            if hour is not None:
                self._hours[start] = hour
                made.append(hour)
        for start in days:
            changed = {at: hour for at, hour in self._hours.items() if start <= at < start + DAY_MS}
            day = self._summed(Level.DAY, start, changed)
            if day is not None:
                made.append(day)
        return made

    def open_hour(self, newest: int) -> OpenHour | None:
        """The hour of the newest reading (ms) after all this, where it is known."""
        start = hour_of(newest)
        # Later minutes than those of the newest reading are nowhere yet, so these are all that the hour has.
        if self._before is not None and hour_of(self._before) < start:
            minutes = self._known_minutes(start)
            return open_hour_of(minutes, device=self._device, start=start) if minutes else None
        return self._open_hour

    def _hour(self, start: int) -> Period | None:
        if self._open_hour is not None and self._open_hour.hour.start == start:
            return self._open_hour.hour
        return self._summed(Level.HOUR, start, self._known_minutes(start))

    def _known_minutes(self, start: int) -> dict[int, Part]:
        """The minutes of an hour that the readings came to."""
        return {
            at: part_of(minute)
            for at in range(start, start + HOUR_MS, MINUTE_MS)
            if (minute := self._minutes.get(at)) is not None and minute.entries
        }

    def _summed(self, level: Level, start: int, changed: Mapping[int, Part]) -> Period | None:
        """None where nothing is left of it: of a device that was silent for longer than its minutes are kept."""
        parts = {**self._parts.get((self._device, level, start), {}), **changed}
        if not parts:
            return None
        return summed(level, list(parts.values()), device=self._device, start=start)
