"""Downsampled history: hours and days of a device, summed from its minutes and hours.

A period collects its parts while it is open. A late reading is added to the last revision of its minute, hour and day,
never by summing parts again, which may have expired. So the items of a closed period always agree with its parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum

import msgspec

from .minute import Minute, MinuteDelta, Totals, key_of

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Level(Enum):
    """Length of a period; the value is the prefix of its items' range keys."""

    HOUR = "hour"
    DAY = "day"


class Part(msgspec.Struct, kw_only=True):
    """A minute of an hour, or an hour of a day, as its period needs it; `start` is in ms."""

    start: int
    facility: str
    device_type: str
    messages: int
    late: int
    metrics: Mapping[str, Totals]


class Period(Part, kw_only=True):
    """An hour or a day (UTC) of a device; `parts` counts its minutes or hours that have readings.

    The part that begins last, at `newest_part` (ms), decides facility and device type. `is_stored`: the readings table
    has a revision of it, or will have one.
    """

    level: Level
    device: str
    parts: int = 0
    messages: int = 0
    late: int = 0
    facility: str = ""
    device_type: str = ""
    metrics: dict[str, Totals] = {}
    newest_part: int = 0
    is_stored: bool = False

    def add(self, part: Minute | Period, delta: MinuteDelta | Period | None = None, *, is_new: bool) -> None:
        """Add a part, or only what `delta` has added to it; `is_new`: the part is not counted yet."""
        self.parts += is_new
        if part.start >= self.newest_part:
            self.newest_part, self.facility, self.device_type = part.start, part.facility, part.device_type
        added = delta if delta is not None else part
        self.messages += len(added.entries) if isinstance(added, Minute) else added.messages
        self.late += added.late
        _absorb(self.metrics, added.metrics)


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
        newest_part=newest.start,
    )


def _absorb(metrics: dict[str, Totals], added: Mapping[str, Totals]) -> None:
    for name, totals in added.items():
        key = key_of(metrics, name, unit=totals.unit)
        if key not in metrics:
            metrics[key] = Totals.empty(unit=totals.unit)
        metrics[key].absorb(totals)
