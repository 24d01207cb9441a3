"""Static limits of a metric, the safety floor: outside which one a value lies, how far, and that in words."""

from __future__ import annotations

from sensor_processor.catalogue import Metric


def excursion_of(metric: Metric, value: float) -> int:
    """1 above the maximum, -1 below the minimum, 0 within; a value at its limit is within."""
    if metric.maximum is not None and value > metric.maximum:
        return 1
    if metric.minimum is not None and value < metric.minimum:
        return -1
    return 0


def limits_score(metric: Metric, value: float) -> float:
    """How far outside the value is, in widths of the allowed range (or of the limit, where there is only one)."""
    side = excursion_of(metric, value)
    limit = metric.maximum if side > 0 else metric.minimum
    if side == 0 or limit is None:
        return 0.0
    width = abs(limit)
    if metric.minimum is not None and metric.maximum is not None:
        width = metric.maximum - metric.minimum
    return abs(value - limit) / (width if width > 0.0 else 1.0)


def limits_reason(metric: Metric, value: float) -> str:
    """For the operator: `temperature 97.2 celsius is above its limit of 95`."""
    if excursion_of(metric, value) > 0:
        return f"{metric.name} {metric.amount(value)} is above its limit of {metric.maximum:g}"
    return f"{metric.name} {metric.amount(value)} is below its limit of {metric.minimum:g}"
