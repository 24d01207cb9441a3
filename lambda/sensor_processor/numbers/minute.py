"""One device's minute: count, exact sum, minimum, maximum, last and sketch of each metric over distinct messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from math import inf

import msgspec

from ..ingest.reading import LATE_MS, Reading
from .exact import FINE, exact_sum, on_grid
from .sketch import MINUTE_BINS, Sketch, sketch_of

MINUTE_MS = 60_000

MINUTE_CAPACITY = 10_000
"""Distinct messages of a device in a minute; AWS IoT Core lets a connection publish 100 a second, so 6,000.
Their ids take 130 kB of the 400 kB that a DynamoDB item may have."""

_ID_BYTES = 9
_ENTRY_BYTES = 13
_SEQUENCE_SPAN = 10**16


class Added(Enum):
    """What became of a reading that was given to its minute."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    FULL = "full"


class Totals(msgspec.Struct, kw_only=True):
    """One metric's numbers over a time; `sum` is in steps of 1e-22."""

    count: int
    sum: int
    min: float
    max: float
    sketch: Sketch

    @classmethod
    def none(cls) -> Totals:
        """Of no value yet."""
        return Totals(count=0, sum=0, min=inf, max=-inf, sketch=Sketch())

    def absorb(self, other: Totals) -> None:
        """Counts in what another has counted; in any turn that gives the same result."""
        self.count += other.count
        self.sum += other.sum
        if other.min < self.min:
            self.min = other.min
        if other.max > self.max:
            self.max = other.max
        self.sketch.merge(other.sketch)


class MetricAggregate(Totals, kw_only=True):
    """One metric's numbers in a minute; `last_order` ranks the reading that `last` came from."""

    last: float
    last_order: int

    def follow(self, last: float, order: int) -> None:
        """Takes over the last value of others, where it comes after."""
        if order > self.last_order or (order == self.last_order and last > self.last):
            self.last, self.last_order = last, order


def aggregate_of(values: tuple[float, ...], *, last: float, order: int) -> MetricAggregate:
    """The numbers of one metric's `values`, of which `last` is the one of the highest order."""
    low, high = min(values), max(values)
    total = exact_sum(values, low=low, high=high)
    if low < FINE and high > -FINE:  # some may be tiny
        low, high, last = on_grid(low), on_grid(high), on_grid(last)
    return MetricAggregate(
        count=len(values),
        sum=total,
        min=low,
        max=high,
        sketch=sketch_of(values, most=MINUTE_BINS),
        last=last,
        last_order=order,
    )


class Settled(msgspec.Struct, kw_only=True):
    """What a minute has counted in at once; `unknown` are values of metrics that their device type does not know, which
    stay in the archive alone. To be looked at before the minute counts in more."""

    messages: int = 0
    late: int = 0
    unknown: int = 0
    metrics: dict[str, MetricAggregate] = {}


