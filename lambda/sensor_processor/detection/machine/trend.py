"""Forecasts when a metric reaches its limit, from the course of its daily means.

The slope is Theil and Sen's, the median of the slopes between all pairs of days, and the course is one where Kendall's
tau is high (Mann 1945, https://doi.org/10.2307/1907187; Sen 1968, https://doi.org/10.1080/01621459.1968.10480934).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from ..event import Event
from .short import short

FEWEST_DAYS, MOST_DAYS = 5, 8
"""Days of a course; older ones are forgotten."""
LEAST_BLOCKS = 6
"""Blocks in which the machine worked that make a day count."""
LEAST_TAU = 0.8
HORIZON, HORIZON_ON = 14.0, 21.0
"""Days until the limit is reached, below which a trend begins, and above which it ends."""
CONFIRMED_DAYS = 7.0
"""Days for which something that was found in the metric confirms that its trend is no chance."""


class Forecast(NamedTuple):
    """The limit that a metric reaches, in how many days (by the median slope, its ninth and its first tenth), and its
    change a day."""

    limit: float
    days: float
    earliest: float
    latest: float
    slope: float


class Trend:
    """The daily means of one metric, in scales from its centre."""

    __slots__ = ("blocks", "event", "found", "rows", "total")

    def __init__(self) -> None:
        self.rows: list[tuple[float, float]] = []
        self.total = self.blocks = 0.0
        self.found = -1e6  # day on which something was last found in the metric
        self.event: Event | None = None

    def add(self, mean: float) -> None:
        """Count a block in which the machine worked."""
        self.total = short(self.total + mean)
        self.blocks += 1.0

    def close(self, day: float) -> None:
        """End a day."""
        if self.blocks >= LEAST_BLOCKS:
            self.rows = [*self.rows, (day, short(self.total / self.blocks))][-MOST_DAYS:]
        self.total = self.blocks = 0.0

    def forecast(self, day: float, *, minimum: float, maximum: float) -> Forecast | None:
        """Return when a limit (in scales, infinite where there is none) is reached, where that can be said."""
        rows = [row for row in self.rows if row[0] > day - 2 * MOST_DAYS]
        if len(rows) < FEWEST_DAYS or (self.event is None and day - self.found > CONFIRMED_DAYS):
            return None
        slopes = sorted((later[1] - row[1]) / (later[0] - row[0]) for row, later in combinations(rows, 2))
        up = sum(slope > 0.0 for slope in slopes) - sum(slope < 0.0 for slope in slopes)
        if abs(up) < LEAST_TAU * len(slopes):
            return None
        limit, way = (maximum, 1.0) if up > 0 else (minimum, -1.0)
        slow, usual, fast = sorted(slopes[len(slopes) * tenth // 10] * way for tenth in (1, 5, 9))
        left = (limit - rows[-1][1]) * way
        horizon = HORIZON if self.event is None else HORIZON_ON
        if slow <= 0.0 or not 0.0 < left <= usual * horizon:
            return None
        return Forecast(limit, left / usual, left / fast, left / slow, usual * way)

    def numbers(self) -> list[float]:
        """List the state for `restore`, without the event; `short` is exact for each."""
        rows = [number for row in self.rows for number in row]
        return [self.total, self.blocks, short(self.found), float(len(self.rows)), *rows]

    def restore(self, numbers: Iterator[float]) -> None:
        """Continue from `numbers`."""
        self.total, self.blocks, self.found, count = (next(numbers) for _ in range(4))
        self.rows = [(next(numbers), next(numbers)) for _ in range(int(count))]
