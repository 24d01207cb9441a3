"""Static limits of a metric, the safety floor: an event begins at the first reading outside, and does not flap.

Limits are held to as alarms of a plant are: no delay before the alarm, and to end it a deadband and an off-delay, so
that a value which hovers at its limit is one alarm. EEMUA 191 has deadbands of 1 to 5 % of the range to begin with;
both are ISA-18.2's and OPC UA's means: https://reference.opcfoundation.org/Core/Part9/v105/docs/B.1.5
"""

from __future__ import annotations

from ..ingest.catalogue import Metric
from .event import Event, Finding, begin, end, escalation

DEADBAND = 0.02
"""How far within its limit a value has to be to end the event soon: this part of the allowed range."""

OFF_DELAY_MS = 60_000
"""How long it has to stay within, for an event to end. Readings come every ten seconds, usually."""

SETTLED_MS = 600_000
"""How long it has to stay within where it stays in the deadband: a machine may well run just below its limit."""


def excursion_of(metric: Metric, value: float) -> int:
    """1 above the maximum, -1 below the minimum, 0 within; a value at its limit is within."""
    if metric.maximum is not None and value > metric.maximum:
        return 1
    if metric.minimum is not None and value < metric.minimum:
        return -1
    return 0


def limits_finding(metric: Metric, value: float, *, late_at: int | None = None) -> Finding:
    """The anomaly of a value outside its limits; with `late_at` (ms) that of a reading of then, which came late."""
    side = excursion_of(metric, value)
    return begin(
        metric.name,
        "limits",
        value=value,
        score=_score(metric, value, side),
        reason=_reason(metric, value, side),
        mark=("" if late_at is None else "-late") + _mark(side),
        ended=late_at,
    )


def follow_limits(events: list[Event], metric: Metric, time: int, value: float, side: int) -> list[Finding]:
    """What a reading of `time` (ms) on `side` of its limits tells; `events` that run are changed in place."""
    told = []
    for event in tuple(events):
        if event.side == side:
            event.turned = 0
            worse = escalation(event, limits_finding(metric, value))
            if worse is not None:
                told.append(worse)
            continue
        if not event.turned:
            event.turned = time
        within = time - event.turned
        if within >= SETTLED_MS or (within >= OFF_DELAY_MS and _is_clear(metric, value, event.side)):
            events.remove(event)
            words = f"{metric.amount(value)} is within its limit again"
            mark = _mark(event.side)
            told.append(end(metric.name, "limits", event, value=value, ended=event.turned, words=words, mark=mark))
    if side and all(event.side != side for event in events):
        finding = limits_finding(metric, value)
        events.append(Event(began=time, is_critical=finding.is_critical, side=side))
        told.append(finding)
    return told


def _score(metric: Metric, value: float, side: int) -> float:
    """How far outside the value is, in widths of the allowed range (or of the limit, where there is only one)."""
    limit = metric.maximum if side > 0 else metric.minimum
    return 0.0 if side == 0 or limit is None else abs(value - limit) / _width(metric, limit)


def _width(metric: Metric, limit: float) -> float:
    width = abs(limit)
    if metric.minimum is not None and metric.maximum is not None:
        width = metric.maximum - metric.minimum
    return width if width > 0.0 else 1.0


def _is_clear(metric: Metric, value: float, side: int) -> bool:
    """Whether a value is within the limit on `side` by its deadband; also where that limit is no more."""
    limit = metric.maximum if side > 0 else metric.minimum
    return limit is None or side * (limit - value) >= DEADBAND * _width(metric, limit)


def _mark(side: int) -> str:
    """High and low are alarms of their own."""
    return "-low" if side < 0 else ""


def _reason(metric: Metric, value: float, side: int) -> str:
    """For the operator: `temperature 97.2 celsius is above its limit of 95`."""
    if side > 0:
        return f"{metric.name} {metric.amount(value)} is above its limit of {metric.maximum:g}"
    return f"{metric.name} {metric.amount(value)} is below its limit of {metric.minimum:g}"
