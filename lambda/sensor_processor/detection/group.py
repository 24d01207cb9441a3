"""Detectors over several metrics of one device at once, `baseline` and `correlation`, and their events.

Each looks at rows: readings that have a value for every metric that names the detector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import msgspec

from ..ingest.catalogue import Metric
from .event import Event, Finding, begin, end

GROUPED = ("baseline", "correlation")

LEARN_ROWS = 400
"""Rows that a detector learns as usual before it reports: 67 minutes at one row every ten seconds."""

NAMED = 3
"""Other metrics that a finding names: a device's outbox keeps a hundred notifications."""


class Correlation:
    """Detect metrics that no longer move together, by Hotelling's T².

    T² is the distance of a row from the learned mean in the learned covariance: power that rises with flow is usual,
    power that rises without it is not, though each value by itself is. https://doi.org/10.2307/1268779
    """

    SMOOTHING = 0.2
    ON = 12.0
    OFF = 7.0
    """Standard deviations of the smoothed T² above its mean, for normal rows, at which the state begins and ends."""

    __slots__ = ("channels", "count", "factor", "means", "products", "score", "smooth", "state", "worst")

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.count = 0
        self.means = [0.0] * channels
        self.products = [[0.0] * channels for _ in range(channels)]
        self.factor: list[list[float]] = []
        self.smooth = float(channels)
        self.score = 0.0
        self.worst = 0
        self.state = False

    def update(self, values: Sequence[float]) -> bool:
        """Learn the next row (finite numbers) and return whether the state is anomalous."""
        if self.count < LEARN_ROWS:
            self._learn(values)
            return False
        distances = self._standardised([value - mean for value, mean in zip(values, self.means, strict=True)])
        squares = [distance * distance for distance in distances]
        # Bounded: a single row far out is for the limits to report, a state needs several.
        self.smooth += self.SMOOTHING * (min(sum(squares), 200.0 * self.channels) - self.smooth)
        self.worst = max(range(self.channels), key=squares.__getitem__)
        spread = sqrt(2 * self.channels * self.SMOOTHING / (2 - self.SMOOTHING))
        self.score = (self.smooth - self.channels) / spread
        self.state = self.score > (self.OFF if self.state else self.ON)
        return self.state

    def numbers(self) -> list[Any]:
        """List the state for `restore`."""
        return [self.count, self.means, self.products, self.smooth, self.state]

    def restore(self, count: int, means: list[float], products: list[list[float]], smooth: float, is_on: bool) -> None:
        """Continue from a packed state."""
        self.count, self.means, self.products, self.smooth, self.state = count, means, products, smooth, is_on
        if count >= LEARN_ROWS:
            self.factor = _cholesky(self._covariance())

    def _learn(self, values: Sequence[float]) -> None:
        self.count += 1
        before = [value - mean for value, mean in zip(values, self.means, strict=True)]
        self.means = [mean + delta / self.count for mean, delta in zip(self.means, before, strict=True)]
        for row, delta in enumerate(before):
            for column, value in enumerate(values):
                self.products[row][column] += delta * (value - self.means[column])
        if self.count == LEARN_ROWS:
            self.factor = _cholesky(self._covariance())

    def _covariance(self) -> list[list[float]]:
        covariance = [[value / self.count for value in row] for row in self.products]
        for place, row in enumerate(covariance):
            row[place] += 1e-6 * row[place] + (1e-4 * self.means[place]) ** 2 + 1e-12
        return covariance

    def _standardised(self, deltas: list[float]) -> list[float]:
        """Solve factor · x = deltas; the squares of x add up to T²."""
        solved: list[float] = []
        for row, delta in zip(self.factor, deltas, strict=True):
            known = sum(factor * value for factor, value in zip(row, solved, strict=False))
            solved.append((delta - known) / row[len(solved)])
        return solved


def _cholesky(matrix: list[list[float]]) -> list[list[float]]:
    """Return the lower factor of a symmetric positive matrix; pivots that rounding makes negative become 1e-18."""
    factor: list[list[float]] = []
    for place, row in enumerate(matrix):
        made: list[float] = []
        for column in range(place + 1):
            above = made if column == place else factor[column]
            value = row[column] - sum(a * b for a, b in zip(made, above, strict=False))
            made.append(sqrt(max(value, 1e-18)) if column == place else value / factor[column][column])
        factor.append(made)
    return factor


