"""JSON log lines, and CloudWatch metrics in the embedded metric format.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

_RANKS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}

Value = str | int | float | list[str] | dict[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Write lines of at least `level`, each with the request id."""

    level: str
    request_id: str
    write: Callable[[str], object]

    def info(self, message: str, **fields: Value) -> None:
        """Log normal work."""
        self._line("INFO", message, fields)

    def warning(self, message: str, **fields: Value) -> None:
        """Log something that may need attention."""
        self._line("WARNING", message, fields)

    def error(self, message: str, **fields: Value) -> None:
        """Log a failure."""
        self._line("ERROR", message, fields)

    def metrics(self, line: Mapping[str, object]) -> None:
        """Write a line in the embedded metric format, at any level."""
        self.write(msgspec.json.encode(line).decode())

    def _line(self, level: str, message: str, fields: Mapping[str, Value]) -> None:
        if _RANKS[level] >= _RANKS[self.level]:
            line = {"level": level, "message": message, "request_id": self.request_id, **fields}
            self.write(msgspec.json.encode(line).decode())


METRICS = (
    "ReadingsProcessed",
    "ReadingsQuarantined",
    "ReadingsDuplicate",
    "ReadingsLate",
    "AnomaliesDetected",
)
"""Metrics that the processor emits for each facility and device type; all are counts."""

DIMENSIONS = ("Facility", "DeviceType")

FACILITY_METRICS = ("ReadingsProcessed", "ReadingsQuarantined", "AnomaliesDetected")
"""Those that are also counted for a whole facility, for alarms."""

FACILITY_DIMENSIONS = ("Facility",)

PENDING = "NotificationsPending"
"""Notifications that a process could not publish yet, in the whole environment. Emitted only if there are any: a metric
for each plant would cost its price all year for zeros."""


UNEMITTED = "UnemittedSeconds"
"""Age of the oldest committed state that the tables have not taken, in the whole environment, by each sweep: so it is
missing where the sweeps fail."""


def metric_line(
    values: Mapping[str, int], *, namespace: str, facility: str, device_type: str, timestamp: int
) -> dict[str, Any]:
    """Make the log line of a facility's and device type's metrics; `timestamp` is in ms, missing values are 0."""
    return {
        "_aws": {
            "Timestamp": timestamp,
            "CloudWatchMetrics": [
                {
                    "Namespace": namespace,
                    "Dimensions": [list(dimensions)],
                    "Metrics": [{"Name": name, "Unit": "Count"} for name in names],
                }
                for names, dimensions in ((METRICS, DIMENSIONS), (FACILITY_METRICS, FACILITY_DIMENSIONS))
            ],
        },
        "Facility": facility,
        "DeviceType": device_type,
        **{name: values.get(name, 0) for name in METRICS},
    }


def plain_line(name: str, value: int, *, unit: str, namespace: str, timestamp: int) -> dict[str, Any]:
    """Make the log line of a metric without dimensions; `timestamp` is in ms."""
    return {
        "_aws": {
            "Timestamp": timestamp,
            "CloudWatchMetrics": [
                {"Namespace": namespace, "Dimensions": [[]], "Metrics": [{"Name": name, "Unit": unit}]}
            ],
        },
        name: value,
    }
