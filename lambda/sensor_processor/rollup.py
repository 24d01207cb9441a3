"""The hours and days that a transaction ends or changes, from what the tables held and what it changes itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sensor_processor.aggregate import MINUTE_MS, Minute
from sensor_processor.history import DAY_MS, HOUR_MS, Level, Part, Period, PeriodKey, over, part_of, summed


class Rollup:
    """Of one device. `parts` are what the tables hold of each hour and day in question, `minutes` what is known now."""

    def __init__(
        self, device: str, *, parts: Mapping[PeriodKey, Mapping[int, Part]], minutes: Mapping[int, Minute]
    ) -> None:
        self._device = device
        self._parts = parts
        self._minutes = minutes
        self._hours: dict[int, Period] = {}

    def periods(self, *, before: int | None, newest: int, touched: Iterable[int]) -> list[Period]:
        """What changes as minutes that begin at `touched` do, and the newest reading's time from `before` to `newest`.

        The minutes are settled; all times are in ms.
        """
        hours, days = over(before=before, times=[*touched, newest])
        made = []
        for start in hours:
            minutes = {
                at: part_of(minute)
                for at in range(start, start + HOUR_MS, MINUTE_MS)
                if (minute := self._minutes.get(at)) is not None and minute.entries
            }
            hour = self._summed(Level.HOUR, start, minutes)
            if hour is not None:
                self._hours[start] = hour
                made.append(hour)
        for start in days:
            changed = {at: hour for at, hour in self._hours.items() if start <= at < start + DAY_MS}
            day = self._summed(Level.DAY, start, changed)
            if day is not None:
                made.append(day)
        return made

    def _summed(self, level: Level, start: int, changed: Mapping[int, Part]) -> Period | None:
        """None where nothing is left of it: of a device that was silent for longer than its minutes are kept."""
        parts = {**self._parts.get((self._device, level, start), {}), **changed}
        if not parts:
            return None
        return summed(level, list(parts.values()), device=self._device, start=start)
