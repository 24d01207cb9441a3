"""A device's state within its lane: what it is, its detectors, minutes that are open or just closed, hours and days.

In memory a device is packed bytes, of which only what a batch touches is unpacked.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

import msgspec

from ..detection import DeviceDetectors
from ..numbers.minute import MINUTE_MS, MetricAggregate, Minute, Totals, pack_ids, unpack_conflicts, unpack_ids
from ..numbers.period import DAY_MS, HOUR_MS, Level, Period
from ..numbers.sketch import MINUTE_BINS, Sketch
from .lane import Resident

GRACE_MS = 5_000
"""A minute closes so long after its end, by the device's clock: readings that overtake each other find it open."""

HOUR_GRACE_MS = 4 * MINUTE_MS
DAY_GRACE_MS = 6 * MINUTE_MS
"""Hours and days close when no minute of them is open or just closed; spread over one and four minutes by name."""

OVERDUE_MS = 45_000
"""A device that is silent for so long after something of it is over has it closed by the clock."""

RECENT = 3
"""Closed minutes that stay in the state, so that a reading which is a little late needs no query."""

DESCRIBED_MS = 15 * MINUTE_MS
"""A device's item is written at most so often, unless facility, device type or certificate change."""

_SPAN = 10**16


class PackedTotals(msgspec.Struct, array_like=True, gc=False):
    """`Totals`; the sum is two's complement."""

    count: int
    sum: bytes
    min: float
    max: float
    sketch: bytes
    unit: str


class PackedAggregate(PackedTotals, array_like=True, gc=False):
    """`MetricAggregate`; the order of the last value is in two parts, each of which fits a msgpack integer."""

    last: float
    last_time: int
    last_sequence: int


class PackedMinute(msgspec.Struct, array_like=True, gc=False):
    """`Minute`, without what its key says."""

    facility: str
    device_type: str
    late: int
    is_stored: bool
    ids: bytes
    conflicts: bytes
    metrics: dict[str, PackedAggregate]


class PackedPeriod(msgspec.Struct, array_like=True, gc=False):
    """`Period`, without what its key says."""

    facility: str
    device_type: str
    parts: int
    messages: int
    late: int
    newest_part: int
    metrics: dict[str, PackedTotals]


