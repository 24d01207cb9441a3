"""Minutes: exact numbers, and the same ones whatever the order."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleet_iot.sensor_processor.ingest.catalogue import Metric
from fleet_iot.sensor_processor.numbers.exact import decimal_text, exact, exact_sum, number_text, on_grid, steps_of
from fleet_iot.sensor_processor.numbers.minute import (
    MINUTE_CAPACITY,
    Added,
    MetricAggregate,
    Minute,
    MinuteDelta,
    aggregate_of,
    minute_bucket,
    minute_of,
    pack_ids,
    unpack_ids,
)
from fleet_iot.sensor_processor.planning.items import minute_item, parse_minute

RECEIVED_AT = 1_795_445_343_250
STEPS = 10**22
DEVICE = "sg-01-press-monitor-0001-dev"
values = st.floats(min_value=-1e12, max_value=1e12, exclude_min=True, exclude_max=True)


TEMPERATURE = Metric(name="temperature", unit="celsius", minimum=None, maximum=None, detector="limits")
KNOWN = {"press-monitor": {"temperature": TEMPERATURE}}


def make_minute() -> Minute:
    return Minute(device=DEVICE, start=minute_of(RECEIVED_AT))


def test_the_bucket_is_the_utc_minute() -> None:
    """A minute's range key is its UTC start."""
    assert minute_bucket(minute_of(RECEIVED_AT)) == "minute#2026-11-23T14:49Z"


def test_sums_do_not_round(reading: Any) -> None:
    """Ten times 0.1 is 1, not 0.9999999999999999."""
    minute = make_minute()
    for sequence in range(10):
        minute.add(reading(sequence=sequence, metrics={"temperature": 0.1}))
    minute.fold_pending(KNOWN)

    metric = minute.metrics["temperature"]
    assert (10, exact(1.0), 0.1, 0.1, 0.1) == (metric.count, metric.sum, metric.min, metric.max, metric.last)
    assert [10] == list(metric.sketch.bins.values())


@given(value=st.floats())
@example(value=6.9e-310)
@example(value=-5e-324)
@example(value=-0.0)
@example(value=1.7976931348623157e308)
def test_every_double_is_a_number_that_dynamodb_accepts(value: float) -> None:
    """At most 38 digits, and 0 or from 1e-130 to 9.9e125; a value as sensors have is exactly that value."""
    number = Decimal(number_text(value))

    assert number == 0 or Decimal("1e-130") <= abs(number) < Decimal("9.99e125")
    assert len(number.normalize().as_tuple().digits) <= 38
    assert not 1e-5 <= abs(value) < 1e12 or float(number) == value
    assert not abs(value) < 1e-5 or float(number) == on_grid(value)


@pytest.mark.slow
@given(numbers=st.lists(values, min_size=1, max_size=50), data=st.data())
def test_any_order_gives_the_same_exact_numbers(numbers: list[float], data: st.DataObject) -> None:
    """Sum, minimum, maximum and last are those of exact arithmetic, in whatever order the values come."""
    ranked = list(enumerate(numbers))
    shuffled = data.draw(st.permutations(ranked))
    aggregate: MetricAggregate | None = None
    while shuffled:
        size = data.draw(st.integers(1, len(shuffled)))
        folded, shuffled = shuffled[:size], shuffled[size:]
        order, last = max(folded)
        fresh = aggregate_of(tuple(number for _, number in folded), last=last, order=order)
        if aggregate is None:
            aggregate = fresh
        else:
            aggregate.absorb(fresh)
            aggregate.update_last(fresh.last, fresh.last_order)
    assert aggregate is not None

    rounded = list(map(on_grid, numbers))
    assert Fraction(aggregate.sum, STEPS) == sum(map(on_decimal_grid, numbers), Fraction(0))
    assert (aggregate.min, aggregate.max, aggregate.last) == (min(rounded), max(rounded), rounded[-1])


@pytest.mark.slow
@given(data=st.data(), count=st.integers(1, 1_000))
def test_sums_of_short_numbers_are_exact_up_to_their_bound(data: st.DataObject, count: int) -> None:
    """Many values of six decimals, as large together as they may be for being summed in binary, and a bit larger."""
    most = 2 * 10**15 // count
    micros = data.draw(st.lists(st.integers(-most, most), min_size=1, max_size=50)) + [most] * (count - 1)
    numbers = [micro / 1e6 for micro in micros]

    assert exact_sum(numbers, low=min(numbers), high=max(numbers)) == sum(map(exact, numbers))


def on_decimal_grid(number: float) -> Fraction:
    """Compute the number as written, below 1e-5 rounded to 22 places, only with fractions."""
    written = Fraction(repr(number))
    return written if abs(number) >= 1e-5 else Fraction(round(written * STEPS), STEPS)


@given(value=values)
def test_a_value_fits_the_grid(value: float) -> None:
    """A value is taken as it is written, or, below 1e-5, to 22 decimal places; never with over 34 digits."""
    assert Fraction(exact(value), STEPS) == on_decimal_grid(value)
    assert len(str(abs(exact(value)))) <= 34


@given(steps=st.integers(min_value=-(10**38) + 1, max_value=10**38 - 1))
def test_a_sum_survives_its_text(steps: int) -> None:
    """The text of a sum is that number, without exponent, and reads back as it was."""
    text = decimal_text(steps)

    assert Fraction(text) == Fraction(steps, STEPS)
    assert (steps_of(text), "e" in text.lower()) == (steps, False)


