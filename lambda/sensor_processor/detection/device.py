"""All detectors of one device: feed each new reading to those of its metrics and collect the findings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from ..ingest.catalogue import Metric
from .context import UNIVARIATE_THRESHOLD, ContextDetector, follow_context
from .event import Event, Finding, Running, begin, deferred, end
from .group import Group, groups_of
from .limits import (
    LateEvent,
    close_late,
    excursion_of,
    follow_late,
    follow_limits,
    late_mark_of,
    limits_finding,
    mark_of,
)
from .machine import MACHINE, Machine, machine_of
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

JUMP_MS = 30_000
CLOCK_MS = 10_000
LIVE_MS = 60_000
"""A clock that is so much further ahead than at the reading before has jumped. A reading is of now if its time is at
most CLOCK_MS ahead of and LIVE_MS behind its arrival."""

MOST_FINDINGS = 1_000
"""Findings that are reported with one reading; the rest waits for the next one."""


class Channel:
    """One metric of a device: its limits, its own detector if it names one, and the running events of both."""

    __slots__ = ("context", "event", "excursions", "late", "maximum", "metric", "minimum", "single")

    def __init__(self, metric: Metric, *, context: ContextDetector | None = None) -> None:
        self.metric = metric
        self.minimum = -math.inf if metric.minimum is None else metric.minimum
        self.maximum = math.inf if metric.maximum is None else metric.maximum
        self.excursions: list[Event] = []
        self.late: list[LateEvent] = []
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
            unit=self.metric.unit,
            late=self.late,
        )

    @classmethod
    def restored(cls, metric: Metric, state: MetricState) -> Channel:
        """Continue from `state`, without the state of a detector that the metric no longer names. Raises StateError."""
        has_context = bool(state.context) and metric.detector == "context"
        channel = cls(metric, context=unpack_context(state.context) if has_context else None)
        channel.excursions, channel.late = state.excursions, state.late
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
            findings.append(end(metric, metric.detector, event, value=value, ended=time, words=words))
            self.event = None
        if score:
            reason = f"{metric.name} {metric.amount(value)} {single.words}"
            finding = begin(metric, metric.detector, value=value, score=score, reason=reason)
            self.event = Event(began=time, value=value)
            findings.append(finding)
        return findings


class DeviceDetectors:
    """The detectors of one device, made as metrics arrive.

    `newest` is the order of the newest reading learned, `deferred` are findings that are reported with later readings.
    """

    __slots__ = ("_ahead", "_channels", "_groups", "_has_late", "_machine", "_metrics", "deferred", "newest")

    def __init__(self) -> None:
        self.newest: tuple[int, int] = BEFORE_ALL
        self.deferred: list[Finding] = []
        self._ahead = 0
        self._has_late = False
        self._channels: dict[str, Channel] = {}
        self._groups: tuple[Group, ...] = ()
        self._machine: Machine | None = None
        self._metrics: Mapping[str, Metric] | None = None

    @property
    def learned_days(self) -> float | None:
        """Return how many days the machine detector has learned; None where there is none."""
        return None if self._machine is None else self._machine.learned_days

    def is_in_order(self, order: tuple[int, int], *, ahead: int | None = None) -> bool:
        """Return whether a reading is the next one of the device's series, to be learned.

        One message of a clock that jumped ahead is not: it would make all others late until they catch up. Where the
        clock stays ahead, the second one is; where it is set back, the first reading that is of now is.

        Args:
            order: time (ms) and sequence number.
            ahead: how far (ms) its time is ahead of its arrival; None where there is no arrival: then order decides.
        """
        if ahead is None:
            return order >= self.newest
        if order >= self.newest:
            return ahead <= self._ahead + JUMP_MS
        is_of_now = -LIVE_MS <= ahead <= CLOCK_MS
        return is_of_now and self.newest[0] > order[0] - ahead + CLOCK_MS

    def check_late(
        self,
        order: tuple[int, int],
        values: Mapping[str, float],
        *,
        metrics: Mapping[str, Metric],
        ahead: int,
        known: Mapping[str, tuple[float, float]],
        most: int = MOST_FINDINGS,
    ) -> Sequence[Finding]:
        """Check a reading that is not in order against the static limits; it is not learned.

        Args:
            order: time (ms) and sequence number.
            values: by metric.
            metrics: of the device type.
            ahead: how far (ms) the reading's time is ahead of its arrival.
            known: by metric, the least and the largest value of the reading's minute before it.
            most: findings to report; the others are deferred.
        """
        if order >= self.newest:
            self._ahead = max(ahead, 0)
        if self._metrics is None:
            self._watch(metrics)
        time, findings = order[0], []
        for name, value in values.items():
            metric, channel = metrics.get(name), self._channels.get(name)
            side = 0 if metric is None else excursion_of(metric, value)
            if metric is None or not (side or (channel is not None and channel.late)):
                continue
            is_known = bool(side) and name in known and excursion_of(metric, known[name][side > 0]) == side
            if self._metrics is None or self._metrics.get(name) != metric:  # of a device type that is no longer its own
                findings += [limits_finding(metric, value, late_at=time)] if side and not is_known else []
                continue
            if channel is None:
                channel = self._channels[name] = Channel(metric)
            findings += follow_late(channel.late, metric, time, value, arrived=time - ahead, is_known=is_known)
        self._has_late = any(channel.late for channel in self._channels.values())
        return self.report(findings, time=time, most=most)

    def report(self, findings: Sequence[Finding], *, time: int, most: int = MOST_FINDINGS) -> Sequence[Finding]:
        """Return the findings to report with a reading of `time` (ms), deferred ones first; defer those beyond `most`.

        None is dropped: what waits is part of the state.
        """
        if not self.deferred and len(findings) <= most:
            return findings
        waiting = [*self.deferred, *(replace(finding, time=time) for finding in findings)]
        self.deferred = deferred(waiting[most:])
        return waiting[:most]

    def learn(
        self,
        order: tuple[int, int],
        values: Mapping[str, float],
        *,
        metrics: Mapping[str, Metric],
        ahead: int | None = None,
        most: int = MOST_FINDINGS,
    ) -> Sequence[Finding]:
        """Learn a reading by its order and values.

        Args:
            order: time (ms) and sequence number.
            values: by metric; metrics that are not in `metrics` are ignored.
            metrics: of the device type. Where they are not those of the reading before, events end that nothing
                watches any more.
            ahead: how far (ms) the reading's time is ahead of its arrival, if it is known.
            most: findings to report; the others are deferred.

        Returns:
            What begins, escalates or ends with this reading, and before it what was deferred.

        Raises:
            ValueError: the reading is older than one before.
        """
        if not self.is_in_order(order, ahead=ahead):
            raise ValueError("detectors take readings in order")
        if metrics is not self._metrics and metrics != self._metrics:
            self._watch(metrics)
        self.newest = order
        if ahead is not None and ahead >= -LIVE_MS:
            self._ahead = max(ahead, 0)
        findings: list[Finding] = []
        channels = self._channels
        if self._has_late:
            for each in channels.values():
                findings += close_late(each.late, each.metric, arrived=order[0] - (ahead or 0))
            self._has_late = any(each.late for each in channels.values())
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
        if self._machine is not None:
            findings += self._machine.update(order[0], values)
        return self.report(findings, time=order[0], most=most)

    def pack(self) -> bytes:
        """Pack the state for the device item, for `unpack_detectors`."""
        return pack_device(self._state())

    def _state(self) -> DeviceState:
        return DeviceState(
            version=STATE_VERSION,
            newest_time=self.newest[0],
            newest_sequence=self.newest[1],
            metrics={name: channel.state() for name, channel in sorted(self._channels.items())},
            groups={group.name: group.state() for group in self._groups},
            running=self._running(),
            ahead=self._ahead,
            deferred=self.deferred,
            machine=None if self._machine is None else self._machine.state(),
        )

    def _running(self) -> list[Running]:
        """List the running events, in the form that every version can read."""
        running = []
        for name, channel in sorted(self._channels.items()):
            unit = channel.metric.unit
            running += [Running(name, "limits", mark_of(event.side), unit, event) for event in channel.excursions]
            running += [Running(name, "limits", late_mark_of(event.side), unit, event) for event in channel.late]
            if channel.event is not None:
                running.append(Running(name, channel.metric.detector, "", unit, channel.event))
        for group in self._groups:
            if group.event is not None:
                running.append(Running(group.metric, group.name, "", group.metrics[group.metric].unit, group.event))
        if self._machine is not None:
            running += self._machine.running()
        return running

    def _watch(self, metrics: Mapping[str, Metric]) -> None:
        """Watch the metrics of another device type; what was learned of metrics that both have is kept."""
        state = self._state()
        self._channels = {}
        self._restore(state, metrics)

    def _restore(self, state: DeviceState, metrics: Mapping[str, Metric]) -> None:
        """Continue from `state`; events that nothing watches any more end as of its newest reading."""
        self.newest, self._ahead = (state.newest_time, state.newest_sequence), state.ahead
        self._metrics, self._groups, self._machine = metrics, groups_of(metrics), machine_of(metrics)
        for name, known in state.metrics.items():
            metric = metrics.get(name)
            if metric is not None and known.unit in ("", metric.unit):
                self._channels[name] = Channel.restored(metric, known)
        for group in self._groups:
            if group.name in state.groups and _is_same_group(group, state):
                try:
                    group.restore(state.groups[group.name])
                except (ValueError, TypeError) as error:
                    raise StateError(f"the {group.name} detector: {error}") from error
        if self._machine is not None and state.machine is not None:
            try:
                self._machine.restore(state.machine)
            except (ValueError, TypeError) as error:
                raise StateError(f"the {MACHINE} detector: {error}") from error
        self._has_late = any(channel.late for channel in self._channels.values())
        still = {(each.metric, each.detector, each.mark) for each in self._running()}
        self.deferred = state.deferred + [
            each.closed(_why_closed(each, metrics), at=state.newest_time)
            for each in state.running or _running_before(state)
            if (each.metric, each.detector, each.mark) not in still
        ]


def unpack_detectors(packed: bytes, *, metrics: Mapping[str, Metric]) -> DeviceDetectors:
    """Unpack detectors, without those that the catalogue no longer names; their events end. Raises StateError."""
    state = unpack_device(packed)
    detectors = DeviceDetectors()
    try:
        detectors._restore(state, metrics)
    except StateError as error:
        raise StateError(str(error), running=state.running, newest=state.newest_time) from error
    return detectors


def detectors_after(lost: StateError) -> DeviceDetectors:
    """Make detectors that learn again after their state was lost; the events that ran then end."""
    detectors = DeviceDetectors()
    words = "is learned again, because its former state could not be read"
    detectors.deferred = [each.closed(words, at=lost.newest) for each in lost.running]
    return detectors


def _is_same_group(group: Group, state: DeviceState) -> bool:
    """Return whether a group's state is of the same metrics, in the same units."""
    units = {name: state.metrics[name].unit for name in group.names if name in state.metrics}
    has_units = all(unit in ("", group.metrics[name].unit) for name, unit in units.items())
    return has_units and list(state.groups[group.name][:1]) == [list(group.names)]


def _why_closed(running: Running, metrics: Mapping[str, Metric]) -> str:
    """Say why nothing watches an event any more."""
    metric = metrics.get(running.metric)
    if metric is None:
        return "is no longer in the manifest"
    if running.unit not in ("", metric.unit):
        return f"is measured in {metric.unit} now"
    if running.detector != metric.detector:
        return f"has another detector now, {metric.detector}"
    return f"is watched by {metric.detector} together with other metrics now"


def _running_before(state: DeviceState) -> list[Running]:
    """List the running events of a state that was written before they had a list."""
    running = []
    for name, known in state.metrics.items():
        running += [Running(name, "limits", mark_of(event.side), "", event) for event in known.excursions]
        if known.event is not None:
            running.append(Running(name, known.single or "context", "", "", known.event))
    for name, (_, event, metric, *_rest) in state.groups.items():
        if event is not None:
            running.append(Running(metric, name, "", "", msgspec.convert(event, Event)))
    return running
