"""Takes the demo's figures, each at its own place, while the platform still stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleet_iot.lib.specs import suffixed
from fleet_iot.operations.local.aws import LocalAws
from fleet_iot.operations.project import Project
from fleet_iot.operations.rehearsal.demo.compare import Difference, compare, gather
from fleet_iot.operations.rehearsal.demo.key_material import files_with_private_keys, tracked_files
from fleet_iot.operations.rehearsal.demo.places import (
    Archive,
    Registry,
    count_items,
    count_registry,
    read_archive,
    read_readings,
)
from fleet_iot.operations.rehearsal.simulator.truth import read_truth

FUNCTION = "function-sensor-processor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What stands in AWS IoT, DynamoDB and S3, and how that differs from the truth file."""

    registry: Registry
    processed: int
    devices: int
    archive: Archive
    difference: Difference


def measure(project: Project, local: LocalAws, *, truth_file: Path) -> Measurement:
    """Count.

    The tables and the bucket are those that the deployed function names, not those that it should.
    """
    suffix = project.environment_suffix
    function = local.client("lambda").get_function_configuration(FunctionName=suffixed(FUNCTION, suffix))
    deployed = function["Environment"]["Variables"]
    dynamodb = local.client("dynamodb")
    minutes, anomalies = read_readings(dynamodb, deployed["READINGS_TABLE"])
    archive = read_archive(local.client("s3"), deployed["ARCHIVE_BUCKET"])
    return Measurement(
        registry=count_registry(local.client("iot"), suffix),
        processed=sum(item.messages for item in minutes),
        devices=count_items(dynamodb, deployed["DEVICES_TABLE"]),
        archive=archive,
        difference=compare(
            gather(read_truth(truth_file)),
            minutes=minutes,
            anomalies=anomalies,
            archived=archive.readings,
        ),
    )


def exposed_private_keys(project: Project, local: LocalAws) -> list[str]:
    """Tracked files, synthesised output and states that hold a private key."""
    places = [*tracked_files(project.root), local.output]
    return [str(path) for path in files_with_private_keys(places)]
