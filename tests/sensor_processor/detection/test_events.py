"""Events: one trouble is one event with a beginning and an end, however often detectors speak meanwhile."""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
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
    StateError,
    detectors_after,
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
    _, time, sequence, channels, groups, *_ = msgspec.to_builtins(unpack_device(detectors.pack()))
    groups["baseline"][1:3] = [START, "flow"]
    groups["baseline"][-2:] = [True]  # and no peak, which came later
    old = [2, time, sequence, {name: [0, b"", "", [], 0, 0] for name in channels}, groups]

    taken = unpack_detectors(zlib.compress(msgspec.msgpack.encode(old)), metrics={"flow": flow})
    found = taken.learn((START + 500, 500), {"flow": 51.0}, metrics={"flow": flow})

    assert [(finding.kind, finding.began) for finding in found] == [(END, START)]


def running(detector: str = "context", **metrics: Metric) -> DeviceDetectors:
    """Return detectors with a running event of the limits and one of a detector, both of temperature."""
    watched = {"temperature": metric(detector=detector)} | metrics
    detectors = DeviceDetectors()
    for place, value in enumerate([*strange()[:401], 96.0]):
        detectors.learn((START + place * STEP_MS, place), {"temperature": value, "flow": value}, metrics=watched)
    return detectors


LATER = (START + 500 * STEP_MS, 500)
CHANGES = {
    "removed": ({"flow": metric(name="flow")}, ["limits", "context"], "temperature is no longer in the manifest"),
    "detector": ({"temperature": metric(detector="rate")}, ["context"], "has another detector now, rate"),
    "machine": ({"temperature": metric(detector="machine")}, ["context"], "has another detector now, machine"),
    "group": ({"temperature": metric(detector="baseline")}, ["context"], "has another detector now, baseline"),
    "unit": ({"temperature": metric(unit="fahrenheit", detector="context")}, ["limits", "context"],
             "is measured in fahrenheit now"),
}  # fmt: skip


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(("metrics", "ended", "words"), CHANGES.values(), ids=CHANGES)
def test_an_event_that_nothing_watches_any_more_ends(
    metrics: dict[str, Metric], ended: list[str], words: str, restarts: bool
) -> None:
    """With the next reading, as of the last one that was watched, once, and with the reason; in one process or two."""
    detectors = running()
    if restarts:
        detectors = unpack_detectors(unpack_detectors(detectors.pack(), metrics=metrics).pack(), metrics=metrics)
    found = list(detectors.learn(LATER, {"temperature": 96.0, "flow": 1.0}, metrics=metrics))

    ends = [finding for finding in found if finding.kind == END]
    assert sorted(ended) == sorted(finding.detector for finding in ends)
    assert {START + 401 * STEP_MS} == {finding.ended for finding in ends}
    assert all(words in finding.reason and finding.unit == "celsius" for finding in ends)
    again = list(detectors.learn((LATER[0] + 1, 501), {"flow": 1.0}, metrics=metrics))
    assert [] == [finding for finding in again if finding.kind == END]


def test_a_state_of_version_0_3_0_goes_on_with_a_machine() -> None:
    """Its limits go on at its newest reading, its context is left behind, and the machine is learned from there."""
    (item,) = json.loads((Path(__file__).parents[1] / "version_0_3_0.json").read_text())["table-devices-dev"]
    metrics = {"temperature": metric(detector="machine")}
    detectors = unpack_detectors(base64.b64decode(item["detectors"]["B"]), metrics=metrics)
    time, sequence = detectors.newest
    assert (1_795_445_343_000, 19) == (time, sequence)
    (breach,) = detectors.learn((time + 1_000, 20), {"temperature": 96.0}, metrics=metrics)
    assert ("limits", {"temperature"}) == (breach.detector, set(unpack_device(detectors.pack()).metrics))
    assert unpack_detectors(detectors.pack(), metrics=metrics).pack() == detectors.pack()


def test_an_event_of_a_group_ends_when_a_metric_joins_it() -> None:
    """The group learns again with its new metrics; the event of the former ones is over."""
    alone = {name: metric(name=name, detector="baseline", maximum=None) for name in ("flow", "power")}
    detectors = DeviceDetectors()
    for place in range(450):
        value = 50.0 + place % 3 + (100 if place > 420 else 0)
        detectors.learn((START + place, place), {"flow": value, "power": 1.0}, metrics=alone)
    more = alone | {"speed": metric(name="speed", detector="baseline")}

    (found,) = unpack_detectors(detectors.pack(), metrics=more).learn(LATER, {"flow": 150.0}, metrics=more)

    assert (END, "baseline", "flow") == (found.kind, found.detector, found.metric)
    assert "together with other metrics now" in found.reason


@pytest.mark.parametrize("damage", ["version", "content"])
def test_events_of_a_state_that_cannot_be_read_end(damage: str) -> None:
    """A version that cannot read what a later one wrote, after a roll-back, still reads which events run."""
    state = msgspec.to_builtins(unpack_device(running().pack()))
    state[0] += damage == "version"
    state[3] = {"temperature": "?"}
    with pytest.raises(StateError) as lost:
        unpack_detectors(zlib.compress(msgspec.msgpack.encode(state)), metrics={"temperature": metric()})

    found = detectors_after(lost.value).learn(LATER, {"temperature": 70.0}, metrics={"temperature": metric()})

    assert [("limits", START + 401 * STEP_MS), ("context", START + 401 * STEP_MS)] == [
        (each.detector, each.ended) for each in found
    ]
    assert all("could not be read" in each.reason for each in found)


