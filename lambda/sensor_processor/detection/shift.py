"""The baseline detector of one machine: several channels at once, and whether any has shifted from where it was.

It learns for 400 rows how each channel lies and how far the means of a hundred rows wander, and then holds smoothed
channels against that. Causal, a few numbers a channel, no look at the row's place in a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

LEARN = 400
BLOCK = 100
"""Rows of the baseline, and of each of its parts; at one row every ten seconds, the baseline takes 67 minutes."""

SMOOTHING = 0.1
SCORE_SMOOTHING = 0.3
ON = 7.0
OFF = 5.25
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
        if self.count < LEARN:
            self._learn(values)
            return False
        worst = -1.0
        for place, value in enumerate(values):
            smooth = self.smooth[place] + SMOOTHING * (value - self.smooth[place])
            self.smooth[place] = smooth
            distance = abs(smooth - self.means[place]) / self.scales[place]
            if distance > worst:
                worst, self.worst = distance, place
        self.score += SCORE_SMOOTHING * (min(worst, FARTHEST) - self.score)
        if self.state:
            self.peak = max(self.peak, self.score)
            self.state = self.score > max(OFF, RELEASE * self.peak)
        else:
            self.state = self.score > max(ON, ON / OFF * RELEASE * self.peak)
            self.peak = self.score if self.state else FORGET * self.peak
        if not self.state:
            self._follow(values)
        return self.state

    @property
    def is_on_its_way(self) -> bool:
        """Whether the machine is not, or not yet, back where it was, though the state may have ended."""
        return self.score > OFF

    def _follow(self, values: Sequence[float]) -> None:
        if RELEASE * self.peak > OFF and self.score <= RELEASE * self.peak:
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
            self.smooth[place] += SMOOTHING * (value - self.smooth[place])
        if self.count == LEARN:
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
