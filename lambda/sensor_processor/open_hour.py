"""The hour of a device that is not over yet, as this process has counted it: so that its end reads nothing.

It is known only where this process has counted all of it, from its first reading on. Else the tables are asked.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sensor_processor.aggregate import Minute, Settled, Totals
from sensor_processor.history import HOUR_MS, Level, Part, Period, summed


class OpenHour(msgspec.Struct, kw_only=True):
    """An hour that begins at `start` (ms). Who it is of follows its newest minute."""

    start: int
    newest: int = -1
    facility: str = ""
    device_type: str = ""
    minutes: set[int] = set()
    messages: int = 0
    late: int = 0
    metrics: dict[str, Totals] = {}

    def covers(self, time: int) -> bool:
        """Whether `time` (ms) lies in it."""
        return self.start <= time < self.start + HOUR_MS

    def count(self, minute: Minute, settled: Settled) -> None:
        """Counts in what has just been settled in one of its minutes."""
        if not settled.messages:
            return
        self.minutes.add(minute.start)
        self.messages += settled.messages
        self.late += settled.late
        for name, fresh in settled.metrics.items():
            totals = self.metrics.get(name)
            if totals is None:
                totals = self.metrics[name] = Totals.none()
            totals.absorb(fresh)
        if minute.start >= self.newest:
            self.newest, self.facility, self.device_type = minute.start, minute.facility, minute.device_type

    def period(self, device: str) -> Period:
        """The hour as it is, to be written."""
        return Period(
            level=Level.HOUR,
            device=device,
            start=self.start,
            facility=self.facility,
            device_type=self.device_type,
            parts=len(self.minutes),
            messages=self.messages,
            late=self.late,
            metrics=self.metrics,
        )


def open_hour_of(minutes: Mapping[int, Part], *, device: str, start: int) -> OpenHour:
    """The hour that has these minutes, by start; at least one."""
    period = summed(Level.HOUR, list(minutes.values()), device=device, start=start)
    return OpenHour(
        start=start,
        newest=max(minutes),
        facility=period.facility,
        device_type=period.device_type,
        minutes=set(minutes),
        messages=period.messages,
        late=period.late,
        metrics=dict(period.metrics),
    )