class Minute(msgspec.Struct, kw_only=True):
    """A device's minute while a batch is folded into it; `start` is in ms. `entries` maps message id to content.

    `fresh` are readings whose ids are counted in and whose values are not yet: see `settle`.
    """

    device: str
    start: int
    facility: str = ""
    device_type: str = ""
    late: int = 0
    entries: dict[bytes, bytes] = {}
    conflicts: set[bytes] = set()
    metrics: dict[str, MetricAggregate] = {}
    fresh: list[Reading] = []

    def add(self, reading: Reading) -> Added:
        """Counts a reading in unless its id is here; of two messages with one id the first is kept.

        A conflict is remembered by its content, so that its redelivery does not count twice.
        """
        content = self.entries.get(reading.identity)
        if content is not None:
            if content == reading.content or reading.identity + reading.content in self.conflicts:
                return Added.DUPLICATE
            if len(self.entries) + len(self.conflicts) >= MINUTE_CAPACITY:
                return Added.FULL
            self.conflicts.add(reading.identity + reading.content)
            return Added.CONFLICT
        if len(self.entries) + len(self.conflicts) >= MINUTE_CAPACITY:
            return Added.FULL
        self.add_new((reading,))
        return Added.NEW

    def are_new(self, readings: Sequence[Reading]) -> bool:
        """Whether there is room for all of these and none of them is here yet, nor twice among them."""
        ids = {reading.identity for reading in readings}
        return (
            len(ids) == len(readings)
            and ids.isdisjoint(self.entries)
            and len(self.entries) + len(self.conflicts) + len(ids) <= MINUTE_CAPACITY
        )

    def add_new(self, readings: Sequence[Reading]) -> None:
        """Counts in readings that are new: see `are_new`."""
        self.entries.update([(reading.identity, reading.content) for reading in readings])
        self.fresh += readings

    def settle(self, device_types: Mapping[str, Mapping[str, object]]) -> Settled:
        """Folds in the values of the readings that were added, which came in their order."""
        taken, self.fresh = self.fresh, []
        if not taken:
            return Settled()
        late = sum([reading.envelope.received_at - reading.time > LATE_MS for reading in taken])
        settled = Settled(messages=len(taken), late=late)
        envelope = taken[-1].envelope
        self.facility, self.device_type = envelope.facility, envelope.device_type
        known = device_types[envelope.device_type]
        for names, readings in _alike(taken):
            order, is_tied = _rank(readings[-1]), len(readings) > 1 and readings[-2].order == readings[-1].order
            columns = zip(*[reading.metrics.values() for reading in readings], strict=True)
            for name, values in zip(names, columns, strict=True):
                if name in known:
                    last = _last(values, readings) if is_tied else values[-1]
                    _fold(settled.metrics, name, aggregate_of(values, last=last, order=order))
                else:
                    settled.unknown += len(values)
        for name, fresh in settled.metrics.items():
            _fold(self.metrics, name, fresh)
        self.late += late
        return settled


def _alike(readings: list[Reading]) -> Iterable[tuple[tuple[str, ...], list[Reading]]]:
    """The readings by their metrics' names: those with the same are folded column by column, in half the time."""
    names = [tuple(reading.metrics) for reading in readings]
    if names.count(names[0]) == len(names):
        return ((names[0], readings),)
    groups: dict[tuple[str, ...], list[Reading]] = {}
    for of, reading in zip(names, readings, strict=True):
        groups.setdefault(of, []).append(reading)
    return groups.items()


def _fold(metrics: dict[str, MetricAggregate], name: str, fresh: MetricAggregate) -> None:
    aggregate = metrics.get(name)
    if aggregate is None:
        metrics[name] = fresh
    else:
        aggregate.absorb(fresh)
        aggregate.follow(fresh.last, fresh.last_order)


def minute_of(time: int) -> int:
    """The start of the minute that `time` (ms) lies in."""
    return time - time % MINUTE_MS


@lru_cache(maxsize=4_096)
def minute_bucket(start: int) -> str:
    """The range key of the minute item: `minute#2026-11-23T14:49Z`."""
    return f"minute#{datetime.fromtimestamp(start / 1000, UTC):%Y-%m-%dT%H:%MZ}"


def pack_ids(entries: Mapping[bytes, bytes]) -> bytes:
    """The ids as the item keeps them: sorted entries of 9 bytes id and 4 bytes content."""
    return b"".join(sorted(identity + content for identity, content in entries.items()))


def unpack_ids(packed: bytes) -> dict[bytes, bytes]:
    """The ids that `pack_ids` packed."""
    return {
        packed[at : at + _ID_BYTES]: packed[at + _ID_BYTES : at + _ENTRY_BYTES]
        for at in range(0, len(packed), _ENTRY_BYTES)
    }


def unpack_conflicts(packed: bytes) -> set[bytes]:
    """The entries of conflicting messages, 13 bytes each."""
    return {packed[at : at + _ENTRY_BYTES] for at in range(0, len(packed), _ENTRY_BYTES)}


def _last(values: Sequence[float], readings: Sequence[Reading]) -> float:
    """The value of the newest reading; the largest, where several are the newest."""
    newest = readings[-1].order
    return max(value for value, reading in zip(values, readings, strict=True) if reading.order == newest)


def _rank(reading: Reading) -> int:
    """Time, then sequence, as one number: 13 + 16 digits, within DynamoDB's 38."""
    return reading.time * _SEQUENCE_SPAN + (-1 if reading.sequence is None else reading.sequence)
