"""The alarms benchmark counts right: false alarms, faults found, delays, the same for the same seed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import alarms
from benchmarks.__main__ import main
from benchmarks.machines import (
    DAY,
    HOUR,
    MACHINES,
    MINUTE,
    NOISE,
    START,
    SUMMER_BEGINS,
    WAYS,
    calendar,
    power_failure,
)
from benchmarks.picture import trade_off

QUICK = "coarse"
DAYS = 3


class Silent:
    """Detectors that never raise an alarm."""

    def __init__(self, metrics: Mapping[str, Any]) -> None:
        self.metrics = tuple(metrics)

    def learn(self, time: int, sequence: int, values: Mapping[str, float]) -> list[tuple[str, str, str]]:
        return []


class Crying(Silent):
    """Detectors that begin an event of the first metric with each reading."""

    def learn(self, time: int, sequence: int, values: Mapping[str, float]) -> list[tuple[str, str, str]]:
        return [("begin", self.metrics[0], "warning")]


class Hourly(Silent):
    """Detectors whose event begins, becomes critical and ends in each hour, a minute apart."""

    def __init__(self, metrics: Mapping[str, Any]) -> None:
        super().__init__(metrics)
        self.due = [
            (START + hour * HOUR + number * MINUTE, (kind, self.metrics[0], severity))
            for hour in range(24 * DAYS)
            for number, (kind, severity) in enumerate(
                (("begin", "warning"), ("escalated", "critical"), ("end", "critical"))
            )
        ]

    def learn(self, time: int, sequence: int, values: Mapping[str, float]) -> list[tuple[str, str, str]]:
        notices = []
        while self.due and self.due[0][0] <= time:
            notices.append(self.due.pop(0)[1])
        return notices


def oracle(way_name: str, *, seed: int, days: int) -> type[Silent]:
    """Make detectors that compare each reading with that of the machine without a fault."""
    way = WAYS[way_name]
    healthy = {state.time: way.read(state.values) for state in way.states(seed, days)}

    class Oracle(Silent):
        def learn(self, time: int, sequence: int, values: Mapping[str, float]) -> list[tuple[str, str, str]]:
            usual = healthy[time]
            return [("begin", name, "warning") for name in usual if usual[name] != values.get(name)]

    return Oracle


def judged(factory: Any, *, way: str = QUICK, seed: int = 1, days: int = DAYS) -> dict[str, Any]:
    """The figures of one machine."""
    return alarms.figures(WAYS[way], [alarms.judge(WAYS[way], seed=seed, days=days, factory=factory)])


def test_silent_detectors_find_nothing() -> None:
    """Detectors that raise no alarm have no false alarm, no message and no fault found, at no delay."""
    found = judged(Silent)
    assert (0, 0, 0) == tuple(
        found[name] for name in ("false_a_device_week", "messages_a_day_for_10000", "critical_a_device_week")
    )
    assert {(0, 2, None, 0)} == {tuple(fault.values()) for fault in found["faults"].values()}
    assert 10 == len(found["faults"])


def test_an_oracle_finds_every_fault_when_it_begins() -> None:
    """Detectors that compare with the healthy machine find all faults without a false alarm, at once where it shows."""
    found = judged(oracle("intermittent", seed=1, days=2), way="intermittent", days=2)
    assert 0 == found["false_a_device_week"]
    assert {(2, 2)} == {(fault["found"], fault["of"]) for fault in found["faults"].values()}
    delays = {name: fault["median_delay_min"] for name, fault in found["faults"].items()}
    at_once = ("sensor swapped", "twice as much", "spike of a minute, four times", "efficiency lost, 20 %", "silent")
    assert [0.0] * 5 == [delays[name] for name in at_once]
    assert max(delays.values()) < 30


def test_faults_of_a_pair_count_for_any_metric_and_others_for_their_own() -> None:
    """An alarm of another metric finds the lost efficiency only."""

    class OfAnother(oracle(QUICK, seed=1, days=DAYS)):  # type: ignore[misc]
        def learn(self, time: int, sequence: int, values: Mapping[str, float]) -> list[tuple[str, str, str]]:
            return [("begin", "another", "warning") for _ in super().learn(time, sequence, values)]

    faults = judged(OfAnother)["faults"]
    assert {"efficiency lost, 20 %"} == {name for name, fault in faults.items() if fault["found"]}


def test_what_comes_without_the_fault_does_not_find_it() -> None:
    """Detectors that alarm on every reading find nothing, and each of their alarms is counted."""
    found = judged(Crying)
    readings = DAYS * DAY // 30_000
    assert {0} == {fault["found"] for fault in found["faults"].values()}
    assert found["false_a_device_week"] == pytest.approx(readings * 7 / DAYS, rel=0.2)
    assert 100 == found["faults"]["stuck"]["by_chance_percent"]


def test_begins_and_escalations_are_alarms_and_ends_are_messages() -> None:
    """An event an hour that becomes critical is two alarms, one of them critical, and three messages."""
    found = judged(Hourly)
    assert 2 * 24 * 7 == found["false_a_device_week"] == found["in_the_last_week"]
    assert 24 * 7 == found["critical_a_device_week"]
    assert 3 * 24 * 10_000 == found["messages_a_day_for_10000"]


@pytest.mark.parametrize("way", [*MACHINES, *NOISE], ids=lambda way: way.name)
def test_a_seed_determines_a_machine(way: Any) -> None:
    """A way gives the same readings for a seed, others for another, in order and in the resolution of its sensors."""
    first, again, other = (list(islice(way.states(seed, 1), 300)) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted({state.time for state in first}) == [state.time for state in first]
    for sensor, value in zip(way.sensors, way.read(first[-1].values).values(), strict=True):
        assert value * sensor.per_unit == pytest.approx(round(value * sensor.per_unit))


def test_machines_differ_as_their_ways_do() -> None:
    """Three to eight metrics, intervals of 5 to 60 s, and the coarse oven's current is 0 when it is off."""
    assert {3, 4, 5, 6, 8} == {len(way.sensors) for way in MACHINES}
    assert {5, 10, 15, 20, 30, 60} == {way.interval_s for way in MACHINES}
    off = [WAYS[QUICK].read(state.values) for state in WAYS[QUICK].states(1, 1) if not state.works]
    assert {0.0} == {values["current"] for values in off}


