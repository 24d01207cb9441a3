"""The context detector of one metric: how rare is a reading where the metric has been lately, in three views.

Each view counts (bin of a context, bin of a value) in a small table: `level` sees every reading in the context of its
slow average, `slow` every mean of twelve in the context of the means before, `volatility` every eighth deviation in
the context of the level. A cell that is rare against the rest, with empty neighbours, on a series that is seldom
novel, scores high. Causal: nothing is known ahead, and no reading is seen twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

UNIVARIATE_THRESHOLD = 6.25
"""Scores from here on are anomalies; measured on NAB (docs/processor.md)."""

MEAN_OF = 12
DEVIATION_EVERY = 8
VOLATILITY_HANDICAP = 0.8
REARM_AFTER = 400
"""Readings without an emission after which the next score need not exceed the last one."""

CAUTION = 300.0
CLEAR_OVERSHOOT = 0.25
"""What is rare after few readings is often only new: the n-th reading's score is lowered by CAUTION / n, unless it lies
outside the range seen so far by a quarter of that range. Costs 1.3 points of NAB and saves nine of ten false alarms
among a quiet machine's first 300 readings (docs/processor.md)."""

VIEWS = ("level", "slow", "volatility")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A view's size and rates: `bins` a side, `capacity` samples before all counts are halved."""

    bins: int
    capacity: int
    warm: int
    rate: float
    is_shared: bool


LEVEL = Shape(bins=24, capacity=8192, warm=100, rate=0.0005, is_shared=True)
SLOW = Shape(bins=12, capacity=512, warm=20, rate=0.006, is_shared=True)
VOLATILITY = Shape(bins=20, capacity=512, warm=20, rate=0.004, is_shared=False)


