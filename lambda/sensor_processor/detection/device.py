"""The detectors of one device: feeds each new reading to its metrics' detectors and tells what they found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sensor_processor.catalogue import Metric
from sensor_processor.detection.group import Group, groups_of
from sensor_processor.detection.limits import limits_reason, limits_score
from sensor_processor.detection.single import SINGLES, Single
from sensor_processor.detection.state import (
    STATE_VERSION,
    DeviceState,
    MetricState,
    StateError,
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
    """An anomaly: the reading's `value` of `metric` is strange to `detector`; `reason` is in an operator's words.

    With `began` (ms) it is the end of the event that began then, and `value` the first that is as usual again.
    """

    metric: str
    detector: str
    value: float
    score: float
    reason: str
    began: int | None = None


class Channel:
    """What is known of one metric: its limits at hand, the side of a running excursion and its own detector."""

    __slots__ = ("began", "context", "excursion", "limits_began", "maximum", "metric", "minimum", "single")

    def __init__(self, metric: Metric, *, excursion: int = 0, context: ThreeViews | None = None) -> None:
        self.metric = metric
        self.minimum = -math.inf if metric.minimum is None else metric.minimum
        self.maximum = math.inf if metric.maximum is None else metric.maximum
        self.excursion = excursion
        self.limits_began = self.began = 0
        self.context = context
        if context is None and metric.detector == "context":
            self.context = ThreeViews()
        self.single: Single | None = SINGLES[metric.detector]() if metric.detector in SINGLES else None

    def state(self) -> MetricState:
        """What `restored` goes on from."""
        return MetricState(
            excursion=self.excursion,
            context=b"" if self.context is None else pack_context(self.context),
            single="" if self.single is None else self.metric.detector,
            numbers=[] if self.single is None else self.single.state(),
            limits_began=self.limits_began,
            began=self.began,
        )

    @classmethod
    def restored(cls, metric: Metric, state: MetricState) -> Channel:
        """A channel that goes on from `state`, as far as the metric still has the detector. Raises StateError."""
        has_context = bool(state.context) and metric.detector == "context"
        channel = cls(metric, excursion=state.excursion, context=unpack_context(state.context) if has_context else None)
        channel.limits_began = state.limits_began
        if channel.single is not None and state.single == metric.detector:
            channel.began = state.began
            try:
                channel.single.restore(state.numbers)
            except ValueError as error:
                raise StateError(f"the {state.single} detector of {metric.name}: {error}") from error
        return channel


class DeviceDetectors:
    """Static limits for every metric, and for each the detector that it names."""

    __slots__ = ("_channels", "_groups", "newest")

    def __init__(self) -> None:
        self.newest: tuple[int, int] = BEFORE_ALL
        self._channels: dict[str, Channel] = {}
        self._groups: tuple[Group, ...] | None = None

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
        if self._groups is None:
            self._groups = groups_of(metrics)
        for name, value in values.items():
            channel = channels.get(name)
            if channel is None:
                if name not in metrics:
                    continue
                channel = channels[name] = Channel(metrics[name])
            side = 0 if channel.minimum <= value <= channel.maximum else 1 if value > channel.maximum else -1
            # One anomaly an excursion, at its start.
            if side != channel.excursion:
                if channel.excursion and channel.limits_began:
                    findings.append(_ending(name, "limits", value, channel.limits_began))
                channel.excursion = side
                channel.limits_began = order[0] if side else 0
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
            elif channel.single is not None:
                score = channel.single.update(order[0], value)
                if channel.began and not channel.single.is_on:
                    findings.append(_ending(name, channel.metric.detector, value, channel.began))
                    channel.began = 0
                if score:
                    channel.began = order[0]
                    findings.append(_single_finding(channel, channel.single, value, score))
        for group in self._groups:
            ended = group.began
            found = group.update(order[0], values)
            if ended and not group.began:
                name = group.metric
                findings.append(_ending(name, group.name, values[name], ended))
            if found is not None:
                name, score, reason = found
                findings.append(
                    Finding(metric=name, detector=group.name, value=values[name], score=score, reason=reason)
                )
        return findings

    def pack(self) -> bytes:
        """The state that `unpack_detectors` continues from, for the device item."""
        return pack_device(
            DeviceState(
                version=STATE_VERSION,
                newest_time=self.newest[0],
                newest_sequence=self.newest[1],
                metrics={name: channel.state() for name, channel in sorted(self._channels.items())},
                groups={group.name: group.state() for group in self._groups or ()},
            )
        )


def unpack_detectors(packed: bytes, *, metrics: Mapping[str, Metric]) -> DeviceDetectors:
    """The detectors that were packed, without those that the catalogue no longer wants. Raises StateError."""
    state = unpack_device(packed)
    detectors = DeviceDetectors()
    detectors.newest = (state.newest_time, state.newest_sequence)
    for name, known in state.metrics.items():
        metric = metrics.get(name)
        if metric is not None:
            detectors._channels[name] = Channel.restored(metric, known)
    detectors._groups = groups_of(metrics)
    for group in detectors._groups:
        if group.name in state.groups:
            try:
                group.restore(state.groups[group.name])
            except (ValueError, TypeError) as error:
                raise StateError(f"the {group.name} detector: {error}") from error
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


def _ending(metric: str, detector: str, value: float, began: int) -> Finding:
    return Finding(metric=metric, detector=detector, value=value, score=0.0, reason="as usual again", began=began)


def _single_finding(channel: Channel, detector: Single, value: float, score: float) -> Finding:
    metric = channel.metric
    reason = f"{metric.name} {metric.amount(value)} {detector.words}"
    return Finding(metric=metric.name, detector=metric.detector, value=value, score=score, reason=reason)


def _context_reason(metric: Metric, value: float, *, view: str, usual: float, spread: float) -> str:
    reading = f"{metric.name} {metric.amount(value)}"
    expected = f"{usual - spread:.4g} to {usual + spread:.4g}"
    if view == "slow":
        return f"{metric.name} has drifted to an unusual level (now {metric.amount(value)}; lately {expected})"
    if view == "volatility":
        return f"{metric.name} fluctuates in an unusual way (now {metric.amount(value)}; lately {expected})"
    return f"{reading} is unusual for this device; lately {expected}"
