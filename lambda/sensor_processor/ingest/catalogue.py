"""The metric catalogue: the device types and the unit, limits and detector of each of their metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

DETECTORS = frozenset({"limits", "machine", "context", "baseline", "flatline", "rate", "correlation", "seasonal"})
"""Detectors that a metric may name. `limits` is always on; naming it means no other detector.

`machine`, `baseline` and `correlation` each watch all metrics of a device type that name them together.
"""

FALSE_ALARM_BUDGET = 1.0
"""False alarms of a device in a month that people accept, where the catalogue sets nothing else."""


class CatalogueError(Exception):
    """The catalogue is invalid; the message names the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One measured quantity; `minimum` and `maximum` are its static limits in `unit`.

    `false_alarm_budget` is in false alarms a device-month. The machine runs while the metric with `running_above` is
    above it.
    """

    name: str
    unit: str
    minimum: float | None
    maximum: float | None
    detector: str
    false_alarm_budget: float = FALSE_ALARM_BUDGET
    running_above: float | None = None

    def amount(self, value: float) -> str:
        """Format a value for people: `71.25 celsius`."""
        return f"{value:.6g} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The application's device types, each with its metrics by name."""

    application: str
    device_types: Mapping[str, Mapping[str, Metric]]


class _MetricDocument(msgspec.Struct):
    unit: str
    min: float | None = None
    max: float | None = None
    detector: str = "limits"
    false_alarm_budget: float = FALSE_ALARM_BUDGET
    running_above: float | None = None


class _DeviceTypeDocument(msgspec.Struct):
    metrics: dict[str, _MetricDocument]


class _CatalogueDocument(msgspec.Struct):
    application: str
    device_types: dict[str, _DeviceTypeDocument]


def parse_catalogue(document: bytes) -> Catalogue:
    """Parse a catalogue (JSON). Raises CatalogueError."""
    try:
        parsed = msgspec.json.decode(document, type=_CatalogueDocument)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CatalogueError(f"the metric catalogue cannot be read: {error}") from error
    return Catalogue(
        application=parsed.application,
        device_types={
            device_type: {
                name: _metric(device_type=device_type, name=name, document=metric)
                for name, metric in content.metrics.items()
            }
            for device_type, content in parsed.device_types.items()
        },
    )


METRIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)
"""Names that need no escaping in items and messages."""


def _metric(*, device_type: str, name: str, document: _MetricDocument) -> Metric:
    if not METRIC_NAME.fullmatch(name):
        raise CatalogueError(f"the metric catalogue has no metric's name: {name[:64]!a} in {device_type}")
    if document.detector not in DETECTORS:
        known = ", ".join(sorted(DETECTORS))
        raise CatalogueError(
            f"the metric catalogue names the detector {document.detector!r} for {device_type}.{name}; known are {known}"
        )
    if any(limit is not None and not math.isfinite(limit) for limit in (document.min, document.max)):
        raise CatalogueError(f"the metric catalogue gives {device_type}.{name} a limit that is not a finite number")
    return Metric(
        name=name,
        unit=document.unit,
        minimum=document.min,
        maximum=document.max,
        detector=document.detector,
        false_alarm_budget=document.false_alarm_budget,
        running_above=document.running_above,
    )
