"""The schema for makers of devices says what the processor takes."""

from __future__ import annotations

import json

from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.manifest.load import validate
from fleet_iot.generator.manifest.models import MAX_METRICS
from fleet_iot.generator.manifest.schema import MAX_READINGS, MAX_SEQUENCE, METRIC_NAME, VALUE_BOUND, message_schema
from fleet_iot.generator.manifest.yaml import parse_document
from tests.places import SAMPLE


def test_a_device_types_metrics_are_in_its_schema() -> None:
    """Every metric with its unit and its limits in words; others are numbers too."""
    manifest = validate(parse_document((SAMPLE / "fleet.yaml").read_text(), name="fleet.yaml"))

    reading = message_schema(manifest, "press-monitor")["$defs"]["reading"]
    metrics = reading["properties"]["metrics"]
    assert list(metrics["properties"]) == list(manifest.device_types["press-monitor"].metrics)
    assert metrics["properties"]["temperature"]["description"] == (
        "In celsius; null where it was not measured. An anomaly below -10 and above 95."
    )
    assert reading["properties"]["units"]["properties"]["temperature"] == {"const": "celsius"}
    assert (["time", "metrics"], ["number", "null"]) == (reading["required"], metrics["additionalProperties"]["type"])


def test_the_bounds_are_those_of_the_processor() -> None:
    """Both programs, which know nothing of each other, say the same."""
    from fleet_iot.sensor_processor.ingest import catalogue, reading

    assert (MAX_METRICS, MAX_READINGS, MAX_SEQUENCE, VALUE_BOUND) == (
        reading.MAX_METRICS,
        reading.MAX_READINGS,
        reading.MAX_SEQUENCE,
        reading.VALUE_BOUND,
    )
    assert METRIC_NAME == f"^{catalogue.METRIC_NAME.pattern}$(?!\\n)"


def test_the_command_prints_it() -> None:
    """One JSON document; an unknown type is a fault of usage that names the known ones."""
    manifest = str(SAMPLE / "fleet.yaml")
    printed = CliRunner().invoke(main, ["message", "boiler", "--manifest", manifest])
    refused = CliRunner().invoke(main, ["message", "boilr", "--manifest", manifest])

    assert json.loads(printed.output)["title"] == "Telemetry of boiler"
    assert (2, True) == (refused.exit_code, "boiler" in refused.output)
