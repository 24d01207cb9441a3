"""Machines that send a history: the machine detector finds the faults in it, and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import pairwise

import pytest

from fleet_iot.lib.specs import DeviceTypeSpec, MetricSpec
from fleet_iot.operations.project import Thing, load_project
from fleet_iot.operations.rehearsal.demo import AnomalyItem, Difference, Truth, compare
from fleet_iot.operations.rehearsal.simulator import (
    Dose,
    ThingSchedule,
    choose_histories,
    choose_things,
    histories,
)
from fleet_iot.sensor_processor.detection import DeviceDetectors
from fleet_iot.sensor_processor.ingest.catalogue import Metric
from fleet_iot.sensor_processor.ingest.reading import MAX_PAYLOAD_BYTES
from tests.places import SAMPLE

NOW = 1_795_445_343_000
NO_DOSE = Dose(anomalies=0, poison=0, repeats=0)


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
