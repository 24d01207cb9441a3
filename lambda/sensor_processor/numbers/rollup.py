"""The hours and days that a transaction ends or changes, from what the tables held and what it changes itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .minute import MINUTE_MS, Minute, Settled
from .open_hour import OpenHour, open_hour_of
from .period import (
    DAY_MS,
    HOUR_MS,
    Level,
    Part,
    Period,
    PeriodKey,
    hour_of,
    over,
    part_of,
    summed,
)


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
