"""The event source's state machine, against what AWS documents and against a model that cannot lose a record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.operations.local.event_source import (
    Discard,
    EventSource,
    Invoke,
    Redelivery,
    SourceSettings,
    StreamRecord,
    Wait,
)

Answer = Callable[[tuple[StreamRecord, ...]], Any]


class FunctionRaisedError(Exception):
    """Error that a function under test raises."""


def records(count: int, *, first: int = 0, arrived: float = 0.0, size: int = 1) -> list[StreamRecord]:
    """Records with the numbers from `first` on."""
    return [
        StreamRecord(sequence=f"{number:04}", partition_key="p", data=b"x" * size, arrived=arrived)
        for number in range(first, first + count)
    ]


def numbers(of: tuple[StreamRecord, ...]) -> list[int]:
    """The records' numbers."""
    return [int(record.sequence) for record in of]


def failing_at(*sequences: int) -> dict[str, list[dict[str, str]]]:
    """A partial batch response that reports these records."""
    return {"batchItemFailures": [{"itemIdentifier": f"{sequence:04}"} for sequence in sequences]}


def run(source: EventSource, function: Answer, *, now: float = 0.0, steps: int = 10_000) -> list[Discard]:
    """Drives the source until nothing is left to do; the discards that it asked for."""
    discards = []
    for _ in range(steps):
        action = source.next_action(now=now)
        if isinstance(action, Invoke):
            try:
                source.answered(function(action.records), now=now)
            except FunctionRaisedError:
                source.failed(now=now)
        elif isinstance(action, Discard):
            discards.append(action)
            source.discarded(action.records)
        elif action.until is None:
            return discards
        else:
            now = max(now, action.until)
    raise AssertionError("it does not come to an end")


def test_a_batch_waits_until_it_is_full_or_its_window_is_over() -> None:
    """Records are given when the batch size is reached, or when the window since the first is over."""
    source = EventSource(SourceSettings(batch_size=3, window_s=5.0))
    source.receive(records(2), now=10.0)
    assert source.next_action(now=14.9) == Wait(until=15.0)
    assert source.next_action(now=15.0) == Invoke(records=tuple(records(2)))
    full = EventSource(SourceSettings(batch_size=3, window_s=5.0))
    full.receive(records(4), now=10.0)
    assert full.next_action(now=10.0) == Invoke(records=tuple(records(3)))


def test_a_batch_stays_below_the_payload_limit() -> None:
    """Four records of 2 MB go in two invocations, since an event holds 6 MB in base64."""
    source = EventSource(SourceSettings(batch_size=100))
    source.receive(records(4, size=2_000_000), now=0.0)
    seen = []
    run(source, lambda batch: seen.append(numbers(batch)))
    assert seen == [[0, 1], [2, 3]]


def test_the_lowest_reported_sequence_number_is_the_checkpoint() -> None:
    """Everything from the lowest reported record on comes again, what is before it does not."""
    source = EventSource(SourceSettings(batch_size=6, reports_items=True, bisects=True))
    source.receive(records(6), now=0.0)
    seen: list[list[int]] = []

    def function(batch: tuple[StreamRecord, ...]) -> object:
        seen.append(numbers(batch))
        return failing_at(4, 2) if len(seen) == 1 else {"batchItemFailures": []}

    run(source, function)
    assert seen == [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5]]
    assert source.checkpoint == "0005"


def test_an_answer_that_names_no_record_of_the_batch_fails_it_whole() -> None:
    """Unknown, empty and missing identifiers, and answers of another shape, are complete failures."""
    wrong = [
        failing_at(99),
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"identifier": "0001"}]},
        {"batchItemFailures": "0001"},
        ["0001"],
        "ok",
    ]
    outcomes = []
    for answer in wrong:
        source = EventSource(SourceSettings(batch_size=2, reports_items=True, retries=0))
        source.receive(records(2), now=0.0)
        outcomes.append([numbers(discard.records) for discard in run(source, lambda batch, answer=answer: answer)])
    assert outcomes == [[[0, 1]]] * len(wrong)


def test_an_empty_answer_is_success() -> None:
    """Null, {} and an empty or null list of failures acknowledge the batch."""
    counts = []
    for answer in (None, {}, {"batchItemFailures": []}, {"batchItemFailures": None}):
        source = EventSource(SourceSettings(batch_size=2, reports_items=True, retries=0))
        source.receive(records(2), now=0.0)
        run(source, lambda batch, answer=answer: answer)
        counts.append((source.counts.done, source.counts.discarded))
    assert counts == [(2, 0)] * 4


def test_bisecting_isolates_one_poison_record_and_costs_no_retry() -> None:
    """Of eight records only the bad one is discarded, after the retries of its own batch of one."""
    source = EventSource(SourceSettings(batch_size=8, bisects=True, retries=2))
    source.receive(records(8), now=0.0)
    alone = 0

    def function(batch: tuple[StreamRecord, ...]) -> object:
        nonlocal alone
        if 5 in numbers(batch):
            alone += len(batch) == 1
            raise FunctionRaisedError
        return None

    discards = run(source, function)
    assert [numbers(discard.records) for discard in discards] == [[5]]
    assert alone == 3
    assert (source.counts.done, source.checkpoint) == (7, "0007")


