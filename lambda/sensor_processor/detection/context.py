"""The context detector: scores how rare each value of one metric is, given what came before it.

Three views count (context, value) pairs in small two-dimensional histograms:

- `level`: each reading, in the context of its slow moving average;
- `slow`: each mean of twelve readings, in the context of the earlier means;
- `volatility`: every eighth mean deviation, in the context of the moving average.

A reading scores high where its cell and the cells around it are nearly empty, on a metric that is seldom novel. The
detector is causal: it sees each reading once, in order, and nothing ahead of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log

from ..ingest.catalogue import Metric
from .event import Event, Finding, begin, end

UNIVARIATE_THRESHOLD = 6.25
"""Scores from here on begin an event; chosen on NAB (docs/processor.md)."""

NOTABLE = 0.75 * UNIVARIATE_THRESHOLD
"""While an event runs, scores from here on prolong it: lower than where it begins, so that it does not flap."""

QUIET_READINGS = 60
"""An event ends after this many readings in a row that are not notable. The slowest view scores five times in them."""

MEAN_OF = 12
DEVIATION_EVERY = 8
VOLATILITY_HANDICAP = 0.8

REARM_AFTER = 400
"""Readings after an emitted score from which the next one need not exceed it."""

CAUTION = 300.0
CLEAR_OVERSHOOT = 0.25
"""After few readings, rare often only means new: the n-th reading's score is lowered by CAUTION / n, unless it exceeds
the range seen so far by a quarter of that range. Measured in docs/processor.md."""

VIEWS = ("level", "slow", "volatility")

_FULL = 255
_RARITY = tuple(-log(weight / 6 + 0.01) for weight in range(12 * _FULL + 1))
"""Contribution of rarity to a score, by weight: three times the count of the cell plus the count of its 3 x 3 block."""

_LEAST_SPAN = 1e-290
"""Narrower ranges get a single bin: the width of theirs would have no finite reciprocal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewShape:
    """Size and rates of a view: `bins` a side; all counts are halved after `capacity` samples; no scores before `warm`
    samples; `rate` of the novelty average; `is_shared` where context and value have one range."""

    bins: int
    capacity: int
    warm: int
    rate: float
    is_shared: bool


LEVEL = ViewShape(bins=24, capacity=8192, warm=100, rate=0.0005, is_shared=True)
SLOW = ViewShape(bins=12, capacity=512, warm=20, rate=0.006, is_shared=True)
VOLATILITY = ViewShape(bins=20, capacity=512, warm=20, rate=0.004, is_shared=False)


