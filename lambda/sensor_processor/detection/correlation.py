"""The correlation detector: metrics that belong together and no longer move together, by Hotelling's T².

T² is the distance of a row from the learned mean in the learned covariance: a pump whose power rises with its flow is
usual, one whose power rises without it is not, though each metric by itself is. https://doi.org/10.2307/1268779
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

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