def test_the_largest_sum_of_a_minute_is_exact() -> None:
    """A full minute of the largest and finest values fits DynamoDB's 38 digits without rounding."""
    large, fine = 999_999_999_999.9999, 1.2345678901234567e-6
    aggregate = aggregate_of((fine,), last=fine, order=0)
    aggregate.absorb(aggregate_of((large,) * (MINUTE_CAPACITY - 1), last=large, order=1))

    assert Fraction(aggregate.sum, STEPS) == Fraction(repr(large)) * (MINUTE_CAPACITY - 1) + on_decimal_grid(fine)
    assert len(str(aggregate.sum)) <= 38


def test_a_repeated_message_counts_once(reading: Any) -> None:
    """The same id with the same content is a duplicate."""
    minute = make_minute()

    added = [minute.add(reading()) for _ in range(3)]

    minute.fold_pending(KNOWN)
    assert added == [Added.NEW, Added.DUPLICATE, Added.DUPLICATE]
    assert minute.metrics["temperature"].count == 1


def test_of_two_contents_the_first_is_kept(reading: Any) -> None:
    """The same id with other content leaves the numbers as they are, and is a conflict once however often it comes."""
    minute = make_minute()
    contents = [1.0, 2.0, 2.0, 1.0, 3.0]

    added = [minute.add(reading(metrics={"temperature": value})) for value in contents]

    minute.fold_pending(KNOWN)
    assert added == [Added.NEW, Added.CONFLICT, Added.DUPLICATE, Added.DUPLICATE, Added.CONFLICT]
    assert minute.metrics["temperature"].sum == exact(1.0)
    assert len(minute.conflicts) == 2


def test_a_full_minute_takes_no_more(reading: Any) -> None:
    """Beyond its capacity a minute refuses new messages and still knows those that it has."""
    minute = make_minute()
    known = reading(sequence=1)
    minute.add(known)
    minute.entries |= {number.to_bytes(9): bytes(4) for number in range(MINUTE_CAPACITY - 1)}

    assert [minute.add(each) for each in (reading(sequence=2), known)] == [
        Added.FULL,
        Added.DUPLICATE,
    ]


def test_unknown_metrics_are_not_aggregated(reading: Any) -> None:
    """A metric that the catalogue lacks makes no numbers; its message counts."""
    minute = make_minute()

    added = minute.add(reading(metrics={"humidity": 40.0}))

    assert (Added.NEW, MinuteDelta(messages=1, unknown=1), {}) == (added, minute.fold_pending(KNOWN), minute.metrics)


def test_a_minute_mixes_no_units(reading: Any) -> None:
    """Each unit has numbers of its own where the manifest's unit changes within a minute; an unknown one is any."""
    minute = make_minute()
    for sequence, (unit, value) in enumerate([("", 19.0), ("celsius", 20.0), ("fahrenheit", 68.0), ("celsius", 21.0)]):
        minute.add(reading(sequence=sequence, metrics={"temperature": value}))
        minute.fold_pending({"press-monitor": {"temperature": replace(TEMPERATURE, unit=unit)}})

    stored = parse_minute(minute_item(minute, revision=0, retention_days=90), start=minute.start)
    found = {name: (each.unit, each.count, each.sum, each.max) for name, each in stored.metrics.items()}
    assert {
        "temperature": ("celsius", 3, exact(60.0), 21.0),
        "temperature (fahrenheit)": ("fahrenheit", 1, exact(68.0), 68.0),
    } == found


def test_messages_with_different_metrics_are_folded_alike(reading: Any) -> None:
    """Each metric gets its own values, whether metrics come in the same message, in the same order or not at all."""
    minute = make_minute()
    known = {"press-monitor": {"temperature": TEMPERATURE, "vibration": replace(TEMPERATURE, name="vibration")}}
    sent = [{"temperature": 1.5}, {"vibration": 2.0, "temperature": 3.0}, {"temperature": 0.5, "vibration": 7.0}]
    for sequence, metrics in enumerate(sent):
        minute.add(reading(sequence=sequence, metrics=metrics))
    minute.fold_pending(known)

    found = {name: (each.count, each.sum, each.min, each.max, each.last) for name, each in minute.metrics.items()}
    assert {"temperature": (3, exact(5.0), 0.5, 3.0, 0.5), "vibration": (2, exact(9.0), 2.0, 7.0, 7.0)} == found


def test_of_readings_at_the_same_place_the_largest_value_is_the_last(reading: Any) -> None:
    """Messages without a number and of one time have no order, so that none may follow from their arrival."""
    for values_ in ([1.0, 3.0, 2.0], [3.0, 2.0, 1.0]):
        minute = make_minute()
        for value in values_:
            minute.add(reading(sequence=None, metrics={"temperature": value}))
        minute.fold_pending(KNOWN)
        assert 3.0 == minute.metrics["temperature"].last


@pytest.mark.slow
@given(entries=st.dictionaries(st.binary(min_size=9, max_size=9), st.binary(min_size=4, max_size=4)))
def test_packed_ids_come_back(entries: dict[bytes, bytes]) -> None:
    """Unpacking gives the packed ids back, in 13 bytes each."""
    packed = pack_ids(entries)

    assert (len(packed), unpack_ids(packed)) == (13 * len(entries), entries)
