"""How much an anomaly matters, by rule: so that whoever is called at night is called for what cannot wait."""

from __future__ import annotations

from . import correlation, shift
from .single import Rate, Seasonal
from .threeviews import UNIVARIATE_THRESHOLD

WARNING = "warning"
CRITICAL = "critical"

CRITICAL_FROM = {
    "limits": 0.1,
    "context": 1.5 * UNIVARIATE_THRESHOLD,
    "baseline": 2 * shift.ON,
    "rate": 3 * Rate.ON,
    "correlation": 3 * correlation.ON,
    "seasonal": 3 * Seasonal.ON,
}
"""Scores from which an anomaly is critical: a tenth of the allowed range beyond a limit, or far above what the detector
needs to speak. A sensor that is stuck is never critical by itself."""


def severity_of(detector: str, score: float) -> str:
    """`warning` or `critical`."""
    return CRITICAL if score >= CRITICAL_FROM.get(detector, float("inf")) else WARNING