class Baseline:
    """Detect a machine that has shifted from where it was: any smoothed channel far from its learned level.

    For LEARN_ROWS rows it learns the level of each channel and how far the means of blocks of rows wander. Causal, a
    few numbers a channel.
    """

    BLOCK = 100
    """Rows of a block."""

    SMOOTHING = 0.1
    SCORE_SMOOTHING = 0.3
    ON = 7.0
    OFF = 5.25
    """The state begins above ON and ends below OFF, in scales of the channel; chosen on SKAB (docs/processor.md)."""

    RELEASE = 0.33
    """The state also ends below this fraction of its highest score: a machine seldom comes to rest exactly where it
    was, and an alarm that never ends is useless."""

    FORGET = 0.98
    """Factor a row by which that highest score fades after the state; a new state must exceed what is left of it in
    proportion. After a score of 100 this lasts 90 rows."""

    FOLLOW = 0.001
    FOLLOW_BELOW = 4.9
    """Rate at which, and score up to which, the levels follow a machine that ages."""

    SETTLE = 0.02
    """Rate after a state: to where the machine came to rest, as fast as the highest score fades, so that what is left
    of the state does not begin a new one."""

    FARTHEST = 1000.0
    """Largest distance of a channel, in scales, so that one absurd value fades soon."""

    __slots__ = (
        "_blocks",
        "channels",
        "count",
        "means",
        "peak",
        "scales",
        "score",
        "smooth",
        "squares",
        "state",
        "worst",
    )

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.count = 0
        self.means = [0.0] * channels
        self.squares = [0.0] * channels
        self._blocks: list[list[float]] = []
        self.smooth = [0.0] * channels
        self.scales = [1.0] * channels
        self.score = 0.0
        self.peak = 0.0
        self.worst = 0
        self.state = False

    def update(self, values: Sequence[float]) -> bool:
        """Learn the next row (finite numbers) and return whether the state is anomalous."""
        if self.count < LEARN_ROWS:
            self._learn(values)
            return False
        worst = -1.0
        for place, value in enumerate(values):
            smooth = self.smooth[place] + self.SMOOTHING * (value - self.smooth[place])
            self.smooth[place] = smooth
            distance = abs(smooth - self.means[place]) / self.scales[place]
            if distance > worst:
                worst, self.worst = distance, place
        self.score += self.SCORE_SMOOTHING * (min(worst, self.FARTHEST) - self.score)
        if self.state:
            self.peak = max(self.peak, self.score)
            self.state = self.score > max(self.OFF, self.RELEASE * self.peak)
        else:
            self.state = self.score > max(self.ON, self.ON / self.OFF * self.RELEASE * self.peak)
            self.peak = self.score if self.state else self.FORGET * self.peak
        if not self.state:
            self._follow(values)
        return self.state

    @property
    def is_still_away(self) -> bool:
        """Return whether the machine is not back at its level, though the state may have ended."""
        return self.score > self.OFF

    def _follow(self, values: Sequence[float]) -> None:
        if self.RELEASE * self.peak > self.OFF and self.score <= self.RELEASE * self.peak:
            rate = self.SETTLE
        elif self.score <= self.FOLLOW_BELOW:
            rate = self.FOLLOW
        else:
            return
        for place, value in enumerate(values):
            self.means[place] += rate * (value - self.means[place])

    def numbers(self) -> list[Any]:
        """List the state for `restore`."""
        return [
            self.count,
            self.means,
            self.squares,
            self._blocks,
            self.smooth,
            self.scales,
            self.score,
            self.state,
            self.peak,
        ]

    def restore(
        self,
        count: int,
        means: list[float],
        squares: list[float],
        blocks: list[list[float]],
        smooth: list[float],
        scales: list[float],
        score: float,
        state: bool,
        peak: float = 0.0,
    ) -> None:
        """Continue from packed numbers of as many channels; older states have no `peak`."""
        self.count, self.means, self.squares, self._blocks = count, means, squares, blocks
        self.smooth, self.scales, self.score, self.state, self.peak = smooth, scales, score, state, peak

    def _learn(self, values: Sequence[float]) -> None:
        """Update mean and variance of each channel, by Welford: https://doi.org/10.1080/00401706.1962.10490022"""
        if self.count == 0:
            self.smooth = list(map(float, values))
        if self.count % self.BLOCK == 0:
            self._blocks.append([0.0] * self.channels)
        self.count += 1
        block = self._blocks[-1]
        for place, value in enumerate(values):
            before = value - self.means[place]
            self.means[place] += before / self.count
            self.squares[place] += before * (value - self.means[place])
            block[place] += value / self.BLOCK
            self.smooth[place] += self.SMOOTHING * (value - self.smooth[place])
        if self.count == LEARN_ROWS:
            self.scales = [self._scale(place) for place in range(self.channels)]
            self._blocks = []

    def _scale(self, place: int) -> float:
        means = [block[place] for block in self._blocks]
        middle = sum(means) / len(means)
        wandering = sum((mean - middle) ** 2 for mean in means) / (len(means) - 1)
        variance = self.squares[place] / self.count
        return sqrt(wandering + 0.02 * variance + (0.002 * self.means[place]) ** 2 + 1e-12)


