"""The quantile sketch of a metric: how many of its values lie in each bin, bins being two per cent wide.

The bins are DDSketch's (https://www.vldb.org/pvldb/vol12/p2195-masson.pdf), laid as Datadog's library lays them, which
tells the quantiles. Counts of bins add up, so sketches merge exactly and in any order: an hour's is the sum of its
minutes'.
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
"""A quantile is off by at most one per cent of itself. Each time that a sketch would have more bins than it may, they
are joined two by two, which doubles that: 512 bins span a factor of 28,000 before they are."""

MINUTE_BINS = 128
PERIOD_BINS = 512
ITEM_BINS = 60_000
"""Bins of a metric in a minute, in an hour or day, and of all metrics of an hour or day: about four bytes each, of the
400 kB that a DynamoDB item may have. From 118 metrics on each has fewer than 512."""

_GAMMA: float = LogarithmicMapping(ACCURACY).gamma
_BINS_A_LOG = 1.0 / log(_GAMMA)

_ABOVE = 1 << 13
"""Added to a bin's number, for negative values to that of their size, whose sum is then negated: so that zero's is 0
and bins are in the order of their values. Numbers are from -2,570 to 1,390 (see `_ZERO` and reading.VALUE_BOUND)."""

_ZERO = 5e-23
"""Smaller values are 0, as in a sum (see `aggregate`)."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[int]).decode


class Sketch(msgspec.Struct):
    """Counts by bin; `joined` is how often the bins were joined two by two to have `most` at most.

    At least 5: two of each sign, around 1, and zero's own stay apart however often bins are joined.
    """

    most: int = PERIOD_BINS
    joined: int = 0
    bins: dict[int, int] = {}

    def merge(self, other: Sketch) -> None:
        """Counts in what another has counted."""
        while self.joined < other.joined:
            self._join_once()
        bins = self.bins
        for bin_, count in other.bins.items() if self.joined == other.joined else other._joined(self.joined):
            bins[bin_] = bins.get(bin_, 0) + count
        self.fit(self.most)

    def fit(self, most: int) -> None:
        """Joins bins until there are no more than `most`, at least 5."""
        while len(self.bins) > most:
            self._join_once()

    def quantiles(self, ranks: Sequence[float]) -> list[float]:
        """The values at these ranks, from 0 to 1, each right to `ACCURACY` as long as nothing was joined.

        None where nothing was counted.
        """
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
        """The sketch in a byte or two for each bin and as much for its count: see `unpack`."""
        bins = sorted(self.bins)
        return _encode([self.joined, *bins[:1], *map(sub, bins[1:], bins), *map(self.bins.__getitem__, bins)])

    @classmethod
    def unpack(cls, packed: bytes, *, most: int = PERIOD_BINS) -> Sketch:
        """The sketch that was packed."""
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
        """Each bin's count, by the bin that it is in once they were joined so often."""
        times = joined - self.joined
        for bin_, count in self.bins.items():
            if bin_ > 0:
                yield _ABOVE - (_ABOVE - bin_ >> times), count
            elif bin_ < 0:
                yield (bin_ + _ABOVE >> times) - _ABOVE, count
            else:
                yield 0, count


def sketch_of(values: Sequence[float], *, most: int = PERIOD_BINS) -> Sketch:
    """The sketch of values, of which there is at least one."""
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
