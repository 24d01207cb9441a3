"""Read a thing's history from the readings table; periods that are not over are summed from their parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleet_iot.sensor_processor.numbers.exact import decimal_text
from fleet_iot.sensor_processor.numbers.minute import minute_bucket, minute_of
from fleet_iot.sensor_processor.numbers.period import (
    DAY_MS,
    HOUR_MS,
    Level,
    Part,
    day_of,
    hour_of,
    period_bucket,
    sum_parts,
)
from fleet_iot.sensor_processor.planning.items import QUANTILES, highest_revisions, last_bucket, parse_part

_START_OF = {"minute": minute_of, "hour": hour_of, "day": day_of}
LEVELS = tuple(_START_OF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One metric's numbers over a minute, hour or day that starts at `start` (ms); `sum` is exact, as text.

    `is_over`: no more readings of it are expected. `quantiles` are accurate to one per cent, by the names of
    `items.QUANTILES`.
    """

    start: int
    is_over: bool
    metric: str
    count: int
    sum: str
    mean: float
    min: float
    max: float
    quantiles: Mapping[str, float]


def history(client: Any, table: str, *, thing: str, level: str, since: int, until: int) -> Iterator[Row]:
    """Read a level's rows in order of time, from the period with `since` (ms) in it to the one with `until`."""
    start_of = _START_OF[level]
    find = {"minute": _minutes, "hour": _hours, "day": _days}[level]
    for part in find(_Source(client, table, thing), start_of(since), until):
        yield from _rows(part, is_over=part.start < start_of(until))


@dataclass(frozen=True, slots=True)
class _Source:
    client: Any
    table: str
    thing: str

    def parts(self, first: str, last: str) -> list[Part]:
        """Read the items from one range key to another, of each minute, hour and day its highest revision."""
        pages = self.client.get_paginator("query").paginate(
            TableName=self.table,
            KeyConditionExpression="#device = :device AND #bucket BETWEEN :first AND :last",
            ExpressionAttributeNames={"#device": "device", "#bucket": "bucket"},
            ExpressionAttributeValues={
                ":device": {"S": self.thing},
                ":first": {"S": first},
                ":last": {"S": last_bucket(last)},
            },
        )
        items = highest_revisions(item for page in pages for item in page["Items"])
        return [parse_part(item, start=_start(item["bucket"]["S"])) for item in items]


def _days(source: _Source, since: int, until: int) -> list[Part]:
    stored = source.parts(period_bucket(Level.DAY, since), period_bucket(Level.DAY, until))
    rest = stored[-1].start + DAY_MS if stored else since
    return [*stored, *_summed(Level.DAY, _hours(source, rest, until), source.thing)]


def _hours(source: _Source, since: int, until: int) -> list[Part]:
    if since > until:
        return []
    stored = source.parts(period_bucket(Level.HOUR, since), period_bucket(Level.HOUR, until))
    rest = stored[-1].start + HOUR_MS if stored else since
    return [*stored, *_summed(Level.HOUR, _minutes(source, rest, until), source.thing)]


def _minutes(source: _Source, since: int, until: int) -> list[Part]:
    return source.parts(minute_bucket(since), minute_bucket(until)) if since <= until else []


def _summed(level: Level, parts: list[Part], thing: str) -> list[Part]:
    groups: dict[int, list[Part]] = {}
    for part in parts:
        groups.setdefault(_START_OF[level.value](part.start), []).append(part)
    return [sum_parts(level, group, device=thing, start=start) for start, group in groups.items()]


def _start(bucket: str) -> int:
    """Parse the start (ms) in a range key: `minute#2026-11-23T14:49Z`, `hour#2026-11-23T14Z`, `day#2026-11-23`."""
    text = bucket.split("#")[1].removesuffix("Z")
    return round(datetime.fromisoformat(f"{text}T00+00:00" if "T" not in text else f"{text}+00:00").timestamp()) * 1000


def _rows(part: Part, *, is_over: bool) -> Iterator[Row]:
    for metric, totals in sorted(part.metrics.items()):
        total = decimal_text(totals.sum)
        found = zip(QUANTILES, totals.sketch.quantiles(list(QUANTILES.values())), strict=True)
        yield Row(
            start=part.start,
            is_over=is_over,
            metric=metric,
            count=totals.count,
            sum=total,
            mean=float(total) / totals.count,
            min=totals.min,
            max=totals.max,
            quantiles={name: min(max(value, totals.min), totals.max) for name, value in found},
        )
