"""A manifest that is valid makes no device whose detectors DynamoDB would refuse: held to the processor's packing."""

from __future__ import annotations

import random

import pytest
from isal import isal_zlib

from fleet_iot.generator.manifest import rules as rules_metrics
from fleet_iot.generator.manifest.models import Metric as ManifestMetric
from fleet_iot.sensor_processor.detection import DeviceDetectors
from fleet_iot.sensor_processor.ingest.catalogue import DETECTORS, Metric
from fleet_iot.sensor_processor.planning.items import DeviceEvent, notice_of

LONGEST = 64

OF_MANIFESTS = sorted(DETECTORS - {"machine"})
"""Detectors that the rule counts: the state of `machine` is never part of an item."""


def packed(detectors: list[str], *, readings: int, step_ms: int) -> int:
    """The bytes that the detectors of a device keep after so many readings of noise, with the longest names."""
    dice = random.Random(1)
    names = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz0123456789_", k=LONGEST)) for _ in detectors]
    metrics = {
        name: Metric(name=name, unit="u" * 32, minimum=-1.0, maximum=1.0, detector=detector)
        for name, detector in zip(names, detectors, strict=True)
    }
    device = DeviceDetectors()
    for place in range(readings):
        device.learn((place * step_ms, place), {name: dice.gauss(0, 1) for name in names}, metrics=metrics)
    return len(isal_zlib.compress(device.pack(), 0))


def allowed(detectors: list[str]) -> int:
    """Return the bytes of state that the manifest's rule computes for the detectors."""
    return rules_metrics.state_bytes(ManifestMetric(unit="x", max=1, detector=each) for each in detectors)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("detector", OF_MANIFESTS)
def test_no_detector_packs_into_more_than_is_reckoned(detector: str) -> None:
    """Of ten metrics, after two weeks of half-hours and an hour of seconds, beyond their limits every third time."""
    for count in (10, 40, 80):
        assert packed([detector] * count, readings=5, step_ms=1_000) <= allowed([detector] * count)
    for readings, step_ms in ((700, 1_800_000), (3_600, 1_000)):
        assert packed([detector] * 10, readings=readings, step_ms=step_ms) <= allowed([detector] * 10)


def test_the_most_metrics_that_correlate_fit_into_an_item() -> None:
    """The largest number that the rule lets through, and not much less than what there is room for."""
    room = rules_metrics.ITEM_MAXIMUM - rules_metrics.OUTBOX_ALLOWANCE
    most = max(n for n in range(257) if allowed(["correlation"] * n) <= room)
    size = packed(["correlation"] * most, readings=12, step_ms=1_000)
    assert (150, True) == (most, 0.9 * room < size <= room)


def test_every_detector_on_all_metrics_but_correlation_fits() -> None:
    """256 metrics of any other detector are never refused."""
    room = rules_metrics.ITEM_MAXIMUM - rules_metrics.OUTBOX_ALLOWANCE
    assert [] == [each for each in OF_MANIFESTS if each != "correlation" and allowed([each] * 256) > room]


def test_unsent_notifications_fit_beside_the_detectors() -> None:
    """A full outbox of findings that name the longest metrics of the longest thing."""
    dice = random.Random(2)
    names = [f"{number:03d}".ljust(LONGEST, "m") for number in range(30)]
    metrics = {
        name: Metric(name=name, unit="u" * 32, minimum=None, maximum=1e6, detector="correlation") for name in names
    }
    device, finding, place = DeviceDetectors(), None, 0
    while finding is None:
        place += 1
        row = {name: dice.gauss(0, 1) + (1e5 * number if place > 450 else 0) for number, name in enumerate(names)}
        found = device.learn((place * 1_000, place), row, metrics=metrics)
        finding = next((each for each in found if each.detector == "correlation" and len(each.reason) > 250), None)
        assert place < 1_000
    facility = device_type = "f" * 32
    thing = f"{facility}-{device_type}-{'n' * 32}-{'s' * 16}"
    event = DeviceEvent(
        finding=finding, device=thing, facility=facility, device_type=device_type, time=1_790_000_000_000
    )
    message = notice_of(event)
    assert "and 26 more" in message
    assert 100 * len(message.encode()) <= rules_metrics.OUTBOX_ALLOWANCE
