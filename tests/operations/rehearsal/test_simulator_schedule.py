"""Simulated things send repeatable, believable signals, and poison that is no valid reading."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace

import pytest

from fleet_iot.lib.specs import DeviceTypeSpec, MetricSpec
from fleet_iot.operations.project import Thing
from fleet_iot.operations.rehearsal.signals import KINDS, limits_of, plan_injection, samples_of
from fleet_iot.operations.rehearsal.simulator import WARM_UP_SAMPLES, Dose, ThingSchedule, schedules

METRICS = (
    MetricSpec(name="temperature", unit="celsius", minimum=-10.0, maximum=95.0, detector="context"),
    MetricSpec(name="vibration", unit="mm/s", minimum=None, maximum=11.2, detector="context"),
    MetricSpec(name="cycle_count", unit="cycles", minimum=0.0, maximum=None, detector="limits"),
)
PRESS = DeviceTypeSpec(
    id="press", thing_type="thing-type-press", description="Press", sample_interval_s=10.0, metrics=METRICS
)


def plan(*, things: int = 20, seed: int = 7, samples: int = 200, dose: Dose | None = None) -> list[ThingSchedule]:
    fleet = [
        (Thing(name=f"sg-01-press-{number:04d}-dev", facility="sg-01", device_type="press", serial=str(number)), PRESS)
        for number in range(things)
    ]
    dose = dose or Dose(anomalies=1.0, poison=0.05, repeats=0.05)
    return schedules(fleet, seed=seed, samples=lambda _: samples, end_ms=1_764_000_000_000, dose=dose)


def test_the_same_seed_sends_the_same_bytes() -> None:
    """Two plans of one seed agree in every message, another seed's differs."""
    first, second, other = (
        [message.payload for schedule in plan(seed=seed) for message in schedule.messages()] for seed in (7, 7, 8)
    )
    assert first == second
    assert first != other


def test_good_readings_stay_within_the_limits() -> None:
    """Outside an injected breach no metric leaves its limits."""
    for schedule in plan(dose=Dose(anomalies=0.0, poison=0.0, repeats=0.0)):
        for message in schedule.messages():
            for metric in METRICS:
                low, high = limits_of(metric)
                value = message.metrics[metric.name]
                assert low <= value and (metric.maximum is None or value <= high)


def test_counters_only_rise() -> None:
    """A metric named as a counter never falls."""
    schedule = plan(things=1)[0]
    counts = [message.metrics["cycle_count"] for message in schedule.messages() if message.kind == "reading"]
    assert sorted(counts) == counts


def test_half_of_the_anomalies_stay_within_the_limits() -> None:
    """Every thing gets one anomaly, every second one a breach of a limit, and the values show it."""
    planned = plan()
    injections = [schedule.injection for schedule in planned if schedule.injection]
    assert len(planned) == len(injections)
    assert len(planned) // 2 == sum(injection.within_limits for injection in injections)
    by_name = {metric.name: metric for metric in METRICS}
    for schedule in planned:
        injection = schedule.injection
        assert injection is not None
        low, high = limits_of(by_name[injection.metric])
        readings = [message for message in schedule.messages() if message.kind == "reading"]
        for message in readings[injection.first : injection.last + 1]:
            assert injection.within_limits == (low <= message.metrics[injection.metric] <= high)


def test_an_anomaly_within_the_limits_waits_for_the_detectors_warm_up() -> None:
    """In a run shorter than the warm-up no anomaly is put in that no detector could find."""
    rng = random.Random(1)
    assert plan_injection(PRESS, rng=rng, samples=WARM_UP_SAMPLES, warm_up=WARM_UP_SAMPLES, within_limits=True) is None
    injection = plan_injection(PRESS, rng=rng, samples=400, warm_up=WARM_UP_SAMPLES, within_limits=True)
    assert injection is not None
    assert injection.first >= WARM_UP_SAMPLES


def test_a_metric_with_a_lower_limit_alone_leaves_downwards() -> None:
    """A breach of a metric without an upper limit falls below the lower one."""
    only_minimum = MetricSpec(name="flow", unit="l/min", minimum=10.0, maximum=None, detector="limits")
    device_type = replace(PRESS, metrics=(only_minimum,))
    injection = plan_injection(device_type, rng=random.Random(3), samples=50, warm_up=10, within_limits=False)
    assert injection is not None
    stream = samples_of(device_type, rng=random.Random(3), injection=injection)
    values = [next(stream)["flow"] for _ in range(injection.first + 1)]
    assert values[-1] < 10.0 <= min(values[:-1])


def test_repeats_are_the_same_bytes_and_poison_is_dosed() -> None:
    """A repeat follows its reading byte for byte, and the doses come out near their shares."""
    messages = [message for schedule in plan() for message in schedule.messages()]
    for before, message in itertools.pairwise(messages):
        if message.kind == "repeat":
            assert before.payload == message.payload
    share = sum(message.kind == "poison" for message in messages) / len(messages)
    assert share == pytest.approx(0.05, abs=0.02)


def test_readings_end_now_a_sample_interval_apart() -> None:
    """The device's clock runs by the sample interval and ends at the given time."""
    times = [message.time_ms for message in plan(things=1)[0].messages() if message.kind == "reading"]
    assert 1_764_000_000_000 == times[-1]
    assert {10_000} == {later - earlier for earlier, later in itertools.pairwise(times)}


@pytest.mark.parametrize("kind", KINDS)
def test_no_poison_is_a_reading(kind: str) -> None:
    """A strict reader of the message contract accepts none of the poison kinds."""
    now = 1_764_000_000_000

    def refuse(text: str) -> float:
        raise ValueError(text)

    def is_reading(payload: bytes) -> bool:
        try:
            message = json.loads(payload.decode(), parse_constant=refuse)
            values = message["metrics"].values()
            return message["time"] <= now + 300_000 and all(abs(value) < 1e308 for value in values)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False

    assert not is_reading(KINDS[kind](now))
