"""Quantile sketches: right to one per cent, and the same whatever was counted first."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, isclose
from typing import Any

import pytest
from ddsketch import DDSketch
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.sensor_processor.ingest.reading import MAX_METRICS
from fleet_iot.sensor_processor.numbers.minute import Totals
from fleet_iot.sensor_processor.numbers.period import Level, Period
from fleet_iot.sensor_processor.numbers.sketch import ACCURACY, Sketch, sketch_of
from fleet_iot.sensor_processor.planning.items import period_item

sensible = st.floats(-1e12, 1e12).filter(lambda value: value == 0 or abs(value) > 1e-9)
many = st.lists(sensible, min_size=1, max_size=200)
RANKS = (0.0, 0.05, 0.5, 0.95, 0.99, 1.0)


def state(sketch: Sketch) -> tuple[int, dict[int, int]]:
    return sketch.joined, sketch.bins


@pytest.mark.slow
@given(values=many)
def test_quantiles_are_right_to_one_per_cent(values: list[float]) -> None:
    """As long as no bins were joined, a quantile is within one per cent of the value of its rank."""
    sketch = sketch_of(values, most=10_000)
    values.sort()

    for rank, found in zip(RANKS, sketch.quantiles(RANKS), strict=True):
        right = values[int(rank * (len(values) - 1))]
        assert abs(found - right) <= ACCURACY * abs(right) * (1 + 1e-9)


@pytest.mark.slow
@given(values=many)
def test_they_are_those_of_the_library(values: list[float]) -> None:
    """Datadog's own sketch of the same values has the same quantiles, except for values on a bin's edge."""
    library = DDSketch(ACCURACY)
    for value in values:
        library.add(value)

    for rank, found in zip(RANKS, sketch_of(values, most=10_000).quantiles(RANKS), strict=True):
        expected = library.get_quantile_value(rank)
        assert expected is not None
        assert isclose(found, expected, rel_tol=2.1 * ACCURACY)


@pytest.mark.slow
@settings(max_examples=200)
@given(values=many, data=st.data())
def test_any_order_and_any_merging_gives_the_same_sketch(values: list[float], data: st.DataObject) -> None:
    """However values are shuffled and spread over sketches of minutes, their sum is the sketch of all of them."""
    most = data.draw(st.sampled_from([5, 16, 512]))
    shuffled = data.draw(st.permutations(values))
    merged = Sketch(most)
    while shuffled:
        size = data.draw(st.integers(1, len(shuffled)))
        part, shuffled = sketch_of(shuffled[:size], most=most), shuffled[size:]
        merged.merge(Sketch.unpack(part.pack(), most=most))

    assert state(sketch_of(values, most=most)) == state(merged)
    assert len(merged.bins) <= most


@pytest.mark.slow
@given(values=many, most=st.sampled_from([16, 64]))
def test_joined_bins_lose_accuracy_and_nothing_else(values: list[float], most: int) -> None:
    """Every value still counts, zeros and signs are kept, and the error is that of so many joinings."""
    sketch = sketch_of(values, most=most)
    assert len(values) == sum(sketch.bins.values())
    growth = ((1 + ACCURACY) / (1 - ACCURACY)) ** (1 << sketch.joined)
    error = (growth - 1) / (growth + 1)
    values.sort()

    for rank, found in zip(RANKS, sketch.quantiles(RANKS), strict=True):
        right = values[int(rank * (len(values) - 1))]
        assert abs(found - right) <= error * abs(right) * (1 + 1e-9)
        assert (found > 0) - (found < 0) == (right > 0) - (right < 0)


@pytest.mark.parametrize("values", [[71.25], [0.0, -0.0], [-3.5, 0.0, 3.5], [1e-300, -1e-300]])
def test_a_packed_sketch_comes_back(values: list[float]) -> None:
    """One value, zeros, both signs, and values too small to distinguish from zero."""
    sketch = sketch_of(values)

    assert state(sketch) == state(Sketch.unpack(sketch.pack()))


@pytest.mark.slow
def test_the_largest_day_fits_an_item() -> None:
    """As many metrics as a device type may have, each over more bins than a sketch keeps: below DynamoDB's 400 kB."""
    metrics = {}
    for number in range(MAX_METRICS):
        sketch = sketch_of([1.02**power for power in range(1_300)])
        sketch.bins = dict.fromkeys(sketch.bins, 2_000)
        metrics[f"{number:064d}"] = Totals(count=10**6, sum=10**37, min=-1e11 / 3, max=1e11 / 3, sketch=sketch)
    day = Period(
        **dict.fromkeys(("device", "facility", "device_type"), "x" * 64),
        **dict.fromkeys(("start", "parts", "messages", "late"), 1),
        level=Level.DAY,
        metrics=metrics,
    )

    size = counted_size(period_item(day, revision=1, retention_days=3650))
    assert size < 400_000


def counted_size(item: Mapping[str, Any]) -> int:
    """Bytes of an item as DynamoDB counts them.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    total = 0
    for name, value in item.items():
        ((kind, content),) = value.items()
        total += len(name) + 8 + (counted_size(content) if kind == "M" else len(content))
    return total


def test_a_packed_sketch_is_small() -> None:
    """An hour of a temperature that swings by a third needs less than 100 bytes."""
    sketch = sketch_of([60 + 20 * (number % 361) / 360 for number in range(3600)])

    assert ceil(len(sketch.pack())) < 100
