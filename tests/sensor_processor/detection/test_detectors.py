"""The detectors that a metric may name other than context: what they find, ignore and keep over a restart."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from fleet_iot.sensor_processor.detection import DeviceDetectors, Finding, unpack_detectors
from fleet_iot.sensor_processor.ingest.catalogue import DETECTORS, Metric

STEP_MS = 10_000
Row = dict[str, float]


def metrics_of(detector: str, *names: str) -> dict[str, Metric]:
    return {
        name: Metric(name=name, unit="bar", minimum=None, maximum=None, detector=detector)
        for name in names or ("pressure",)
    }


def feed(rows: list[Row], *, metrics: dict[str, Metric], restart_every: int = 0) -> Iterator[tuple[int, Finding]]:
    """The findings with the place of their reading; `restart_every` so many, all goes on from the packed state."""
    detectors = DeviceDetectors()
    for place, row in enumerate(rows):
        if restart_every and place % restart_every == 0:
            detectors = unpack_detectors(detectors.pack(), metrics=metrics)
        for finding in detectors.learn((place * STEP_MS, place), row, metrics=metrics):
            yield place, finding


def noise(count: int, *, seed: int = 1, level: float = 50.0, spread: float = 1.0) -> list[float]:
    dice = random.Random(seed)
    return [dice.gauss(level, spread) for _ in range(count)]


def stuck() -> list[Row]:
    return [{"pressure": value} for value in [*noise(200), *[50.5] * 100, *noise(50, seed=2)]]


def jumping() -> list[Row]:
    values, dice = [50.0], random.Random(3)
    values += [values[0] + 0.05 * dice.gauss(0, 1) for _ in range(400)]
    return [{"pressure": value} for value in [*values, 65.0, *([65.0] * 20)]]


def off_shift() -> list[Row]:
    """Two days with a shift from 6 to 18 UTC; on the third night the machine runs as if it were day."""
    dice = random.Random(4)

    def usual(place: int) -> float:
        return (80.0 if 6 <= place * STEP_MS // 3_600_000 % 24 < 18 else 20.0) + dice.gauss(0, 1)

    return [{"pressure": usual(place)} for place in range(2 * 8_640)] + [{"pressure": 80.0}] * 30


def machine(count: int, *, seed: int, power: float = 1.0, shift: float = 0.0) -> list[Row]:
    """Power follows flow; `power` breaks that, `shift` moves both."""
    dice = random.Random(seed)
    flows = [dice.gauss(10, 1) + shift for _ in range(count)]
    return [{"flow": flow, "power": 3 * (flow if power == 1.0 else 20 - flow) + dice.gauss(0, 0.1)} for flow in flows]


CASES = {
    "flatline": (metrics_of("flatline"), stuck(), range(229, 231), "has stood still for 30 readings"),
    "rate": (metrics_of("rate"), jumping(), range(401, 402), "changes by 1.49 a second"),
    "seasonal": (metrics_of("seasonal"), off_shift(), range(17_280, 17_282), "unusual for 00:00 to 00:59 UTC"),
    "correlation": (
        metrics_of("correlation", "flow", "power"),
        machine(500, seed=5) + machine(100, seed=6, power=0.5),
        range(500, 520),
        "no longer goes with",
    ),
    "baseline": (
        metrics_of("baseline", "flow", "power"),
        machine(500, seed=5) + machine(100, seed=6, shift=8.0),
        range(500, 530),
        "has shifted from its baseline of",
    ),
}


@pytest.mark.parametrize("restart_every", [0, 50])
@pytest.mark.parametrize("detector", CASES)
def test_a_detector_finds_its_fault_once_and_says_why(detector: str, restart_every: int) -> None:
    """One finding at the beginning of the event, none before it, the same whether or not the process lives on."""
    metrics, rows, expected, words = CASES[detector]

    told = list(feed(rows, metrics=metrics, restart_every=restart_every))
    found = [(place, finding) for place, finding in told if finding.began is None]

    assert [detector] == [finding.detector for _, finding in found]
    place, finding = found[0]
    assert place in expected
    assert words in finding.reason
    assert finding.metric in metrics and finding.value == rows[place][finding.metric] and finding.score > 1


@pytest.mark.parametrize("restart_every", [0, 50])
@pytest.mark.parametrize("detector", ["flatline", "rate", "baseline", "correlation"])
def test_an_event_has_an_end(detector: str, restart_every: int) -> None:
    """When all is as usual again, the end says when the event began; also after a restart in between."""
    metrics, rows, _, _ = CASES[detector]
    if "flow" in metrics:
        rows = rows + machine(100, seed=9)

    told = list(feed(rows, metrics=metrics, restart_every=restart_every))
    begin, end = ((place, finding) for place, finding in told if finding.detector == detector)

    assert (begin[1].began, end[1].began) == (None, begin[0] * STEP_MS)
    assert end[0] > begin[0] and end[1].metric == begin[1].metric


@pytest.mark.parametrize("detector", CASES)
def test_a_detector_is_quiet_on_what_is_usual(detector: str) -> None:
    """Three thousand readings of a steady machine raise nothing at all."""
    metrics = CASES[detector][0]
    usual = machine(3_000, seed=7) if "flow" in metrics else [{"pressure": value} for value in noise(3_000, seed=8)]

    assert [] == list(feed(usual, metrics=metrics))


def test_every_detector_of_the_catalogue_is_tried() -> None:
    """`limits`, `context` and `machine` have files of their own."""
    assert DETECTORS - {"limits", "context", "machine"} == CASES.keys()


def test_a_reading_that_lacks_a_metric_is_no_row() -> None:
    """Detectors of several metrics look at readings that have all of them."""
    metrics, rows, _, _ = CASES["correlation"]
    lacking = [{"flow": row["flow"]} for row in rows]

    assert [] == list(feed(lacking, metrics=metrics))


def test_state_of_other_metrics_is_not_taken_over() -> None:
    """A device type whose baseline has another metric learns again, without an error."""
    metrics, rows, _, _ = CASES["baseline"]
    detectors = DeviceDetectors()
    for place, row in enumerate(rows[:450]):
        detectors.learn((place, place), row, metrics=metrics)

    grown = unpack_detectors(detectors.pack(), metrics=metrics_of("baseline", "flow", "power", "speed"))
    assert grown.learn((500, 500), {"flow": 99.0, "power": 1.0, "speed": 1.0}, metrics=metrics) == []


@pytest.mark.parametrize("detector", sorted(CASES))
def test_only_limits_are_critical(detector: str) -> None:
    """However far a detector's score is above what it needs, its event is a warning."""
    metrics, rows, _, _ = CASES[detector]
    detectors = DeviceDetectors()
    found = [
        finding
        for place, row in enumerate(rows)
        for finding in detectors.learn((place * 10_000, place), row, metrics=metrics)
    ]
    assert found and not any(finding.is_critical for finding in found)
