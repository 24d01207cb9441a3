"""Unpacked devices as this process last packed them, within a bound of bytes.

An entry is used only while the lane has the very bytes that it was packed to, so a device whose commit failed is
unpacked again. Entries are removed when used.
"""

from __future__ import annotations

from .device_state import Device

CAPACITY = 160_000_000
"""Estimated bytes of unpacked devices: 2,400 with four metrics."""

EXPANSION = 13
"""An unpacked device has so many times the bytes of its packed state: 69 kB of 5.2 kB with four metrics."""


class DeviceCache:
    """Unpacked devices by name; those put first are forgotten first, beyond `capacity` bytes."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._used = 0
        self._devices: dict[str, tuple[bytes, Device]] = {}

    def pop(self, name: str, packed: bytes) -> Device | None:
        """Remove and return the device, for the caller to change, if it is the one packed to these bytes."""
        known, device = self._devices.pop(name, (b"", None))
        self._used -= EXPANSION * len(known)
        return device if known == packed else None

    def put(self, device: Device, packed: bytes) -> None:
        """Keep a device that was just packed; the caller no longer changes it."""
        self.pop(device.name, packed)
        self._devices[device.name] = packed, device
        self._used += EXPANSION * len(packed)
        while self._used > self._capacity and self._devices:
            oldest = next(iter(self._devices))
            self.pop(oldest, b"")
