"""The machine detector: few alarms, true ones, each with a begin and an end, and the same after any restart."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import exp, sin

import pytest

from fleet_iot.sensor_processor.detection import BEGIN, END, ESCALATED, DeviceDetectors, Finding, unpack_detectors
from fleet_iot.sensor_processor.ingest.catalogue import Metric

START = 1_795_392_000_000
STEP_MS = 50_000
DAY_MS = 86_400_000
DAY = DAY_MS // STEP_MS
"""Readings of a day: six in a block of five minutes."""

Row = dict[str, float]
Rows = Iterable[tuple[int, Row]]
Told = list[tuple[float, Finding]]


def metrics_of(*names: str) -> dict[str, Metric]:
    return {
        name: Metric(name=name, unit="unit", minimum=None, maximum=None, detector="machine")
        for name in names or ("flow", "power", "temperature")
    }


def machine(
    days: float, *, seed: int = 1, step_ms: int = STEP_MS, change: Callable[[float, Row], None] | None = None
) -> Iterator[tuple[int, Row]]:
    """A pump that is on for about half an hour and off for ten minutes; power follows flow, temperature both slowly.

    `change` is called with the day and the row, to change it.
    """
    dice = random.Random(seed)
    is_on, until, heat = True, 0.0, 40.0
    for place in range(int(days * DAY_MS / step_ms)):
        time = START + place * step_ms
        if time >= until:
            is_on = not is_on
            until = time + dice.uniform(0.8, 1.2) * (1_800_000 if is_on else 600_000)
        flow = 10 + sin(place / 40) + dice.gauss(0, 0.2) if is_on else 0.0
        power = 5 + 2 * flow + dice.gauss(0, 0.3) if is_on else 0.0
        heat += ((60 if is_on else 40) - heat) * (1 - exp(-step_ms / 900_000))
        row = {"flow": round(flow, 2), "power": round(power, 2), "temperature": round(heat + dice.gauss(0, 0.2), 2)}
        if change is not None:
            change((time - START) / DAY_MS, row)
        yield time, row


def feed(
    rows: Rows, *, metrics: Mapping[str, Metric] | None = None, restart: Callable[[int], bool] | None = None
) -> Told:
    """Return findings with their day; detectors are packed before those that `restart` names."""
    metrics = metrics or metrics_of()
    detectors = DeviceDetectors()
    told = []
    for sequence, (time, row) in enumerate(rows):
        if restart is not None and restart(sequence):
            detectors = unpack_detectors(detectors.pack(), metrics=metrics)
        told += [
            ((time - START) / DAY_MS, finding) for finding in detectors.learn((time, sequence), row, metrics=metrics)
        ]
    return told


def begins(told: Told) -> list[str]:
    return [finding.metric for _, finding in told if finding.kind in (BEGIN, ESCALATED)]


def from_day(day: float, metric: str, amount: float, *, until: float = 1e9) -> Callable[[float, Row], None]:
    """Add to a metric for some days."""

    def change(now: float, row: Row) -> None:
        if day <= now < until:
            row[metric] += amount

    return change


def test_a_machine_without_a_fault_is_told_nothing() -> None:
    """Three weeks of starts and stops raise nothing."""
    assert [] == feed(machine(21))


def test_findings_are_the_same_after_restarts_at_any_reading() -> None:
    """Packed and unpacked at random readings, at each reading of a stretch, and around the ends of blocks."""

    def fault(now: float, row: Row) -> None:
        if 8.0 <= now < 8.2:
            row["temperature"] += 8
        if 9.0 <= now < 9.3:
            row["power"] *= 1.3
        if 10.0 <= now < 10.1:
            row["flow"] = 3.21

    rows = list(machine(11, change=fault))
    dice = random.Random(5)
    at = (
        {dice.randrange(len(rows)) for _ in range(400)}
        | set(range(DAY - 5, DAY + 25))
        | set(range(8 * DAY, 8 * DAY + 90))
    )
    expected = feed(rows)

    assert expected == feed(rows, restart=at.__contains__)
    assert {"temperature", "power", "flow"} <= set(begins(expected))


def test_the_state_of_a_metric_is_small() -> None:
    """At most 1.5 kB a metric, compressed, at any reading of a block."""
    metrics = metrics_of()
    detectors = DeviceDetectors()
    sizes = []
    for sequence, (time, row) in enumerate(machine(15, seed=3)):
        detectors.learn((time, sequence), row, metrics=metrics)
        if sequence % 997 == 0:
            sizes.append(len(zlib.compress(detectors.pack(), 1)) / len(metrics))
    assert max(sizes) <= 1_500


@pytest.mark.parametrize(
    ("metric", "fault"),
    [
        ("temperature", from_day(8.5, "temperature", 8)),
        ("power", from_day(8.5, "power", 8)),
    ],
)
def test_a_lasting_change_is_told_once_and_then_normal(metric: str, fault: Callable[[float, Row], None]) -> None:
    """A shift for good begins one event, which ends when it counts as normal; nothing is told of it after that."""
    told = feed(machine(20, seed=2, change=fault))

    begin, *joined, end = told
    assert metric == begin[1].metric
    assert {ESCALATED} >= {finding.kind for _, finding in joined}
    assert 8.5 <= begin[0] < 8.55
    assert (END, begin[1].metric) == (end[1].kind, end[1].metric)
    assert end[0] < 9.5 and "normal from now on" in end[1].reason


def test_a_fault_that_is_over_ends_and_is_not_told_again() -> None:
    """An hour of heat begins one event and ends it; the recovery is no second one."""
    told = feed(machine(12, seed=4, change=from_day(9, "temperature", 12, until=9.1)))

    assert ["temperature"] == begins(told)
    assert [BEGIN, END] == [finding.kind for _, finding in told]
    begun, over = (finding for _, finding in told)
    assert (True, ()) == (all(f"{name} {value:g}" in begun.reason for name, value in begun.regime), over.regime)
    assert begun.regime
    assert told[1][0] < 9.3


def test_a_stuck_sensor_is_found_but_not_one_at_rest() -> None:
    """A temperature that repeats is stuck; a flow of exactly 0 while the pump is off for a day is not."""

    def rest(now: float, row: Row) -> None:
        if 9 <= now < 10:
            row.update(flow=0.0, power=0.0)
        if now >= 11:
            row["temperature"] = 51.3

    told = feed(machine(11.3, seed=6, change=rest))
    stuck = [finding for _, finding in told if "repeated" in finding.reason]
    assert ["temperature"] == [finding.metric for finding in stuck]


def test_a_metric_that_is_missing_is_found_and_its_return_is_no_second_event() -> None:
    """Half an hour without it begins an event; three days without it are normal in the end, and so is its return."""

    def lose(now: float, row: Row) -> None:
        if 8 <= now < 8.3:
            del row["temperature"]
        if 9 <= now < 12:
            del row["power"]

    told = feed(machine(14, seed=3, change=lose))

    assert ["temperature", "power"] == begins(told)
    assert [BEGIN, END, BEGIN, END] == [finding.kind for _, finding in told]
    assert all("missing for 30 min" in finding.reason for _, finding in told if finding.kind == BEGIN)
    assert told[2][0] < 9.03 and "missing for so long" in told[3][1].reason


def test_what_repeats_while_the_machine_is_learned_is_normal() -> None:
    """A repetition that began in the week of learning is not told at its end."""

    def rest(now: float, row: Row) -> None:
        row["flow"] = 3.5 if 5 <= now < 7.5 else row["flow"]

    assert "flow" not in [
        finding.metric for _, finding in feed(machine(9, change=rest)) if "repeated" in finding.reason
    ]
