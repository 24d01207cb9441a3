"""Structured log lines and CloudWatch metrics in the embedded metric format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

# @@ Logs as JSON lines, which CloudWatch Logs Insights reads by field.

_RANKS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}

Value = str | int | float | list[str] | dict[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Writes lines of at least `level`, each with the request's id."""

    level: str
    request_id: str
    write: Callable[[str], object]

    def info(self, message: str, **fields: Value) -> None:
        """What was done."""
        self._line("INFO", message, fields)

    def warning(self, message: str, **fields: Value) -> None:
        """What somebody may have to look at."""
        self._line("WARNING", message, fields)

    def error(self, message: str, **fields: Value) -> None:
        """What went wrong."""
        self._line("ERROR", message, fields)

    def metrics(self, line: Mapping[str, object]) -> None:
        """A line in the embedded metric format, whatever the level: CloudWatch counts on it."""
        self.write(msgspec.json.encode(line).decode())

    def _line(self, level: str, message: str, fields: Mapping[str, Value]) -> None:
        if _RANKS[level] >= _RANKS[self.level]:
            line = {"level": level, "message": message, "request_id": self.request_id, **fields}
            self.write(msgspec.json.encode(line).decode())


# @@ CloudWatch metrics in the embedded metric format: one log line for each facility and device type.
# @@
# @@ Format:
# @@ https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

METRICS = (
    "ReadingsProcessed",
    "ReadingsQuarantined",
    "ReadingsDuplicate",
    "ReadingsLate",
    "AnomaliesDetected",
)
"""Every metric that the processor emits, all of them counts."""

DIMENSIONS = ("Facility", "DeviceType")

FACILITY_METRICS = ("ReadingsProcessed", "ReadingsQuarantined", "AnomaliesDetected")
"""Those that are counted for a whole facility too, whatever the device type: alarms watch them there."""

FACILITY_DIMENSIONS = ("Facility",)

PENDING = "NotificationsPending"
"""Notifications of anomalies that a process could not publish yet; of the environment as a whole, and only where there
are any: a metric by plant would cost its price all year for what is nought."""


def metric_line(
    values: Mapping[str, int], *, namespace: str, facility: str, device_type: str, timestamp: int
) -> dict[str, Any]:
    """The log line that CloudWatch makes metrics of; `timestamp` is in ms, names that `values` lacks count 0."""
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


def pending_line(pending: int, *, namespace: str, timestamp: int) -> dict[str, Any]:
    """The log line of what waits to be published, without dimensions; `timestamp` is in ms."""
    return {
        "_aws": {
            "Timestamp": timestamp,
            "CloudWatchMetrics": [
                {"Namespace": namespace, "Dimensions": [[]], "Metrics": [{"Name": PENDING, "Unit": "Count"}]}
            ],
        },
        PENDING: pending,
    }
