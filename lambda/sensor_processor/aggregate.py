"""One device's minute: exact count, sum, minimum, maximum and last of each metric over distinct messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Context, Decimal
from enum import Enum
from functools import lru_cache

from sensor_processor.reading import Reading

MINUTE_MS = 60_000

MINUTE_CAPACITY = 10_000
"""Distinct messages of a device in a minute; AWS IoT Core lets a connection publish 100 a second, so 6,000.
Their ids take 130 kB of the 400 kB that a DynamoDB item may have."""

_ID_BYTES = 9
_ENTRY_BYTES = 13
_STEPS = 22
"""Sums are whole numbers of 1e-22. Below 1e12 (see reading.VALUE_BOUND) this leaves 4 of DynamoDB's 38 digits for the
sum of a minute's messages. Doubles of at least 1e-5 lie on this grid; only smaller ones are rounded."""

_MICRO: int = 10 ** (_STEPS - 6)
_EXACT_MICRO = 10**15
"""Below it, a number of millionths has at most 15 digits, of which a double holds every one."""

_FINE = 1e-5
_CONTEXT = Context(prec=60)
_SEQUENCE_SPAN = 10**16


class Added(Enum):
    """What became of a reading that was given to its minute."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    FULL = "full"


def exact(value: float) -> int:
    """The shortest decimal number that is the same double as `value`, in steps of 1e-22."""
    micro = round(value * 1e6)
    # Two numbers of 15 digits are never the same double, so this one is the shortest.
    if micro / 1e6 == value and -_EXACT_MICRO < micro < _EXACT_MICRO:
        return micro * _MICRO
    return int(Decimal(repr(value)).scaleb(_STEPS, _CONTEXT).to_integral_value())


def decimal_text(steps: int) -> str:
    """A number of steps as DynamoDB takes a number: `71.25`."""
    micro, rest = divmod(abs(steps), _MICRO)
    sign = "-" if steps < 0 else ""
    if not rest:
        whole, part = divmod(micro, 1_000_000)
        return f"{sign}{whole}.{part:06d}".rstrip("0").rstrip(".") if part else f"{sign}{whole}"
    return format(Decimal(steps).scaleb(-_STEPS, _CONTEXT).normalize(_CONTEXT), "f")


def steps_of(text: str) -> int:
    """The number that `decimal_text` wrote."""
    return int(Decimal(text).scaleb(_STEPS, _CONTEXT))


def on_grid(value: float) -> float:
    """`value`, where it is tiny rounded as its sum rounds it, and never -0.0."""
    if value >= _FINE or value <= -_FINE:
        return value
    return float(decimal_text(exact(value)))


@dataclass(slots=True, kw_only=True)
class MetricAggregate:
    """One metric's numbers; `sum` is in steps of 1e-22, `last_order` ranks the reading that `last` came from."""

    count: int
    sum: int
    min: float
    max: float
    last: float
    last_order: int

    def add(self, value: float, *, order: int) -> None:
        """Counts one more value in; any order of additions gives the same result."""
        self.count += 1
        self.sum += exact(value)
        if -_FINE < value < _FINE:
            value = on_grid(value)
        if value < self.min:
            self.min = value
        if value > self.max:
            self.max = value
        if order > self.last_order or (order == self.last_order and value > self.last):
            self.last, self.last_order = value, order


@dataclass(slots=True, kw_only=True)
class Minute:
    """A device's minute while a batch is folded into it; `start` is in ms. `entries` maps message id to content."""

    device: str
    start: int
    facility: str = ""
    device_type: str = ""
    late: int = 0
    entries: dict[bytes, bytes] = field(default_factory=dict)
    conflicts: set[bytes] = field(default_factory=set)
    metrics: dict[str, MetricAggregate] = field(default_factory=dict)

    def add(self, reading: Reading, *, known: Collection[str]) -> Added:
        """Counts a reading in unless its id is here; of two messages with one id the first is kept.

        Metrics that are not `known` stay in the archive alone. A conflict is remembered by its content, so that
        its redelivery does not count twice.
        """
        content = self.entries.get(reading.identity)
        if content is not None:
            if content == reading.content or reading.identity + reading.content in self.conflicts:
                return Added.DUPLICATE
            if self._is_full():
                return Added.FULL
            self.conflicts.add(reading.identity + reading.content)
            return Added.CONFLICT
        if self._is_full():
            return Added.FULL
        self.entries[reading.identity] = reading.content
        self.facility = reading.envelope.facility
        self.device_type = reading.envelope.device_type
        self.late += reading.is_late
        self._fold(reading.metrics, known=known, order=_rank(reading))
        return Added.NEW

    def _is_full(self) -> bool:
        return len(self.entries) + len(self.conflicts) >= MINUTE_CAPACITY

    def _fold(self, metrics: Mapping[str, float], *, known: Collection[str], order: int) -> None:
        for name, value in metrics.items():
            aggregate = self.metrics.get(name)
            if aggregate is not None:
                aggregate.add(value, order=order)
            elif name in known:
                first = on_grid(value)
                self.metrics[name] = MetricAggregate(
                    count=1, sum=exact(value), min=first, max=first, last=first, last_order=order
                )


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


def _rank(reading: Reading) -> int:
    """Time, then sequence, as one number: 13 + 16 digits, within DynamoDB's 38."""
    return reading.time * _SEQUENCE_SPAN + (-1 if reading.sequence is None else reading.sequence)
