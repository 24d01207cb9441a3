"""The JSON Schema of the messages of one device type, for device makers to test against.

It describes what the sensor processor accepts (docs/message.md). Limits are in descriptions only, as a reading beyond
them is an anomaly and no invalid message. A schema cannot express 128 kB, the nesting, UTF-8, and the distance of the
time from the rule's clock: see the document.
"""

from __future__ import annotations

from typing import Any

from fleet_iot.generator.diagnostics import INVISIBLE
from fleet_iot.generator.manifest.models import MAX_METRICS, DeviceType, FleetManifest, Metric

MAX_SEQUENCE = 2**53 - 1
MAX_READINGS = 1_000
VALUE_BOUND = 1e12
METRIC_NAME = r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$(?!\n)"
"""Python's `$` also matches before a last line end; in ECMA's dialect, that of JSON Schema, the rest adds nothing."""

FIRST_TIME, LAST_TIME = 100_000_000_000, 4_102_444_800_000
"""Milliseconds from 1973 to 2099: seconds lie before, microseconds after."""


def _escaped(code: int) -> str:
    """Escape a character for a pattern's class; literal beyond the BMP, where dialects escape differently."""
    return f"\\u{code:04x}" if code <= 0xFFFF else chr(code)


CLEAN_TEXT = (
    r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f"
    + "".join(f"{_escaped(first)}-{_escaped(last)}" for first, last in INVISIBLE)
    + r"\ud800-\udfff]*$"
)
"""No control, invisible or bidirectional character but tabs and line ends."""


def message_schema(manifest: FleetManifest, device_type: str) -> dict[str, Any]:
    """Make the schema for a device type of the manifest."""
    described = manifest.device_types[device_type]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Telemetry of {device_type}",
        "description": f"{described.description}. One reading, or an array of up to {MAX_READINGS:,} readings.",
        "oneOf": [
            {"allOf": [{"$ref": "#/$defs/reading"}, {"$ref": "#/$defs/measured"}]},
            {
                "type": "array",
                "items": {"$ref": "#/$defs/reading"},
                "contains": {"$ref": "#/$defs/measured"},
                "minItems": 1,
                "maxItems": MAX_READINGS,
            },
        ],
        "$defs": {"reading": _reading(described), "measured": _MEASURED, "other": _OTHER},
    }


_MEASURED = {
    "description": "At least one metric is not null.",
    "properties": {"metrics": {"not": {"additionalProperties": {"type": "null"}}}},
}
_OTHER = {
    "description": "Any value without control, invisible or bidirectional characters.",
    "pattern": CLEAN_TEXT,
    "propertyNames": {"pattern": CLEAN_TEXT},
    "items": {"$ref": "#/$defs/other"},
    "additionalProperties": {"$ref": "#/$defs/other"},
}


def _reading(device_type: DeviceType) -> dict[str, Any]:
    units = {name: {"const": metric.unit} for name, metric in device_type.metrics.items()}
    return {
        "type": "object",
        "required": ["time", "metrics"],
        "properties": {
            "time": {
                "type": "integer",
                "minimum": FIRST_TIME,
                "maximum": LAST_TIME,
                "description": "The device's clock, milliseconds since 1970 UTC; near the time of sending.",
            },
            "sequence": {
                "type": ["integer", "null"],
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
                "type": ["object", "null"],
                "properties": units,
                "propertyNames": {"pattern": CLEAN_TEXT},
                "additionalProperties": {"type": "string", "pattern": CLEAN_TEXT},
                "description": "If sent, checked against the manifest.",
            },
        },
        "propertyNames": {"pattern": CLEAN_TEXT},
        "additionalProperties": {"$ref": "#/$defs/other"},
    }


def _metric(metric: Metric) -> dict[str, Any]:
    below, above = metric.min, metric.max
    limits = [f"{word} {limit:g}" for word, limit in (("below", below), ("above", above)) if limit is not None]
    return _number(
        f"In {metric.unit}; null where it was not measured."
        + (f" An anomaly {' and '.join(limits)}." if limits else "")
    )


def _number(description: str) -> dict[str, Any]:
    return {
        "type": ["number", "null"],
        "exclusiveMinimum": -VALUE_BOUND,
        "exclusiveMaximum": VALUE_BOUND,
        "description": description,
    }