def test_no_finding_is_lost_where_few_are_reported_at_once() -> None:
    """Of 60 metrics that begin, escalate and end together, each begin is reported, once, with its end."""
    metrics = {f"m{place:03d}": metric(name=f"m{place:03d}") for place in range(60)}
    detectors, open_events, reported = DeviceDetectors(), {}, 0
    for place in range(120):
        value = 120.0 if place in (1, 30) else 96.0 if place % 20 == 0 and place < 60 else 70.0
        at = (START + place * STEP_MS, place)
        found = detectors.learn(at, dict.fromkeys(metrics, value), metrics=metrics, most=7)
        assert len(found) <= 7
        assert len(detectors.deferred) <= 4 * len(metrics)
        detectors = unpack_detectors(detectors.pack(), metrics=metrics)
        for finding in found:
            began = finding.time if finding.kind == BEGIN else finding.began
            if finding.kind == BEGIN:
                assert finding.metric not in open_events
                reported += 1
                if finding.ended is None:
                    open_events[finding.metric] = began or at[0]
            elif finding.kind == END:
                assert open_events.pop(finding.metric) == began
    assert ({}, []) == (open_events, list(detectors.deferred))
    assert len(metrics) <= reported <= 4 * len(metrics)


def series(times: Sequence[tuple[int, int]], *, value: float) -> tuple[list[str], list[int]]:
    """Feed readings by their time and how far it is ahead (s); return kinds of findings, and the readings learned."""
    detectors, metrics, found, learned = DeviceDetectors(), {"temperature": metric()}, [], []
    for place, (second, ahead) in enumerate(times):
        order = (START + second * 1_000, place)
        if detectors.is_in_order(order, ahead=ahead * 1_000):
            learned.append(place)
            values = {"temperature": value}
            found += [each.kind for each in detectors.learn(order, values, metrics=metrics, ahead=ahead * 1_000)]
        else:
            late = detectors.check_late(order, {"temperature": 70.0}, metrics=metrics, ahead=ahead * 1_000, known={})
            found += [each.kind for each in late]
        detectors = unpack_detectors(detectors.pack(), metrics=metrics)
    return found, learned


STEADY = [(10 * place, 0) for place in range(60)]
CLOCKS = {
    "one message ahead": ([*STEADY[:20], (490, 290), *STEADY[20:]], [20]),
    "two messages ahead": ([*STEADY[:20], (490, 290), (500, 290), *STEADY[22:]], [20]),
    "a clock that stays ahead": ([*STEADY[:20], *((10 * place + 240, 240) for place in range(20, 60))], [20]),
    "a clock that is set back": ([*((10 * place + 240, 240) for place in range(20)), *STEADY[20:]], [0]),
    "a late message": ([*STEADY, (300, -290)], [60]),
    "a backlog in order": ([(10 * place, 10 * place - 590) for place in range(60)], []),
}


@pytest.mark.parametrize(("times", "skipped"), CLOCKS.values(), ids=CLOCKS)
def test_a_clock_that_jumps_blinds_no_detector_and_splits_no_event(
    times: list[tuple[int, int]], skipped: list[int]
) -> None:
    """All readings are learned but the first of a jump and those that are late; a value over its limit is one event."""
    found, learned = series(times, value=99.0)

    assert [BEGIN] == found
    assert [place for place in range(len(times)) if place not in skipped] == learned


@pytest.mark.parametrize("restarts", [False, True])
def test_a_backlog_outside_its_limit_is_one_event(restarts: bool) -> None:
    """A device that sends a day's backlog after its live value: one event, with its escalation, and its end."""
    detectors, metrics = DeviceDetectors(), {"temperature": metric()}
    day = 86_400_000
    detectors.learn((START + day, 0), {"temperature": 70.0}, metrics=metrics)
    found: list[Finding] = []
    for place in range(1_440):
        order, sent = (START + place * 60_000, place), START + day + place * 10
        value = 97.0 if place < 700 else 120.0 if place < 1_000 else 70.0
        ahead = order[0] - sent
        found += detectors.check_late(order, {"temperature": value}, metrics=metrics, ahead=ahead, known={})
        if restarts and place % 100 == 0:
            detectors = unpack_detectors(detectors.pack(), metrics=metrics)

    assert [
        (BEGIN, "-late", None, "warning"),
        (ESCALATED, "-late", None, "critical"),
        (END, "-late", START + 999 * 60_000, "critical"),
    ] == [(each.kind, each.mark, each.ended, each.severity) for each in found]
    assert START == found[-1].began


def test_an_event_of_a_backlog_that_stops_ends_ten_minutes_later() -> None:
    """It is over as of its last reading outside, and known to be with the next reading after that time."""
    detectors, metrics = DeviceDetectors(), {"temperature": metric()}
    ends = []
    for place in range(100):
        order = (START + place * STEP_MS, place)
        ends += [(place, each.ended) for each in detectors.learn(order, {"temperature": 70.0}, metrics=metrics)]
        if place == 5:
            late = (START - 3_600_000, 0)
            ahead = late[0] - order[0]
            (begun,) = detectors.check_late(late, {"temperature": 99.0}, metrics=metrics, ahead=ahead, known={})
    assert (BEGIN, [(5 + 600 // PLACE_S, START - 3_600_000)]) == (begun.kind, ends)


def test_late_events_end_with_their_metric() -> None:
    """As those of readings in order do."""
    detectors, metrics = DeviceDetectors(), {"temperature": metric()}
    detectors.learn((START, 0), {"temperature": 70.0}, metrics=metrics)
    detectors.check_late((START - 1, 0), {"temperature": 99.0}, metrics=metrics, ahead=0, known={})
    (found,) = unpack_detectors(detectors.pack(), metrics={}).learn((START + 1, 1), {}, metrics={})
    assert (END, "-late") == (found.kind, found.mark)
