"""Minutes: exact numbers, and the same ones whatever the order."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sensor_processor.aggregate import (
    MINUTE_CAPACITY,
    Added,
    MetricAggregate,
    Minute,
    decimal_text,
    exact,
    minute_bucket,
    minute_of,
    on_grid,
    pack_ids,
    steps_of,
    unpack_ids,
)

RECEIVED_AT = 1_795_445_343_250
STEPS = 10**22
DEVICE = "sg-01-press-monitor-0001-dev"
values = st.floats(min_value=-1e12, max_value=1e12, exclude_min=True, exclude_max=True)


def make_minute() -> Minute:
    return Minute(device=DEVICE, start=minute_of(RECEIVED_AT))


def test_the_bucket_is_the_utc_minute() -> None:
    """A minute's range key is its UTC start."""
    assert minute_bucket(minute_of(RECEIVED_AT)) == "minute#2026-11-23T14:49Z"


def test_sums_do_not_round(reading: Any) -> None:
    """Ten times 0.1 is 1, not 0.9999999999999999."""
    minute = make_minute()
    for sequence in range(10):
        minute.add(reading(sequence=sequence, metrics={"temperature": 0.1}), known={"temperature"})

    assert minute.metrics["temperature"] == MetricAggregate(
        count=10,
        sum=exact(1.0),
        min=0.1,
        max=0.1,
        last=0.1,
        last_order=minute.metrics["temperature"].last_order,
    )


@given(numbers=st.lists(values, min_size=1, max_size=50), data=st.data())
def test_any_order_gives_the_same_exact_numbers(numbers: list[float], data: st.DataObject) -> None:
    """Sum, minimum, maximum and last are those of exact arithmetic, in whatever order the values come."""
    ranked = list(enumerate(numbers))
    shuffled = data.draw(st.permutations(ranked))
    order, first = shuffled[0]
    start = on_grid(first)
    aggregate = MetricAggregate(count=1, sum=exact(first), min=start, max=start, last=start, last_order=order)
    for order, number in shuffled[1:]:
        aggregate.add(number, order=order)

    rounded = list(map(on_grid, numbers))
    assert Fraction(aggregate.sum, STEPS) == sum(map(on_decimal_grid, numbers), Fraction(0))
    assert (aggregate.min, aggregate.max, aggregate.last) == (min(rounded), max(rounded), rounded[-1])


def on_decimal_grid(number: float) -> Fraction:
    """The number as it is written, below 1e-5 rounded to 22 places; by fractions alone."""
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
    aggregate = MetricAggregate(count=1, sum=exact(fine), min=fine, max=fine, last=fine, last_order=0)
    for order in range(MINUTE_CAPACITY - 1):
        aggregate.add(large, order=order)

    assert Fraction(aggregate.sum, STEPS) == Fraction(repr(large)) * (MINUTE_CAPACITY - 1) + on_decimal_grid(fine)
    assert len(str(aggregate.sum)) <= 38


def test_a_repeated_message_counts_once(reading: Any) -> None:
    """The same id with the same content is a duplicate."""
    minute = make_minute()

    added = [minute.add(reading(), known={"temperature"}) for _ in range(3)]

    assert added == [Added.NEW, Added.DUPLICATE, Added.DUPLICATE]
    assert minute.metrics["temperature"].count == 1


def test_of_two_contents_the_first_is_kept(reading: Any) -> None:
    """The same id with other content leaves the numbers as they are, and is a conflict once however often it comes."""
    minute = make_minute()
    contents = [1.0, 2.0, 2.0, 1.0, 3.0]

    added = [minute.add(reading(metrics={"temperature": value}), known={"temperature"}) for value in contents]

    assert added == [Added.NEW, Added.CONFLICT, Added.DUPLICATE, Added.DUPLICATE, Added.CONFLICT]
    assert minute.metrics["temperature"].sum == exact(1.0)
    assert len(minute.conflicts) == 2


def test_a_full_minute_takes_no_more(reading: Any) -> None:
    """Beyond its capacity a minute refuses new messages and still knows those that it has."""
    minute = make_minute()
    known = reading(sequence=1)
    minute.add(known, known={"temperature"})
    minute.entries |= {number.to_bytes(9): bytes(4) for number in range(MINUTE_CAPACITY - 1)}

    assert [minute.add(each, known={"temperature"}) for each in (reading(sequence=2), known)] == [
        Added.FULL,
        Added.DUPLICATE,
    ]


def test_unknown_metrics_are_not_aggregated(reading: Any) -> None:
    """A metric that the catalogue lacks makes no numbers; its message counts."""
    minute = make_minute()

    added = minute.add(reading(metrics={"humidity": 40.0}), known={"temperature"})

    assert (added, minute.metrics) == (Added.NEW, {})


@given(entries=st.dictionaries(st.binary(min_size=9, max_size=9), st.binary(min_size=4, max_size=4)))
def test_packed_ids_come_back(entries: dict[bytes, bytes]) -> None:
    """Unpacking gives the packed ids back, in 13 bytes each."""
    packed = pack_ids(entries)

    assert (len(packed), unpack_ids(packed)) == (13 * len(entries), entries)
