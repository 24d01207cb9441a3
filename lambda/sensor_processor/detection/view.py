"""One view of a series: a table of how often a value was where, given a context, and how rare the next one is."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log

_BOUND_FROM = 200
_BOUND_HOLDS = 16
_GROWTH = 0.15
"""From so many samples on, a view's bound on its scores holds for 16 more, which add less than this to it: at a rate of
0.006 novelty falls by a tenth, of which the score has 0.85, and the logarithm of the total grows by 0.01."""

_MOST = tuple(-log(2 / 3 * count + 0.01) for count in range(256))
"""By a cell's count, the most that its own rarity gives: with no neighbour but itself."""

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
        "_bound",
        "_bound_until",
        "_context_scale",
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

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
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
        shape = self.shape
        seen = self.seen
        self.seen = seen + 1
        if seen == 0:
            first = value if shape.is_shared else context
            self.set_range(value, value, first, first)
            return 0.0
        overshoot = 0.0
        if not self.low <= value <= self.high:
            span = self.high - self.low
            if span > 0.0:
                overshoot = (self.low - value if value < self.low else value - self.high) / span
            self._extend(context, value)
        elif not (self.context_low <= context <= self.context_high or shape.is_shared):
            self._extend(context, value)
        self.overshoot = overshoot
        bins = shape.bins
        last = bins - 1
        table = self.table
        column = int((value - self.low) * self._scale)
        if column > last:
            column = last
        row = int((context - self.context_low) * self._context_scale)
        if row > last:
            row = last
        cell = row * bins + column
        count = table[cell]
        counted = self.counted
        result = 0.0
        empty = 0.0
        if count == 0 or (64 * count < counted and seen >= shape.warm):
            # Two looks at what cannot be stranger than `least`: one that takes no logarithm, and an exact one.
            is_common = count > 0 and overshoot == 0.0 and counted < self._bound_until
            if not (is_common and _MOST[count] + self._bound <= least):
                usual = self._usual(counted + 1, overshoot)
            else:
                usual = -inf
            if count == 0 or _MOST[count] + usual > least:
                near = self._near(row, column)
                if near == 0:
                    empty = 1.0
                if seen >= shape.warm:
                    result = usual - log(count / 2 + near / 6 + 0.01)
                    if result < 0.0:
                        result = 0.0
        rate = 1.0 / (seen + 1)
        if rate < shape.rate:
            rate = shape.rate
        self.novelty += rate * (empty - self.novelty)
        if count < 255:
            table[cell] = count + 1
        self.counted = counted + 1
        if self.counted == shape.capacity:
            self.table = bytearray(count >> 1 for count in table)
            self.counted >>= 1
            self._bound_until = 0
        return result

    def _near(self, row: int, column: int) -> int:
        """What was counted in the cell and its neighbours."""
        table, bins = self.table, self.shape.bins
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
        bins = self.shape.bins
        low, high = min(self.low, value), max(self.high, value)
        columns = _moved(bins, self.low, self.high, low, high)
        if self.shape.is_shared:
            rows, context_low, context_high = columns, low, high
        else:
            context_low, context_high = min(self.context_low, context), max(self.context_high, context)
            rows = _moved(bins, self.context_low, self.context_high, context_low, context_high)
        self.set_range(low, high, context_low, context_high)
        moved = bytearray(bins * bins)
        for cell, count in enumerate(self.table):
            if count:
                target = rows[cell // bins] * bins + columns[cell % bins]
                moved[target] = min(moved[target] + count, 255)
        self.table = moved


def _bins_a_unit(bins: int, span: float) -> float:
    return bins / span if span > _LEAST_SPAN else 0.0


def _moved(bins: int, low: float, high: float, new_low: float, new_high: float) -> list[int]:
    """For each bin of the old range, the bin of the new range that holds its centre."""
    width = (high - low) / bins
    span = new_high - new_low
    if span <= 0.0:
        return list(range(bins))
    return [min(max(int((low + (bin_ + 0.5) * width - new_low) / span * bins), 0), bins - 1) for bin_ in range(bins)]
