"""The machine detector: few alarms, true ones, each with a begin and an end, and the same after any restart."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from math import cos, exp, pi, sin

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


def shifts(
    days: float, *, seed: int = 1, change: Callable[[float, Row], None] | None = None, summer: float = 1e9
) -> Iterator[tuple[int, Row]]:
    """Run that pump in two shifts, Monday to Friday, with a break; from day `summer` on its clock is an hour ahead."""
    dice = random.Random(seed)
    heat = 20.0
    for place in range(int(days * DAY)):
        time = START + place * STEP_MS
        now = (time - START) / DAY_MS
        clock = now + (1 / 24 if now >= summer else 0.0)
        hour = clock % 1 * 24
        is_on = int(clock) % 7 < 5 and 6 <= hour < 22 and not 12 <= hour < 12.5
        flow = 10 + sin(place / 40) + dice.gauss(0, 0.2) if is_on else 0.0
        power = 5 + 2 * flow + dice.gauss(0, 0.3) if is_on else 0.0
        heat += ((60 if is_on else 20 - 3 * cos(hour / 12 * pi)) - heat) * (1 - exp(-STEP_MS / 1_800_000))
        row = {"flow": round(flow, 2), "power": round(power, 2), "temperature": round(heat + dice.gauss(0, 0.2), 2)}
        if change is not None:
            change(now, row)
        yield time, row


LEARNED = 8 * DAY
"""Readings after which a machine of the tests is known."""


@cache
def learned(seed: int) -> bytes:
    """Return the state after LEARNED readings of a machine without a fault."""
    detectors = DeviceDetectors()
    metrics = metrics_of()
    for sequence, (time, row) in zip(range(LEARNED), machine(9, seed=seed), strict=False):
        assert not detectors.learn((time, sequence), row, metrics=metrics)
    return detectors.pack()


def feed(
    rows: Rows,
    *,
    metrics: Mapping[str, Metric] | None = None,
    restart: Callable[[int], bool] | None = None,
    known: int | None = None,
) -> Told:
    """Return findings with their day; detectors are packed before those that `restart` names.

    `known` is the seed of a machine whose first days are known already, and are passed over in `rows`.
    """
    metrics = metrics or metrics_of()
    detectors = DeviceDetectors()
    told = []
    if known is not None:
        detectors = unpack_detectors(learned(known), metrics=metrics)
        rows = (row for row in rows if row[0] >= START + LEARNED * STEP_MS)
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
    told = feed(machine(20, seed=2, change=fault), known=2)

    begin, *joined, end = told
    assert metric == begin[1].metric
    assert {ESCALATED} >= {finding.kind for _, finding in joined}
    assert 8.5 <= begin[0] < 8.55
    assert (END, begin[1].metric) == (end[1].kind, end[1].metric)
    assert end[0] < 9.5 and "normal from now on" in end[1].reason


def test_a_fault_that_is_over_ends_and_is_not_told_again() -> None:
    """An hour of heat begins one event and ends it; the recovery is no second one."""
    told = feed(machine(12, seed=3, change=from_day(9, "temperature", 12, until=9.1)), known=3)

    assert ["temperature"] == begins(told)
    assert [BEGIN, END] == [finding.kind for _, finding in told]
    assert [{"flow", "power"}, set()] == [{name for name, _ in finding.regime} for _, finding in told]
    assert told[1][0] < 9.3


def test_a_stuck_sensor_is_found_but_not_one_at_rest() -> None:
    """A temperature that repeats is stuck; a flow of exactly 0 while the pump is off for a day is not."""

    def rest(now: float, row: Row) -> None:
        if 9 <= now < 10:
            row.update(flow=0.0, power=0.0)
        if now >= 11:
            row["temperature"] = 51.3

    told = feed(machine(11.3, seed=3, change=rest), known=3)
    stuck = [finding for _, finding in told if "repeated" in finding.reason]
    assert ["temperature"] == [finding.metric for finding in stuck]


def test_a_metric_that_is_missing_is_found_and_its_return_is_no_second_event() -> None:
    """Half an hour without it begins an event; three days without it are normal in the end, and so is its return."""

    def lose(now: float, row: Row) -> None:
        if 8.1 <= now < 8.4:
            del row["temperature"]
        if 9 <= now < 12:
            del row["power"]

    told = feed(machine(14, seed=3, change=lose), known=3)

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


def lost(rows: Rows, share: float) -> Rows:
    """Drop a share of the rows, by chance."""
    dice = random.Random(9)
    return (row for row in rows if dice.random() >= share)


def without(rows: Rows, begin: float, end: float) -> Rows:
    """Drop the rows of some days."""
    return (row for row in rows if not begin <= (row[0] - START) / DAY_MS < end)


def test_lost_readings_and_outages_are_no_faults_and_hide_none() -> None:
    """A tenth of the readings is lost, the network for two hours and for two days; then heat is found."""
    rows = machine(13.1, seed=2, change=from_day(13, "temperature", 8))
    told = feed(without(without(lost(rows, 0.1), 9, 9.08), 10, 12), known=2)

    assert ["temperature"] == begins(told)
    assert 13 <= told[0][0] < 13.02


def test_readings_out_of_order_change_nothing_but_what_is_learned() -> None:
    """Readings of up to five minutes ago come in between, and are passed over; heat is found all the same."""
    dice = random.Random(4)
    rows = sorted(
        machine(9.6, seed=2, change=from_day(9.5, "temperature", 8)),
        key=lambda row: row[0] + (dice.uniform(0, 300_000) if dice.random() < 0.1 else 0),
    )
    metrics = metrics_of()
    detectors = unpack_detectors(learned(2), metrics=metrics)
    told, passed = [], 0
    for sequence, (time, row) in enumerate(row for row in rows if row[0] >= START + LEARNED * STEP_MS):
        if detectors.is_in_order((time, sequence)):
            told += [(time, each) for each in detectors.learn((time, sequence), row, metrics=metrics)]
        else:
            passed += 1
    assert passed > 200
    assert ["temperature"] == begins(told)
    assert told[0][0] < START + 9.52 * DAY_MS


def test_a_fault_while_it_learns_does_not_blind_it() -> None:
    """Half a day of heat in the week of learning is not told; the same heat later is."""

    def heat(now: float, row: Row) -> None:
        if 5 <= now < 5.5 or now >= 10:
            row["temperature"] += 8

    told = feed(machine(10.1, seed=3, change=heat))
    assert ["temperature"] == begins(told)
    assert 10 <= told[0][0] < 10.02


def in_whole_units(rows: Rows) -> Rows:
    """Round like a sensor without decimals."""
    return ((time, {name: float(round(value)) for name, value in row.items()}) for time, row in rows)


def test_sensors_in_whole_units_work() -> None:
    """Nothing is told of ten days; then heat is."""
    told = feed(in_whole_units(machine(10.1, seed=3, change=from_day(10, "temperature", 8))))
    assert ["temperature"] == begins(told)
    assert 10 <= told[0][0] < 10.02


def test_summer_time_and_weekends_are_no_faults() -> None:
    """A plant's clock goes an hour ahead in the second week; a sensor that is swapped in the third is found."""
    told = feed(shifts(17, summer=13, change=from_day(16.4, "temperature", 12)))
    assert ["temperature"] == begins(told)[:1]
    assert 16.4 <= told[0][0] < 16.45


