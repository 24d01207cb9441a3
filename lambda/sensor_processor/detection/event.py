"""Anomaly events: their life cycle and severity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

# @@ How much an anomaly matters, by rule: so that whoever is called at night is called for what cannot wait.

WARNING = "warning"
CRITICAL = "critical"

CRITICAL_FROM = {"limits": 0.1, "context": 9.375, "baseline": 14.0, "rate": 36.0, "correlation": 36.0, "seasonal": 24.0}
"""Scores from which an anomaly is critical: a tenth of the allowed range beyond a limit; elsewhere 1.5 (context), 2
(baseline) or 3 times the score at which the detector begins an event. A stuck sensor is never critical by itself."""


def severity_of(detector: str, score: float) -> str:
    """`warning` or `critical`."""
    return CRITICAL if score >= CRITICAL_FROM.get(detector, float("inf")) else WARNING


# @@ Events of detection: one from its beginning to its end, and the three things that are told of it.
# @@
# @@ A detector that speaks while its event runs says nothing new; it is told once more if the event becomes
# @@ critical.

BEGIN = "begin"
ESCALATED = "escalated"
END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is told of an event: `metric` is strange to `detector`, as `value` shows; `reason` is in operators' words.

    `kind` is `begin`, `escalated` or `end`; the latter two say when the event began (ms), and an end when it was over,
    which is before it is told. `mark` parts events of one metric and detector that may run at one time. What begins
    with `ended` is over at once: nobody will tell its end.
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
        """Whether it cannot wait."""
        return self.severity == CRITICAL


class Event(msgspec.Struct, array_like=True):
    """A running event; times in ms. `side` is the limit that was passed (-1, 1), 0 for other detectors.

    `turned` is when it last turned: for limits the first reading within again (0 while it is outside), for context
    the last reading that was remarkable. `quiet` counts the readings since.
    """

    began: int
    is_critical: bool = False
    side: int = 0
    turned: int = 0
    quiet: int = 0


def begin(
    metric: str, detector: str, *, value: float, score: float, reason: str, mark: str = "", ended: int | None = None
) -> Finding:
    """What is told first."""
    severity = severity_of(detector, score)
    return Finding(
        metric=metric,
        detector=detector,
        value=value,
        score=score,
        reason=reason,
        severity=severity,
        mark=mark,
        ended=ended,
    )


def escalation(event: Event, finding: Finding) -> Finding | None:
    """What is told where a running event becomes critical by `finding`, which would be its beginning; once."""
    if event.is_critical or not finding.is_critical:
        return None
    event.is_critical = True
    return replace(finding, kind=ESCALATED, began=event.began)


def end(metric: str, detector: str, event: Event, *, value: float, ended: int, words: str, mark: str = "") -> Finding:
    """What is told last: the event was over at `ended`, and `value` is what shows it."""
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
