"""Machines that send a history: the machine detector finds the faults in it, and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from itertools import pairwise
from typing import Any

import pytest

from fleet_iot.generator.cost.measured import RunLoad, units_of_run
from fleet_iot.lib.specs import DeviceTypeSpec, MetricSpec
from fleet_iot.operations.local.event_source import Redelivery
from fleet_iot.operations.project import Thing, load_project
from fleet_iot.operations.rehearsal.demo import AnomalyItem, Difference, Report, Truth, compare, faults, summary
from fleet_iot.operations.rehearsal.simulator import (
    Dose,
    SimulationRequest,
    ThingSchedule,
    choose_histories,
    choose_things,
    histories,
)
from fleet_iot.operations.rehearsal.units import run_of
from fleet_iot.sensor_processor.detection import DeviceDetectors
from fleet_iot.sensor_processor.ingest.catalogue import Metric
from fleet_iot.sensor_processor.ingest.reading import MAX_PAYLOAD_BYTES
from tests.places import SAMPLE

NOW = 1_795_445_343_000
NO_DOSE = Dose(anomalies=0, poison=0, repeats=0)
REQUEST = SimulationRequest(
    facilities=(),
    things=12,
    rate=None,
    duration_s=1,
    dose=NO_DOSE,
    basic_ingest=0,
    seed=1,
    replay=None,
    columns={},
    truth=SAMPLE / "none",
    now_ms=NOW,
    part="history",
)


def metric(name: str, low: float | None, high: float | None, detector: str = "machine") -> MetricSpec:
    return MetricSpec(name=name, unit="x", minimum=low, maximum=high, detector=detector)


def machine(*metrics: MetricSpec) -> DeviceTypeSpec:
    return DeviceTypeSpec(
        id="pump", thing_type="thing-type-pump", description="Pump", sample_interval_s=2.0, metrics=metrics
    )


def plan(*types: DeviceTypeSpec, seed: int = 1) -> list[ThingSchedule]:
    things = [
        Thing(name=f"plant-{number}-dev", facility="plant", device_type=each.id, serial="1")
        for number, each in enumerate(types)
    ]
    chosen = choose_histories([*zip(things, types, strict=True)] * 2)  # half of them
    return histories(chosen, seed=1, end_ms=NOW, dose=NO_DOSE)


def sent(schedule: ThingSchedule, *, digits: int = 9) -> Iterator[tuple[int, int, dict[str, float]]]:
    for message in schedule.messages():
        assert len(message.payload) <= MAX_PAYLOAD_BYTES and len(message.rest) < 1_000
        for each in json.loads(message.payload):
            yield (
                each["time"],
                each["sequence"],
                {name: round(value, digits) for name, value in each["metrics"].items()},
            )


def items(schedule: ThingSchedule, *, digits: int = 9) -> list[AnomalyItem]:
    """The events of a history, as the tables have them."""
    metrics = {each.name: Metric(**asdict(each)) for each in schedule.device_type.metrics}
    detectors = DeviceDetectors()
    return [
        AnomalyItem(
            thing=schedule.thing.name,
            metric=finding.metric,
            detector=finding.detector,
            began_ms=time if finding.began is None else finding.began,
        )
        for time, sequence, values in sent(schedule, digits=digits)
        for finding in detectors.learn((time, sequence), values, metrics=metrics)
        if finding.kind != "end"
    ]


def verdict(plans: list[ThingSchedule], found: list[AnomalyItem]) -> Difference:
    truth = Truth(anomalies=[asdict(anomaly) for each in plans if (anomaly := each.anomaly())])
    return compare(truth, minutes=[], anomalies=found, archived=Counter())


def outcome(plans: list[ThingSchedule], found: list[AnomalyItem]) -> tuple[int, int, int]:
    """Faults, those found, and false events."""
    difference = verdict(plans, found)
    return difference.faults_injected, difference.faults_detected, difference.anomalies_false


def test_all_faults_of_the_demo_are_found_and_none_is_false() -> None:
    """Six machines of five types, five faults: a level, a stuck sensor and unrest, each within three hours."""
    project = load_project(SAMPLE)
    chosen = choose_histories(choose_things(project, project.facilities, 45))
    plans = histories(chosen, seed=1, end_ms=NOW, dose=NO_DOSE)
    assert (6, 5) == (len(plans), len({each.device_type.id for each in plans}))
    found = [item for each in plans for item in items(each)]
    difference = verdict(plans, found)
    assert (5, 5, 5, 0) == (
        difference.anomalies_within_limits,
        difference.faults_injected,
        difference.faults_detected,
        difference.anomalies_false,
    )
    assert difference.found_after_min[-1] <= 180


def test_the_verdict_can_fail() -> None:
    """A silent detector misses all; so does one of readings without the fault; an event elsewhere is false."""
    plans = plan(machine(metric("flow", 0, 10), metric("load", 0, 90)))
    assert (1, 0, 0) == outcome(plans, [])
    assert (1, 0, 0) == outcome(plans, items(replace(plans[0], injection=None)))
    found = items(plans[0])
    assert (1, 1, 0) == outcome(plans, found)
    assert (1, 0, len(found)) == outcome(plans, [replace(each, began_ms=each.began_ms - 86_400_000) for each in found])


@pytest.mark.parametrize(
    ("device_type", "digits"),
    [
        (machine(metric("druck", 0, 10)), 9),
        (machine(metric("áp_suất", None, 250), metric("flow", 0, 100)), 0),
        (machine(metric("strain", 0, 0.004), metric("load", 0, 2_000_000)), 9),
        (machine(metric("level", 10, None), metric("batch_count", 0, None)), 9),
        (machine(*(metric(f"{'channel':_<61}{number:03d}", 0, 100) for number in range(200))), 9),
    ],
    ids=["one metric", "whole numbers", "small and large", "a counter", "200 metrics"],
)
def test_faults_of_anothers_machine_are_found(device_type: DeviceTypeSpec, digits: int) -> None:
    """Each metric follows the machine's duty, whatever its limits are."""
    plans = plan(device_type)
    assert (1, 1, 0) == outcome(plans, items(plans[0], digits=digits))


