"""What a device's readings change: successive transactions, each moving the device's version on by one.

The device item is the lock: whoever writes any item of a device also moves its version on, on the condition that it
is the one that was read before the minutes were. So a plan either takes effect whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter

import msgspec

from ..detection import DeviceDetectors, StateError
from ..ingest.catalogue import Catalogue
from ..ingest.reading import Reading
from ..numbers.minute import Minute
from ..numbers.open_hour import OpenHour
from ..numbers.period import Part, PeriodKey
from .chunk import Chunk
from .device_cache import Memory
from .items import Device
from .planner import Planner
from .retention import Retention


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A device's chunks, to be written in this order, and the device as it is after them.

    `lost_state` says why learned state was not taken over; `notices` are to be published once all is written.
    """

    chunks: tuple[Chunk, ...]
    device: Device | None
    lost_state: str | None
    notices: tuple[str, ...]
    open_hour: OpenHour | None


def plan_device(
    *,
    device: Device | None,
    minutes: Mapping[int, Minute],
    parts: Mapping[PeriodKey, Mapping[int, Part]],
    open_hour: OpenHour | None,
    readings: Sequence[Reading],
    catalogue: Catalogue,
    retention: Retention,
    memory: Memory,
) -> Plan:
    """The plan for `readings` of one device, given what the tables hold; `minutes` by start, changed in place.

    `parts` are those of the hours and days that the readings end or change; `open_hour`, where it is known, is that of
    the device's newest reading, changed in place.
    """
    # Stable: readings of one place stay in the stream's order, in which they come.
    ordered = sorted(readings, key=_order)
    device_type = ordered[-1].envelope.device_type
    lost_state = None
    detectors = DeviceDetectors()
    if device is not None:
        try:
            detectors = memory.take_detectors(device, device_type, metrics=catalogue.device_types[device_type])
        except StateError as error:
            lost_state = str(error)
    planner = Planner(
        ordered[-1].envelope.thing,
        device=device,
        minutes=dict(minutes),
        parts=parts,
        open_hour=open_hour,
        detectors=detectors,
        catalogue=catalogue,
        retention=retention,
    )
    planner.take(ordered)
    planner.close()
    if planner.device is not None and (lost_state is None or planner.device is not device):
        memory.keep_detectors(planner.device, device_type, detectors)
    newest = None if planner.device is None else planner.device.newest_reading
    return Plan(
        chunks=tuple(planner.chunks),
        device=planner.device,
        lost_state=lost_state,
        notices=tuple(planner.notices),
        open_hour=None if newest is None else planner.rollup.open_hour(newest),
    )


_order = attrgetter("order")
