"""The detectors of one device: feeds each new reading to its metrics' detectors and tells what they found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sensor_processor.catalogue import Metric
from sensor_processor.detection.limits import excursion_of, limits_reason, limits_score
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


class DeviceDetectors:
    """Static limits for every metric and a context detector for those that name one."""

    __slots__ = ("_contexts", "_excursions", "newest")

    def __init__(self) -> None:
        self.newest: tuple[int, int] = BEFORE_ALL
        self._excursions: dict[str, int] = {}
        self._contexts: dict[str, ThreeViews] = {}

    def feed(self, reading: Reading, *, metrics: Mapping[str, Metric]) -> list[Finding]:
        """What is strange in a reading that is newer than all before; raises ValueError for another."""
        if reading.order < self.newest:
            raise ValueError("detectors take readings in order")
        self.newest = reading.order
        findings: list[Finding] = []
        for name, value in reading.metrics.items():
            metric = metrics.get(name)
            if metric is None:
                continue
            side = excursion_of(metric, value)
            # One anomaly an excursion, at its start.
            if side != self._excursions.get(name, 0):
                self._excursions[name] = side
                if side:
                    findings.append(limits_finding(metric, value))
            if metric.detector == "context":
                findings += self._feed_context(metric, value)
        return findings

    def _feed_context(self, metric: Metric, value: float) -> list[Finding]:
        detector = self._contexts.get(metric.name)
        if detector is None:
            detector = self._contexts[metric.name] = ThreeViews()
        usual, spread = detector.mean, 3 * detector.deviation
        score = detector.update(value)
        if score < UNIVARIATE_THRESHOLD:
            return []
        reason = _context_reason(metric, value, view=VIEWS[detector.view], usual=usual, spread=spread)
        return [Finding(metric=metric.name, detector="context", value=value, score=score, reason=reason)]

    def pack(self) -> bytes:
        """The state that `unpack_detectors` continues from, for the device item."""
        names = self._excursions.keys() | self._contexts.keys()
        return pack_device(
            DeviceState(
                version=STATE_VERSION,
                newest_time=self.newest[0],
                newest_sequence=self.newest[1],
                metrics={
                    name: MetricState(
                        excursion=self._excursions.get(name, 0),
                        context=pack_context(self._contexts[name]) if name in self._contexts else b"",
                    )
                    for name in sorted(names)
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
        detectors._excursions[name] = known.excursion
        if known.context and metric.detector == "context":
            detectors._contexts[name] = unpack_context(known.context)
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
