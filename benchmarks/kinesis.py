"""Shards of a Kinesis stream: where a record goes, and how shards are split and merged.

https://docs.aws.amazon.com/streams/latest/dev/key-concepts.html#partition-key
https://docs.aws.amazon.com/streams/latest/dev/kinesis-using-sdk-java-resharding-split.html
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

KEYS = 1 << 128
"""Hash keys are MD5 of the partition key, as a number of 128 bits."""


def hash_key(partition_key: str) -> int:
    """Return the hash key of a partition key."""
    return int.from_bytes(hashlib.md5(partition_key.encode(), usedforsecurity=False).digest())


@dataclass(frozen=True, slots=True, kw_only=True)
class HashRange:
    """The hash keys of one shard, both ends included."""

    first: int
    last: int

    def __contains__(self, key: int) -> bool:
        return self.first <= key <= self.last

    def split(self) -> tuple[HashRange, HashRange]:
        """Return the two halves, as a split in the middle makes them."""
        middle = (self.first + self.last + 1) // 2
        return HashRange(first=self.first, last=middle - 1), HashRange(first=middle, last=self.last)

    def merge(self, other: HashRange) -> HashRange:
        """Return both as one. Raises ValueError unless they are adjacent."""
        low, high = sorted((self, other), key=lambda each: each.first)
        if low.last + 1 != high.first:
            raise ValueError("only adjacent shards can be merged")
        return HashRange(first=low.first, last=high.last)


def even_ranges(shards: int) -> tuple[HashRange, ...]:
    """Return the ranges of a new stream's shards."""
    borders = [KEYS * place // shards for place in range(shards + 1)]
    return tuple(HashRange(first=low, last=high - 1) for low, high in pairwise(borders))
