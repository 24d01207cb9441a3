"""The context detector of one metric: how rare is a reading where the metric has been lately, in three views.

Each view counts (bin of a context, bin of a value) in a small table: `level` sees every reading in the context of its
slow average, `slow` every mean of twelve in the context of the means before, `volatility` every eighth deviation in
the context of the level. A cell that is rare against the rest, with empty neighbours, on a series that is seldom
novel, scores high. Causal: nothing is known ahead, and no reading is seen twice.
"""

from __future__ import annotations

from math import log

from .view import Shape, View

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
