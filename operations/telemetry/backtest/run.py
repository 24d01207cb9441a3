"""Feeds a history to the detectors that the processor runs, and keeps what they found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fleet_iot.lib.specs import DeviceTypeSpec
from fleet_iot.operations.telemetry.backtest.series import History
from fleet_iot.sensor_processor.detection import BEGIN, END, DeviceDetectors, Finding
from fleet_iot.sensor_processor.ingest.catalogue import DETECTORS, Metric

DETECTOR_NAMES = tuple(sorted(DETECTORS))
DEFAULT = "context"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An event: from row `place`, `time` (ms), on; over at `ended` (ms), or None where it still runs at the end.

    `severity` is the worst of it; value, score and reason are those of its beginning.
    """

    place: int
    time: int
    metric: str
    detector: str
    value: float
    score: float
    reason: str
    severity: str
    ended: int | None = None


def metrics_for(history: History, device_type: DeviceTypeSpec | None, *, detector: str | None) -> dict[str, Metric]:
    """The history's metrics: with a device type those that it declares, else all, without limits."""
    if device_type is None:
        return {
            name: Metric(name=name, unit="", minimum=None, maximum=None, detector=detector or DEFAULT)
            for name in history.metrics
        }
    return {
        metric.name: Metric(
            name=metric.name,
            unit=metric.unit,
            minimum=metric.minimum,
            maximum=metric.maximum,
            detector=detector or metric.detector,
        )
        for metric in device_type.metrics
        if metric.name in history.metrics
    }


def backtest(history: History, metrics: Mapping[str, Metric]) -> list[Found]:
    """What the detectors say of the history, row by row, as if it arrived now."""
    detectors = DeviceDetectors()
    found: dict[tuple[str, str, int], Found] = {}
    for place, (time, row) in enumerate(zip(history.times, history.rows, strict=True)):
        for finding in detectors.learn((time, place), row, metrics=metrics):
            key = finding.metric, finding.detector + finding.mark, time if finding.began is None else finding.began
            if finding.kind == BEGIN:
                found[key] = _found(finding, place=place, time=time)
            elif key in found and finding.kind == END:
                found[key] = replace(found[key], ended=finding.ended)
            elif key in found:
                found[key] = replace(found[key], severity=finding.severity)
    return list(found.values())


def _found(finding: Finding, *, place: int, time: int) -> Found:
    return Found(
        place=place,
        time=time,
        metric=finding.metric,
        detector=finding.detector,
        value=finding.value,
        score=round(finding.score, 3),
        reason=finding.reason,
        severity=finding.severity,
    )
