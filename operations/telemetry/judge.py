"""Judge what detectors find in a history by the faults that people know of, at each budget of false alarms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.generator.text import counted, duration
from fleet_iot.operations.telemetry.backtest import Fault, Found, History, Run, backtest, moment, parse_time, spans
from fleet_iot.sensor_processor.detection import LEARN_DAYS, MACHINE
from fleet_iot.sensor_processor.ingest.catalogue import Metric

BUDGETS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""False alarms a device-month that are tried."""

LEAST_BUDGET, MOST_BUDGET = 0.01, 1_000.0
"""As in the manifest."""

GRACE_MS = 15 * 60_000
"""An event that begins so soon after a fault is of the fault: the machine detector looks at blocks of five minutes."""

DAY_MS, WEEK_MS = 86_400_000, 7 * 86_400_000

LISTED = 6
"""Delays that are written out; of more faults the median is."""

HEAD = ("false-alarm budget", "events", "a week", "to be judged", "faults found", "delay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Counts of what detectors report in the time that is judged.

    `budget` is that of the machine detector, None for others. `events_a_week` is None where less than a day is judged.
    `to_be_judged` are events outside all faults. `delays_min` has the minutes from the begin of each fault until it
    was reported: None where it was not, negative where an event was running before.
    """

    detector: str
    budget: float | None
    events: int
    events_a_week: float | None
    to_be_judged: int
    delays_min: tuple[float | None, ...]

    def cells(self) -> tuple[str, ...]:
        """Make the row of a table with HEAD."""
        found = sum(delay is not None for delay in self.delays_min)
        return (
            self.detector if self.budget is None else f"{self.budget:g}",
            f"{self.events:,}",
            "-" if self.events_a_week is None else f"{self.events_a_week:.1f}",
            f"{self.to_be_judged:,}",
            f"{found} of {len(self.delays_min)}" if self.delays_min else "-",
            _delays_text(self.delays_min),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The metrics as they are declared, run over the history, and the same at each budget.

    `faults` are all, marked and labelled; `judged` is empty where the machine detector learned to the end and there is
    no other one.
    """

    run: Run
    faults: tuple[Fault, ...]
    judged: tuple[Judged, ...]

    @property
    def is_unlearned(self) -> bool:
        """Return whether the machine detector learned to the end."""
        return self.run.judged_from is None

    def fault_of(self, found: Found) -> int | None:
        """Return the number, from 1, of the first fault that an event is of."""
        return next((number for number, fault in enumerate(self.faults, start=1) if _is_of(found, fault)), None)

    @property
    def verdicts(self) -> list[str]:
        """Say of each event which fault it is of, or that it is to be judged; nothing where no faults are known."""
        if not self.faults:
            return [""] * len(self.run.found)
        numbers = map(self.fault_of, self.run.found)
        return ["to be judged" if number is None else f"fault {number}" for number in numbers]


def parse_fault(text: str, history: History, *, metrics: Collection[str]) -> Fault:
    """Parse `2026-11-03T10:00/2026-11-03T14:00`, or the same with a space and a metric.

    Raises:
        RequestError: It is not written so, ends before it begins, is outside the history, or of another metric.
    """
    what, example = (
        f"--fault {text!r}",
        "write it as 2026-11-03T10:00/2026-11-03T14:00, UTC, and a metric if it is known",
    )
    first, slash, rest = text.strip().partition("/")
    words = rest.split(" ")
    begin, end, metric = _time_or_none(first), None, ""
    for count in (2, 1):  # a time may have a space between date and hour
        if end is None:
            end, metric = _time_or_none(" ".join(words[:count])), " ".join(words[count:]).strip()
    if begin is None or end is None or not slash:
        raise RequestError(f"{what} is no time from begin to end", hint=example)
    if end < begin:
        raise RequestError(f"{what} ends before it begins", hint=example)
    if end < history.times[0] or begin > history.times[-1]:
        span = f"{moment(history.times[0])} to {moment(history.times[-1])} UTC"
        raise RequestError(f"{what} is outside the history", hint=f"the history is from {span}")
    if metric and metric not in metrics:
        raise RequestError(f"{what}: there is no metric {metric!r}", hint=f"metrics: {', '.join(metrics)}")
    return Fault(begin=begin, end=end, metric=metric or None)


def _time_or_none(text: str) -> int | None:
    try:
        return parse_time("", text)
    except (EnvironmentFault, OverflowError):
        return None


def parse_budgets(text: str) -> tuple[float, ...]:
    """Parse budgets with commas between them. Raises RequestError."""
    try:
        budgets = sorted({float(each) for each in text.split(",")})
    except ValueError:
        budgets = []
    if not budgets or not all(LEAST_BUDGET <= each <= MOST_BUDGET for each in budgets):
        raise RequestError(
            f"--budgets {text!r}: each is a number from {LEAST_BUDGET:g} to {MOST_BUDGET:,.0f}",
            hint="write them as 0.1,1,10: false alarms a device-month",
        )
    return tuple(budgets)


def judge(
    history: History,
    metrics: Mapping[str, Metric],
    *,
    marked: Sequence[Fault],
    budgets: Sequence[float],
    on_pass: Callable[[int, int], None],
) -> Judgement:
    """Run the detectors over the history, the machine detector once for each budget, and judge what they find.

    Args:
        history: The series.
        metrics: Its metrics with limits and detectors.
        marked: Faults that a person knows of; those that the file labels count, too.
        budgets: Of the machine detector, false alarms a device-month.
        on_pass: Called after each pass with how many are done, and of how many.
    """
    times = history.times
    labelled = [Fault(begin=times[first], end=times[last]) for first, last in spans(history.labelled)]
    faults = tuple(sorted([*marked, *labelled], key=lambda fault: (fault.begin, fault.end)))
    watched = {name: metric for name, metric in metrics.items() if metric.detector == MACHINE}
    run = backtest(history, metrics)
    on_pass(1, 1 + len(budgets) if watched else 1)
    judged = []
    for number, budget in enumerate(budgets if watched and run.judged_from is not None else ()):
        at = {name: replace(metric, false_alarm_budget=budget) for name, metric in watched.items()}
        found = (run if at == watched else backtest(history, at)).found
        own = [each for each in found if each.detector == MACHINE]
        judged.append(judged_of(MACHINE, budget, own, faults, since=run.judged_from or 0, until=times[-1]))
        on_pass(2 + number, 1 + len(budgets))
    others = {metric.detector for metric in metrics.values()} - {MACHINE, "limits"}
    if any(limit is not None for metric in metrics.values() for limit in (metric.minimum, metric.maximum)):
        others.add("limits")
    if others:
        own = [each for each in run.found if each.detector != MACHINE]
        judged.append(judged_of(", ".join(sorted(others)), None, own, faults, since=times[0], until=times[-1]))
    return Judgement(run=run, faults=faults, judged=tuple(judged))


def judged_of(
    detector: str, budget: float | None, found: Sequence[Found], faults: Sequence[Fault], *, since: int, until: int
) -> Judged:
    """Judge what detectors found between two times (ms); faults that were over before are left out."""
    to_find = [fault for fault in faults if fault.end + GRACE_MS >= since]
    return Judged(
        detector=detector,
        budget=budget,
        events=len(found),
        events_a_week=round(len(found) * WEEK_MS / (until - since), 2) if until - since >= DAY_MS else None,
        to_be_judged=sum(not any(_is_of(each, fault) for fault in faults) for each in found),
        delays_min=tuple(_delay(found, fault) for fault in to_find),
    )


def _reported(found: Found, fault: Fault) -> list[int]:
    """Return the times (ms) at which an event is reported with the fault's metric, until shortly after the fault."""
    told = [(found.time, found.metric), *found.also]
    return [time for time, name in told if fault.metric in (None, name) and time <= fault.end + GRACE_MS]


def _is_of(found: Found, fault: Fault) -> bool:
    return (found.ended is None or max(found.ended, found.time) >= fault.begin) and bool(_reported(found, fault))


def _delay(found: Sequence[Found], fault: Fault) -> float | None:
    times = [time for each in found if _is_of(each, fault) for time in _reported(each, fault)]
    return round((min(times) - fault.begin) / 60_000, 1) if times else None


def _delays_text(delays: Sequence[float | None]) -> str:
    if len(delays) <= LISTED:
        return ", ".join(map(_delay_text, delays))
    middle = sorted(delays, key=lambda delay: float("inf") if delay is None else delay)[(len(delays) - 1) // 2]
    return f"median {_delay_text(middle)}"


def _delay_text(delay: float | None) -> str:
    if delay is None:
        return "missed"
    return f"{duration(-60 * delay)} before" if delay < 0 else duration(60 * delay)


def notes_on(judgement: Judgement, history: History) -> list[str]:
    """Say what was learned and judged, and what is assumed."""
    run, times = judgement.run, history.times
    lines = []
    if run.learned_days is not None and run.judged_from is not None:
        learned, judged = (run.judged_from - times[0]) / DAY_MS, (times[-1] - run.judged_from) / DAY_MS
        lines.append(
            f"learned: {learned:.1f} days, until {moment(run.judged_from)}; judged: the {judged:.1f} days after it"
        )
        early = sum(fault.end + GRACE_MS < run.judged_from for fault in judgement.faults)
        if early:
            lines.append(
                f"{counted(early, 'fault')} of that time: the machine detector reports nothing while it learns"
            )
    lines += [
        f"fault {number}: {moment(fault.begin)} to {moment(fault.end)}{f', {fault.metric}' if fault.metric else ''}"
        for number, fault in enumerate(judgement.faults[:LISTED], start=1)
    ]
    if len(judgement.faults) > LISTED:
        lines.append(f"and {len(judgement.faults) - LISTED} more faults")
    assumed = ["times are UTC where the file has no zone", "readings arrived in the order of their times"]
    if judgement.faults:
        grace = f"{GRACE_MS // 60_000} minutes"
        assumed.append(
            f"an event is of a fault if it overlaps it, or begins up to {grace} after it, in the same metric"
        )
    if any(each.budget is not None for each in judgement.judged):
        assumed.append("a budget is of all metrics together, a month of 30 days")
    return [*lines, f"assumed: {'; '.join(assumed)}"]


def unlearned(judgement: Judgement, history: History) -> tuple[str, str]:
    """Say why the machine detector cannot be judged, and what to do."""
    days, span = judgement.run.learned_days or 0.0, (history.times[-1] - history.times[0]) / DAY_MS
    message = (
        f"the machine detector cannot be judged: it learns for {LEARN_DAYS:.0f} days, and of this history of "
        f"{span:.1f} days {days:.1f} count"
    )
    hint = (
        "give two weeks or more, in which at least half of the time has readings: a week to learn and one to judge; "
        "or another detector: --detector context"
    )
    return message, hint