def test_plants_have_summer_time() -> None:
    """The 29th of March 2026 has no hour from two to three by the plant's clock."""
    hours = [moment.hour for moment in calendar(3600, 29) if moment.time >= SUMMER_BEGINS - 2 * HOUR]
    assert [0.0, 1.0, 3.0, 4.0] == hours[:4]


def test_detectors_are_judged_the_same_twice() -> None:
    """Today's detectors have the same figures for the same seed, but for CPU."""
    figures = [judged(alarms.ContextDefaults, way="white", days=4) for _ in range(2)]
    for each in figures:
        assert each.pop("cpu_us_a_reading") > 0
        assert each.pop("times_ewma") > 0
    assert figures[0] == figures[1]
    assert 0 < figures[0]["state_bytes_a_metric_compressed"] < figures[0]["state_bytes_a_metric"] < 2_000


def test_a_factory_receives_the_budget() -> None:
    """A factory with the parameter `budget` is judged at each, and one without it once."""
    asked = []

    def thrifty(metrics: Mapping[str, Any], budget: float = 1.0) -> Silent:
        asked.append(budget)
        return Silent(metrics)

    result = alarms.run(1, regime=["quantised", QUICK], days=2, factory=thrifty, budgets=[0.3, 3])
    assert [0.3, 0.3, 3, 3] == asked
    assert ["0.3", "3"] == list(result.details["by_budget"])
    text = result.text().splitlines()
    assert 2 == text.count(f"|  | {QUICK} |") == text.count("| stuck | 0/2 – |")
    assert "| quantised | 0.3 | – | 0/2 – | 0/2 – | 0/2 – |" in text
    assert ["fixed"] == list(
        alarms.run(1, regime=["white"], days=2, factory=Silent, budgets=[1, 2]).details["by_budget"]
    )


def test_the_picture_has_a_panel_for_each_noise_and_a_mark_for_each_budget(tmp_path: Path) -> None:
    """The picture is small, well-formed, and places what is not found above the longest delay."""

    def figures(delay: float | None) -> dict[str, Any]:
        faults = {f"{sigma} sigma": {"median_delay_min": delay} for sigma in (2, 3, 5)}
        return {"false_a_device_month_after_a_week": 0.5, "faults": faults}

    picture = trade_off(
        {budget: {way.name: figures(delay) for way in NOISE} for budget, delay in (("1", None), ("3", 60.0))}
    )
    assert len(picture) < 200_000
    root = ElementTree.fromstring(picture)  # noqa: S314 - it was just made here
    panels = [each for each in root if each.tag.endswith("}g")]
    assert [way.name for way in NOISE] == [
        next(text.text for text in panel if text.get("class") == "title") for panel in panels
    ]
    circles = [each for each in panels[0] if each.tag.endswith("}circle")]
    assert 2 == len(circles)
    assert float(circles[0].attrib["cy"]) < float(circles[1].attrib["cy"])


def test_a_plant_loses_power_at_once_and_comes_back() -> None:
    """All machines are without power for the same minutes, report on, and start within ten minutes, in order."""
    readings = list(power_failure(machines=20, days=0.1, minutes=20))
    assert list(range(20)) == sorted({reading.machine for reading in readings})
    times = [reading.time for reading in readings]
    assert sorted(times) == times
    fails = START + int(0.1 * DAY)
    dark = [reading for reading in readings if fails <= reading.time < fails + 20 * MINUTE]
    assert 20 * 20 == len(dark)
    assert {0.0} == {reading.values["power"] for reading in dark}
    assert all(reading.values["power"] > 5 for reading in readings if reading.time >= fails + 30 * MINUTE)
    assert all(reading.values["power"] > 5 for reading in readings if reading.time < fails)


def test_the_command_prints_one_object_and_writes_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m benchmarks alarms --json` prints the keys of every benchmark; an unknown factory is refused."""
    picture = tmp_path / "trade-off.svg"
    command = ["benchmarks", "alarms", "--regime", "ar1", "--days", "2", "--seeds", "1", "--budgets", "0.3,3"]
    monkeypatch.setattr(sys, "argv", [*command, "--json", "--picture", str(picture)])
    main()
    document = json.loads(capsys.readouterr().out)
    assert ("alarms", [1, 1]) == (document["benchmark"], document["details"]["seeds"])
    assert picture.read_text().startswith("<svg")
    monkeypatch.setattr(sys, "argv", [*command, "--factory", "benchmarks.alarms:nothing"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "MODULE:CALLABLE" in capsys.readouterr().err


def test_the_median_counts_a_miss_as_infinitely_late() -> None:
    """One of two found has no median delay."""
    run = alarms.judge(WAYS["white"], seed=1, days=2, factory=Silent)
    run = alarms.DeviceRun(
        **{name: getattr(run, name) for name in run.__slots__ if name != "delays"},
        delays=dict.fromkeys(run.delays, (5.0, math.inf)),
    )
    assert {(1, None)} == {
        (fault["found"], fault["median_delay_min"]) for fault in alarms.figures(WAYS["white"], [run])["faults"].values()
    }