class View:
    """Counts of (context, value) bins over the range seen so far, and how novel the series tends to be."""

    __slots__ = (
        "context_high",
        "context_low",
        "counted",
        "high",
        "low",
        "novelty",
        "overshoot",
        "seen",
        "shape",
        "table",
    )

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.table = bytearray(shape.bins * shape.bins)
        self.seen = 0
        self.counted = 0
        self.novelty = 1.0
        self.overshoot = 0.0
        self.low = self.high = 0.0
        self.context_low = self.context_high = 0.0

    def score(self, context: float, value: float) -> float:
        """The strangeness of `value` in `context`, which it then counts; 0 is usual."""
        shape = self.shape
        seen = self.seen
        self.seen = seen + 1
        if seen == 0:
            self.low = self.high = value
            self.context_low = self.context_high = value if shape.is_shared else context
            return 0.0
        overshoot = 0.0
        if not self.low <= value <= self.high:
            span = self.high - self.low
            if span > 0.0:
                overshoot = (self.low - value if value < self.low else value - self.high) / span
            self._extend(context, value)
        elif not shape.is_shared and not self.context_low <= context <= self.context_high:
            self._extend(context, value)
        self.overshoot = overshoot
        bins = shape.bins
        last = bins - 1
        table = self.table
        span = self.high - self.low
        column = min(int((value - self.low) / span * bins), last) if span > 0.0 else 0
        if shape.is_shared:
            row = min(int((context - self.low) / span * bins), last) if span > 0.0 else 0
        else:
            context_span = self.context_high - self.context_low
            row = min(int((context - self.context_low) / context_span * bins), last) if context_span > 0.0 else 0
        cell = row * bins + column
        count = table[cell]
        counted = self.counted
        result = 0.0
        empty = 0.0
        if count == 0 or 64 * count < counted:
            left = column - 1 if column else 0
            right = column + 2 if column < last else bins
            near = 0
            for start in range((row - 1 if row else 0) * bins, (row + 2 if row < last else bins) * bins, bins):
                near += sum(table[start + left : start + right])
            if near == 0:
                empty = 1.0
            if seen >= shape.warm:
                result = -log((count / 2 + near / 6 + 0.01) / (counted + 1))
                expected = self.novelty * (counted + 1)
                if expected > 1.0:
                    result -= 0.85 * log(expected)
                result += 0.5 * (overshoot if overshoot < 2.0 else 2.0)
                if result < 0.0:
                    result = 0.0
        rate = 1.0 / (seen + 1)
        self.novelty += (rate if rate > shape.rate else shape.rate) * (empty - self.novelty)
        if count < 255:
            table[cell] = count + 1
        self.counted = counted + 1
        if self.counted == shape.capacity:
            self.table = bytearray(count >> 1 for count in table)
            self.counted >>= 1
        return result

    def _extend(self, context: float, value: float) -> None:
        """Widens the range to `value` (and `context`) and moves each old bin's count to where its centre now lies."""
        bins = self.shape.bins
        low, high = min(self.low, value), max(self.high, value)
        columns = _moved(bins, self.low, self.high, low, high)
        if self.shape.is_shared:
            rows = columns
        else:
            context_low, context_high = min(self.context_low, context), max(self.context_high, context)
            rows = _moved(bins, self.context_low, self.context_high, context_low, context_high)
            self.context_low, self.context_high = context_low, context_high
        self.low, self.high = low, high
        moved = bytearray(bins * bins)
        for cell, count in enumerate(self.table):
            if count:
                target = rows[cell // bins] * bins + columns[cell % bins]
                moved[target] = min(moved[target] + count, 255)
        self.table = moved


def _moved(bins: int, low: float, high: float, new_low: float, new_high: float) -> list[int]:
    """For each bin of the old range, the bin of the new range that holds its centre."""
    width = (high - low) / bins
    span = new_high - new_low
    if span <= 0.0:
        return list(range(bins))
    return [min(max(int((low + (bin_ + 0.5) * width - new_low) / span * bins), 0), bins - 1) for bin_ in range(bins)]


class ThreeViews:
    """The detector of one metric; `update` gives a reading's score, and `view` what it was strange in."""

    __slots__ = (
        "alarms",
        "average",
        "count",
        "deviation",
        "held",
        "level",
        "mean",
        "quiet",
        "slow",
        "slow_average",
        "total",
        "trend",
        "view",
        "volatility",
    )

    def __init__(self) -> None:
        self.level = View(LEVEL)
        self.slow = View(SLOW)
        self.volatility = View(VOLATILITY)
        self.count = 0
        self.average = self.trend = self.slow_average = 0.0
        self.total = 0.0
        self.mean = self.deviation = 0.0
        self.alarms = self.held = 0.0
        self.quiet = 0
        self.view = 0

    def update(self, value: float) -> float:
        """The score of the next reading: 0, or more where it is stranger than what was emitted lately."""
        count = self.count + 1
        self.count = count
        if count == 1:
            self.average = self.trend = self.mean = value
        best = self.level.score(self.average, value)
        view = 0
        self.average += 0.05 * (value - self.average)
        self.total += value
        if count % MEAN_OF == 0:
            block = self.total / MEAN_OF
            self.total = 0.0
            if count == MEAN_OF:
                self.slow_average = block
            score = self.slow.score(self.slow_average, block)
            self.slow_average += 0.05 * (block - self.slow_average)
            if score > best:
                best, view = score, 1
        rate = 1.0 / count if count < 100 else 0.01
        self.deviation += rate * (abs(value - self.mean) - self.deviation)
        self.mean += rate * (value - self.mean)
        if count % DEVIATION_EVERY == 0:
            score = self.volatility.score(self.trend, self.deviation) - VOLATILITY_HANDICAP
            if score > best:
                best, view = score, 2
        self.trend += 0.02 * (value - self.trend)
        return self._emit(best, view)

    def _emit(self, best: float, view: int) -> float:
        self.alarms *= 0.9999
        best -= 0.8 * log(1.0 + self.alarms)
        self.quiet += 1
        if best > 0.0 and (best > self.held or self.quiet >= REARM_AFTER):
            self.quiet = 0
            self.held = best
            self.view = view
            if best >= 6.0:
                self.alarms += 1.0
            if self.level.overshoot < CLEAR_OVERSHOOT:
                best -= CAUTION / self.count
            return best if best > 0.0 else 0.0
        self.held *= 0.9995
        return 0.0


def univariate() -> ThreeViews:
    """A new detector for one metric."""
    return ThreeViews()
