"""All detectors of one device: feed each new reading to those of its metrics and collect the findings."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..ingest.catalogue import Metric
from .context import UNIVARIATE_THRESHOLD, ContextDetector, follow_context
from .event import Event, Finding, begin, end
from .group import Group, groups_of
from .limits import follow_limits
from .single import SINGLES, Single
from .state import (
    STATE_VERSION,
    DeviceState,
    MetricState,
    StateError,
    pack_context,
    pack_device,
    unpack_context,
    unpack_device,
)

BEFORE_ALL = (-1, -1)
"""Sorts before the order of every reading."""


class Channel:
    """One metric of a device: its limits, its own detector if it names one, and the running events of both."""

    __slots__ = ("context", "event", "excursions", "maximum", "metric", "minimum", "single")

    def __init__(self, metric: Metric, *, context: ContextDetector | None = None) -> None:
        self.metric = metric
        self.minimum = -math.inf if metric.minimum is None else metric.minimum
        self.maximum = math.inf if metric.maximum is None else metric.maximum
        self.excursions: list[Event] = []
        self.event: Event | None = None
        self.context = context
        if context is None and metric.detector == "context":
            self.context = ContextDetector()
        self.single: Single | None = SINGLES[metric.detector]() if metric.detector in SINGLES else None

    def state(self) -> MetricState:
        """Make the state for `restored`."""
        return MetricState(
            excursions=self.excursions,
            context=b"" if self.context is None else pack_context(self.context),
            single="" if self.single is None else self.metric.detector,
            numbers=[] if self.single is None else self.single.state(),
            event=self.event,
        )

    @classmethod
    def restored(cls, metric: Metric, state: MetricState) -> Channel:
        """Continue from `state`, without the state of a detector that the metric no longer names. Raises StateError."""
        has_context = bool(state.context) and metric.detector == "context"
        channel = cls(metric, context=unpack_context(state.context) if has_context else None)
        channel.excursions = state.excursions
        if channel.context is not None and has_context:
            channel.event = state.event
        if channel.single is not None and state.single == metric.detector:
            channel.event = state.event
            try:
                channel.single.restore(state.numbers)
            except ValueError as error:
                raise StateError(f"the {state.single} detector of {metric.name}: {error}") from error
        return channel

    def follow_single(self, single: Single, time: int, value: float, score: float) -> list[Finding]:
        """Return the findings of a reading of `time` (ms) that `single` scored."""
        findings = []
        metric, event = self.metric, self.event
        if event is not None and not single.is_on:
            words = f"{metric.amount(value)} is as usual again"
            findings.append(end(metric.name, metric.detector, event, value=value, ended=time, words=words))
            self.event = None
        if score:
            reason = f"{metric.name} {metric.amount(value)} {single.words}"
            finding = begin(metric.name, metric.detector, value=value, score=score, reason=reason)
            self.event = Event(began=time, is_critical=finding.is_critical)
            findings.append(finding)
        return findings


class DeviceDetectors:
    """The detectors of one device, made as metrics arrive; `newest` is the order of the newest reading learned."""

    __slots__ = ("_channels", "_groups", "newest")

    def __init__(self) -> None:
        self.newest: tuple[int, int] = BEFORE_ALL
        self._channels: dict[str, Channel] = {}
        self._groups: tuple[Group, ...] | None = None

    def learn(
        self, order: tuple[int, int], values: Mapping[str, float], *, metrics: Mapping[str, Metric]
    ) -> list[Finding]:
        """Learn a reading by its order and values.

        Args:
            order: time (ms) and sequence number.
            values: by metric; metrics that are not in `metrics` are ignored.
            metrics: of the device type.

        Returns:
            What begins, escalates or ends with this reading.

        Raises:
            ValueError: the reading is older than one before.
        """
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
            if side or channel.excursions:
                findings += follow_limits(channel.excursions, channel.metric, order[0], value, side)
            detector = channel.context
            if detector is not None:
                score = detector.update(value)
                if score >= UNIVARIATE_THRESHOLD or channel.event is not None:
                    channel.event, finding = follow_context(
                        channel.event, channel.metric, detector, order[0], value, score
                    )
                    if finding is not None:
                        findings.append(finding)
            elif channel.single is not None:
                score = channel.single.update(order[0], value)
                if score or channel.event is not None:
                    findings += channel.follow_single(channel.single, order[0], value, score)
        for group in self._groups:
            finding = group.update(order[0], values)
            if finding is not None:
                findings.append(finding)
        return findings

    def pack(self) -> bytes:
        """Pack the state for the device item, for `unpack_detectors`."""
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
    """Unpack detectors, without those that the catalogue no longer names. Raises StateError."""
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
