"""Quantile sketch of a metric: counts of its values in bins two per cent wide.

The bins are those of DDSketch (https://www.vldb.org/pvldb/vol12/p2195-masson.pdf) as Datadog's library lays them
out, which also computes the quantiles. Counts add up, so sketches merge exactly and in any order: the sketch of an
hour is the sum of those of its minutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import ceil, log
from operator import sub

import msgspec
from ddsketch.ddsketch import BaseDDSketch
from ddsketch.mapping import LogarithmicMapping
from ddsketch.store import DenseStore

ACCURACY = 0.01
"""Relative error of a quantile, at most. When a sketch exceeds its number of bins, they are joined two by two, which
doubles the error: 512 bins span a factor of 28,000 before that."""

MINUTE_BINS = 128
PERIOD_BINS = 512
ITEM_BINS = 60_000
"""Most bins of a metric in a minute; in an hour or day; of all metrics together of an hour or day. A bin has about four
bytes, an item 400 kB. From 118 metrics on, each has fewer than 512 bins."""

_GAMMA: float = LogarithmicMapping(ACCURACY).gamma
_BINS_A_LOG = 1.0 / log(_GAMMA)

_ABOVE = 1 << 13
"""Offset of bin numbers, which are from -2,570 to 1,390 (see `_ZERO` and reading.VALUE_BOUND). A positive value is in
bin number + offset, a negative one in -(number + offset), zero in 0: so bins sort as their values do."""

_ZERO = 5e-23
"""Smaller values count as 0, as in a sum (see `exact`)."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[int]).decode


class Sketch(msgspec.Struct):
    """Counts by bin; `joined` is how often the bins were joined two by two to have at most `most`.

    `most` is at least 5: two bins of each sign, around 1, and that of zero never join.
    """

    most: int = PERIOD_BINS
    joined: int = 0
    bins: dict[int, int] = {}

    def merge(self, other: Sketch) -> None:
        """Add another sketch's counts."""
        while self.joined < other.joined:
            self._join_once()
        bins = self.bins
        for bin_, count in other.bins.items() if self.joined == other.joined else other._joined(self.joined):
            bins[bin_] = bins.get(bin_, 0) + count
        self.fit(self.most)

    def fit(self, most: int) -> None:
        """Join bins until there are at most `most` (at least 5)."""
        while len(self.bins) > most:
            self._join_once()

    def quantiles(self, ranks: Sequence[float]) -> list[float]:
        """Return the values at `ranks` (0 to 1), within `ACCURACY` unless bins were joined; [] of an empty sketch."""
        positive, negative, zero = DenseStore(), DenseStore(), 0
        for bin_, count in self.bins.items():
            if bin_ > 0:
                positive.add(bin_ - _ABOVE, count)
            elif bin_ < 0:
                negative.add(-bin_ - _ABOVE, count)
            else:
                zero += count
        gamma: float = _GAMMA ** (1 << self.joined)
        library = BaseDDSketch(LogarithmicMapping((gamma - 1) / (gamma + 1)), positive, negative, zero)
        return [value for rank in ranks if (value := library.get_quantile_value(rank)) is not None]

    def pack(self) -> bytes:
        """Pack the sketch into a byte or two for each bin and as much for its count."""
        bins = sorted(self.bins)
        return _encode([self.joined, *bins[:1], *map(sub, bins[1:], bins), *map(self.bins.__getitem__, bins)])

    @classmethod
    def unpack(cls, packed: bytes, *, most: int = PERIOD_BINS) -> Sketch:
        """Unpack what `pack` packed."""
        joined, *numbers = _decode(packed)
        half = len(numbers) // 2
        return cls(most, joined, dict(zip(accumulate(numbers[:half]), numbers[half:], strict=True)))

    def _join_once(self) -> None:
        joined: dict[int, int] = {}
        for bin_, count in self._joined(self.joined + 1):
            joined[bin_] = joined.get(bin_, 0) + count
        self.bins = joined
        self.joined += 1

    def _joined(self, joined: int) -> Iterator[tuple[int, int]]:
        """Yield each count with the bin that it is in after joining `joined` times."""
        times = joined - self.joined
        for bin_, count in self.bins.items():
            if bin_ > 0:
                yield _ABOVE - (_ABOVE - bin_ >> times), count
            elif bin_ < 0:
                yield (bin_ + _ABOVE >> times) - _ABOVE, count
            else:
                yield 0, count


def sketch_of(values: Sequence[float], *, most: int = PERIOD_BINS) -> Sketch:
    """Make the sketch of one or more values."""
    if min(values) > _ZERO:
        numbers = [ceil(log(value) * _BINS_A_LOG) + _ABOVE for value in values]
    else:
        numbers = [_bin(value) for value in values]
    bins: dict[int, int] = {}
    for bin_ in numbers:
        bins[bin_] = bins.get(bin_, 0) + 1
    sketch = Sketch(most, 0, bins)
    sketch.fit(most)
    return sketch


def _bin(value: float) -> int:
    if value > _ZERO:
        return ceil(log(value) * _BINS_A_LOG) + _ABOVE
    return -ceil(log(-value) * _BINS_A_LOG) - _ABOVE if value < -_ZERO else 0
