"""False alarms of a machine without a fault, and the delay at which each fault is found.

`--factory MODULE:CALLABLE` names what makes the detectors of one device: called with {metric: {"unit", "min", "max"}},
and with `budget` (false alarms a device-month) where it has that parameter, it returns an object with
`learn(time_ms, sequence, {metric: value})`, which returns (kind, metric, severity) of each notification, kind
being `begin`, `escalated` or `end`.

Each machine of `benchmarks/machines.py` works for `--days` days without a fault, and every event is a false one. When
about three quarters are over, at two random moments at which it works, the detectors are copied, and each fault is
played to a copy of its own. It is found by the first begin or escalation of its metric (for a fault of a pair, of any
metric) that does not come without it. A fault that is not found counts as infinitely late in a median.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import inspect
import math
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Protocol

from benchmarks.machines import DAY, HOUR, MACHINES, MINUTE, NOISE, START, WAYS, Fault, State, Trouble, Way
from benchmarks.picture import trade_off
from benchmarks.result import Result, peak_memory_mb
from fleet_iot.sensor_processor.detection import DeviceDetectors, machine
from fleet_iot.sensor_processor.ingest.catalogue import Metric

DAYS = 30
SEEDS = 3
BUDGETS = (1.0,)
"""False alarms a device-month that a factory is asked for, where it has the parameter."""

FIXED = "fixed"
"""Name of the budget of a factory that has no such parameter."""

FAULTS_FROM, FAULTS_UNTIL, MOMENTS = 0.73, 0.78, 2
"""Part of the days in which faults begin; how many moments are drawn on a machine."""

CONFIRM_MS = 15 * MINUTE
"""A fault that is shorter may still be found for so long after its end; an alarm at the end of a longer one is none."""

CHUNK = 2_000
LEARNING_DAYS, MONTH_DAYS, DEVICES = 7, 30, 10_000


class Detectors(Protocol):
    """All detectors of one device, with the defaults of a new manifest."""

    def learn(self, time: int, sequence: int, values: Mapping[str, float]) -> Iterable[tuple[str, str, str]]:
        """Learn the next reading; return (kind, metric, severity) of each notification."""


Factory = Callable[..., Detectors]


class Notice(NamedTuple):
    """One notification; `time` (ms) is that of its reading."""

    kind: str
    time: int
    metric: str
    severity: str

    @property
    def is_alarm(self) -> bool:
        """Return whether it asks for attention."""
        return self.kind in ("begin", "escalated")


class ContextDefaults:
    """Detectors as a manifest of 0.3 has them: limits, and `context` for each metric."""

    def __init__(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        self._detectors = DeviceDetectors()
        self._metrics = {
            name: Metric(name=name, unit=each["unit"], minimum=each["min"], maximum=each["max"], detector="context")
            for name, each in metrics.items()
        }

    def learn(self, time: int, sequence: int, values: Mapping[str, float]) -> list[tuple[str, str, str]]:
        """See Detectors."""
        findings = self._detectors.learn((time, sequence), values, metrics=self._metrics)
        return [(finding.kind, finding.metric, finding.severity) for finding in findings]

    def pack(self) -> bytes:
        """Pack the state, as the lane has it."""
        return self._detectors.pack()


class EwmaScores:
    """The z-score of each metric by moving averages of itself and its square: the floor that CPU is compared with."""

    RATE = 0.01
    ALARM = 6.0

    def __init__(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        self._means: dict[str, float] = dict.fromkeys(metrics, 0.0)
        self._variances: dict[str, float] = dict.fromkeys(metrics, 1.0)

    def learn(self, time: int, sequence: int, values: Mapping[str, float]) -> list[tuple[str, str, str]]:
        """See Detectors."""
        alarms = []
        for name, value in values.items():
            delta = value - self._means[name]
            variance = self._variances[name]
            if abs(delta) > self.ALARM * math.sqrt(variance):
                alarms.append(("begin", name, "warning"))
            self._means[name] += self.RATE * delta
            self._variances[name] = variance + self.RATE * (delta * delta - variance)
        return alarms


def factory_named(name: str) -> Factory:
    """Import MODULE:CALLABLE. Raises argparse.ArgumentTypeError."""
    module, _, attribute = name.partition(":")
    try:
        factory: Factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{name}: {error}; it must be MODULE:CALLABLE") from error
    return factory


class Watch:
    """A device's detectors at work: their notices, and the CPU that they and the peer needed for the same readings."""

    def __init__(self, way: Way, detectors: Detectors) -> None:
        self.way = way
        self.detectors = detectors
        self.notices: list[Notice] = []
        self.sequence = 0
        self.cpu_s = self.peer_cpu_s = 0.0
        self._peer = EwmaScores(metrics_of(way))

    def follow(self, states: Iterable[State]) -> None:
        """Learn readings in order, in chunks: ours, then the peer."""
        states = iter(states)
        while chunk := [(state.time, self.way.read(state.values)) for state in islice(states, CHUNK)]:
            begin = time.process_time()
            self.notices += _notices(self.detectors, chunk, self.sequence)
            between = time.process_time()
            _notices(self._peer, chunk, self.sequence)
            self.cpu_s += between - begin
            self.peer_cpu_s += time.process_time() - between
            self.sequence += len(chunk)