def multichannel(channels: int) -> Baseline:
    """Make a detector for one machine, as a scorer of multichannel series (SKAB) calls it: `update(row) -> bool`."""
    return Baseline(channels)


class Group:
    """One detector over the metrics of a device type that name it, sorted by name."""

    __slots__ = ("detector", "event", "metric", "metrics", "name", "names")

    def __init__(self, name: str, metrics: Mapping[str, Metric]) -> None:
        self.name = name
        self.metrics = metrics
        self.event: Event | None = None
        self.metric = ""
        self.names = tuple(sorted(key for key, metric in metrics.items() if metric.detector == name))
        make = Baseline if name == "baseline" else Correlation
        self.detector: Baseline | Correlation = make(max(len(self.names), 1))

    def update(self, time: int, values: Mapping[str, float]) -> Finding | None:
        """Learn a reading of `time` (ms); return the finding if a state begins or ends.

        A beginning names the metric that is furthest away. A reading that lacks one of the metrics is skipped.
        """
        try:
            row = [values[name] for name in self.names]
        except KeyError:
            return None
        was_on = self.detector.state
        is_on = self.detector.update(row)
        if is_on == was_on:
            return None
        if not is_on:
            return self._ending(time, values)
        metric = self.metrics[self.names[self.detector.worst]]
        value = values[metric.name]
        finding = begin(metric, self.name, value=value, score=self.detector.score, reason=self._words(metric, value))
        self.event = Event(began=time, value=value)
        self.metric = metric.name
        return finding

    def _ending(self, time: int, values: Mapping[str, float]) -> Finding | None:
        event, self.event = self.event, None
        if event is None:
            return None
        value = values[self.metric]
        metric = self.metrics[self.metric]
        amount = metric.amount(value)
        if isinstance(self.detector, Baseline) and self.detector.is_still_away:
            mean = self.detector.means[self.names.index(self.metric)]
            words = f"{amount} is most of the way back to its baseline of {mean:.4g}, which follows it from here"
        else:
            words = f"{amount} is as usual again"
        return end(metric, self.name, event, value=value, ended=time, words=words)

    def state(self) -> list[Any]:
        """List the state for `restore`: names of the metrics, event, its metric, numbers of the detector."""
        return [list(self.names), self.event, self.metric, *self.detector.numbers()]

    def restore(self, state: list[Any]) -> None:
        """Continue from `state`, which is of the same metrics. Raises ValueError or TypeError."""
        _, event, metric, *numbers = state
        self.event, self.metric = msgspec.convert(event, Event | None), metric
        self.detector.restore(*numbers)

    def _words(self, metric: Metric, value: float) -> str:
        mean = self.detector.means[self.detector.worst]
        if self.name == "baseline":
            return f"{metric.name} has shifted from its baseline of {mean:.4g} (now {metric.amount(value)})"
        others = [name for name in self.names if name != metric.name]
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        return f"{metric.name} {metric.amount(value)} no longer goes with {', '.join(others[:NAMED])}{more}"


def groups_of(metrics: Mapping[str, Metric]) -> tuple[Group, ...]:
    """Make a group for each of these detectors that a metric names."""
    wanted = {metric.detector for metric in metrics.values()}
    return tuple(Group(name, metrics) for name in GROUPED if name in wanted)
