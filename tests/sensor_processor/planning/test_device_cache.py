"""The cache of unpacked devices: bounded by bytes, and used only for the very state that it has."""

from __future__ import annotations

from fleet_iot.sensor_processor.detection import DeviceDetectors
from fleet_iot.sensor_processor.planning.device_cache import EXPANSION, DeviceCache
from fleet_iot.sensor_processor.planning.device_state import Device, DeviceState


def device(name: str) -> Device:
    """A device without readings."""
    state = DeviceState(
        facility="sg-01",
        device_type="press-monitor",
        certificate_id="c",
        first_contact=0,
        last_contact=0,
        newest=-1,
    )
    return Device(name, state, DeviceDetectors(), {})


def test_a_device_is_used_only_for_the_state_that_it_was_packed_to() -> None:
    """Where another process has committed since, it is unpacked anew; one that is in use is not in the cache."""
    cache = DeviceCache()
    one = device("a")
    cache.put(one, b"state 1")

    assert cache.pop("a", b"state 2") is None
    cache.put(one, b"state 1")
    assert cache.pop("a", b"state 1") is one
    assert cache.pop("a", b"state 1") is None


def test_the_cache_is_bounded_by_bytes() -> None:
    """Devices that were put first are forgotten first, and a device that is put again counts once."""
    cache = DeviceCache(capacity=3 * EXPANSION * 100)
    for name in ("a", "b", "b", "b", "c", "d"):
        cache.put(device(name), bytes(100))

    assert [cache.pop(name, bytes(100)) is not None for name in "abcd"] == [False, True, True, True]
    large = device("large")
    cache.put(large, bytes(1_000))
    assert cache.pop("large", bytes(1_000)) is None