def _notices(detectors: Detectors, chunk: Iterable[tuple[int, Mapping[str, float]]], sequence: int) -> list[Notice]:
    found = []
    for number, (at, values) in enumerate(chunk, sequence + 1):
        for kind, metric, severity in detectors.learn(at, number, values):
            found.append(Notice(kind, at, metric, severity))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRun:
    """One machine's days: its notices, and the delay (minutes) of each fault at each moment."""

    notices: Sequence[Notice]
    days: int
    readings: int
    cpu_s: float
    peer_cpu_s: float
    state: bytes | None
    metrics: int
    delays: Mapping[str, Sequence[float]]


def metrics_of(way: Way) -> dict[str, dict[str, Any]]:
    """Describe the metrics of a way as a factory receives them."""
    return {each.name: {"unit": each.unit, "min": each.minimum, "max": each.maximum} for each in way.sensors}


def judge(way: Way, *, seed: int, days: int, factory: Callable[[Mapping[str, Any]], Detectors]) -> DeviceRun:
    """Run one machine through its days, and its faults on copies of its detectors."""
    watch = Watch(way, factory(metrics_of(way)))
    states = way.states(seed, days)
    rest: list[State] = []
    watch.follow(_until(states, START + int(FAULTS_FROM * days * DAY), rest))
    rest += states
    copies, followed = [], 0
    for place in _moments(way, rest, seed=seed, days=days):
        watch.follow(rest[followed:place])
        followed = place
        copies.append((place, watch.sequence, copy.deepcopy(watch.detectors)))
    watch.follow(rest[followed:])
    usual = {(notice.kind, notice.time, notice.metric) for notice in watch.notices}
    delays = {
        fault.name: [
            delay_of(fault, way, rest[place:], copy.deepcopy(detectors), sequence=sequence, usual=usual, seed=seed)
            for place, sequence, detectors in copies
        ]
        for fault in way.faults
    }
    pack = getattr(watch.detectors, "pack", None)
    return DeviceRun(
        notices=watch.notices,
        days=days,
        readings=watch.sequence,
        cpu_s=watch.cpu_s,
        peer_cpu_s=watch.peer_cpu_s,
        state=None if pack is None else pack(),
        metrics=len(way.sensors),
        delays=delays,
    )


def _until(states: Iterator[State], end: int, rest: list[State]) -> Iterator[State]:
    """Yield the states before `end` (ms); put the first later one into `rest`."""
    for state in states:
        if state.time >= end:
            rest.append(state)
            return
        yield state


def _moments(way: Way, states: Sequence[State], *, seed: int, days: int) -> list[int]:
    """Draw the places at which faults begin: while the machine works."""
    dice = Random(f"{way.name}:{seed}:moments")  # noqa: S311 - the same moments for the same seed
    end = START + int(FAULTS_UNTIL * days * DAY)
    working = [place for place, state in enumerate(states) if state.works]
    early = [place for place in working if states[place].time < end]
    return sorted(dice.sample(early or working, MOMENTS))


def delay_of(
    fault: Fault,
    way: Way,
    states: Sequence[State],
    detectors: Detectors,
    *,
    sequence: int,
    usual: set[tuple[str, int, str]],
    seed: int,
) -> float:
    """Play a fault from the first state on; return after how many minutes it is found, or infinity.

    Args:
        fault: what changes.
        way: the machine's.
        states: from the fault's begin on, without it.
        detectors: as they are at its begin; they are used up.
        sequence: of the last reading before.
        usual: kind, time and metric of all notices without the fault.
        seed: of the machine.
    """
    begin = states[0].time
    for number, (at, values) in enumerate(_faulty(fault, way, states, seed=seed), sequence + 1):
        for kind, metric, _ in detectors.learn(at, number, values):
            is_its = fault.is_of_pair or metric == fault.metric
            if kind in ("begin", "escalated") and is_its and (kind, at, metric) not in usual:
                return (at - begin) / MINUTE
    return math.inf


