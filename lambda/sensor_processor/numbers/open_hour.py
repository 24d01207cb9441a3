"""The hour of a device that is not over yet, as this process has counted it: so that its end reads nothing.

It is known only where this process has counted all of it, from its first reading on. Else the tables are asked.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .minute import Minute, Settled, Totals
from .period import HOUR_MS, Level, Part, Period, summed


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