def test_without_a_machine_detector_nobody_sends_a_history() -> None:
    """Limits and the former detectors learn nothing from a week of readings; of one thing, the live run is shown."""
    assert not plan(machine(metric("flow", 0, 10, "limits"), metric("load", 0, 10, "context")))
    assert not plan(machine(metric("running_hours", 0, None)))
    project = load_project(SAMPLE)
    assert not choose_histories(choose_things(project, project.facilities, 1))


def test_a_history_ends_now_and_is_no_older_than_is_accepted() -> None:
    """Less than eight days, a minute of every ten, in messages that the processor accepts."""
    (schedule,) = plan(machine(metric("flow", 0, 10)))
    times = [time for time, _, _ in sent(schedule)]
    assert 0 < NOW - times[-1] < 660_000 and 7.8 < (NOW - times[0]) / 86_400_000 < 7.95
    assert {10_000, 550_000} == {later - earlier for earlier, later in pairwise(times)}
    assert len(times) == 6 * len({time // 60_000 for time in times})


def test_slow_devices_are_played_within_what_is_accepted() -> None:
    """A reading an hour would begin weeks ago; faster ones keep their interval."""
    project = load_project(SAMPLE)
    types = tuple(replace(each, sample_interval_s=3_600.0) for each in project.fleet.device_types[:2])
    fleet = replace(project.fleet, device_types=(*types, *project.fleet.device_types[2:]))
    request = replace(REQUEST, facilities=project.facilities, rate=200, duration_s=60, part="live")
    chosen = request.choose(replace(project, fleet=fleet))
    intervals = {device_type.id: device_type.sample_interval_s for _, device_type in chosen}
    slow = 7.9 * 86_400 / round(200 * 60 / len(chosen))
    assert intervals == {each.id: min(each.sample_interval_s, slow) for each in fleet.device_types}


def test_a_history_is_reckoned_as_it_is_sent() -> None:
    """Readings, messages, and the minutes, hours and days that they are in follow from its schedule."""
    project = load_project(SAMPLE)
    request = replace(REQUEST, facilities=project.facilities)
    chosen = request.choose(project)
    assert len(chosen) == 6 and not {each.name for each, _ in chosen} & {
        each.name for each, _ in replace(request, part="live").choose(project)
    }
    run = run_of(project, request, rate=1, redelivery=Redelivery(), invocations=4, sweeps=1, wall_s=20, anomalies=5)
    plans = histories(chosen, seed=1, end_ms=NOW, dose=NO_DOSE)
    messages = [message for each in plans for message in each.messages()]
    assert (run.readings, run.messages) == (
        sum(1 + len(message.rest) for message in messages),
        pytest.approx(len(messages), rel=0.01),
    )
    times = [each.time_of(place) for each in plans[:1] for place in range(each.samples)]
    group = run.load.groups[0]
    for seconds in (60, 3_600, 86_400):
        assert run.periods(group, seconds) == pytest.approx(len({time // seconds // 1000 for time in times}), abs=1)
    assert RunLoad(groups=run.load.groups, run=run).messages == pytest.approx(run.messages)
    assert units_of_run(run)["item_writes"] > 6 * 1_137


REPORT: dict[str, Any] = {each.name: 0 for each in fields(Report)} | {
    "things": 2,
    "certificates": 2,
    "devices_known": 2,
    "things_published": 2,
    "readings_published": 1_000,
    "readings_processed": 999,
    "readings_archived": 999,
    "poison_injected": 1,
    "quarantined": 1,
    "redelivered": 9,
    "private_keys_found": [],
    "units": (),
    "seconds_by_step": {},
    "histories": 6,
    "faults_injected": 5,
    "faults_detected": 5,
    "found_after_min": (10, 10, 20, 30, 80),
    "anomalies_injected": 9,
    "anomalies_within_limits": 5,
    "anomalies_detected": 9,
}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, []),
        ({"anomalies_detected": 8, "faults_detected": 4}, ["8 of 9 anomalies detected"]),
        ({"anomalies_false": 1}, ["1 false anomalies in 999 good readings"]),
        (
            {"anomalies_injected": 0, "anomalies_detected": 0},
            ["no anomaly was injected, so nothing was proven about any"],
        ),
        ({"faults_injected": 0}, ["6 machines sent a history, and none had a fault"]),
        ({"former_injected": 9, "former_detected": 9, "former_false": 1, "anomalies_false": 1}, []),
        (
            {"former_injected": 9, "former_detected": 8, "anomalies_detected": 8},
            ["8 of 9 anomalies detected"],
        ),
    ],
)
def test_the_demo_fails_where_a_fault_is_missed_or_an_event_is_false(changes: dict[str, Any], wrong: list[str]) -> None:
    """Of limits and machine one is too many; detectors without a budget may miss one in ten."""
    assert wrong == faults(Report(**(REPORT | changes)))


def test_the_summary_says_what_was_found_and_when() -> None:
    """In machine time, from the fault that was found first to the last."""
    said = summary(Report(**REPORT))
    assert (
        "6 machines sent a week of history and a day with 5 faults: 5 found, after 10 to 80 min of machine time" in said
    )
    assert "no history was sent" in summary(Report(**(REPORT | {"histories": 0})))
