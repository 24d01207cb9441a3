"""Makes limits and the machine detector of one device for programs that score what people are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypedDict

from ..ingest.catalogue import FALSE_ALARM_BUDGET, Metric
from .device import DeviceDetectors
from .machine import MACHINE


class Watched(TypedDict):
    """Unit and limits of a metric."""

    unit: str
    min: float | None
    max: float | None


class MachineDetectors:
    """Limits and the machine detector over the metrics of one device."""

    def __init__(self, metrics: Mapping[str, Watched], *, budget: float) -> None:
        self._detectors = DeviceDetectors()
        self._metrics = {
            name: Metric(
                name=name,
                unit=each["unit"],
                minimum=each["min"],
                maximum=each["max"],
                detector=MACHINE,
                false_alarm_budget=budget,
            )
            for name, each in metrics.items()
        }

    def learn(self, time_ms: int, sequence: int, values: Mapping[str, float]) -> Iterator[tuple[str, str, str]]:
        """Learn a reading; return kind, metric and severity of each finding that people are told."""
        findings = self._detectors.learn((time_ms, sequence), values, metrics=self._metrics)
        return ((finding.kind, finding.metric, finding.severity) for finding in findings)

    def pack(self) -> bytes:
        """Pack the state, as a lane keeps it."""
        return self._detectors.pack()


def machine(metrics: Mapping[str, Watched], *, budget: float = FALSE_ALARM_BUDGET) -> MachineDetectors:
    """Make the detectors of a machine.

    Args:
        metrics: unit and limits, by name.
        budget: false alarms a month that people accept.
    """
    return MachineDetectors(metrics, budget=budget)
