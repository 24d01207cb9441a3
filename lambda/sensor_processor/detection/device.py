"""The detectors of one device: feeds each new reading to its metrics' detectors and tells what they found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sensor_processor.catalogue import Metric
from sensor_processor.detection.limits import limits_reason, limits_score
from sensor_processor.detection.state import (
    STATE_VERSION,
    DeviceState,
    MetricState,
    pack_context,
    pack_device,
    unpack_context,
    unpack_device,
)
from sensor_processor.detection.threeviews import UNIVARIATE_THRESHOLD, VIEWS, ThreeViews
from sensor_processor.reading import Reading

BEFORE_ALL = (-1, -1)
"""The place before every reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An anomaly: the reading's `value` of `metric` is strange to `detector`; `reason` is in an operator's words."""

    metric: str
    detector: str
    value: float
    score: float
    reason: str


class Channel:
    """What is known of one metric: its limits at hand, the side of a running excursion and its context detector."""

    __slots__ = ("context", "excursion", "maximum", "metric", "minimum")

    def __init__(self, metric: Metric, *, excursion: int = 0, context: ThreeViews | None = None) -> None:
        self.metric = metric
        self.minimum = -math.inf if metric.minimum is None else metric.minimum
        self.maximum = math.inf if metric.maximum is None else metric.maximum
        self.excursion = excursion
        self.context = context
        if context is None and metric.detector == "context":
            self.context = ThreeViews()


class DeviceDetectors:
    """Static limits for every metric and a context detector for those that name one."""

    __slots__ = ("_channels", "newest")

    def __init__(self) -> None:
        self.newest: tuple[int, int] = BEFORE_ALL
        self._channels: dict[str, Channel] = {}

    def feed(self, reading: Reading, *, metrics: Mapping[str, Metric]) -> list[Finding]:
        """What is strange in a reading that is newer than all before; raises ValueError for another."""
        return self.learn(reading.order, reading.metrics, metrics=metrics)

    def learn(
        self, order: tuple[int, int], values: Mapping[str, float], *, metrics: Mapping[str, Metric]
    ) -> list[Finding]:
        """The same for a reading's place and values alone, as a history has them."""
        if order < self.newest:
            raise ValueError("detectors take readings in order")
        self.newest = order
        findings: list[Finding] = []
        channels = self._channels
        for name, value in values.items():
            channel = channels.get(name)
            if channel is None:
                if name not in metrics:
                    continue
                channel = channels[name] = Channel(metrics[name])
            side = 0 if channel.minimum <= value <= channel.maximum else 1 if value > channel.maximum else -1
            # One anomaly an excursion, at its start.
            if side != channel.excursion:
                channel.excursion = side
                if side:
                    findings.append(limits_finding(channel.metric, value))
            detector = channel.context
            if detector is not None:
                usual, deviation = detector.mean, detector.deviation
                score = detector.update(value)
                if score >= UNIVARIATE_THRESHOLD:
                    view = VIEWS[detector.view]
                    reason = _context_reason(channel.metric, value, view=view, usual=usual, spread=3 * deviation)
                    findings.append(Finding(metric=name, detector="context", value=value, score=score, reason=reason))
        return findings

    def pack(self) -> bytes:
        """The state that `unpack_detectors` continues from, for the device item."""
        return pack_device(
            DeviceState(
                version=STATE_VERSION,
                newest_time=self.newest[0],
                newest_sequence=self.newest[1],
                metrics={
                    name: MetricState(
                        excursion=channel.excursion,
                        context=b"" if channel.context is None else pack_context(channel.context),
                    )
                    for name, channel in sorted(self._channels.items())
                },
            )
        )


def unpack_detectors(packed: bytes, *, metrics: Mapping[str, Metric]) -> DeviceDetectors:
    """The detectors that were packed, without those that the catalogue no longer wants. Raises StateError."""
    state = unpack_device(packed)
    detectors = DeviceDetectors()
    detectors.newest = (state.newest_time, state.newest_sequence)
    for name, known in state.metrics.items():
        metric = metrics.get(name)
        if metric is None:
            continue
        has_context = bool(known.context) and metric.detector == "context"
        detectors._channels[name] = Channel(
            metric, excursion=known.excursion, context=unpack_context(known.context) if has_context else None
        )
    return detectors


def limits_finding(metric: Metric, value: float) -> Finding:
    """The anomaly of a value outside its limits."""
    return Finding(
        metric=metric.name,
        detector="limits",
        value=value,
        score=limits_score(metric, value),
        reason=limits_reason(metric, value),
    )


def _context_reason(metric: Metric, value: float, *, view: str, usual: float, spread: float) -> str:
    reading = f"{metric.name} {value:g} {metric.unit}"
    expected = f"{usual - spread:.4g} to {usual + spread:.4g}"
    if view == "slow":
        return f"{metric.name} has drifted to an unusual level (now {value:g} {metric.unit}; lately {expected})"
    if view == "volatility":
        return f"{metric.name} fluctuates in an unusual way (now {value:g} {metric.unit}; lately {expected})"
    return f"{reading} is unusual for this device; lately {expected}"
