"""The detectors of several metrics of one device, `baseline` and `correlation`: rows out of readings, state, words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sensor_processor.catalogue import Metric
from sensor_processor.detection.correlation import Correlation
from sensor_processor.detection.shift import Shift

GROUPED = ("baseline", "correlation")


class Group:
    """One detector over those metrics of a device type that name it, in the order of their names."""

    __slots__ = ("began", "detector", "metric", "metrics", "name", "names")

    def __init__(self, name: str, metrics: Mapping[str, Metric]) -> None:
        self.name = name
        self.metrics = metrics
        self.began = 0
        self.metric = ""
        self.names = tuple(sorted(key for key, metric in metrics.items() if metric.detector == name))
        self.detector: Shift | Correlation = (Shift if name == "baseline" else Correlation)(max(len(self.names), 1))

    def update(self, time: int, values: Mapping[str, float]) -> tuple[str, float, str] | None:
        """The metric, the score and the words of a state that begins with this reading; None else.

        `began` is when the running state began (ms), 0 where none runs, and `metric` which one it was told of.
        A reading that lacks one of the metrics is no row.
        """
        try:
            row = [values[name] for name in self.names]
        except KeyError:
            return None
        was_on = self.detector.state
        if not self.detector.update(row):
            self.began = 0
            return None
        if was_on:
            return None
        metric = self.metrics[self.names[self.detector.worst]]
        self.began, self.metric = time, metric.name
        return metric.name, self.detector.score, self._words(metric, values[metric.name])

    def state(self) -> list[Any]:
        """What `restore` goes on from; the names say whose numbers they are."""
        detector = self.detector
        if isinstance(detector, Shift):
            return [list(self.names), self.began, self.metric, *detector.numbers()]
        return [
            list(self.names),
            self.began,
            self.metric,
            detector.count,
            detector.means,
            detector.products,
            detector.smooth,
            detector.state,
        ]

    def restore(self, state: list[Any]) -> None:
        """Takes over what `state` gave, if it is of the same metrics. Raises ValueError or TypeError."""
        names, began, metric, *numbers = state
        if tuple(names) == self.names:
            self.began, self.metric = began, metric
            self.detector.restore(*numbers)

    def _words(self, metric: Metric, value: float) -> str:
        mean = self.detector.means[self.detector.worst]
        if self.name == "baseline":
            return f"{metric.name} has shifted from its baseline of {mean:.4g} (now {metric.amount(value)})"
        others = ", ".join(name for name in self.names if name != metric.name)
        return f"{metric.name} {metric.amount(value)} no longer goes with {others}"


def groups_of(metrics: Mapping[str, Metric]) -> tuple[Group, ...]:
    """A new group for each of these detectors that a metric names."""
    wanted = {metric.detector for metric in metrics.values()}
    return tuple(Group(name, metrics) for name in GROUPED if name in wanted)