@pytest.mark.parametrize("one_in", [4, 10])
def test_a_metric_may_come_more_seldom_than_the_others(one_in: int) -> None:
    """Temperature comes with each fourth or tenth message only, and is watched all the same."""

    def thin(rows: Rows) -> Rows:
        for place, (time, row) in enumerate(rows):
            yield time, row if place % one_in == 0 else {"flow": row["flow"], "power": row["power"]}

    told = feed(thin(machine(10.2, seed=3, change=from_day(10, "temperature", 8))))
    assert ["temperature"] == begins(told)
    assert 10 <= told[0][0] < 10.05


@pytest.mark.parametrize("step_ms", [10_000, 300_000])
def test_other_intervals_work(step_ms: int) -> None:
    """Readings every ten seconds and every five minutes: a short machine's starts are no spikes, and heat is found."""
    told = feed(machine(9.6, seed=3, step_ms=step_ms, change=from_day(9.2, "temperature", 25)))
    assert begins(told)[:1] == ["temperature"]
    assert 9.2 <= told[0][0] < 9.35


def test_one_metric_works() -> None:
    """A machine with a single metric is judged by its own history."""
    rows = ((time, {"temperature": row["temperature"]}) for time, row in machine(9.6, seed=3))
    raised = ((time, {"temperature": row["temperature"] + 30 * (time > START + 9 * DAY_MS)}) for time, row in rows)
    assert ["temperature"] == begins(feed(raised, metrics=metrics_of("temperature")))


