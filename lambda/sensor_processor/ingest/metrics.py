"""CloudWatch metrics in the embedded metric format: one log line for each facility and device type.

Format: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
