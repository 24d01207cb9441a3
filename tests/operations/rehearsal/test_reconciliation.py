"""The demo's verdict: published readings are reconciled with stored ones exactly."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from fleet_iot.operations.rehearsal.demo import AnomalyItem, Difference, MinuteItem, Truth, compare, gather

START = 1_764_000_000_000 - 1_764_000_000_000 % 60_000


def reading(sequence: int, *, thing: str = "a-dev", value: str = "1.5") -> dict[str, Any]:
    return {
        "line": "reading",
        "thing": thing,
        "time": START + sequence * 1_000,
        "sequence": sequence,
        "metrics": {"temperature": Decimal(value)},
    }


def truth(*, readings: int = 3) -> Truth:
    anomaly = {
        "line": "anomaly",
        "thing": "a-dev",
        "metric": "temperature",
        "detector": "context",
        "within_limits": True,
        "first_ms": START + 1_000,
        "last_ms": START + 1_000,
        "interval_ms": 1_000,
    }
    return gather([anomaly, {"line": "poison"}, {"line": "repeat"}, *map(reading, range(readings))])


def minute(*, messages: int = 3, total: str = "4.5", thing: str = "a-dev") -> MinuteItem:
    return MinuteItem(
        thing=thing,
        minute=START // 60_000,
        messages=messages,
        sums={"temperature": Decimal(total)},
        counts={"temperature": messages},
    )


def archive(*sequences: int) -> Counter[tuple[str, int, int]]:
    return Counter(("a-dev", START + sequence * 1_000, sequence) for sequence in sequences)


def found(*, metric: str = "temperature", at_s: int = 1) -> AnomalyItem:
    return AnomalyItem(thing="a-dev", metric=metric, detector="context", began_ms=START + at_s * 1_000)


def verdict(**given: Any) -> Difference:
    arguments: dict[str, Any] = {"minutes": [minute()], "anomalies": [found()], "archived": archive(0, 1, 2)}
    return compare(truth(), **(arguments | given))


CLEAN = Difference(
    lost=0,
    duplicated=0,
    wrong_sums=0,
    anomalies_injected=1,
    anomalies_within_limits=1,
    anomalies_detected=1,
    anomalies_false=0,
    former_injected=1,
    former_detected=1,
    former_false=0,
    faults_injected=0,
    faults_detected=0,
    found_after_min=(),
)
MISSED = {"anomalies_detected": 0, "anomalies_false": 1, "former_detected": 0, "former_false": 1}


def changed(**given: int) -> dict[str, Any]:
    return asdict(CLEAN) | given


def test_a_clean_run_differs_in_nothing() -> None:
    """Readings that arrived once, with exact sums, are neither lost nor duplicated."""
    assert verdict() == CLEAN


def test_a_reading_missing_from_dynamodb_is_lost() -> None:
    """One message less in a minute is one lost reading, and its sum is wrong."""
    assert changed(lost=1, wrong_sums=1) == asdict(verdict(minutes=[minute(messages=2, total="3.0")]))


def test_a_minute_that_is_missing_whole_is_lost() -> None:
    """A minute without an item loses all its readings."""
    assert changed(lost=3) == asdict(verdict(minutes=[]))


def test_a_reading_missing_from_the_archive_is_lost() -> None:
    """A reading that DynamoDB has but the archive lacks is lost."""
    assert changed(lost=1) == asdict(verdict(archived=archive(0, 2)))


def test_a_reading_counted_twice_is_duplicated() -> None:
    """One message more in a minute is one duplicate."""
    assert changed(duplicated=1, wrong_sums=1) == asdict(verdict(minutes=[minute(messages=4, total="6.0")]))


def test_a_reading_of_nobody_is_duplicated() -> None:
    """A minute of a thing that sent nothing counts as surplus."""
    other = minute(thing="b-dev", messages=1, total="1.5")
    assert changed(duplicated=1, wrong_sums=1) == asdict(verdict(minutes=[minute(), other]))


def test_a_wrong_sum_shows_although_the_counts_agree() -> None:
    """One lost and one duplicated in a minute agree in number, never in their sum."""
    assert changed(wrong_sums=1) == asdict(verdict(minutes=[minute(total="4.6")]))


def test_a_message_that_came_twice_is_no_duplicate_in_the_archive() -> None:
    """The archive keeps what arrived, twice where it came twice."""
    assert asdict(verdict(archived=archive(0, 1, 2, 2))) == asdict(CLEAN)


def test_a_reading_in_the_archive_that_nobody_sent_is_surplus() -> None:
    """A reading in the archive that no device sent counts as duplicated."""
    assert changed(duplicated=1) == asdict(verdict(archived=archive(0, 1, 2, 9)))


def test_an_anomaly_elsewhere_is_false_and_the_injected_one_missed() -> None:
    """Another metric, or a time past the grace, does not count as the injected anomaly."""
    assert changed(**MISSED) == asdict(verdict(anomalies=[found(metric="pressure")]))
    assert changed(**MISSED) == asdict(verdict(anomalies=[found(at_s=14)]))


def test_two_reports_of_one_anomaly_are_one_detection() -> None:
    """Reports within the anomaly and its grace are neither more detections nor false."""
    assert asdict(verdict(anomalies=[found(), found(at_s=5)])) == asdict(CLEAN)