def _faulty(fault: Fault, way: Way, states: Sequence[State], *, seed: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the readings of a machine that has a fault from the first state on."""
    place = [sensor.name for sensor in way.sensors].index(fault.metric)
    begin = states[0].time
    end = begin + fault.hours * HOUR
    watched = end + CONFIRM_MS if fault.hours * HOUR < CONFIRM_MS else end
    day = [state.values[place] for state in states if state.works and state.time < begin + DAY]
    usual, memory = statistics.median(day), dict[str, float]()
    dice = Random(f"{way.name}:{seed}:{fault.name}")  # noqa: S311 - the same fault for the same seed
    for state in states:
        if state.time >= watched:
            return
        values = state.values
        changed: float | None = values[place]
        if state.time < end:
            hours = (state.time - begin) / HOUR
            changed = fault.change(Trouble(values[place], hours, state.works, usual, memory, dice))
        read = way.read(values if changed is None else (*values[:place], changed, *values[place + 1 :]))
        if changed is None:
            del read[fault.metric]
        yield state.time, read


def figures(way: Way, runs: Sequence[DeviceRun]) -> dict[str, Any]:
    """Summarise the runs of a way: notices, what is found and when, CPU and state."""
    days = runs[0].days
    end = START + days * DAY
    alarms = [notice for run in runs for notice in run.notices if notice.is_alarm]
    last = [notice for notice in alarms if notice.time >= end - LEARNING_DAYS * DAY]
    learned = [notice for notice in alarms if notice.time >= START + LEARNING_DAYS * DAY]
    weeks = len(runs) * days / 7
    packed = [run.state for run in runs if run.state is not None]
    readings = sum(run.readings for run in runs)
    metrics = runs[0].metrics
    return {
        "false_a_device_week": round(len(alarms) / weeks, 3),
        "in_the_last_week": round(len(last) / len(runs) / min(days / 7, 1.0), 3),
        "false_a_device_month_after_a_week": (
            round(len(learned) / len(runs) / (days - LEARNING_DAYS) * MONTH_DAYS, 3) if days > LEARNING_DAYS else None
        ),
        "messages_a_day_for_10000": round(sum(len(run.notices) for run in runs) / len(runs) / days * DEVICES),
        "critical_a_device_week": round(sum(notice.severity == "critical" for notice in alarms) / weeks, 3),
        "cpu_us_a_reading": round(sum(run.cpu_s for run in runs) / readings * 1e6, 2),
        "times_ewma": round(sum(run.cpu_s for run in runs) / max(sum(run.peer_cpu_s for run in runs), 1e-9), 2),
        "state_bytes_a_metric": max(len(state) for state in packed) // metrics if packed else None,
        "state_bytes_a_metric_compressed": max(len(zlib.compress(state)) for state in packed) // metrics
        if packed
        else None,
        "faults": {fault.name: _found(fault, runs, alarms) for fault in way.faults},
    }


def _found(fault: Fault, runs: Sequence[DeviceRun], alarms: Sequence[Notice]) -> dict[str, Any]:
    """Summarise a fault; `by_chance_percent` is how often a false alarm would come in its time anyway."""
    every = [delay for run in runs for delay in run.delays[fault.name]]
    median = statistics.median(every)
    chances = sum(fault.is_of_pair or notice.metric == fault.metric for notice in alarms)
    expected = chances * fault.hours / (len(runs) * runs[0].days * 24)
    return {
        "found": sum(map(math.isfinite, every)),
        "of": len(every),
        "median_delay_min": round(median, 1) if math.isfinite(median) else None,
        "by_chance_percent": round(-100 * math.expm1(-expected)),
    }


def pooled(by_way: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the ways: means of the notices, and the share of faults that are found."""
    faults = [each for of_way in by_way.values() for each in of_way["faults"].values()]
    return {
        **{
            name: round(statistics.mean(of_way[name] for of_way in by_way.values()), 3)
            for name in ("false_a_device_week", "in_the_last_week", "messages_a_day_for_10000")
        },
        "found_percent": round(100 * sum(each["found"] for each in faults) / sum(each["of"] for each in faults), 1),
    }


def run(
    rounds: int,
    *,
    regime: Sequence[str] = (),
    days: int = DAYS,
    first_seed: int = 1,
    factory: Factory = machine,
    budgets: Sequence[float] = BUDGETS,
    picture: Path | None = None,
) -> Result:
    """Judge a factory's detectors on machines and noise; `ours` is the share of faults that the first budget finds.

    Args:
        rounds: seeds, each of which is a machine of each way.
        regime: names of WAYS, or `machines`, or `noise`; none for all.
        days: that each machine works.
        first_seed: the other seeds follow it.
        factory: makes the detectors of a device.
        budgets: false alarms a device-month to ask for, where the factory has the parameter `budget`.
        picture: file for the trade-off on noise, as SVG.
    """
    ways = [way for way in (*MACHINES, *NOISE) if not regime or _is_chosen(way, regime)]
    has_budget = "budget" in inspect.signature(factory).parameters
    results: dict[str, dict[str, Any]] = {}
    for budget in budgets if has_budget else [None]:
        by_way = results[FIXED if budget is None else f"{budget:g}"] = {}
        for way in ways:
            make = factory if budget is None else (lambda metrics, budget=budget: factory(metrics, budget=budget))
            seeds = range(first_seed, first_seed + rounds)
            by_way[way.name] = figures(way, [judge(way, seed=seed, days=days, factory=make) for seed in seeds])
            print(f"{way.name}, budget {FIXED if budget is None else budget}: done", file=sys.stderr, flush=True)
    if picture is not None:
        noise = {name: {way.name: by_way[way.name] for way in NOISE if way in ways} for name, by_way in results.items()}
        picture.write_text(trade_off(noise), encoding="utf-8")
    first = next(iter(results.values()))
    machines = {way.name for way in MACHINES}
    return Result(
        benchmark="alarms",
        unit="% of faults found",
        ours=pooled(first)["found_percent"],
        peers={},
        limit=100.0,
        peak_memory_mb=peak_memory_mb(),
        details={
            "seeds": [first_seed, first_seed + rounds - 1],
            "days": days,
            "by_budget": results,
            "machines_pooled": {
                name: pooled(chosen)
                for name, by_way in results.items()
                if (chosen := {way: each for way, each in by_way.items() if way in machines})
            },
        },
        tables=tables(results),
    )


ROWS = {
    "false_a_device_week": "alarms a device-week",
    "in_the_last_week": "… in the last week",
    "messages_a_day_for_10000": "messages a day, 10,000 devices",
    "critical_a_device_week": "critical a device-week",
    "times_ewma": "CPU a reading, × EWMA",
    "state_bytes_a_metric": "state a metric, bytes",
}
"""Figures in the table of machines, with their words."""

CHANCE_SHOWN = 10


def tables(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Write the figures as Markdown: a table of machines for each budget, and one of the noise."""
    lines = []
    for budget, by_way in results.items():
        chosen = {way.name: by_way[way.name] for way in MACHINES if way.name in by_way}
        if not chosen:
            continue
        lines += ["", f"budget {budget}", "", _row("", *chosen), _row(*["---"] * (len(chosen) + 1))]
        lines += [_row(words, *(_number(each[name]) for each in chosen.values())) for name, words in ROWS.items()]
        for name in next(iter(chosen.values()))["faults"]:
            lines.append(_row(name, *(_trials(each["faults"][name]) for each in chosen.values())))
    noise = [way for way in NOISE if way.name in next(iter(results.values()))]
    if noise:
        faults = [fault.name for fault in noise[0].faults]
        lines += ["", _row("noise", "budget", "alarms a device-month", *faults), _row(*["---"] * (3 + len(faults)))]
    for way in noise:
        for budget, by_way in results.items():
            found = by_way[way.name]
            measured = _number(found["false_a_device_month_after_a_week"])
            lines.append(_row(way.name, budget, measured, *(_trials(each) for each in found["faults"].values())))
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 20 else f"{value:.2g}"


def _trials(fault: Mapping[str, Any]) -> str:
    """Write `5/6 12 min`, and the percentage by chance where it matters."""
    delay, chance = fault["median_delay_min"], fault["by_chance_percent"]
    words = "–" if delay is None else f"{delay:.0f} min" if delay < 100 else f"{delay / 60:.1f} h"
    return f"{fault['found']}/{fault['of']} {words}" + (f" ({chance} %)" if chance >= CHANCE_SHOWN else "")


GROUPS = {"machines": MACHINES, "noise": NOISE}
REGIMES = (*WAYS, *GROUPS)
"""Names of ways to work, and of groups of them, for `--regime`."""


def _is_chosen(way: Way, regime: Sequence[str]) -> bool:
    return way.name in regime or any(way in GROUPS[name] for name in regime if name in GROUPS)
