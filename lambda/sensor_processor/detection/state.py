"""Packs what detectors have learned into a few hundred bytes and back, exactly: the next score is the same."""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from sensor_processor.compression import compress_state, decompress_state
from sensor_processor.detection.threeviews import ThreeViews
from sensor_processor.detection.view import View

STATE_VERSION = 2
"""Raised when the layout below or the meaning of a field changes; other versions are not read."""

_VIEW = struct.Struct("<qqddddd")
_DETECTOR = struct.Struct("<qqBdddddddd")


class StateError(Exception):
    """The packed state is of another version or damaged."""


class MetricState(msgspec.Struct, array_like=True):
    """What is known of one metric: the side of a running excursion (-1, 0, 1), the packed context detector, the
    numbers of another one by its name, and when running events began (ms, 0 where none runs)."""

    excursion: int = 0
    context: bytes = b""
    single: str = ""
    numbers: list[float] = []
    limits_began: int = 0
    began: int = 0


class DeviceState(msgspec.Struct, array_like=True):
    """What is known of one device: its newest reading that detectors saw, each metric, each group of metrics."""

    version: int
    newest_time: int
    newest_sequence: int
    metrics: dict[str, MetricState]
    groups: dict[str, list[Any]] = {}


def pack_device(state: DeviceState) -> bytes:
    """The state as the device item keeps it."""
    return compress_state(msgspec.msgpack.encode(state))


def unpack_device(packed: bytes) -> DeviceState:
    """The state that `pack_device` packed. Raises StateError."""
    try:
        data = decompress_state(packed)
        version = msgspec.msgpack.decode(data)[0]
        if version != STATE_VERSION:
            raise StateError(f"the detectors' state has version {version!r}, not {STATE_VERSION}")
        return msgspec.msgpack.decode(data, type=DeviceState)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise StateError(f"the detectors' state cannot be read: {error}") from error


def pack_context(detector: ThreeViews) -> bytes:
    """A context detector's state, 1.3 kB before compression."""
    parts = [
        _DETECTOR.pack(
            detector.count,
            detector.quiet,
            detector.view,
            detector.average,
            detector.trend,
            detector.slow_average,
            detector.total,
            detector.mean,
            detector.deviation,
            detector.alarms,
            detector.held,
        )
    ]
    for view in (detector.level, detector.slow, detector.volatility):
        parts.append(
            _VIEW.pack(view.seen, view.counted, view.novelty, view.low, view.high, view.context_low, view.context_high)
        )
        parts.append(bytes(view.table))
    return b"".join(parts)


def unpack_context(packed: bytes) -> ThreeViews:
    """The detector that `pack_context` packed. Raises StateError."""
    detector = ThreeViews()
    try:
        (
            detector.count,
            detector.quiet,
            detector.view,
            detector.average,
            detector.trend,
            detector.slow_average,
            detector.total,
            detector.mean,
            detector.deviation,
            detector.alarms,
            detector.held,
        ) = _DETECTOR.unpack_from(packed)
        at = _DETECTOR.size
        for view in (detector.level, detector.slow, detector.volatility):
            at = _unpack_view(view, packed, at=at)
    except struct.error as error:
        raise StateError(f"a context detector's state cannot be read: {error}") from error
    if at != len(packed):
        raise StateError(f"a context detector's state has {len(packed)} bytes, not {at}")
    return detector


def _unpack_view(view: View, packed: bytes, *, at: int) -> int:
    view.seen, view.counted, view.novelty, low, high, context_low, context_high = _VIEW.unpack_from(packed, at)
    view.set_range(low, high, context_low, context_high)
    end = at + _VIEW.size + len(view.table)
    view.table = bytearray(packed[at + _VIEW.size : end])
    return end
