"""Static limits of a metric, on for every metric that has them.

An event begins at the first reading outside, without delay. It ends by a deadband and an off-delay, so that a value
that hovers at its limit is one alarm. EEMUA 191 recommends deadbands of 1 to 5 % of the range; ISA-18.2 and OPC UA have
both means: https://reference.opcfoundation.org/Core/Part9/v105/docs/B.1.5
"""

from __future__ import annotations

from dataclasses import replace

from ..ingest.catalogue import Metric
from .event import Event, Finding, begin, end, escalation

DEADBAND = 0.02
"""Fraction of the allowed range that a value must be within its limit to end the event after OFF_DELAY_MS."""

OFF_DELAY_MS = 60_000
"""Time within the limit by that much after which an event ends."""

SETTLED_MS = 600_000
"""Time within the limit after which an event ends although the value stays in the deadband: a machine may run just
below its limit."""

CRITICAL_BEYOND = 0.1
"""Share of the allowed range beyond a limit from which an excursion is critical."""


def excursion_of(metric: Metric, value: float) -> int:
    """Return 1 above the maximum, -1 below the minimum, 0 within; a value at its limit is within."""
    if metric.maximum is not None and value > metric.maximum:
        return 1
    if metric.minimum is not None and value < metric.minimum:
        return -1
    return 0


def limits_finding(metric: Metric, value: float, *, late_at: int | None = None) -> Finding:
    """Make the finding of a value outside its limits.

    With `late_at` (ms) it is that of a reading of that time which arrived out of order, and over at once.
    """
    side = excursion_of(metric, value)
    score = _score(metric, value, side)
    return begin(
        metric,
        "limits",
        value=value,
        score=score,
        is_critical=score >= CRITICAL_BEYOND,
        reason=_reason(metric, value, side),
        mark=mark_of(side) if late_at is None else late_mark_of(side),
        ended=late_at,
    )


def follow_limits(events: list[Event], metric: Metric, time: int, value: float, side: int) -> list[Finding]:
    """Return the findings of a reading of `time` (ms) on `side` of its limits; changes running `events` in place."""
    findings = []
    for event in tuple(events):
        if event.side == side:
            event.turned = 0
            worse = escalation(event, limits_finding(metric, value))
            if worse is not None:
                findings.append(worse)
            continue
        if not event.turned or event.turned > time:  # later than now: the device's clock was set back
            event.turned = time
        within = time - event.turned
        if within >= SETTLED_MS or (within >= OFF_DELAY_MS and _is_clear(metric, value, event.side)):
            events.remove(event)
            words = f"{metric.amount(value)} is within its limit again"
            mark = mark_of(event.side)
            findings.append(end(metric, "limits", event, value=value, ended=event.turned, words=words, mark=mark))
    if side and all(event.side != side for event in events):
        finding = limits_finding(metric, value)
        events.append(Event(began=time, is_critical=finding.is_critical, side=side, value=value))
        findings.append(finding)
    return findings


class LateEvent(Event):
    """An event of readings that arrive out of order. `turned` is the last one outside, `arrived` (ms) when it came."""

    arrived: int = 0


def follow_late(
    events: list[LateEvent], metric: Metric, time: int, value: float, *, arrived: int, is_known: bool
) -> list[Finding]:
    """Return the findings of a reading that arrived out of order; changes running `events` in place.

    A backlog is a series of its own: what is outside for an hour of it is one event, not one a minute. The event ends
    as of its last reading outside.

    Args:
        events: of the metric, at most one a side.
        metric: with its limits.
        time: of the reading (ms).
        value: of the reading.
        arrived: when it came (ms).
        is_known: an earlier reading of the same minute was outside on the same side, so that an event has it.
    """
    side = excursion_of(metric, value)
    findings = close_late(events, metric, arrived=arrived)
    for event in tuple(events):
        after = time - event.turned
        if event.side == side and event.began <= time and after <= SETTLED_MS:
            event.turned, event.arrived = max(event.turned, time), arrived
            worse = escalation(event, limits_finding(metric, value, late_at=time))
            return findings if worse is None else [*findings, replace(worse, ended=None)]
        if after >= SETTLED_MS or (after >= OFF_DELAY_MS and _is_clear(metric, value, event.side)):
            findings += _end_late(events, metric, event)
    if side and not is_known:
        for event in [event for event in events if event.side == side]:
            findings += _end_late(events, metric, event)
        finding = replace(limits_finding(metric, value, late_at=time), ended=None)
        events.append(
            LateEvent(began=time, is_critical=finding.is_critical, side=side, turned=time, value=value, arrived=arrived)
        )
        findings.append(finding)
    return findings


def close_late(events: list[LateEvent], metric: Metric, *, arrived: int) -> list[Finding]:
    """End the events of backlogs of which nothing came for ten minutes before `arrived` (ms)."""
    return [
        finding
        for event in tuple(events)
        if arrived - event.arrived >= SETTLED_MS
        for finding in _end_late(events, metric, event)
    ]


def _end_late(events: list[LateEvent], metric: Metric, event: LateEvent) -> list[Finding]:
    events.remove(event)
    words = "readings that arrived late are no longer outside the limit"
    mark = late_mark_of(event.side)
    return [end(metric, "limits", event, value=event.value, ended=event.turned, words=words, mark=mark)]


def _score(metric: Metric, value: float, side: int) -> float:
    """Return the distance outside, in widths of the allowed range (in limits, where there is only one)."""
    limit = metric.maximum if side > 0 else metric.minimum
    return 0.0 if side == 0 or limit is None else abs(value - limit) / _width(metric, limit)


def _width(metric: Metric, limit: float) -> float:
    width = abs(limit)
    if metric.minimum is not None and metric.maximum is not None:
        width = metric.maximum - metric.minimum
    return width if width > 0.0 else 1.0


def _is_clear(metric: Metric, value: float, side: int) -> bool:
    """Return whether a value is within the limit on `side` by the deadband, or that limit no longer exists."""
    limit = metric.maximum if side > 0 else metric.minimum
    return limit is None or side * (limit - value) >= DEADBAND * _width(metric, limit)


def mark_of(side: int) -> str:
    """Return the mark of events on a side of a metric's limits."""
    return "-low" if side < 0 else ""


def late_mark_of(side: int) -> str:
    """Return the mark of events of readings that arrived out of order."""
    return f"-late{mark_of(side)}"


def _reason(metric: Metric, value: float, side: int) -> str:
    if side > 0:
        return f"{metric.name} {metric.amount(value)} is above its limit of {metric.maximum:g}"
    return f"{metric.name} {metric.amount(value)} is below its limit of {metric.minimum:g}"
