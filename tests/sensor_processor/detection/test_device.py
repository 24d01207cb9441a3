"""Detection: limits say each excursion once; the context detector scores, and its state continues exactly."""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.sensor_processor.detection import (
    UNIVARIATE_THRESHOLD,
    DeviceDetectors,
    Finding,
    StateError,
    excursion_of,
    limits_finding,
    univariate,
    unpack_detectors,
)
from fleet_iot.sensor_processor.detection.state import STATE_VERSION, pack_context, unpack_context
from fleet_iot.sensor_processor.ingest.catalogue import Catalogue, Metric
from fleet_iot.sensor_processor.ingest.reading import Reading

START = 1_795_443_543_000
values = st.floats(min_value=-1e12, max_value=1e12)


def feed(detectors: DeviceDetectors, reading: Reading, *, metrics: Mapping[str, Metric]) -> list[Finding]:
    """Learn a reading."""
    return detectors.learn(reading.order, reading.metrics, metrics=metrics)


def metric(**overrides: Any) -> Metric:
    return Metric(
        **(
            {"name": "temperature", "unit": "celsius", "minimum": -10.0, "maximum": 95.0, "detector": "limits"}
            | overrides
        )
    )


@pytest.mark.parametrize(("value", "side"), [(95.0, 0), (95.1, 1), (-10.0, 0), (-10.1, -1), (20.0, 0)])
def test_a_limit_itself_is_allowed(value: float, side: int) -> None:
    """A value is outside when it is beyond a limit, not at it."""
    assert excursion_of(metric(), value) == side


def test_no_limit_is_never_passed() -> None:
    """A metric without limits has no excursions."""
    assert [excursion_of(metric(minimum=None, maximum=None), value) for value in (-1e11, 1e11)] == [0, 0]


def test_the_reason_is_in_operator_words() -> None:
    """A limits anomaly says metric, value, unit and limit."""
    above, below = limits_finding(metric(), 97.2), limits_finding(metric(), -12.5)

    assert (above.reason, below.reason) == (
        "temperature 97.2 celsius is above its limit of 95",
        "temperature -12.5 celsius is below its limit of -10",
    )
    assert above.score == pytest.approx(2.2 / 105)


def test_a_strange_value_within_the_limits_is_found(reading: Any, catalogue: Catalogue) -> None:
    """After 300 readings around 70 one of 90, within its limits, is an anomaly that says what is usual."""
    metrics = catalogue.device_types["press-monitor"]
    noise = random.Random(7)
    detectors = DeviceDetectors()
    early = []
    for sequence in range(300):
        value = round(noise.gauss(70, 0.5), 2)
        early += feed(
            detectors,
            reading(time=START + sequence, sequence=sequence, metrics={"temperature": value}),
            metrics=metrics,
        )

    (finding,) = feed(
        detectors, reading(time=START + 300, sequence=300, metrics={"temperature": 90.0}), metrics=metrics
    )

    assert early == []
    assert (finding.detector, finding.value) == ("context", 90.0)
    assert finding.score >= UNIVARIATE_THRESHOLD
    assert finding.reason.startswith("temperature 90 celsius is unusual for this device; lately 6")


def test_readings_out_of_order_are_refused(reading: Any, catalogue: Catalogue) -> None:
    """A detector that was given an older reading would learn a series that never was."""
    detectors = DeviceDetectors()
    feed(detectors, reading(time=START), metrics=catalogue.device_types["press-monitor"])

    with pytest.raises(ValueError, match="in order"):
        feed(detectors, reading(time=START - 1), metrics=catalogue.device_types["press-monitor"])


def test_a_quiet_machine_is_left_in_peace() -> None:
    """In the first 300 readings of 100 steady machines there are fewer than one false alarm in 1,000 readings."""
    alarms = 0
    for seed in range(100):
        noise = random.Random(seed)
        update = univariate().update
        alarms += sum(update(round(noise.gauss(70, 0.5), 2)) >= UNIVARIATE_THRESHOLD for _ in range(300))

    assert alarms < 30


