"""Anomaly events: begin, escalation and end, and how severe they are.

A detector that goes on reporting while its event runs adds nothing; only an escalation to critical is reported again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from ..ingest.catalogue import Metric

BEGIN = "begin"
ESCALATED = "escalated"
END = "end"

WARNING = "warning"
CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A change of an event that is reported: `kind` is BEGIN, ESCALATED or END; `reason` is for operators.

    `began` (ms) is set on escalations and ends; `ended` (ms) is when the event was over, which is before its end is
    found. A finding of kind BEGIN with `ended` is over at once and gets no END. `mark` distinguishes concurrent events
    of one metric and detector. `time` (ms) is that of its reading, where it is reported with a later one. `of` is the
    metric that the event began with, where an escalation is of another one. `regime` is what the machine was doing:
    metrics that the value was expected from, with theirs; `together` are others that are as unusual and not reported
    by themselves.
    """

    metric: str
    detector: str
    value: float
    score: float
    reason: str
    kind: str = BEGIN
    severity: str = WARNING
    began: int | None = None
    ended: int | None = None
    mark: str = ""
    unit: str = ""
    time: int | None = None
    of: str = ""
    regime: tuple[tuple[str, float], ...] = ()
    together: tuple[str, ...] = ()

    @property
    def event(self) -> tuple[str, str, str]:
        """Return what one event at a time has: metric, detector and mark."""
        return self.of or self.metric, self.detector, self.mark

    @property
    def is_critical(self) -> bool:
        """Return whether it needs attention at once."""
        return self.severity == CRITICAL


class Event(msgspec.Struct, array_like=True):
    """A running event; times in ms. `side` is the limit that was passed (-1, 1), 0 for other detectors.

    `turned`: for limits, the first reading back within the limit (0 while outside); for context, the last notable
    reading. `quiet` counts the readings since. `value` is that of the reading that began it.
    """

    began: int
    is_critical: bool = False
    side: int = 0
    turned: int = 0
    quiet: int = 0
    value: float = 0.0


class Running(msgspec.Struct, array_like=True):
    """A running event as every version of the state has it, so that one that cannot read the rest can end it."""

    metric: str
    detector: str
    mark: str
    unit: str
    event: Event

    def closed(self, words: str, *, at: int) -> Finding:
        """Make the end of an event that nothing watches any more; `at` (ms) is the last reading that was watched."""
        metric = Metric(name=self.metric, unit=self.unit, minimum=None, maximum=None, detector=self.detector)
        event = self.event
        found = end(metric, self.detector, event, value=event.value, ended=at, words=words, mark=self.mark)
        return replace(found, time=max(at, event.began))


def begin(
    metric: Metric,
    detector: str,
    *,
    value: float,
    score: float,
    reason: str,
    is_critical: bool = False,
    mark: str = "",
    ended: int | None = None,
) -> Finding:
    """Make the finding of an event that begins; only limits, and trends to a limit, are critical."""
    return Finding(
        metric=metric.name,
        unit=metric.unit,
        detector=detector,
        value=value,
        score=score,
        reason=reason,
        severity=CRITICAL if is_critical else WARNING,
        mark=mark,
        ended=ended,
    )


def escalation(event: Event, finding: Finding) -> Finding | None:
    """Make the one finding that escalates a running event, where `finding` is the first critical one in it."""
    if event.is_critical or not finding.is_critical:
        return None
    event.is_critical = True
    return replace(finding, kind=ESCALATED, began=event.began)


def end(
    metric: Metric, detector: str, event: Event, *, value: float, ended: int, words: str, mark: str = ""
) -> Finding:
    """Make the finding of an event that was over at `ended` (ms), as `value` shows."""
    return Finding(
        metric=metric.name,
        unit=metric.unit,
        detector=detector,
        value=value,
        score=0.0,
        reason=f"{metric.name} {words}",
        kind=END,
        severity=CRITICAL if event.is_critical else WARNING,
        began=event.began,
        # Not before it began, which it may where the device's clock was set back.
        ended=max(ended, event.began),
        mark=mark,
    )


def deferred(findings: Iterable[Finding]) -> list[Finding]:
    """Shorten findings that wait to be reported, in order, to a few of each metric, detector and mark.

    An event that is over before its begin was reported becomes a begin with its end; several such in a row become one.
    """
    kept: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        same = kept.setdefault(finding.event, [])
        last = next((place for place, each in enumerate(same) if each.kind == BEGIN and each.ended is None), None)
        if finding.kind == END and last is not None and same[last].time == finding.began:
            finding = replace(same[last], ended=finding.ended, severity=finding.severity)
            del same[last:]
        if finding.kind == BEGIN and finding.ended is not None and same and same[-1].ended is not None:
            before = same[-1]
            if before.kind == BEGIN:
                worse = finding if finding.is_critical else before
                same[-1] = replace(before, ended=max(before.ended or 0, finding.ended), severity=worse.severity)
                continue
        same.append(finding)
    return [finding for same in kept.values() for finding in same]
