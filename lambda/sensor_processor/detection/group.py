"""The detectors of several metrics of one device, `baseline` and `correlation`: rows out of readings, state, words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..ingest.catalogue import Metric
from .correlation import Correlation
from .event import Event, Finding, begin, end
from .shift import Shift

GROUPED = ("baseline", "correlation")

NAMED = 3
"""Other metrics that a finding names; a device's item keeps a hundred notifications."""


class Group:
    """One detector over those metrics of a device type that name it, in the order of their names."""

    __slots__ = ("detector", "event", "metric", "metrics", "name", "names")

    def __init__(self, name: str, metrics: Mapping[str, Metric]) -> None:
        self.name = name
        self.metrics = metrics
        self.event: Event | None = None
        self.metric = ""
        self.names = tuple(sorted(key for key, metric in metrics.items() if metric.detector == name))
        self.detector: Shift | Correlation = (Shift if name == "baseline" else Correlation)(max(len(self.names), 1))

    def update(self, time: int, values: Mapping[str, float]) -> Finding | None:
        """What a reading of `time` (ms) tells: that a state begins, told of the metric that shows it most, or ends.

        A reading that lacks one of the metrics is no row.
        """
        try:
            row = [values[name] for name in self.names]
        except KeyError:
            return None
        was_on = self.detector.state
        is_on = self.detector.update(row)
        if is_on == was_on:
            return None
        if not is_on:
            return self._ending(time, values)
        metric = self.metrics[self.names[self.detector.worst]]
        value = values[metric.name]
        finding = begin(
            metric.name, self.name, value=value, score=self.detector.score, reason=self._words(metric, value)
        )
        self.event, self.metric = Event(began=time, is_critical=finding.is_critical), metric.name
        return finding

    def _ending(self, time: int, values: Mapping[str, float]) -> Finding | None:
        event, self.event = self.event, None
        if event is None:
            return None
        value = values[self.metric]
        amount = self.metrics[self.metric].amount(value)
        if isinstance(self.detector, Shift) and self.detector.is_on_its_way:
            mean = self.detector.means[self.names.index(self.metric)]
            words = f"{amount} is most of the way back to its baseline of {mean:.4g}, which follows it from here"
        else:
            words = f"{amount} is as usual again"
        return end(self.metric, self.name, event, value=value, ended=time, words=words)

    def state(self) -> list[Any]:
        """What `restore` goes on from; the names say whose numbers they are."""
        detector = self.detector
        if isinstance(detector, Shift):
            return [list(self.names), self.event, self.metric, *detector.numbers()]
        return [
            list(self.names),
            self.event,
            self.metric,
            detector.count,
            detector.means,
            detector.products,
            detector.smooth,
            detector.state,
        ]

    def restore(self, state: list[Any]) -> None:
        """Takes over what `state` gave, if it is of the same metrics. Raises ValueError or TypeError."""
        names, event, metric, *numbers = state
        if tuple(names) == self.names:
            self.event, self.metric = msgspec.convert(event, Event | None), metric
            self.detector.restore(*numbers)

    def _words(self, metric: Metric, value: float) -> str:
        mean = self.detector.means[self.detector.worst]
        if self.name == "baseline":
            return f"{metric.name} has shifted from its baseline of {mean:.4g} (now {metric.amount(value)})"
        others = [name for name in self.names if name != metric.name]
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        return f"{metric.name} {metric.amount(value)} no longer goes with {', '.join(others[:NAMED])}{more}"


def groups_of(metrics: Mapping[str, Metric]) -> tuple[Group, ...]:
    """A new group for each of these detectors that a metric names."""
    wanted = {metric.detector for metric in metrics.values()}
    return tuple(Group(name, metrics) for name in GROUPED if name in wanted)