@settings(max_examples=60)
@given(numbers=st.lists(values, max_size=120), cut=st.integers(0, 120))
def test_a_restored_detector_scores_the_same(numbers: list[float], cut: int) -> None:
    """Packing and unpacking after each reading, or at any one, changes no score."""
    whole, restored, once = univariate(), univariate(), univariate()
    expected, each, late = [], [], []
    for position, value in enumerate(numbers):
        expected.append(whole.update(value))
        restored = unpack_context(pack_context(restored))
        each.append(restored.update(value))
        if position == cut:
            once = unpack_context(pack_context(once))
        late.append(once.update(value))

    assert each == expected
    assert late == expected
    assert pack_context(restored) == pack_context(whole)


def test_a_long_series_continues_exactly_in_the_device_item(reading: Any, catalogue: Catalogue) -> None:
    """Detectors restored from their packed state every 37 readings find what uninterrupted ones find."""
    metrics = catalogue.device_types["press-monitor"]
    noise = random.Random(11)
    whole, restored = DeviceDetectors(), DeviceDetectors()
    expected, found = [], []
    for sequence in range(1_500):
        jump = 15 if sequence in (700, 1_200) else 0
        taken = reading(
            time=START + sequence * 1_000,
            sequence=sequence,
            metrics={"temperature": round(70 + math.sin(sequence / 40) + noise.gauss(0, 0.3), 2) + jump},
        )
        if sequence % 37 == 0:
            restored = unpack_detectors(restored.pack(), metrics=metrics)
        expected += [(sequence, finding) for finding in feed(whole, taken, metrics=metrics)]
        found += [(sequence, finding) for finding in feed(restored, taken, metrics=metrics)]

    assert found == expected
    assert 700 in [sequence for sequence, _ in found]
    assert restored.newest == (START + 1_499_000, 1_499)


@settings(max_examples=100)
@given(numbers=st.lists(values, max_size=200))
def test_scores_are_finite_and_not_negative(numbers: list[float]) -> None:
    """No series of finite values, however wild, makes the detector fail or give anything but a score."""
    detector = univariate()

    assert all(0.0 <= score < 100.0 for score in map(detector.update, numbers))


def test_state_is_bounded() -> None:
    """However long the series, a detector's state stays at its 1.3 kB."""
    noise = random.Random(3)
    detector = univariate()
    sizes = set()
    for position in range(20_000):
        detector.update(noise.gauss(0, 1 + position / 1_000))
        if position % 1_000 == 0:
            sizes.add(len(pack_context(detector)))

    assert sizes == {1_369}


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"junk",
        zlib.compress(b""),
        zlib.compress(msgspec.msgpack.encode([STATE_VERSION + 1, 0, 0, {}])),
        zlib.compress(msgspec.msgpack.encode([STATE_VERSION, "x", 0, {}])),
        zlib.compress(msgspec.msgpack.encode([STATE_VERSION, 0, 0, {"temperature": [0, b"short"]}])),
        zlib.compress(msgspec.msgpack.encode([STATE_VERSION, 0, 0, {"temperature": [0, bytes(2_000)]}])),
        zlib.compress(bytes(2_000_000)),
    ],
)
def test_a_state_that_cannot_be_read_is_an_error(packed: bytes, catalogue: Catalogue) -> None:
    """Another version, damage and an oversized state are errors."""
    with pytest.raises(StateError):
        unpack_detectors(packed, metrics=catalogue.device_types["press-monitor"])


def test_a_metric_that_left_the_catalogue_is_forgotten(reading: Any, catalogue: Catalogue) -> None:
    """State of metrics that are no longer in the catalogue is dropped."""
    metrics = catalogue.device_types["press-monitor"]
    detectors = DeviceDetectors()
    feed(detectors, reading(time=START, metrics={"temperature": 70.0}), metrics=metrics)
    only_vibration = {"vibration": metrics["vibration"]}

    assert len(unpack_detectors(detectors.pack(), metrics=only_vibration).pack()) < len(detectors.pack())
