"""Detectors over several metrics of one device: baseline and correlation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import msgspec

from ..ingest.catalogue import Metric
from .event import Event, Finding, begin, end

# @@ The correlation detector: metrics that belong together and no longer move together, by Hotelling's T².
# @@
# @@ T² is the distance of a row from the learned mean in the learned covariance: a pump whose power rises with its
# @@ flow is usual, one whose power rises without it is not, though each metric by itself is.
# @@ https://doi.org/10.2307/1268779

LEARN = 400
"""Rows of the baseline, as the baseline detector's."""

SMOOTHING = 0.2
ON = 12.0
OFF = 7.0
"""Where the state begins and ends: standard deviations of the smoothed T² above its mean, were the rows normal."""


class Correlation:
    """The detector of several metrics of one machine; `update` says whether it is in an anomalous state."""

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
        """Whether the metrics no longer move together, given the next row; finite numbers only."""
        if self.count < LEARN:
            self._learn(values)
            return False
        distances = self._standardised([value - mean for value, mean in zip(values, self.means, strict=True)])
        squares = [distance * distance for distance in distances]
        # One row that is far out is the limits' affair; a state needs several.
        self.smooth += SMOOTHING * (min(sum(squares), 200.0 * self.channels) - self.smooth)
        self.worst = max(range(self.channels), key=squares.__getitem__)
        spread = sqrt(2 * self.channels * SMOOTHING / (2 - SMOOTHING))
        self.score = (self.smooth - self.channels) / spread
        self.state = self.score > (OFF if self.state else ON)
        return self.state

    def restore(self, count: int, means: list[float], products: list[list[float]], smooth: float, is_on: bool) -> None:
        """Goes on from another's numbers."""
        self.count, self.means, self.products, self.smooth, self.state = count, means, products, smooth, is_on
        if count >= LEARN:
            self.factor = _cholesky(self._covariance())

    def _learn(self, values: Sequence[float]) -> None:
        self.count += 1
        before = [value - mean for value, mean in zip(values, self.means, strict=True)]
        self.means = [mean + delta / self.count for mean, delta in zip(self.means, before, strict=True)]
        for row, delta in enumerate(before):
            for column, value in enumerate(values):
                self.products[row][column] += delta * (value - self.means[column])
        if self.count == LEARN:
            self.factor = _cholesky(self._covariance())

    def _covariance(self) -> list[list[float]]:
        covariance = [[value / self.count for value in row] for row in self.products]
        for place, row in enumerate(covariance):
            row[place] += 1e-6 * row[place] + (1e-4 * self.means[place]) ** 2 + 1e-12
        return covariance

    def _standardised(self, deltas: list[float]) -> list[float]:
        """The solution of factor · x = deltas, whose squares add up to T²."""
        solved: list[float] = []
        for row, delta in zip(self.factor, deltas, strict=True):
            known = sum(factor * value for factor, value in zip(row, solved, strict=False))
            solved.append((delta - known) / row[len(solved)])
        return solved


def _cholesky(matrix: list[list[float]]) -> list[list[float]]:
    """The lower factor of a symmetric positive matrix; what rounding makes negative is taken for next to nothing."""
    factor: list[list[float]] = []
    for place, row in enumerate(matrix):
        made: list[float] = []
        for column in range(place + 1):
            above = made if column == place else factor[column]
            value = row[column] - sum(a * b for a, b in zip(made, above, strict=False))
            made.append(sqrt(max(value, 1e-18)) if column == place else value / factor[column][column])
        factor.append(made)
    return factor


# @@ The baseline detector of one machine: several channels at once, and whether any has shifted from where it was.
# @@
# @@ It learns for 400 rows how each channel lies and how far the means of a hundred rows wander, and then holds
# @@ smoothed channels against that. Causal, a few numbers a channel, no look at the row's place in a file.

LEARN_SHIFT = 400
BLOCK = 100
"""Rows of the baseline, and of each of its parts; at one row every ten seconds, the baseline takes 67 minutes."""

SMOOTHING_SHIFT = 0.1
SCORE_SMOOTHING = 0.3
ON_SHIFT = 7.0
OFF_SHIFT = 5.25
"""The state begins above ON and ends below OFF, in scales of the channel; measured on SKAB (docs/processor.md)."""

RELEASE = 0.33
"""The state also ends below this part of its highest score: a machine seldom comes to rest exactly where it was, and an
alarm that never ends says nothing."""

FORGET = 0.98
"""What is left of that highest score a row after the state: a new one must stand out from what is left, as the first
stood out from rest: after a score of 100 for 90 rows."""

FOLLOW = 0.001
FOLLOW_BELOW = 4.9
"""How fast, and up to which score, the baseline follows a machine that ages."""

SETTLE = 0.02
"""How fast it follows meanwhile, to where the machine has come to rest: as fast as the highest score is forgotten, so
that what is left of the state never begins it anew."""

FARTHEST = 1000.0
"""Scales that a channel counts as being away at most, so that one absurd value is forgotten soon."""


