"""Anomaly events: begin, escalation and end, and how severe they are.

A detector that goes on reporting while its event runs adds nothing; only an escalation to critical is reported again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

BEGIN = "begin"
ESCALATED = "escalated"
END = "end"

WARNING = "warning"
CRITICAL = "critical"

CRITICAL_FROM = {"limits": 0.1, "context": 9.375, "baseline": 14.0, "rate": 36.0, "correlation": 36.0, "seasonal": 24.0}
"""Scores from which an anomaly is critical: a tenth of the allowed range beyond a limit; elsewhere 1.5 (context), 2
(baseline) or 3 times the score at which the detector begins an event. A stuck sensor is never critical by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A change of an event that is reported: `kind` is BEGIN, ESCALATED or END; `reason` is for operators.

    `began` (ms) is set on escalations and ends; `ended` (ms) is when the event was over, which is before its end is
    found. A finding of kind BEGIN with `ended` is over at once and gets no END. `mark` distinguishes concurrent events
    of one metric and detector.
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

    @property
    def is_critical(self) -> bool:
        """Return whether it needs attention at once."""
        return self.severity == CRITICAL


class Event(msgspec.Struct, array_like=True):
    """A running event; times in ms. `side` is the limit that was passed (-1, 1), 0 for other detectors.

    `turned`: for limits, the first reading back within the limit (0 while outside); for context, the last notable
    reading. `quiet` counts the readings since.
    """

    began: int
    is_critical: bool = False
    side: int = 0
    turned: int = 0
    quiet: int = 0


def severity_of(detector: str, score: float) -> str:
    """Return `warning` or `critical`."""
    return CRITICAL if score >= CRITICAL_FROM.get(detector, float("inf")) else WARNING


def begin(
    metric: str, detector: str, *, value: float, score: float, reason: str, mark: str = "", ended: int | None = None
) -> Finding:
    """Make the finding of an event that begins."""
    return Finding(
        metric=metric,
        detector=detector,
        value=value,
        score=score,
        reason=reason,
        severity=severity_of(detector, score),
        mark=mark,
        ended=ended,
    )


def escalation(event: Event, finding: Finding) -> Finding | None:
    """Make the one finding that escalates a running event, where `finding` is the first critical one in it."""
    if event.is_critical or not finding.is_critical:
        return None
    event.is_critical = True
    return replace(finding, kind=ESCALATED, began=event.began)


def end(metric: str, detector: str, event: Event, *, value: float, ended: int, words: str, mark: str = "") -> Finding:
    """Make the finding of an event that was over at `ended` (ms), as `value` shows."""
    return Finding(
        metric=metric,
        detector=detector,
        value=value,
        score=0.0,
        reason=f"{metric} {words}",
        kind=END,
        severity=CRITICAL if event.is_critical else WARNING,
        began=event.began,
        ended=ended,
        mark=mark,
    )
