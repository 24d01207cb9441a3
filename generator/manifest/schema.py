"""JSON Schemas made from the models: of the manifest for editors, and of a device type's messages for device makers.

`python -m fleet_iot.generator.manifest.schema` rewrites `fleet.schema.json`; a test checks that it is fresh.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fleet_iot.generator.diagnostics import INVISIBLE
from fleet_iot.generator.manifest.load import SUPPLIED
from fleet_iot.generator.manifest.models import MAX_METRICS, SOURCES, DeviceType, FleetManifest, Metric
from fleet_iot.generator.manifest.rules import timezones

SCHEMA_FILE = Path(__file__).resolve().parent.with_name("fleet.schema.json")


def schema_text() -> str:
    """Return the JSON Schema of a manifest."""
    schema = FleetManifest.model_json_schema()
    schema["$defs"]["Facility"]["properties"]["timezone"]["enum"] = list(timezones())
    for model, keys in SUPPLIED.items():
        part = schema["$defs"][model]
        part["required"] = [key for key in part.get("required", ()) if key not in keys]
    group = schema["$defs"]["ThingGroup"]
    group |= {"required": [], "oneOf": [{"required": [source]} for source in SOURCES]}
    _close(schema)
    heading = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "fleet.yaml"}
    return json.dumps(heading | {key: value for key, value in schema.items() if key != "title"}, indent=1) + "\n"


def _close(part: Any) -> None:
    """Close mappings to other names than the patterned ones, and remove titles that only repeat names."""
    if isinstance(part, list):
        for item in part:
            _close(item)
    if isinstance(part, dict):
        if "patternProperties" in part:
            part["additionalProperties"] = False
        for name, value in part.items():
            if name == "properties":
                for field in value.values():
                    field.pop("title", None)
            _close(value)


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
    """Make the schema for a device type of the manifest: what the sensor processor accepts (docs/message.md).

    Limits are in descriptions only, as a reading beyond them is an anomaly and no invalid message. A schema cannot
    express 128 kB, the nesting, UTF-8, and the distance of the time from the rule's clock: see the document.
    """
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


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), "ascii")
