"""Aggregates one device's minute: count, exact sum, minimum, maximum, last value and sketch of each metric.

Only distinct messages count; the minute keeps their ids to recognise duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from math import inf

import msgspec

from ..ingest.catalogue import Metric
from ..ingest.reading import Reading
from .exact import FINE, exact_sum, on_grid
from .sketch import MINUTE_BINS, Sketch, sketch_of

MINUTE_MS = 60_000

MINUTE_CAPACITY = 10_000
"""Distinct messages of a device in a minute; AWS IoT Core limits a connection to 100 a second, so 6,000.
Their ids use 130 kB of the 400 kB of a DynamoDB item."""

_ID_BYTES = 9
_ENTRY_BYTES = 13
_SEQUENCE_SPAN = 10**16


class Added(Enum):
    """Result of adding a reading to its minute."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    FULL = "full"


class Totals(msgspec.Struct, kw_only=True):
    """One metric's numbers over a period; `sum` is in steps of 1e-22, `unit` empty where it is not known."""

    count: int
    sum: int
    min: float
    max: float
    sketch: Sketch
    unit: str = ""

    @classmethod
    def empty(cls, *, unit: str = "") -> Totals:
        """Return the totals of no values."""
        return Totals(count=0, sum=0, min=inf, max=-inf, sketch=Sketch(), unit=unit)

    def absorb(self, other: Totals) -> None:
        """Add another's numbers; the result does not depend on the order of additions."""
        self.count += other.count
        self.sum += other.sum
        self.unit = self.unit or other.unit
        if other.min < self.min:
            self.min = other.min
        if other.max > self.max:
            self.max = other.max
        self.sketch.merge(other.sketch)


class MetricAggregate(Totals, kw_only=True):
    """One metric's numbers in a minute; `last_order` is the rank of the reading with the `last` value."""

    last: float
    last_order: int

    def update_last(self, last: float, order: int) -> None:
        """Replace the last value if the given one is newer."""
        if order > self.last_order or (order == self.last_order and last > self.last):
            self.last, self.last_order = last, order


def key_of(totals: Mapping[str, Totals], name: str, *, unit: str) -> str:
    """Return the key of a metric's values in `unit` among the totals of a period, which never mix units.

    The unit that came first has the metric's name, `temperature`, another one `temperature (fahrenheit)`.
    """
    name = name.partition(" (")[0]
    known = totals.get(name)
    return name if known is None or not unit or known.unit in ("", unit) else f"{name} ({unit})"


def aggregate_of(values: tuple[float, ...], *, last: float, order: int, unit: str = "") -> MetricAggregate:
    """Aggregate one metric's `values`; `last` is the value of the highest order."""
    low, high = min(values), max(values)
    total = exact_sum(values, low=low, high=high)
    if low < FINE and high > -FINE:  # tiny values are rounded as their sum is
        low, high, last = on_grid(low), on_grid(high), on_grid(last)
    return MetricAggregate(
        count=len(values),
        sum=total,
        min=low,
        max=high,
        sketch=sketch_of(values, most=MINUTE_BINS),
        last=last,
        last_order=order,
        unit=unit,
    )


class MinuteDelta(msgspec.Struct, kw_only=True):
    """Additions of one `fold_pending` to a minute; read it before the next one, which may change its metrics.

    `unknown` counts values of metrics that the device type does not declare: those are only archived.
    """

    messages: int = 0
    late: int = 0
    unknown: int = 0
    metrics: dict[str, MetricAggregate] = {}


