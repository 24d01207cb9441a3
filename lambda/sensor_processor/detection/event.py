"""Events of detection: one from its beginning to its end, and the three things that are told of it.

A detector that speaks while its event runs says nothing new; it is told once more if the event becomes critical.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from .severity import CRITICAL, WARNING, severity_of

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
