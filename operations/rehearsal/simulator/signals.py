"""Believable signals of one machine, sample by sample, with at most one injected anomaly. Pure and seeded.

A metric works in a band in the middle of its limits: a machine cycle, a slow drift and autocorrelated noise.
Metrics whose name ends like a counter's only ever rise. The same seed and thing give the same samples.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from fleet_iot.lib.specs import DeviceTypeSpec, MetricSpec

_COUNTER_ENDINGS = ("_count", "_total", "_hours")
_BAND = 0.10
"""Half the working band's width, as a share of the span between the limits."""
_NOISE = 0.012
_NOISE_MEMORY = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """One anomaly: `metric` leaves its working band for the samples `first` to `last` (inclusive)."""

    metric: str
    within_limits: bool
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    low: float
    span: float
    centre: float
    period: float
    phase: float
    excursion: float
    is_counter: bool


def is_counter(metric: MetricSpec) -> bool:
    """Whether the metric counts up for ever and so cannot show an excursion."""
    return metric.name.endswith(_COUNTER_ENDINGS)


def limits_of(metric: MetricSpec) -> tuple[float, float]:
    """Low and high limit in the metric's unit; an open side is taken as 0, or one span of 100 away."""
    low = metric.minimum if metric.minimum is not None else min(0.0, (metric.maximum or 0.0) - 100.0)
    if metric.minimum is None and (metric.maximum or 0.0) > 0:
        low = 0.0
    high = metric.maximum if metric.maximum is not None else low + 100.0
    return low, high


def plan_injection(
    device_type: DeviceTypeSpec, *, rng: random.Random, samples: int, warm_up: int, within_limits: bool
) -> Injection | None:
    """An anomaly somewhere after the detectors' warm-up, or None where the run is too short for one.

    One within the limits needs a metric with an adaptive detector; a breach needs any metric with a limit.
    """
    metrics = [
        metric
        for metric in device_type.metrics
        if not is_counter(metric) and (metric.detector != "limits" or not within_limits)
    ]
    length = rng.randint(5, 8)
    latest = samples - length - 1
    earliest = warm_up if within_limits else min(warm_up, latest)
    if not metrics or latest < earliest or latest < 1:
        return None
    first = rng.randint(earliest, latest)
    return Injection(metric=rng.choice(metrics).name, within_limits=within_limits, first=first, last=first + length - 1)


def samples_of(
    device_type: DeviceTypeSpec, *, rng: random.Random, injection: Injection | None
) -> Iterator[dict[str, float]]:
    """Metric name → value in its unit, one dict a sample, without end."""
    shapes = {metric.name: _shape(metric, rng, injection) for metric in device_type.metrics}
    noise = dict.fromkeys(shapes, 0.0)
    counts = {name: float(rng.randint(0, 5_000)) for name in shapes}
    index = 0
    while True:
        values: dict[str, float] = {}
        for name, shape in shapes.items():
            noise[name] = _NOISE_MEMORY * noise[name] + rng.gauss(0.0, _NOISE)
            if shape.is_counter:
                counts[name] += rng.randint(0, 2)
                values[name] = counts[name]
            elif injection is not None and injection.metric == name and injection.first <= index <= injection.last:
                values[name] = round(shape.low + shape.span * (shape.excursion + 0.2 * noise[name]), 3)
            else:
                cycle = _BAND * math.sin(2 * math.pi * index / shape.period + shape.phase)
                share = min(0.85, max(0.15, shape.centre + cycle + noise[name]))
                values[name] = round(shape.low + shape.span * share, 3)
        yield values
        index += 1


def _shape(metric: MetricSpec, rng: random.Random, injection: Injection | None) -> _Shape:
    low, high = limits_of(metric)
    within = injection is None or injection.within_limits
    excursion = rng.uniform(0.90, 0.94) if within else rng.uniform(1.08, 1.25)
    if metric.maximum is None:
        excursion = 1.0 - excursion  # only its lower limit exists, so it leaves downwards
    return _Shape(
        low=low,
        span=high - low,
        centre=rng.uniform(0.44, 0.54),
        period=rng.uniform(14.0, 30.0),
        phase=rng.uniform(0.0, 2 * math.pi),
        excursion=excursion,
        is_counter=is_counter(metric),
    )