class Minute(msgspec.Struct, kw_only=True):
    """A device's minute while a batch is added to it; `start` is in ms.

    `entries` maps message id (9 bytes) to content (4 bytes, a CRC). `pending` are readings that are in `entries` and
    not yet in `metrics`: their values are folded column by column, all at once. `is_stored`: the readings table has a
    revision of it, or will have one.
    """

    device: str
    start: int
    facility: str = ""
    device_type: str = ""
    late: int = 0
    entries: dict[bytes, bytes] = {}
    conflicts: set[bytes] = set()
    metrics: dict[str, MetricAggregate] = {}
    pending: list[Reading] = []
    is_stored: bool = False

    def add(self, reading: Reading) -> Added:
        """Add a reading unless its id is already here; of two messages with one id the first is kept.

        A conflicting message is remembered by its content, so that its redelivery is a duplicate.
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
        self.entries[reading.identity] = reading.content
        self.pending.append(reading)
        return Added.NEW

    def fold_pending(self, device_types: Mapping[str, Mapping[str, Metric]]) -> MinuteDelta:
        """Fold the values of pending readings, which are in order, into the metrics; return what was added."""
        folded, self.pending = self.pending, []
        if not folded:
            return MinuteDelta()
        late = sum([reading.is_late for reading in folded])
        delta = MinuteDelta(messages=len(folded), late=late)
        envelope = folded[-1].envelope
        self.facility, self.device_type = envelope.facility, envelope.device_type
        for (device_type, names), readings in _group_by_metric_names(folded):
            known = device_types[device_type]
            order, is_tied = _rank(readings[-1]), len(readings) > 1 and readings[-2].order == readings[-1].order
            columns = zip(*[reading.metrics.values() for reading in readings], strict=True)
            for name, values in zip(names, columns, strict=True):
                metric = known.get(name)
                if metric is not None:
                    last = _last(values, readings) if is_tied else values[-1]
                    _fold(delta.metrics, name, aggregate_of(values, last=last, order=order, unit=metric.unit))
                else:
                    delta.unknown += len(values)
        for name, aggregate in delta.metrics.items():
            _fold(self.metrics, name, aggregate)
        self.late += late
        return delta


def _group_by_metric_names(readings: list[Reading]) -> Iterable[tuple[tuple[str, tuple[str, ...]], list[Reading]]]:
    """Group readings by device type, of which a thing may send several while it changes, and by metrics."""
    groups: dict[tuple[str, tuple[str, ...]], list[Reading]] = {}
    for reading in readings:
        groups.setdefault((reading.envelope.device_type, tuple(reading.metrics)), []).append(reading)
    return groups.items()


def _fold(metrics: dict[str, MetricAggregate], name: str, added: MetricAggregate) -> None:
    name = key_of(metrics, name, unit=added.unit)
    aggregate = metrics.get(name)
    if aggregate is None:
        metrics[name] = added
    else:
        aggregate.absorb(added)
        aggregate.update_last(added.last, added.last_order)


def minute_of(time: int) -> int:
    """Return the start (ms) of the minute of `time` (ms)."""
    return time - time % MINUTE_MS


@lru_cache(maxsize=4_096)
def minute_bucket(start: int) -> str:
    """Return the range key of the minute item: `minute#2026-11-23T14:49Z`."""
    return f"minute#{datetime.fromtimestamp(start / 1000, UTC):%Y-%m-%dT%H:%MZ}"


def pack_ids(entries: Mapping[bytes, bytes]) -> bytes:
    """Pack ids for the item: sorted entries of 9 bytes id and 4 bytes content."""
    return b"".join(sorted(identity + content for identity, content in entries.items()))


def unpack_ids(packed: bytes) -> dict[bytes, bytes]:
    """Unpack what `pack_ids` packed."""
    return {
        packed[at : at + _ID_BYTES]: packed[at + _ID_BYTES : at + _ENTRY_BYTES]
        for at in range(0, len(packed), _ENTRY_BYTES)
    }


def unpack_conflicts(packed: bytes) -> set[bytes]:
    """Split the entries of conflicting messages, 13 bytes each."""
    return {packed[at : at + _ENTRY_BYTES] for at in range(0, len(packed), _ENTRY_BYTES)}


def _last(values: Sequence[float], readings: Sequence[Reading]) -> float:
    """Return the value of the newest reading; the largest, where several are the newest."""
    newest = readings[-1].order
    return max(value for value, reading in zip(values, readings, strict=True) if reading.order == newest)


def _rank(reading: Reading) -> int:
    """Combine time and sequence into one sortable number: 13 + 16 digits, within DynamoDB's 38."""
    return reading.time * _SEQUENCE_SPAN + (-1 if reading.sequence is None else reading.sequence)
