"""Device cache: cached devices, detectors and hours are used only while they are current."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.detection import DeviceDetectors
from fleet_iot.sensor_processor.ingest.catalogue import Catalogue
from fleet_iot.sensor_processor.planning.device_cache import CachedDevice, DeviceCache
from fleet_iot.sensor_processor.planning.items import Device

RECEIVED_AT = 1_795_445_343_250


def make_device(name: str = "press-1", *, detectors: bytes) -> Device:
    return Device(
        name=name,
        facility="sg-01",
        device_type="press-monitor",
        certificate_id="0" * 64,
        first_contact=RECEIVED_AT,
        last_contact=RECEIVED_AT,
        version=1,
        messages=1,
        last_sequence=1,
        detectors=detectors,
    )


def learned(catalogue: Catalogue, value: float) -> DeviceDetectors:
    detectors = DeviceDetectors()
    detectors.learn((1, 1), {"temperature": value}, metrics=catalogue.device_types["press-monitor"])
    return detectors


def test_remembered_detectors_serve_the_state_that_they_have(catalogue: Catalogue) -> None:
    """The same object for the same bytes; for another writer's bytes, what is in those."""
    cache, metrics = DeviceCache(), catalogue.device_types["press-monitor"]
    ours, theirs = learned(catalogue, 1.0), learned(catalogue, 2.0)
    device, overtaken = make_device(detectors=ours.pack()), make_device(detectors=theirs.pack())

    cache.put_detectors(device, "press-monitor", ours)
    assert cache.pop_detectors(device, "press-monitor", metrics=metrics) is ours
    cache.put_detectors(device, "press-monitor", ours)
    taken = cache.pop_detectors(overtaken, "press-monitor", metrics=metrics)
    assert (taken is ours, taken.pack()) == (False, overtaken.detectors)


def test_a_used_device_is_not_cached_until_it_is_put_back(catalogue: Catalogue) -> None:
    """A device whose write failed is thus read the next time."""
    cache, device = DeviceCache(), make_device(detectors=b"")
    cache.put(device)

    assert cache.pop(["press-1", "press-2"]) == {"press-1": CachedDevice(device, None)}
    assert cache.pop(["press-1", "press-2"]) == {}


def test_the_cache_is_bounded() -> None:
    """Beyond its capacity the oldest entry is evicted."""
    cache = DeviceCache(capacity=2)
    for name in ("a", "b", "c"):
        cache.put(make_device(name, detectors=b""))

    assert list(cache.pop("abc")) == ["b", "c"]


def test_a_process_with_a_stale_cache_counts_exactly(platform: Any, event: Any, record: Any, payload: Any) -> None:
    """Another process wrote in between: the condition fails, the device is read, and nothing is counted twice."""
    platform.handle(event(record(payload=payload(sequence=1))))
    first = handler.runtime()
    platform.restart()
    between = event(record(payload=payload(sequence=2, time=RECEIVED_AT + 120_000), received_at=RECEIVED_AT + 120_000))
    platform.handle(between)
    handler.runtime().cache.__dict__.update(first.cache.__dict__)

    again = record(payload=payload(sequence=3, time=RECEIVED_AT + 120_001), received_at=RECEIVED_AT + 120_001)
    assert platform.handle(event(again, *between["Records"])) == []
    assert [item["messages"]["N"] for item in platform.minutes()] == ["1", "2"]
    assert [item["messages"]["N"] for item in platform.devices()] == ["3"]


@pytest.mark.slow
def test_reads_are_spared_for_devices_that_come_again(platform: Any, event: Any, record: Any, payload: Any) -> None:
    """The second batch of a device reads only the minute that it goes on with, and a new minute not at all."""
    asked: list[dict[str, Any]] = []
    platform.own_dynamodb.meta.events.register_last(
        "before-call.dynamodb.BatchGetItem",
        lambda params, **_: asked.append(json.loads(params["body"])["RequestItems"]),
    )
    for number, offset in enumerate((0, 1_000, 120_000)):
        time = RECEIVED_AT + offset
        platform.handle(event(record(payload=payload(sequence=number, time=time), received_at=time)))

    assert [list(tables) for tables in asked] == [["table-devices-dev"], ["table-readings-dev"], ["table-readings-dev"]]


@pytest.mark.slow
def test_an_hour_that_was_counted_whole_ends_without_a_question(platform: Any, bring: Any) -> None:
    """A process that began in the midst of an hour asks once for its minutes; both come to the same."""
    asked: list[str] = []

    def note(**call: Any) -> None:
        asked.append(call["model"].name)

    def watched(*minutes: int) -> list[str]:
        asked.clear()
        platform.own_dynamodb.meta.events.register("before-call.dynamodb.Query", note, unique_id="note")
        bring(*minutes)
        return list(asked)

    assert ["Query"] == watched(0, 10, 20, 31)  # who knows what there was before its first reading
    assert [] == watched(45, 91)
    platform.restart()
    assert ["Query"] == watched(100, 152)
    assert {"14": ("3", "3", "189"), "15": ("2", "2", "126"), "16": ("2", "2", "122")} == hours(platform)


@pytest.mark.slow
def test_an_hour_is_forgotten_with_its_device(platform: Any, bring: Any) -> None:
    """An hour includes what other processes wrote of a device meanwhile, whichever process ends it."""
    bring(25, 31)
    first = handler.runtime()
    first.cache._capacity = 1
    bring(32, number=2)
    platform.restart()
    bring(40)

    bring(92, process=first)

    assert ("2", "2", "128") == hours(platform)["15"]


@pytest.fixture
def bring(platform: Any, event: Any, record: Any, payload: Any) -> Any:
    """Hands a process, or the one that runs, a reading of a thing for each of these minutes after half past two."""

    def handle(*minutes: int, number: int = 1, process: Any = None) -> None:
        for minute in minutes:
            time = HALF_PAST_TWO + minute * 60_000
            message = payload(time=time, sequence=minute, metrics={"temperature": 60.0 + minute % 7})
            batch = event(record(payload=message, received_at=time + 50, number=number))
            answer = handler.respond(process or handler.runtime(), batch, None)
            assert [] == answer["batchItemFailures"]

    return handle


def hours(platform: Any) -> dict[str, tuple[str, str, str]]:
    """Messages, minutes and sum of the temperature, by hour of the day, of the first thing."""
    return {
        item["bucket"]["S"][16:18]: (
            item["messages"]["N"],
            item["minutes"]["N"],
            item["metrics"]["M"]["temperature"]["M"]["sum"]["N"],
        )
        for item in platform.items()
        if item["bucket"]["S"].startswith("hour#") and item["device"]["S"] == "sg-01-press-monitor-0001-dev"
    }


HALF_PAST_TWO = 1_795_444_200_000
"""2026-11-23T14:30Z in ms."""