class View:
    """Histogram of (context, value) bins over the range seen so far, and how novel the series tends to be."""

    __slots__ = (
        "_context_scale",
        "_rate_from",
        "_scale",
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

    def __init__(self, shape: ViewShape) -> None:
        self.shape = shape
        self._rate_from = ceil(1.0 / shape.rate)
        self.table = bytearray(shape.bins * shape.bins)
        self.seen = 0
        self.counted = 0
        self.novelty = 1.0
        self.overshoot = 0.0
        self.set_range(0.0, 0.0, 0.0, 0.0)

    def set_range(self, low: float, high: float, context_low: float, context_high: float) -> None:
        """Lay the bins over these ranges; both are the same where the shape shares them."""
        self.low, self.high = low, high
        self.context_low, self.context_high = context_low, context_high
        self._scale = _bins_per_unit(self.shape.bins, high - low)
        self._context_scale = _bins_per_unit(self.shape.bins, context_high - context_low)

    def score(self, context: float, value: float) -> float:
        """Score `value` in `context`, 0 where it is usual, and count it."""
        seen, shape = self.seen, self.shape
        self.seen = seen + 1
        if seen == 0:
            first = value if shape.is_shared else context
            self.set_range(value, value, first, first)
            return 0.0
        overshoot = 0.0
        if self.low <= value <= self.high:
            if not (shape.is_shared or self.context_low <= context <= self.context_high):
                self._extend(context, value)
        else:
            span = self.high - self.low
            if span > 0.0:
                overshoot = (self.low - value if value < self.low else value - self.high) / span
            self._extend(context, value)
        self.overshoot = overshoot
        bins = shape.bins
        column = int((value - self.low) * self._scale)
        if column >= bins:
            column = bins - 1
        row = int((context - self.context_low) * self._context_scale)
        if row >= bins:
            row = bins - 1
        cell = row * bins + column
        count = self.table[cell]
        counted = self.counted
        result = empty = 0.0
        # Frequent cells, by far the most readings, score 0: only rare ones are worth a look at their neighbours.
        if count == 0 or (64 * count < counted and seen >= shape.warm):
            block = self._block(row, column, cell)
            if block == 0:
                empty = 1.0
            if seen >= shape.warm:
                # Grows with the samples, falls where the series is often novel.
                result = log(counted + 1)
                novel = self.novelty * (counted + 1)
                if novel > 1.0:
                    result -= 0.85 * log(novel)
                if overshoot > 0.0:
                    result += 0.5 * (overshoot if overshoot < 2.0 else 2.0)
                result += _RARITY[3 * count + block]
                if result < 0.0:
                    result = 0.0
        rate = shape.rate if seen >= self._rate_from else 1.0 / (seen + 1)
        self.novelty += rate * (empty - self.novelty)
        if count < _FULL:
            self.table[cell] = count + 1
        self.counted = counted = counted + 1
        if counted == shape.capacity:
            self.table = bytearray(count >> 1 for count in self.table)
            self.counted = counted >> 1
        return result

    def _block(self, row: int, column: int, cell: int) -> int:
        """Count the samples in the cell and its neighbours."""
        table, bins = self.table, self.shape.bins
        if 0 < row < bins - 1 and 0 < column < bins - 1:
            above, below = cell - bins, cell + bins
            return sum(table[above - 1 : above + 2] + table[cell - 1 : cell + 2] + table[below - 1 : below + 2])
        start = row * bins + (column - 1 if column else 0)
        end = row * bins + (column + 2 if column < bins - 1 else bins)
        block = sum(table[start:end])
        if row:
            block += sum(table[start - bins : end - bins])
        if row < bins - 1:
            block += sum(table[start + bins : end + bins])
        return block

    def _extend(self, context: float, value: float) -> None:
        """Widen the range to `value` (and `context`); each old bin's count moves to the bin that has its centre."""
        bins = self.shape.bins
        low, high = min(self.low, value), max(self.high, value)
        columns = _moved_bins(bins, self.low, self.high, low, high)
        if self.shape.is_shared:
            rows, context_low, context_high = columns, low, high
        else:
            context_low, context_high = min(self.context_low, context), max(self.context_high, context)
            rows = _moved_bins(bins, self.context_low, self.context_high, context_low, context_high)
        self.set_range(low, high, context_low, context_high)
        if columns is None and rows is None:
            return
        columns, rows = columns or range(bins), rows or range(bins)
        moved = bytearray(bins * bins)
        for cell, count in enumerate(self.table):
            if count:
                target = rows[cell // bins] * bins + columns[cell % bins]
                total = moved[target] + count
                moved[target] = total if total < _FULL else _FULL
        self.table = moved


def _bins_per_unit(bins: int, span: float) -> float:
    return bins / span if span > _LEAST_SPAN else 0.0


def _moved_bins(bins: int, low: float, high: float, new_low: float, new_high: float) -> Sequence[int] | None:
    """Map each bin of the old range to the bin of the new range with its centre; None where no bin moves."""
    span = new_high - new_low
    if span <= 0.0:
        return None
    step = (high - low) / span
    first = (low - new_low) / span * bins + 0.5 * step
    last = first + (bins - 1) * step
    # The centres lie on a line: where neither end leaves its bin, none does.
    if first < 1.0 and last >= bins - 1:
        return None
    if last >= bins:  # the old range was a point, and that is the new one's end
        return [bins - 1] * bins
    return [int(first + bin_ * step) for bin_ in range(bins)]


class ContextDetector:
    """Score the readings of one metric.

    After an `update` that returned more than 0, `view` is the index in VIEWS of the view that scored highest, and
    `usual` the mean and the mean absolute deviation before that reading.
    """

    __slots__ = (
        "alarms",
        "average",
        "count",
        "deviation",
        "is_notable",
        "last_emitted_at",
        "last_emitted_score",
        "level",
        "mean",
        "slow",
        "slow_average",
        "total",
        "trend",
        "usual",
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
        self.usual = (0.0, 0.0)
        self.alarms = 0.0
        self.last_emitted_score = 0.0  # fades with each reading
        self.last_emitted_at = 0  # value of `count` at that reading
        self.view = 0
        self.is_notable = False  # whether the last reading scored NOTABLE or more, emitted or not

    @property
    def readings_since_emission(self) -> int:
        """Readings since the last emitted score, or since the first reading."""
        return self.count - self.last_emitted_at

    @readings_since_emission.setter
    def readings_since_emission(self, readings: int) -> None:
        self.last_emitted_at = self.count - readings

    def update(self, value: float) -> float:
        """Learn the next reading and return its score: 0 unless it is stranger than what was emitted lately."""
        count = self.count + 1
        self.count = count
        if count == 1:
            self.average = self.trend = self.mean = value
        average, trend, mean, deviation = self.average, self.trend, self.mean, self.deviation
        best = self.level.score(average, value)
        view = 0
        self.average = average + 0.05 * (value - average)
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
        delta = value - mean
        self.deviation = deviation + rate * ((delta if delta >= 0.0 else -delta) - deviation)
        self.mean = mean + rate * delta
        if count % DEVIATION_EVERY == 0:
            score = self.volatility.score(trend, self.deviation) - VOLATILITY_HANDICAP
            if score > best:
                best, view = score, 2
        self.trend = trend + 0.02 * (value - trend)
        self.alarms *= 0.9999
        # `_emit` only lowers a score, so most need not go there: they are below both bounds already.
        if (
            best >= NOTABLE
            or best > self.last_emitted_score
            or (best > 0.0 and self.readings_since_emission >= REARM_AFTER)
        ):
            self.usual = mean, deviation
            return self._emit(best, view)
        self.is_notable = False
        self.last_emitted_score *= 0.9995
        return 0.0

    def _emit(self, best: float, view: int) -> float:
        """Return the score if it exceeds what was emitted lately, lowered by recent alarms and for few readings."""
        best -= 0.8 * log(1.0 + self.alarms)
        score = best - CAUTION / self.count if self.level.overshoot < CLEAR_OVERSHOOT else best
        self.is_notable = score >= NOTABLE
        if best > 0.0 and (best > self.last_emitted_score or self.readings_since_emission >= REARM_AFTER):
            self.last_emitted_at = self.count
            self.last_emitted_score = best
            self.view = view
            if best >= 6.0:
                self.alarms += 1.0
            return score if score > 0.0 else 0.0
        self.last_emitted_score *= 0.9995
        return 0.0


def univariate() -> ContextDetector:
    """Make a detector for one metric, as a scorer of univariate series (NAB) calls it: `update(value) -> score`."""
    return ContextDetector()


def follow_context(
    event: Event | None, metric: Metric, detector: ContextDetector, time_ms: int, value: float, score: float
) -> tuple[Event | None, Finding | None]:
    """Group scores into events.

    The detector scores single readings; one problem shows in many. An event begins with a score of
    UNIVARIATE_THRESHOLD or more and ends after QUIET_READINGS readings without a notable one: either the metric is as
    before, or the detector has learned the new behaviour, which it cannot tell apart.

    Returns:
        The event that runs after this reading, and the finding to report, if any.
    """
    if score >= UNIVARIATE_THRESHOLD:
        if event is None:
            finding = _begin_context(metric, detector, value, score)
            return Event(began=time_ms, turned=time_ms, value=value), finding
        event.turned, event.quiet = time_ms, 0
        return event, None
    if event is None:
        return None, None
    if detector.is_notable:
        event.turned, event.quiet = time_ms, 0
        return event, None
    event.quiet += 1
    if event.quiet < QUIET_READINGS:
        return event, None
    words = f"{metric.amount(value)}: nothing was unusual for {QUIET_READINGS} readings"
    return None, end(metric, "context", event, value=value, ended=event.turned, words=words)


def _begin_context(metric: Metric, detector: ContextDetector, value: float, score: float) -> Finding:
    mean, deviation = detector.usual
    lately = f"lately {mean - 3 * deviation:.4g} to {mean + 3 * deviation:.4g}"
    now = metric.amount(value)
    view = VIEWS[detector.view]
    if view == "slow":
        reason = f"{metric.name} has drifted to an unusual level (now {now}; {lately})"
    elif view == "volatility":
        reason = f"{metric.name} fluctuates in an unusual way (now {now}; {lately})"
    else:
        reason = f"{metric.name} {now} is unusual for this device; {lately}"
    return begin(metric, "context", value=value, score=score, reason=reason)
