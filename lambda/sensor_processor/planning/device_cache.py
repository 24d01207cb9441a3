"""In-memory cache of devices as this process last wrote them, so that they need not be read and unpacked again.

An entry may be stale without harm: a write is conditional on the cached version. Entries are removed when used and put
back after a successful write, so a device whose write failed is read again.
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


class CachedDevice(NamedTuple):
    """A device and its current hour, if known, of the same version."""

    device: Device
    open_hour: OpenHour | None


class DeviceCache:
    """Devices by name, and their unpacked detectors."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._devices: dict[str, CachedDevice] = {}
        self._detectors: dict[str, tuple[str, bytes, DeviceDetectors]] = {}

    def pop(self, names: Iterable[str]) -> dict[str, CachedDevice]:
        """Remove and return those of these devices that are cached."""
        return {name: cached for name in names if (cached := self._devices.pop(name, None)) is not None}

    def put(self, device: Device, open_hour: OpenHour | None = None) -> None:
        """Cache a device and its current hour as they were just written."""
        _evict_oldest(self._devices, self._capacity)
        self._devices[device.name] = CachedDevice(device, open_hour)

    def put_outbox(self, name: str, outbox: tuple[str, ...]) -> None:
        """Replace the outbox of a cached device; its next write removes published notifications from the item."""
        cached = self._devices.get(name)
        if cached is not None:
            self._devices[name] = cached._replace(device=msgspec.structs.replace(cached.device, outbox=outbox))

    def pop_detectors(self, device: Device, device_type: str, *, metrics: Mapping[str, Metric]) -> DeviceDetectors:
        """Return the device's detectors, for the caller to change.

        The cached ones if their packed state equals the device's, else unpacked ones. Raises StateError.
        """
        cached_type, packed, detectors = self._detectors.pop(device.name, ("", b"", None))
        if detectors is not None and packed == device.detectors and cached_type == device_type:
            return detectors
        return unpack_detectors(device.detectors, metrics=metrics)

    def put_detectors(self, device: Device, device_type: str, detectors: DeviceDetectors) -> None:
        """Cache detectors whose packed state is in `device`; the caller no longer changes them."""
        _evict_oldest(self._detectors, self._capacity)
        self._detectors[device.name] = device_type, device.detectors, detectors


def _evict_oldest(cached: dict[str, Any], capacity: int) -> None:
    if len(cached) >= capacity:
        del cached[next(iter(cached))]
