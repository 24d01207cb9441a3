"""Downsampled history: the hours and days of a device, each a sum of what lies in it, made when it is over.

An hour is over for a device when a reading of a later hour has been counted, and so is a day. What changes a minute
of an hour that is over makes that hour anew, and its day. So, of every hour and day that is over, the items say at any
time what their minutes say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache

import msgspec

from .minute import MINUTE_MS, Minute, Totals, minute_bucket

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
