"""What this process wrote last of each device: so that one that comes again need not be read nor unpacked.

A memory may be out of date, and that does no harm: a write holds only if the device's version is still the remembered
one, and a device whose write did not hold is forgotten, read and planned anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from ..detection import DeviceDetectors, unpack_detectors
from ..ingest.catalogue import Metric
from ..numbers.period import OpenHour
from .items import Device

CAPACITY = 4_000
"""Devices, of about 25 kB each with four metrics: 100 MB of the function's memory at most."""


class Known(NamedTuple):
    """A device, and its hour that is not over, where that is known: both of the same version."""

    device: Device
    open_hour: OpenHour | None


class Memory:
    """Devices as their items are believed to be, and the detectors whose state is in them."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._devices: dict[str, Known] = {}
        self._detectors: dict[str, tuple[str, bytes, DeviceDetectors]] = {}

    def recall(self, names: Iterable[str]) -> dict[str, Known]:
        """Those of these devices that are remembered; each is forgotten until it is noted again."""
        return {name: known for name in names if (known := self._devices.pop(name, None)) is not None}

    def note(self, device: Device, open_hour: OpenHour | None = None) -> None:
        """Remembers a device, and its hour that is not over, as this process has just written them."""
        _make_room(self._devices, self._capacity)
        self._devices[device.name] = Known(device, open_hour)

    def note_outbox(self, name: str, outbox: tuple[str, ...]) -> None:
        """Remembers what is left to be told of a device: what was told leaves its item with the next write."""
        known = self._devices.get(name)
        if known is not None:
            self._devices[name] = known._replace(device=msgspec.structs.replace(known.device, outbox=outbox))

    def take_detectors(self, device: Device, device_type: str, *, metrics: Mapping[str, Metric]) -> DeviceDetectors:
        """The device's detectors; the caller has them alone. Raises StateError.

        They are those in memory only if their state is, byte for byte, the one that the device has.
        """
        known_type, packed, detectors = self._detectors.pop(device.name, ("", b"", None))
        if detectors is not None and packed == device.detectors and known_type == device_type:
            return detectors
        return unpack_detectors(device.detectors, metrics=metrics)

    def keep_detectors(self, device: Device, device_type: str, detectors: DeviceDetectors) -> None:
        """Remembers detectors whose state is in `device` and which nobody changes from here on."""
        _make_room(self._detectors, self._capacity)
        self._detectors[device.name] = device_type, device.detectors, detectors


def _make_room(kept: dict[str, Any], capacity: int) -> None:
    if len(kept) >= capacity:
        del kept[next(iter(kept))]
