"""Packs the state of detectors into a few hundred bytes a metric and back, exactly: the next score is the same."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import islice
from operator import attrgetter
from typing import Any

import msgspec

from ..ingest.codec import decompress_state
from .context import LEVEL, SLOW, VOLATILITY, ContextDetector
from .event import Event, Finding, Running
from .limits import LateEvent
from .machine import MachineState

_ZLIB = b"\x78"

STATE_VERSION = 3
"""Increment it when the layout below or the meaning of a field changes. Version 2 is still read."""

_DETECTOR = (
    "count",
    "readings_since_emission",
    "view",
    "average",
    "trend",
    "slow_average",
    "total",
    "mean",
    "deviation",
    "alarms",
    "last_emitted_score",
)
_VIEW = ("seen", "counted", "novelty", "low", "high", "context_low", "context_high", "table")
_of_detector, _of_view = attrgetter(*_DETECTOR), attrgetter(*_VIEW)
_CONTEXT = struct.Struct(
    "<qqBdddddddd" + "".join(f"qqddddd{shape.bins * shape.bins}s" for shape in (LEVEL, SLOW, VOLATILITY))
)
"""The detector's own numbers, then those of each view and its table."""


class StateError(Exception):
    """The packed state is damaged or of an unknown version.

    `running` are the events in it that can be read all the same, `newest` (ms) is the last reading that it had learned.
    """

    def __init__(self, message: str, *, running: Sequence[Running] = (), newest: int = 0) -> None:
        super().__init__(message)
        self.running = tuple(running)
        self.newest = newest


class MetricState(msgspec.Struct, array_like=True):
    """State of one metric: running events beyond its limits; packed context detector; name and numbers of a small
    detector; running event of either detector; unit of the values; running events of readings out of order."""

    excursions: list[Event] = []
    context: bytes = b""
    single: str = ""
    numbers: list[float] = []
    event: Event | None = None
    unit: str = ""
    late: list[LateEvent] = []


class DeviceState(msgspec.Struct, array_like=True):
    """State of one device. The list of a group begins with the names of its metrics, its running event (or None) and
    that event's metric.

    `version`, `newest_time` and `running` have the same place in every version from 3 on. `ahead` is how far (ms) the
    device's clock was ahead of its last reading's arrival; `deferred` are findings that are not reported yet.
    """

    version: int
    newest_time: int
    newest_sequence: int
    metrics: dict[str, MetricState]
    groups: dict[str, list[Any]] = {}
    running: list[Running] = []
    ahead: int = 0
    deferred: list[Finding] = []
    machine: MachineState | None = None


def pack_device(state: DeviceState) -> bytes:
    """Encode the state; a lane's devices are compressed together."""
    return msgspec.msgpack.encode(state)


def unpack_device(packed: bytes) -> DeviceState:
    """Decode what `pack_device` packed. Raises StateError."""
    state: Any = None
    try:
        # Version 0.3.0 compressed each state, and zlib's first byte begins no msgpack array.
        state = msgspec.msgpack.decode(decompress_state(packed) if packed[:1] == _ZLIB else packed)
        if state[0] == 2:
            state = _of_version_2(*state)
        elif state[0] != STATE_VERSION:
            raise ValueError(f"it has version {state[0]!r}, not {STATE_VERSION}")
        return msgspec.convert(state, DeviceState)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        running, newest = _running_of(state)
        raise StateError(f"the detectors' state cannot be read: {error}", running=running, newest=newest) from error


def _running_of(state: Any) -> tuple[list[Running], int]:
    """Read the running events of a state that cannot be read as a whole."""
    try:
        return msgspec.convert(state[5], list[Running]), msgspec.convert(state[1], int)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return [], 0


def _of_version_2(
    _: int, time: int, sequence: int, metrics: dict[str, list[Any]], groups: dict[str, list[Any]]
) -> list[Any]:
    """Convert a state of version 2, which had one excursion at most, and of events only when they began."""

    def metric(
        excursion: int = 0,
        context: bytes = b"",
        single: str = "",
        numbers: Sequence[float] = (),
        limits_began: int = 0,
        began: int = 0,
    ) -> list[Any]:
        excursions = [[limits_began, False, excursion]] if excursion and limits_began else []
        return [excursions, context, single, numbers, [began] if began else None]

    return [
        STATE_VERSION,
        time,
        sequence,
        {name: metric(*state) for name, state in metrics.items()},
        {name: [names, [began] if began else None, *rest] for name, (names, began, *rest) in groups.items()},
    ]


def pack_context(detector: ContextDetector) -> bytes:
    """Pack a context detector: 1.3 kB before compression."""
    return _CONTEXT.pack(
        *_of_detector(detector),
        *_of_view(detector.level),
        *_of_view(detector.slow),
        *_of_view(detector.volatility),
    )


def unpack_context(packed: bytes) -> ContextDetector:
    """Unpack what `pack_context` packed. Raises StateError."""
    detector = ContextDetector()
    try:
        numbers = iter(_CONTEXT.unpack(packed))
    except struct.error as error:
        raise StateError(f"a context detector's state cannot be read: {error}") from error
    for name, number in zip(_DETECTOR, numbers, strict=False):
        setattr(detector, name, number)
    for view in (detector.level, detector.slow, detector.volatility):
        view.seen, view.counted, view.novelty, *ranges, table = islice(numbers, len(_VIEW))
        view.set_range(*ranges)
        view.table = bytearray(table)
    return detector