def test_a_batch_is_tried_once_and_the_number_of_retries() -> None:
    """With two retries and no bisecting, a batch that always fails is invoked three times and discarded whole."""
    source = EventSource(SourceSettings(batch_size=4, retries=2))
    source.receive(records(4), now=0.0)

    def function(batch: tuple[StreamRecord, ...]) -> object:
        raise FunctionRaisedError

    discards = run(source, function)
    assert discards == [Discard(records=tuple(records(4)), condition="RetryAttemptsExhausted", invocations=3)]


def test_records_that_are_too_old_are_discarded_before_the_others() -> None:
    """Of a batch that keeps failing, the records past the maximum age go, and the younger ones stay."""
    source = EventSource(SourceSettings(batch_size=4, age_s=60.0))
    source.receive([*records(2, arrived=0.0), *records(2, first=2, arrived=50.0)], now=50.0)
    assert isinstance(source.next_action(now=55.0), Invoke)
    source.failed(now=55.0)
    action = source.next_action(now=61.0)
    assert action == Discard(records=tuple(records(2)), condition="RecordAgeExceeded", invocations=1)
    source.discarded(action.records)
    rest = source.next_action(now=61.0)
    assert isinstance(rest, Invoke)
    assert numbers(rest.records) == [2, 3]


def test_a_forgotten_answer_gives_the_same_batch_again() -> None:
    """Redelivery repeats the first batch whole, although the function did its work, and costs no retry."""
    source = EventSource(SourceSettings(batch_size=3, retries=0), redelivery=Redelivery(probability=0.01, seed=1))
    source.receive(records(3), now=0.0)
    seen: list[list[int]] = []
    run(source, lambda batch: seen.append(numbers(batch)))
    assert seen == [[0, 1, 2], [0, 1, 2]]
    assert (source.counts.redelivered, source.counts.done, source.counts.discarded) == (3, 3, 0)


def test_no_answer_is_lost_while_it_is_calm() -> None:
    """The first answer after that is lost, as it is the first one that counts."""
    source = EventSource(SourceSettings(batch_size=3, window_s=0.0), redelivery=Redelivery(probability=0.5))
    source.receive(records(6), now=0.0)
    assert isinstance(source.next_action(now=0.0), Invoke)
    source.answered(None, now=0.0, is_calm=True)
    assert (source.counts.redelivered, source.counts.done) == (0, 3)
    assert isinstance(source.next_action(now=0.0), Invoke)
    source.answered(None, now=0.0)
    assert (source.counts.redelivered, source.counts.done) == (3, 3)


def test_redelivery_depends_on_the_seed_alone() -> None:
    """The same seed forgets the same answers, another seed others, none without a probability."""
    chosen = [[Redelivery(probability=0.5, seed=seed).forgets(n) for n in range(40)] for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert [Redelivery(seed=1).forgets(n) for n in range(40)] == [False] * 40


@pytest.mark.slow
@settings(max_examples=300)
@given(
    count=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    bisects=st.booleans(),
    reports_items=st.booleans(),
    retries=st.integers(0, 3),
    probability=st.sampled_from([0.0, 0.3]),
    choices=st.lists(st.tuples(st.sampled_from(["ok", "raise", "report", "wrong"]), st.integers(0, 11)), max_size=60),
)
def test_every_record_is_done_or_discarded_once_and_in_order(
    count: int,
    batch_size: int,
    bisects: bool,
    reports_items: bool,
    retries: int,
    probability: float,
    choices: list[tuple[str, int]],
) -> None:
    """Whatever the function answers, each record ends acknowledged or discarded, and batches come in order."""
    source = EventSource(
        SourceSettings(batch_size=batch_size, bisects=bisects, reports_items=reports_items, retries=retries),
        redelivery=Redelivery(probability=probability, seed=7),
    )
    source.receive(records(count), now=0.0)
    plan = iter(choices)
    starts: list[int] = []
    checkpoints: list[int] = []

    def function(batch: tuple[StreamRecord, ...]) -> object:
        kind, place = next(plan, ("ok", 0))
        starts.append(numbers(batch)[0])
        checkpoints.append(-1 if source.checkpoint is None else int(source.checkpoint))
        assert numbers(batch) == list(range(starts[-1], starts[-1] + len(batch)))
        if kind == "raise":
            raise FunctionRaisedError
        if kind == "report":
            return failing_at(numbers(batch)[place % len(batch)])
        return "wrong" if kind == "wrong" else None

    run(source, function)
    assert starts == sorted(starts)
    assert starts == [checkpoint + 1 for checkpoint in checkpoints]
    assert (source.is_idle, source.checkpoint) == (True, f"{count - 1:04}")
    assert source.counts.done + source.counts.discarded == count == source.counts.read