def test_metrics_in_messages_of_their_own_work() -> None:
    """Each metric comes by itself, seconds apart, and several readings have the same time."""
    rows = machine(9.6, seed=2, change=from_day(9.5, "temperature", 8))
    apart = ((time + 3_000 * (place // 2), {name: row[name]}) for time, row in rows for place, name in enumerate(row))
    assert ["temperature"] == begins(feed(apart, known=2))


def test_a_trend_to_a_limit_is_critical_and_says_when() -> None:
    """Bearings that heat by 2.5 a day, towards a limit of 100: one critical event, which ends with the repair."""
    metrics = metrics_of()
    metrics["temperature"] = replace(metrics["temperature"], maximum=100.0)

    def wear(now: float, row: Row) -> None:
        if 10 <= now < 19:
            row["temperature"] += 2.5 * (now - 10)

    told = feed(machine(24, seed=2, change=wear), metrics=metrics)
    trends = [(day, finding) for day, finding in told if finding.mark == "-trend"]
    assert [(BEGIN, "critical"), (END, "critical")] == [(finding.kind, finding.severity) for _, finding in trends]
    begin = trends[0]
    days = [float(word) for word in begin[1].reason.replace(",", "").split() if word.isdigit()]
    left = (100 - 52.5) / 2.5 - (begin[0] - 10)  # its mean is 52.5 before
    assert "reaches its limit of 100 unit in about" in begin[1].reason
    assert days[2] <= left <= days[3] + 1
    assert all(finding.severity == "warning" for _, finding in told if finding.mark == "")


def test_a_limit_far_away_is_no_trend() -> None:
    """A metric that a swapped sensor raised once is not on its way to a limit."""
    metrics = metrics_of()
    metrics["temperature"] = replace(metrics["temperature"], maximum=100.0)
    told = feed(machine(20, seed=2, change=from_day(12, "temperature", 8)), metrics=metrics, known=2)
    assert ["temperature"] == begins(told)
    assert "warning" == told[0][1].severity


def test_a_declared_signal_says_when_the_machine_stands() -> None:
    """Of a machine that stands, nothing is stuck, for however long; when it runs, a sensor that repeats is."""
    metrics = metrics_of()
    metrics["power"] = replace(metrics["power"], running_above=4.0)

    def stand(now: float, row: Row) -> None:
        if 9 <= now < 11:
            row.update(flow=0.0, power=0.0, temperature=21.5)
        if now >= 12:
            row["temperature"] = 51.3

    told = feed(machine(12.2, seed=3, change=stand), metrics=metrics)
    assert ["temperature"] == [finding.metric for day, finding in told if "repeated" in finding.reason and day > 12]
    assert not [finding for day, finding in told if "repeated" in finding.reason and day < 12]


def test_a_larger_budget_is_less_careful() -> None:
    """The same small change is found sooner with a hundred false alarms a month than with one in a hundred months."""

    def found(budget: float) -> list[float]:
        metrics = {name: replace(metric, false_alarm_budget=budget) for name, metric in metrics_of().items()}
        told = feed(machine(9.5, seed=2, change=from_day(9, "temperature", 2.5)), metrics=metrics, known=2)
        return [day for day, finding in told if finding.metric == "temperature" and finding.kind == BEGIN]

    assert 9.0 < min(found(100.0)) < 9.01 < 9.05 < min(found(0.01), default=1e9)


def five(rows: Rows) -> Rows:
    """Add a speed and a current to the three metrics."""
    dice = random.Random(8)
    for time, row in rows:
        yield (
            time,
            {**row, "speed": round(100 * row["flow"] + dice.gauss(0, 3), 1), "torque": round(row["power"] / 3, 2)},
        )


def test_a_metric_that_joins_learns_by_itself_and_the_others_go_on() -> None:
    """The manifest adds metrics: faults of the others are found the next day, their own after a week, none is false."""
    names = "flow", "power", "temperature"

    def change(now: float, row: Row) -> None:
        if 9.5 <= now < 9.6:
            row["temperature"] += 10
        if now >= 18:
            row["speed"] += 300

    def rows(days: float) -> Rows:
        for time, row in five(machine(days, seed=2)):
            change((time - START) / DAY_MS, row)
            yield time, row

    detectors = unpack_detectors(learned(2), metrics=metrics_of())
    metrics = metrics_of(*names, "speed", "torque")
    metrics["torque"] = replace(metrics["torque"], minimum=-1.0, maximum=50.0)
    detectors = unpack_detectors(detectors.pack(), metrics=metrics)
    told = []
    for sequence, (time, row) in enumerate(rows(18.1)):
        if time < START + LEARNED * STEP_MS:
            continue
        if sequence % 4_000 == 0:
            detectors = unpack_detectors(detectors.pack(), metrics=metrics)
        told += [((time - START) / DAY_MS, each) for each in detectors.learn((time, sequence), row, metrics=metrics)]
    assert ["temperature", "speed"] == begins(told)
    assert 9.5 <= told[0][0] < 9.55 and 18 <= told[-1][0] < 18.05


def test_a_metric_that_leaves_is_forgotten_and_the_others_go_on() -> None:
    """The manifest drops a metric while its event runs: the event ends, and faults of the others are found."""
    metrics = metrics_of()
    detectors = unpack_detectors(learned(3), metrics=metrics)
    told, fewer = [], metrics_of("flow", "temperature")
    for sequence, (time, row) in enumerate(machine(13.1, seed=3)):
        now = (time - START) / DAY_MS
        if now < 8:
            continue
        row["power"] += 20 * (8.5 <= now)
        row["temperature"] += 15 * (13 <= now)
        told += [
            (now, each) for each in detectors.learn((time, sequence), row, metrics=metrics if now < 8.6 else fewer)
        ]
    assert [("power", BEGIN), ("power", END), ("temperature", BEGIN)] == [(each.metric, each.kind) for _, each in told]
    assert "no longer in the manifest" in told[1][1].reason


def test_a_sensor_that_stays_stuck_is_accepted_and_does_not_blind_the_others() -> None:
    """Its event ends after half a day; the metrics that were expected from it learn without it, and are watched."""

    def freeze(now: float, row: Row) -> None:
        if now >= 9:
            row["temperature"] = 51.3
        if now >= 15:
            row["power"] += 8

    told = feed(machine(15.2, seed=3, change=freeze), known=3)
    events = [(day, finding) for day, finding in told if finding.kind in (BEGIN, END)]
    assert [("temperature", BEGIN), ("temperature", END), ("power", BEGIN)] == [(f.metric, f.kind) for _, f in events]
    assert events[0][0] < 9.1 and events[1][0] < 9.8 and 15 <= events[2][0] < 15.02


def test_slow_readings_keep_the_same_hours() -> None:
    """A reading an hour makes blocks of an hour: what persists for half a day is normal, as with faster ones."""
    rows = (
        (time, row) for place, (time, row) in enumerate(machine(70, seed=3, change=from_day(60, "temperature", 60)))
    )
    told = feed((row for place, row in enumerate(rows) if place % 72 == 0))
    assert ["temperature"] == begins(told)
    assert 60 <= told[0][0] < 60.3 and told[1][0] < 61.5


def test_a_signal_that_leaves_the_manifest_says_nothing_more() -> None:
    """Nothing is stuck in a machine that never runs by its signal; a sensor is again, once that is not declared."""
    declared, plain = metrics_of("power", "temperature"), metrics_of("power", "temperature")
    declared["power"] = replace(declared["power"], running_above=1e6)
    detectors, dice = DeviceDetectors(), random.Random(2)
    told = []
    for place in range(int(9.3 * DAY)):
        now = place / DAY
        temperature = 50.0 if 8.2 <= now < 8.4 else 50.3 if now >= 9 else round(dice.gauss(50, 0.5), 2)
        row = {"power": round(dice.gauss(20, 1), 2), "temperature": temperature}
        metrics = declared if now < 8.5 else plain
        told += [(now, each) for each in detectors.learn((START + place * STEP_MS, place), row, metrics=metrics)]
    assert ["temperature"] == begins(told)
    assert told[0][0] >= 9 and "repeated" in told[0][1].reason