class DeviceState(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """A device's state as it is packed; times are in ms.

    `minutes` are open, `recent` closed. A minute that is in neither was never counted if it begins after
    `minutes_through`; else the readings table may have it. So for `hours` and `days`, which are open.
    `described_slot` is the quarter of an hour in which the device's item was written last; `is_described`: nothing has
    changed since.
    """

    facility: str
    device_type: str
    certificate_id: str
    first_contact: int
    last_contact: int
    newest: int
    messages: int = 0
    last_sequence: int | None = None
    detectors: bytes = b""
    minutes: dict[int, bytes] = {}
    recent: dict[int, bytes] = {}
    minutes_through: int = -1
    hours: dict[int, bytes] = {}
    hours_through: int = -1
    days: dict[int, bytes] = {}
    days_through: int = -1
    described_slot: int = -1
    is_described: bool = False

    @property
    def lag(self) -> int:
        """Return how far the newest reading lay behind when the device last sent something."""
        return max(0, self.last_contact - self.newest)


class Device(msgspec.Struct):
    """A device that a batch works on: its state, and what of it is unpacked.

    `state.detectors` and `state.minutes` are those of before until `pack` replaces them.
    """

    name: str
    state: DeviceState
    detectors: DeviceDetectors
    minutes: dict[int, Minute]

    def pack(self) -> Resident:
        """Pack it after changes."""
        state = self.state
        state.detectors = self.detectors.pack()
        state.minutes = {start: pack_minute(minute) for start, minute in self.minutes.items()}
        return pack_state(self.name, state)


class Closing(NamedTuple):
    """When, by a device's clock, a minute, an hour and a day are over, counted from their starts (ms)."""

    minute: int
    hour: int
    day: int


def closing_of(name: str) -> Closing:
    """Return when minutes, hours and days of a device close; a fleet's hours do not end all at once."""
    phase = crc32(name.encode()) % 1024 / 1024
    return Closing(
        MINUTE_MS + GRACE_MS,
        HOUR_MS + HOUR_GRACE_MS + int(phase * MINUTE_MS),
        DAY_MS + DAY_GRACE_MS + int(phase * 4 * MINUTE_MS),
    )


def slot_of(name: str, time: int) -> int:
    """Return the number of the quarter of an hour with `time` (ms), which begins at another moment for each device."""
    return (time + crc32(name.encode()) % DESCRIBED_MS) // DESCRIBED_MS


def due_of(name: str, state: DeviceState) -> int:
    """Return when (ms, by the clock) something of a device is over, if it sends nothing until then; 0 for never."""
    closing = closing_of(name)
    open_ = ((state.minutes, closing.minute), (state.hours, closing.hour), (state.days, closing.day))
    dues = [min(starts) + after + state.lag for starts, after in open_ if starts]
    if not state.is_described:
        dues.append((state.described_slot + 1) * DESCRIBED_MS - crc32(name.encode()) % DESCRIBED_MS)
    return min(dues) + OVERDUE_MS if dues else 0


_encode = msgspec.msgpack.Encoder().encode
unpack_state = msgspec.msgpack.Decoder(DeviceState).decode
_decode_minute = msgspec.msgpack.Decoder(PackedMinute).decode
_decode_period = msgspec.msgpack.Decoder(PackedPeriod).decode


def pack_state(name: str, state: DeviceState) -> Resident:
    """Pack a device's state."""
    return Resident(due_of(name, state), _encode(state))


def pack_minute(minute: Minute) -> bytes:
    """Pack a minute without pending readings."""
    return _encode(
        PackedMinute(
            minute.facility,
            minute.device_type,
            minute.late,
            minute.is_stored,
            pack_ids(minute.entries),
            b"".join(sorted(minute.conflicts)),
            {
                name: PackedAggregate(
                    metric.count,
                    _pack_sum(metric.sum),
                    metric.min,
                    metric.max,
                    metric.sketch.pack(),
                    metric.unit,
                    metric.last,
                    *divmod(metric.last_order, _SPAN),
                )
                for name, metric in minute.metrics.items()
            },
        )
    )


def unpack_minute(packed: bytes, *, device: str, start: int) -> Minute:
    """Unpack what `pack_minute` packed."""
    minute = _decode_minute(packed)
    return Minute(
        device=device,
        start=start,
        facility=minute.facility,
        device_type=minute.device_type,
        late=minute.late,
        entries=unpack_ids(minute.ids),
        conflicts=unpack_conflicts(minute.conflicts),
        metrics={
            name: MetricAggregate(
                count=each.count,
                sum=int.from_bytes(each.sum, signed=True),
                min=each.min,
                max=each.max,
                sketch=Sketch.unpack(each.sketch, most=MINUTE_BINS),
                last=each.last,
                last_order=each.last_time * _SPAN + each.last_sequence,
                unit=each.unit,
            )
            for name, each in minute.metrics.items()
        },
        is_stored=minute.is_stored,
    )


def pack_period(period: Period) -> bytes:
    """Pack an open hour or day."""
    return _encode(
        PackedPeriod(
            period.facility,
            period.device_type,
            period.parts,
            period.messages,
            period.late,
            period.newest_part,
            {
                name: PackedTotals(each.count, _pack_sum(each.sum), each.min, each.max, each.sketch.pack(), each.unit)
                for name, each in period.metrics.items()
            },
        )
    )


def unpack_period(packed: bytes, *, device: str, level: Level, start: int) -> Period:
    """Unpack what `pack_period` packed."""
    period = _decode_period(packed)
    return Period(
        level=level,
        device=device,
        start=start,
        facility=period.facility,
        device_type=period.device_type,
        parts=period.parts,
        messages=period.messages,
        late=period.late,
        metrics={name: _totals(each) for name, each in period.metrics.items()},
        newest_part=period.newest_part,
    )


def _totals(each: PackedTotals) -> Totals:
    return Totals(
        count=each.count,
        sum=int.from_bytes(each.sum, signed=True),
        min=each.min,
        max=each.max,
        sketch=Sketch.unpack(each.sketch),
        unit=each.unit,
    )


def _pack_sum(steps: int) -> bytes:
    return steps.to_bytes((steps.bit_length() + 8) // 8, signed=True)
