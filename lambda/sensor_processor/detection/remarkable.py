"""Events of the context detector: its scores are of single readings, and one trouble is many of them.

An event begins with a score that is told. Scores that follow while it runs belong to it. It is over when nothing has
been remarkable for a while: the metric is as before, or what was strange has become usual, which a detector that
learns cannot tell apart.
"""

from __future__ import annotations

from ..ingest.catalogue import Metric
from .event import Event, Finding, begin, end, escalation
from .threeviews import UNIVARIATE_THRESHOLD, VIEWS, ThreeViews

QUIET_READINGS = 60
"""So many readings in a row that are not remarkable end the event. Within them each view has spoken, the slowest one
five times. On the NAB files here 161 alarms become 146 events, and every window that an alarm met, an event meets
(docs/processor.md)."""


def follow_context(
    event: Event | None, metric: Metric, detector: ThreeViews, time: int, value: float, score: float
) -> tuple[Event | None, Finding | None]:
    """The event that runs after a reading of `time` (ms), and what is told."""
    if score >= UNIVARIATE_THRESHOLD:
        finding = _beginning(metric, detector, value, score)
        if event is None:
            detector.watch(True)
            return Event(began=time, is_critical=finding.is_critical, turned=time), finding
        event.turned, event.quiet = time, 0
        return event, escalation(event, finding)
    if event is None:
        return None, None
    if detector.is_remarkable:
        event.turned, event.quiet = time, 0
        return event, None
    event.quiet += 1
    if event.quiet < QUIET_READINGS:
        return event, None
    detector.watch(False)
    words = f"{metric.amount(value)}: nothing was unusual for {QUIET_READINGS} readings"
    return None, end(metric.name, "context", event, value=value, ended=event.turned, words=words)


def _beginning(metric: Metric, detector: ThreeViews, value: float, score: float) -> Finding:
    mean, deviation = detector.usual
    lately = f"lately {mean - 3 * deviation:.4g} to {mean + 3 * deviation:.4g}"
    now = metric.amount(value)
    view = VIEWS[detector.view]
    if view == "slow":
        reason = f"{metric.name} has drifted to an unusual level (now {now}; {lately})"
    elif view == "volatility":
        reason = f"{metric.name} fluctuates in an unusual way (now {now}; {lately})"
    else:
        reason = f"{metric.name} {now} is unusual for this device; {lately}"
    return begin(metric.name, "context", value=value, score=score, reason=reason)
