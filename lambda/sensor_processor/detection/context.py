"""The context detector: how rare each value is in the context of what came before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, log

from ..ingest.catalogue import Metric
from .event import Event, Finding, begin, end, escalation

# @@ One view of a series: a table of how often a value was where, given a context, and how rare the next one is.

_BOUND_FROM = 200
_BOUND_HOLDS = 16
_GROWTH = 0.15
"""From so many samples on, a view's bound on its scores holds for 16 more, which add less than this to it: at a rate of
0.006 novelty falls by a tenth, of which the score has 0.85, and the logarithm of the total grows by 0.01."""

_FULL = 255
_RARITY = tuple(-log(weight / 6 + 0.01) for weight in range(12 * _FULL + 1))
"""By three times a cell's count and once that of its block, what its rarity gives to a score."""
_MOST = _RARITY[::4]
"""By a cell's count, the most that its rarity can give: with no neighbour but itself."""

_LEAST_SPAN = 1e-290
"""Ranges below it count as none, for a bin's reciprocal would not be finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A view's size and rates: `bins` a side, `capacity` samples before all counts are halved."""

    bins: int
    capacity: int
    warm: int
    rate: float
    is_shared: bool


class View:
    """Counts of (context, value) bins over the range seen so far, and how novel the series tends to be."""

    __slots__ = (
        "_bins",
        "_bound",
        "_bound_until",
        "_capacity",
        "_context_scale",
        "_is_shared",
        "_rate",
        "_rate_from",
        "_scale",
        "_warm",
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
        self._bins, self._capacity, self._warm, self._is_shared = (
            shape.bins,
            shape.capacity,
            shape.warm,
            shape.is_shared,
        )
        self._rate, self._rate_from = shape.rate, ceil(1.0 / shape.rate)
        self.table = bytearray(shape.bins * shape.bins)
        self.seen = 0
        self.counted = 0
        self.novelty = 1.0
        self.overshoot = 0.0
        self._bound = 0.0
        self._bound_until = 0
        self.set_range(0.0, 0.0, 0.0, 0.0)

    def set_range(self, low: float, high: float, context_low: float, context_high: float) -> None:
        """Lays the bins over these ranges; they are one where the view's shape shares them."""
        self.low, self.high = low, high
        self.context_low, self.context_high = context_low, context_high
        self._scale = _bins_a_unit(self.shape.bins, high - low)
        self._context_scale = _bins_a_unit(self.shape.bins, context_high - context_low)

    def score(self, context: float, value: float, least: float = 0.0) -> float:
        """The strangeness of `value` in `context`, which it then counts; 0 is usual, or not above `least`.

        Most readings cannot be stranger than what was told lately, and a look at their cell's count says so.
        """
        seen = self.seen
        self.seen = seen + 1
        if seen == 0:
            first = value if self._is_shared else context
            self.set_range(value, value, first, first)
            return 0.0
        overshoot = 0.0
        if self.low <= value <= self.high:
            if not (self._is_shared or self.context_low <= context <= self.context_high):
                self._extend(context, value)
        else:
            span = self.high - self.low
            if span > 0.0:
                overshoot = (self.low - value if value < self.low else value - self.high) / span
            self._extend(context, value)
        self.overshoot = overshoot
        bins = self._bins
        column = int((value - self.low) * self._scale)
        if column >= bins:
            column = bins - 1
        row = int((context - self.context_low) * self._context_scale)
        if row >= bins:
            row = bins - 1
        table = self.table
        cell = row * bins + column
        count = table[cell]
        counted = self.counted
        result = empty = 0.0
        if count == 0 or (64 * count < counted and seen >= self._warm):
            # Two looks at what cannot be stranger than `least`, which take no logarithm: by the cell, by its block.
            bound = self._bound if overshoot == 0.0 and counted < self._bound_until else inf
            if count == 0 or _MOST[count] + bound > least:
                near = self._near(row, column, cell, 3 * count, bound, least)
                if near == 0:
                    empty = 1.0
                rarity = _RARITY[3 * count + near]
                if seen >= self._warm and rarity + bound > least:
                    result = self._usual(counted + 1, overshoot) + rarity
                    if result < 0.0:
                        result = 0.0
        rate = self._rate if seen >= self._rate_from else 1.0 / (seen + 1)
        self.novelty += rate * (empty - self.novelty)
        if count < _FULL:
            table[cell] = count + 1
        self.counted = counted = counted + 1
        if counted == self._capacity:
            self.table = bytearray(count >> 1 for count in table)
            self.counted = counted >> 1
            self._bound_until = 0
        return result

    def _near(self, row: int, column: int, cell: int, weight: int, bound: float, least: float) -> int:
        """What was counted in the cell and its neighbours; or a part, where no more is needed to stay below `least`.

        `weight` is what the cell's own count weighs in its rarity.
        """
        table, bins = self.table, self._bins
        if 0 < row < bins - 1 and 0 < column < bins - 1:
            near = sum(table[cell - 1 : cell + 2])
            if near and _RARITY[weight + near] + bound <= least:
                return near
            above, below = cell - bins, cell + bins
            return near + sum(table[above - 1 : above + 2]) + sum(table[below - 1 : below + 2])
        start = row * bins + (column - 1 if column else column)
        end = row * bins + (column + 2 if column < bins - 1 else bins)
        near = sum(table[start:end])
        if row:
            near += sum(table[start - bins : end - bins])
        if row < bins - 1:
            near += sum(table[start + bins : end + bins])
        return near

    def _usual(self, total: int, overshoot: float) -> float:
        """What a score has besides the rarity of its cell: it falls where the series is often novel."""
        expected = self.novelty * total
        usual = log(total)
        if expected > 1.0:
            usual -= 0.85 * log(expected)
        # Until then, `usual` grows by less than that: with the total, and as novelty fades.
        self._bound = usual + _GROWTH
        self._bound_until = total + _BOUND_HOLDS if self.seen > _BOUND_FROM else 0
        if overshoot > 0.0:
            usual += 0.5 * (overshoot if overshoot < 2.0 else 2.0)
        return usual

    def _extend(self, context: float, value: float) -> None:
        """Widens the range to `value` (and `context`) and moves each old bin's count to where its centre now lies."""
        bins = self._bins
        low, high = min(self.low, value), max(self.high, value)
        columns = _moved(bins, self.low, self.high, low, high)
        if self._is_shared:
            rows, context_low, context_high = columns, low, high
        else:
            context_low, context_high = min(self.context_low, context), max(self.context_high, context)
            rows = _moved(bins, self.context_low, self.context_high, context_low, context_high)
        self.set_range(low, high, context_low, context_high)
        if columns is None and rows is None:  # nearly always, but for the first readings
            return
        columns, rows = columns or range(bins), rows or range(bins)
        moved = bytearray(bins * bins)
        for cell, count in enumerate(self.table):
            if count:
                target = rows[cell // bins] * bins + columns[cell % bins]
                total = moved[target] + count
                moved[target] = total if total < _FULL else _FULL
        self.table = moved


def _bins_a_unit(bins: int, span: float) -> float:
    return bins / span if span > _LEAST_SPAN else 0.0


def _moved(bins: int, low: float, high: float, new_low: float, new_high: float) -> Sequence[int] | None:
    """For each bin of the old range, the bin of the new range that holds its centre; None where all stay."""
    span = new_high - new_low
    if span <= 0.0:
        return None
    step = (high - low) / span
    first = (low - new_low) / span * bins + 0.5 * step
    last = first + (bins - 1) * step
    # The centres are in a line: where neither end leaves its bin, none does.
    if first < 1.0 and last >= bins - 1:
        return None
    if last >= bins:  # the old range was a point, and that is the new one's end
        return [bins - 1] * bins
    return [int(first + bin_ * step) for bin_ in range(bins)]


# @@ The context detector of one metric: how rare is a reading where the metric has been lately, in three views.
# @@
# @@ Each view counts (bin of a context, bin of a value) in a small table: `level` sees every reading in the
# @@ context of its slow average, `slow` every mean of twelve in the context of the means before, `volatility`
# @@ every eighth deviation in the context of the level. A cell that is rare against the rest, with empty
# @@ neighbours, on a series that is seldom novel, scores high. Causal: nothing is known ahead, and no reading is
# @@ seen twice.

UNIVARIATE_THRESHOLD = 6.25
"""Scores from here on are anomalies; measured on NAB (docs/processor.md)."""

MEAN_OF = 12
DEVIATION_EVERY = 8
VOLATILITY_HANDICAP = 0.8
REARM_AFTER = 400
"""Readings without an emission after which the next score need not exceed the last one."""

REMARKABLE = 0.75 * UNIVARIATE_THRESHOLD
"""While an event runs, readings from this score on belong to it: lower than where it begins, as baseline's is."""

CAUTION = 300.0
CLEAR_OVERSHOOT = 0.25
"""What is rare after few readings is often only new: the n-th reading's score is lowered by CAUTION / n, unless it lies
outside the range seen so far by a quarter of that range. Costs 1.3 points of NAB and saves nine of ten false alarms
among a quiet machine's first 300 readings (docs/processor.md)."""

VIEWS = ("level", "slow", "volatility")


LEVEL = Shape(bins=24, capacity=8192, warm=100, rate=0.0005, is_shared=True)
SLOW = Shape(bins=12, capacity=512, warm=20, rate=0.006, is_shared=True)
VOLATILITY = Shape(bins=20, capacity=512, warm=20, rate=0.004, is_shared=False)


class ThreeViews:
    """The detector of one metric; `update` gives a reading's score.

    Of a score above 0, `view` says what it was strange in, and `usual` the mean and the mean deviation before it.
    """

    __slots__ = (
        "alarms",
        "average",
        "count",
        "deviation",
        "held",
        "level",
        "mean",
        "rearmed",
        "remarked",
        "slow",
        "slow_average",
        "told",
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
        self.alarms = self.held = 0.0
        self.view = 0
        self.remarked = 0
        self.told = 0  # the last reading that was told, by its count
        self.rearmed = REARM_AFTER  # from this one on, the next need not exceed it; 0 while the detector is watched

    def watch(self, is_watched: bool) -> None:
        """Whether to work out `is_remarkable` too; it changes no score, and costs what the views save otherwise."""
        self.rearmed = 0 if is_watched else self.told + REARM_AFTER

    @property
    def quiet(self) -> int:
        """Readings since the last emission, or since the first one."""
        return self.count - self.told

    @quiet.setter
    def quiet(self, readings: int) -> None:
        self.told = self.count - readings
        self.watch(False)

    @property
    def is_remarkable(self) -> bool:
        """Whether the last reading was strange by itself, told or not; only while it is watched for."""
        return self.remarked == self.count

    def update(self, value: float) -> float:
        """The score of the next reading: 0, or more where it is stranger than what was emitted lately."""
        count = self.count + 1
        self.count = count
        if count == 1:
            self.average = self.trend = self.mean = value
        average, trend, mean, deviation = self.average, self.trend, self.mean, self.deviation
        # What is not above `least` would not be emitted, so the views need not work it out.
        least = self.held if count < self.rearmed else 0.0
        best = self.level.score(average, value, least)
        view = 0
        self.average = average + 0.05 * (value - average)
        self.total += value
        if count % MEAN_OF == 0:
            block = self.total / MEAN_OF
            self.total = 0.0
            if count == MEAN_OF:
                self.slow_average = block
            score = self.slow.score(self.slow_average, block, least)
            self.slow_average += 0.05 * (block - self.slow_average)
            if score > best:
                best, view = score, 1
        rate = 1.0 / count if count < 100 else 0.01
        delta = value - mean
        self.deviation = deviation + rate * ((delta if delta >= 0.0 else -delta) - deviation)
        self.mean = mean + rate * delta
        if count % DEVIATION_EVERY == 0:
            score = self.volatility.score(trend, self.deviation, least) - VOLATILITY_HANDICAP
            if score > best:
                best, view = score, 2
        self.trend = trend + 0.02 * (value - trend)
        self.alarms *= 0.9999
        if best > 0.0:
            self.usual = mean, deviation
            return self._emit(best, view)
        self.held *= 0.9995
        return 0.0

    def _emit(self, best: float, view: int) -> float:
        best -= 0.8 * log(1.0 + self.alarms)
        score = best - CAUTION / self.count if self.level.overshoot < CLEAR_OVERSHOOT else best
        if score >= REMARKABLE:
            self.remarked = self.count
        if best > 0.0 and (best > self.held or self.count - self.told >= REARM_AFTER):
            self.told = self.count
            if self.rearmed:
                self.rearmed = self.told + REARM_AFTER
            self.held = best
            self.view = view
            if best >= 6.0:
                self.alarms += 1.0
            return score if score > 0.0 else 0.0
        self.held *= 0.9995
        return 0.0


def univariate() -> ThreeViews:
    """A new detector for one metric."""
    return ThreeViews()


# @@ Events of the context detector: its scores are of single readings, and one trouble is many of them.
# @@
# @@ An event begins with a score that is told. Scores that follow while it runs belong to it. It is over when
# @@ nothing has been remarkable for a while: the metric is as before, or what was strange has become usual, which
# @@ a detector that learns cannot tell apart.

QUIET_READINGS = 60
"""So many readings in a row that are not remarkable end the event. Within them each view has spoken, the slowest one
five times. On the NAB files here 161 alarms become 146 events, and every window that an alarm met, an event meets
(docs/processor.md)."""


def follow_context(
    event: Event | None, metric: Metric, detector: ThreeViews, time: int, value: float, score: float
) -> tuple[Event | None, Finding | None]:
    """The event that runs after a reading of `time` (ms), and what is told."""
    if score >= UNIVARIATE_THRESHOLD:
        finding = _beginning(metric, detector, value, score)
        if event is None:
            detector.watch(True)
            return Event(began=time, is_critical=finding.is_critical, turned=time), finding
        event.turned, event.quiet = time, 0
        return event, escalation(event, finding)
    if event is None:
        return None, None
    if detector.is_remarkable:
        event.turned, event.quiet = time, 0
        return event, None
    event.quiet += 1
    if event.quiet < QUIET_READINGS:
        return event, None
    detector.watch(False)
    words = f"{metric.amount(value)}: nothing was unusual for {QUIET_READINGS} readings"
    return None, end(metric.name, "context", event, value=value, ended=event.turned, words=words)


def _beginning(metric: Metric, detector: ThreeViews, value: float, score: float) -> Finding:
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
    return begin(metric.name, "context", value=value, score=score, reason=reason)