class Shift:
    """The detector of one machine with so many channels; `update` says whether it is in an anomalous state."""

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
        """Whether the machine is in an anomalous state, given its next row; finite numbers only."""
        if self.count < LEARN_SHIFT:
            self._learn(values)
            return False
        worst = -1.0
        for place, value in enumerate(values):
            smooth = self.smooth[place] + SMOOTHING_SHIFT * (value - self.smooth[place])
            self.smooth[place] = smooth
            distance = abs(smooth - self.means[place]) / self.scales[place]
            if distance > worst:
                worst, self.worst = distance, place
        self.score += SCORE_SMOOTHING * (min(worst, FARTHEST) - self.score)
        if self.state:
            self.peak = max(self.peak, self.score)
            self.state = self.score > max(OFF_SHIFT, RELEASE * self.peak)
        else:
            self.state = self.score > max(ON_SHIFT, ON_SHIFT / OFF_SHIFT * RELEASE * self.peak)
            self.peak = self.score if self.state else FORGET * self.peak
        if not self.state:
            self._follow(values)
        return self.state

    @property
    def is_on_its_way(self) -> bool:
        """Whether the machine is not, or not yet, back where it was, though the state may have ended."""
        return self.score > OFF_SHIFT

    def _follow(self, values: Sequence[float]) -> None:
        if RELEASE * self.peak > OFF_SHIFT and self.score <= RELEASE * self.peak:
            rate = SETTLE
        elif self.score <= FOLLOW_BELOW:
            rate = FOLLOW
        else:
            return
        for place, value in enumerate(values):
            self.means[place] += rate * (value - self.means[place])

    def numbers(self) -> list[Any]:
        """What `restore` goes on from."""
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
        """Goes on from the numbers of another one with as many channels; `peak` came later than the others."""
        self.count, self.means, self.squares, self._blocks = count, means, squares, blocks
        self.smooth, self.scales, self.score, self.state, self.peak = smooth, scales, score, state, peak

    def _learn(self, values: Sequence[float]) -> None:
        """Welford's mean and variance a channel: https://doi.org/10.1080/00401706.1962.10490022"""
        if self.count == 0:
            self.smooth = list(map(float, values))
        if self.count % BLOCK == 0:
            self._blocks.append([0.0] * self.channels)
        self.count += 1
        block = self._blocks[-1]
        for place, value in enumerate(values):
            before = value - self.means[place]
            self.means[place] += before / self.count
            self.squares[place] += before * (value - self.means[place])
            block[place] += value / BLOCK
            self.smooth[place] += SMOOTHING_SHIFT * (value - self.smooth[place])
        if self.count == LEARN_SHIFT:
            self.scales = [self._scale(place) for place in range(self.channels)]
            self._blocks = []

    def _scale(self, place: int) -> float:
        means = [block[place] for block in self._blocks]
        middle = sum(means) / len(means)
        wandering = sum((mean - middle) ** 2 for mean in means) / (len(means) - 1)
        variance = self.squares[place] / self.count
        return sqrt(wandering + 0.02 * variance + (0.002 * self.means[place]) ** 2 + 1e-12)


def multichannel(channels: int) -> Shift:
    """A new detector for one machine."""
    return Shift(channels)


# @@ The detectors of several metrics of one device, `baseline` and `correlation`: rows out of readings, state,
# @@ words.

GROUPED = ("baseline", "correlation")

NAMED = 3
"""Other metrics that a finding names; a device's item keeps a hundred notifications."""


class Group:
    """One detector over those metrics of a device type that name it, in the order of their names."""

    __slots__ = ("detector", "event", "metric", "metrics", "name", "names")

    def __init__(self, name: str, metrics: Mapping[str, Metric]) -> None:
        self.name = name
        self.metrics = metrics
        self.event: Event | None = None
        self.metric = ""
        self.names = tuple(sorted(key for key, metric in metrics.items() if metric.detector == name))
        self.detector: Shift | Correlation = (Shift if name == "baseline" else Correlation)(max(len(self.names), 1))

    def update(self, time: int, values: Mapping[str, float]) -> Finding | None:
        """What a reading of `time` (ms) tells: that a state begins, told of the metric that shows it most, or ends.

        A reading that lacks one of the metrics is no row.
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
        finding = begin(
            metric.name, self.name, value=value, score=self.detector.score, reason=self._words(metric, value)
        )
        self.event, self.metric = Event(began=time, is_critical=finding.is_critical), metric.name
        return finding

    def _ending(self, time: int, values: Mapping[str, float]) -> Finding | None:
        event, self.event = self.event, None
        if event is None:
            return None
        value = values[self.metric]
        amount = self.metrics[self.metric].amount(value)
        if isinstance(self.detector, Shift) and self.detector.is_on_its_way:
            mean = self.detector.means[self.names.index(self.metric)]
            words = f"{amount} is most of the way back to its baseline of {mean:.4g}, which follows it from here"
        else:
            words = f"{amount} is as usual again"
        return end(self.metric, self.name, event, value=value, ended=time, words=words)

    def state(self) -> list[Any]:
        """What `restore` goes on from; the names say whose numbers they are."""
        detector = self.detector
        if isinstance(detector, Shift):
            return [list(self.names), self.event, self.metric, *detector.numbers()]
        return [
            list(self.names),
            self.event,
            self.metric,
            detector.count,
            detector.means,
            detector.products,
            detector.smooth,
            detector.state,
        ]

    def restore(self, state: list[Any]) -> None:
        """Takes over what `state` gave, if it is of the same metrics. Raises ValueError or TypeError."""
        names, event, metric, *numbers = state
        if tuple(names) == self.names:
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
    """A new group for each of these detectors that a metric names."""
    wanted = {metric.detector for metric in metrics.values()}
    return tuple(Group(name, metrics) for name in GROUPED if name in wanted)
