"""Events: one trouble is one event with a beginning and an end, however often detectors speak meanwhile."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from fleet_iot.sensor_processor.detection import (
    BEGIN,
    END,
    ESCALATED,
    UNIVARIATE_THRESHOLD,
    DeviceDetectors,
    Finding,
    univariate,
    unpack_detectors,
)
from fleet_iot.sensor_processor.detection.context import QUIET_READINGS
from fleet_iot.sensor_processor.detection.state import pack_context, unpack_device
from fleet_iot.sensor_processor.ingest.catalogue import Metric

START = 1_795_443_543_000
STEP_MS = 10_000
PLACE_S = STEP_MS // 1000


def metric(**overrides: Any) -> Metric:
    """A temperature with limits of -10 and 95."""
    known = {"name": "temperature", "unit": "celsius", "minimum": -10.0, "maximum": 95.0, "detector": "limits"}
    return Metric(**(known | overrides))


def told(
    values: Sequence[float], *, metric: Metric, step_ms: int = STEP_MS, restarts_from: int | None = None
) -> Iterator[tuple[int, Finding]]:
    """Yield findings with the index of their reading; from `restarts_from` on, each reading resumes from a state."""
    detectors, metrics = DeviceDetectors(), {metric.name: metric}
    for place, value in enumerate(values):
        if restarts_from is not None and place >= restarts_from:
            detectors = unpack_detectors(detectors.pack(), metrics=metrics)
        for finding in detectors.learn((START + place * step_ms, place), {metric.name: value}, metrics=metrics):
            yield place, finding


def kinds(values: Sequence[float], **more: Any) -> list[tuple[int, str, int | None]]:
    """List index, kind and index of the end of all findings."""
    step = more.get("step_ms", STEP_MS)
    return [
        (place, finding.kind, None if finding.ended is None else (finding.ended - START) // step)
        for place, finding in told(values, **({"metric": metric()} | more))
    ]


@pytest.mark.parametrize("restarts", [False, True])
def test_an_excursion_begins_at_once_and_ends_a_minute_after_it_is_over(restarts: bool) -> None:
    """The first reading outside begins it; back within for a minute ends it, as of the first reading within."""
    values = [70.0] * 3 + [96.0, 97.0] + [80.0] * 10

    assert kinds(values, restarts_from=0 if restarts else None) == [(3, BEGIN, None), (5 + 60 // PLACE_S, END, 5)]


def test_a_value_that_hovers_at_its_limit_is_one_event() -> None:
    """A day of noise around the limit, hundreds of crossings, is one beginning and no end."""
    dice = random.Random(1)
    values = [dice.gauss(95.0, 0.5) for _ in range(8_640)]
    crossings = sum((a > 95.0) != (b > 95.0) for a, b in pairwise(values))

    assert crossings > 1_000
    assert [kind for _, kind, _ in kinds(values)] == [BEGIN]


def test_a_machine_that_runs_just_below_its_limit_is_in_order_again() -> None:
    """Within its limit but not clear of it, a value ends the event after ten minutes."""
    assert kinds([70.0, 96.0] + [94.5] * 100) == [(1, BEGIN, None), (2 + 600 // PLACE_S, END, 2)]


def test_a_device_that_reports_seldom_needs_two_readings_within() -> None:
    """With five minutes between readings the second one within its limits ends the event."""
    values = [70.0, 96.0, 80.0, 80.0, 80.0]

    assert kinds(values, step_ms=300_000) == [(1, BEGIN, None), (3, END, 2)]


def test_high_and_low_are_alarms_of_their_own() -> None:
    """A sensor that swings between its rails is two events, not one at each swing."""
    found = list(told([200.0, -100.0] * 500 + [70.0] * 10, metric=metric()))

    assert [(place, finding.kind, finding.mark) for place, finding in found] == [
        (0, BEGIN, ""),
        (1, BEGIN, "-low"),
        (1_005, END, ""),
        (1_006, END, "-low"),
    ]


def test_an_event_that_worsens_is_told_once_more() -> None:
    """A tenth of the range beyond the limit is critical: reported once when reached, and the end is critical too."""
    found = list(told([70.0, 96.0, 110.0, 96.0, 120.0, *[70.0] * 10], metric=metric()))

    assert [(place, finding.kind, finding.severity) for place, finding in found] == [
        (1, BEGIN, "warning"),
        (2, ESCALATED, "critical"),
        (11, END, "critical"),
    ]
    assert {START + STEP_MS} == {finding.began for _, finding in found[1:]}


def test_an_event_that_begins_critical_does_not_escalate() -> None:
    """An event that was critical at its beginning is not reported again when it gets worse."""
    assert kinds([70.0, 110.0, 150.0]) == [(1, BEGIN, None)]


def strange(*, seed: int = 7) -> list[float]:
    """A steady machine, a strange plateau from 400 on that is followed by a stranger one, and calm again."""
    noise = random.Random(seed)
    values = [round(noise.gauss(70, 0.5), 2) for _ in range(700)]
    values[400:403] = [74.0, 74.0, 74.0]
    values[405:408] = [95.0, 95.0, 95.0]
    return values


@pytest.mark.parametrize("restarts", [False, True])
def test_a_strange_time_is_one_event_with_an_end(restarts: bool) -> None:
    """Two alarms of the context detector within a few readings are one event, over with the last strange reading."""
    detector = univariate()
    alarms = [place for place, value in enumerate(strange()) if detector.update(value) >= UNIVARIATE_THRESHOLD]

    found = list(told(strange(), metric=metric(detector="context"), restarts_from=0 if restarts else None))

    assert len([place for place in alarms if 400 <= place < 410]) > 1
    begin, end = found
    assert (begin[0], begin[1].kind, end[1].kind) == (400, BEGIN, END)
    assert end[1].began == START + 400 * STEP_MS
    last = (end[1].ended or 0) - START
    assert 405 * STEP_MS <= last < 410 * STEP_MS
    assert end[0] == last // STEP_MS + QUIET_READINGS
    assert f"nothing was unusual for {QUIET_READINGS} readings" in end[1].reason


@pytest.mark.parametrize("restarts", [False, True])
def test_an_event_lasts_as_long_as_readings_are_remarkable(restarts: bool) -> None:
    """Notable readings below the last emitted score still belong to the event."""
    noise = random.Random(7)
    values = [round(noise.uniform(68, 72), 2) for _ in range(6_400)]
    values[6_000:6_200:40] = [76.0] * 5

    found = list(told(values, metric=metric(detector="context"), restarts_from=6_000 if restarts else None))

    assert [(finding.kind, finding.began) for _, finding in found[-1:]] == [(END, START + 6_000 * STEP_MS)]
    assert (found[-1][1].ended or 0) >= START + 6_080 * STEP_MS


def test_a_state_of_version_2_is_taken_over() -> None:
    """Detectors saved before there were events keep what they learned, and an excursion that ran then gets its end."""
    metrics = {"temperature": metric(detector="context")}
    learned = univariate()
    learned.update(71.0)
    old = [2, START, 1, {"temperature": [1, pack_context(learned), "", [], START, 0]}, {}]
    detectors = unpack_detectors(zlib.compress(msgspec.msgpack.encode(old)), metrics=metrics)

    found = [
        finding
        for place in range(1, 10)
        for finding in detectors.learn((START + place * STEP_MS, place + 1), {"temperature": 71.0}, metrics=metrics)
    ]

    assert [(finding.kind, finding.began, finding.ended) for finding in found] == [(END, START, START + STEP_MS)]
    again = unpack_detectors(detectors.pack(), metrics=metrics)
    assert again.pack() == detectors.pack()


def test_a_group_of_version_2_goes_on_with_its_event() -> None:
    """The baseline detector's running event is one of today's."""
    flow = metric(name="flow", detector="baseline")
    detectors = DeviceDetectors()
    for place in range(450):
        detectors.learn((START + place, place), {"flow": 50.0 + place % 3}, metrics={"flow": flow})
    _, time, sequence, channels, groups = msgspec.to_builtins(unpack_device(detectors.pack()))
    groups["baseline"][1:3] = [START, "flow"]
    groups["baseline"][-2:] = [True]  # and no peak, which came later
    old = [2, time, sequence, {name: [0, b"", "", [], 0, 0] for name in channels}, groups]

    taken = unpack_detectors(zlib.compress(msgspec.msgpack.encode(old)), metrics={"flow": flow})
    found = taken.learn((START + 500, 500), {"flow": 51.0}, metrics={"flow": flow})

    assert [(finding.kind, finding.began) for finding in found] == [(END, START)]
