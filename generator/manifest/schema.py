"""Makes `fleet.schema.json` from the models, so that editors complete and check a manifest as it is typed.

`python -m fleet_iot.generator.manifest.schema` rewrites it; a test checks that it is fresh.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fleet_iot.generator.manifest.load import SUPPLIED
from fleet_iot.generator.manifest.models import SOURCES, FleetManifest
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


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), "ascii")
