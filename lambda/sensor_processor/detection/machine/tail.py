"""The score at which a budget of false alarms is spent, from the largest scores of a machine's own history.

The tail of a score is extrapolated from its largest hourly maxima as exponential, the peaks-over-threshold method with
shape 0 (Pickands 1975, Balkema and de Haan 1974; for streams SPOT: Siffert et al., KDD 2017,
https://doi.org/10.1145/3097983.3098144). It has the memory of months in a dozen numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log

from .short import short

KEPT = 10
"""Largest maxima that are kept: the tail above the tenth is extrapolated."""

FADE = 0.995
"""Factor a day by which the kept maxima fade: half is left after 20 weeks, so that a machine that is repaired becomes
watched more closely again."""

OVER_LARGEST = 1.1
"""The threshold is at least this times the largest maximum, before the channel's factor."""

DOUBTED = 12
SURPRISE = 1.5
"""Once DOUBTED maxima are known, one counts as SURPRISE times the day's extrapolated level at most: a fault while the
detector learns must not blind it."""


class Tail:
    """The tail of one score: its largest period maxima, and the threshold for a budget.

    Args:
        factor: of the threshold above what is extrapolated: what the past does not show.
        floor: lowest threshold.
        horizon: periods in which the budget allows one false alarm of this score.
    """

    __slots__ = ("base", "factor", "floor", "horizon", "largest", "level", "maximum", "seen", "threshold", "waiting")

    def __init__(self, *, factor: float, floor: float, horizon: float) -> None:
        self.factor, self.floor, self.horizon = factor, floor, horizon
        self.largest: list[float] = []
        self.maximum = self.waiting = 0.0
        self.seen = 0.0
        self.level = self.base = 0.0  # the level now, and as the day began
        self.threshold = floor

    def close(self) -> None:
        """End a period: the maximum of the one before becomes part of the tail."""
        maximum, self.waiting = self.waiting, self.maximum
        if self.seen >= DOUBTED:
            maximum = min(maximum, SURPRISE * max(self.base, self.floor / self.factor))
        self.maximum = 0.0
        self.seen += 1.0
        if len(self.largest) < KEPT or maximum > self.largest[-1]:
            self.largest = sorted([*self.largest, short(maximum)], reverse=True)[:KEPT]
        self._extrapolate()

    def drop(self) -> None:
        """Forget the maxima that are no part of the tail yet: they lead up to an event."""
        self.maximum = self.waiting = 0.0

    def fade(self) -> None:
        """Forget a little; once a day."""
        self.largest = [short(FADE * each) for each in self.largest]
        self._extrapolate()
        self.base = short(self.level)

    def remember(self, score: float) -> None:
        """Count a score that was told, and was not a fault by what is known, as one of the past."""
        self.largest = sorted([*self.largest, short(score)], reverse=True)[:KEPT]
        self._extrapolate()

    def _spread(self) -> float:
        return sum(self.largest) / len(self.largest) - self.largest[-1] if self.largest else 0.0

    def _extrapolate(self) -> None:
        if not self.largest:
            return
        beyond = log(max(KEPT * self.horizon / max(self.seen, KEPT), 1.0))
        self.level = max(self.largest[-1] + self._spread() * beyond, OVER_LARGEST * self.largest[0])
        self.threshold = max(self.floor, self.factor * self.level)

    def numbers(self) -> list[float]:
        """List the state for `restore`; `short` is exact for each."""
        return [self.seen, self.maximum, self.waiting, self.base, float(len(self.largest)), *self.largest]

    def restore(self, numbers: Iterator[float]) -> None:
        """Continue from `numbers`."""
        self.seen, self.maximum, self.waiting, self.base, count = (next(numbers) for _ in range(5))
        self.largest = [next(numbers) for _ in range(int(count))]
        self._extrapolate()
