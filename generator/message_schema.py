"""The JSON Schema of what devices of one type send: for makers of devices, who test against it before they ship.

What it says is what the sensor processor takes (docs/message.md); limits are told, not enforced, for a reading beyond
them is an anomaly and not a fault of the message.
"""

from __future__ import annotations

from typing import Any

from generator.manifest import MAX_METRICS, DeviceType, FleetManifest, Metric

MAX_SEQUENCE = 2**53 - 1
MAX_READINGS = 1_000
VALUE_BOUND = 1e12
METRIC_NAME = "^[A-Za-z][A-Za-z0-9_.-]{0,63}$"


def message_schema(manifest: FleetManifest, device_type: str) -> dict[str, Any]:
    """The schema for a device type of the manifest."""
    described = manifest.device_types[device_type]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Telemetry of {device_type}",
        "description": f"{described.description}. One reading, or an array of up to {MAX_READINGS:,} readings.",
        "oneOf": [
            {"$ref": "#/$defs/reading"},
            {"type": "array", "items": {"$ref": "#/$defs/reading"}, "minItems": 1, "maxItems": MAX_READINGS},
        ],
        "$defs": {"reading": _reading(described)},
    }


def _reading(device_type: DeviceType) -> dict[str, Any]:
    units = {name: {"const": metric.unit} for name, metric in device_type.metrics.items()}
    return {
        "type": "object",
        "required": ["time", "metrics"],
        "properties": {
            "time": {"type": "integer", "description": "The device's clock, milliseconds since 1970 UTC."},
            "sequence": {
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_SEQUENCE,
                "description": "Raised by one with each reading; with the time it is the reading's id.",
            },
            "metrics": {
                "type": "object",
                "minProperties": 1,
                "maxProperties": MAX_METRICS,
                "properties": {name: _metric(metric) for name, metric in device_type.metrics.items()},
                "propertyNames": {"pattern": METRIC_NAME},
                "additionalProperties": _number("Not in the manifest: kept in the archive, not aggregated."),
            },
            "units": {
                "type": "object",
                "properties": units,
                "additionalProperties": {"type": "string"},
                "description": "If sent, checked against the manifest.",
            },
        },
    }


def _metric(metric: Metric) -> dict[str, Any]:
    below, above = metric.min, metric.max
    limits = [f"{word} {limit:g}" for word, limit in (("below", below), ("above", above)) if limit is not None]
    return _number(f"In {metric.unit}." + (f" An anomaly {' and '.join(limits)}." if limits else ""))


def _number(description: str) -> dict[str, Any]:
    return {
        "type": "number",
        "exclusiveMinimum": -VALUE_BOUND,
        "exclusiveMaximum": VALUE_BOUND,
        "description": description,
    }
