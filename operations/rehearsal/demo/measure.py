"""Count what the platform stores, in AWS IoT, DynamoDB, S3 and files, and compare it with the truth file."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from fleet_iot.lib.names import FUNCTION
from fleet_iot.lib.specs import suffixed
from fleet_iot.operations.local.aws import LocalAws
from fleet_iot.operations.project import Project
from fleet_iot.operations.rehearsal.demo.reconciliation import AnomalyItem, Difference, MinuteItem, compare, gather
from fleet_iot.operations.rehearsal.simulator.run import read_truth
from fleet_iot.operations.telemetry.archive import object_keys, stored_lines

_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """Counts of AWS IoT: the things of the environment, and the distinct active certificates attached to them."""

    things: int
    certificates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Counts of the archive bucket: distinct stream records, the readings in them, quarantined ones, rule errors."""

    lines: int
    readings: Counter[tuple[str, int, int]]
    quarantined: int
    rule_errors: int


def count_registry(iot: Any, suffix: str) -> Registry:
    """Count the things of this environment and the active certificates that are attached to them."""
    names = [
        thing["thingName"]
        for page in iot.get_paginator("list_things").paginate()
        for thing in page["things"]
        if thing["thingName"].endswith(f"-{suffix}")
    ]

    def active(name: str) -> list[str]:
        principals = iot.list_thing_principals(thingName=name)["principals"]
        described = [iot.describe_certificate(certificateId=arn.rpartition("/")[2]) for arn in principals]
        return [
            each["certificateDescription"]["certificateId"]
            for each in described
            if each["certificateDescription"]["status"] == "ACTIVE"
        ]

    with ThreadPoolExecutor(_THREADS) as pool:
        certificates = {identifier for found in pool.map(active, names) for identifier in found}
    return Registry(things=len(names), certificates=len(certificates))


def read_readings(dynamodb: Any, table: str) -> tuple[list[MinuteItem], list[AnomalyItem]]:
    """Read all minute items and anomaly items of the readings table."""
    minutes, anomalies = [], []
    for page in dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        for item in page["Items"]:
            thing, (kind, _, rest) = item["device"]["S"], item["bucket"]["S"].partition("#")
            if kind == "minute":
                metrics = {name: metric["M"] for name, metric in item["metrics"]["M"].items()}
                minutes.append(
                    MinuteItem(
                        thing=thing,
                        minute=_epoch_ms(rest) // 60_000,
                        messages=int(item["messages"]["N"]),
                        sums={name: Decimal(metric["sum"]["N"]) for name, metric in metrics.items()},
                        counts={name: int(metric["count"]["N"]) for name, metric in metrics.items()},
                    )
                )
            elif kind == "anomaly":
                anomalies.append(
                    AnomalyItem(
                        thing=thing,
                        metric=item["metric"]["S"],
                        detector=item["detector"]["S"],
                        time_ms=_epoch_ms(item["time"]["S"]),
                    )
                )
    return minutes, anomalies


def read_archive(s3: Any, bucket: str) -> Archive:
    """Read the archive's records, each once however often its batch was delivered."""
    raw = {line["sequence_number"]: line for _, line in stored_lines(s3, bucket, "raw/")}
    quarantined = {line["sequence_number"] for _, line in stored_lines(s3, bucket, "quarantine/")}
    errors = sum(1 for key in object_keys(s3, bucket, "iot-rule-errors/") if not key.endswith("/"))
    readings: Counter[tuple[str, int, int]] = Counter()
    for line in raw.values():
        payload = json.loads(base64.b64decode(line["raw"]))
        readings[line["thing"], payload["time"], payload["sequence"]] += 1
    return Archive(lines=len(raw), readings=readings, quarantined=len(quarantined), rule_errors=errors)


def count_items(dynamodb: Any, table: str) -> int:
    """Count the items of a table by a scan: DescribeTable's own count is hours old."""
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, Select="COUNT", ConsistentRead=True)
    return sum(page["Count"] for page in pages)


def _epoch_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


# The body may follow a real line break or one escaped in JSON. A bare header, as in this pattern, is no key.
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"
    rb"(?:\s|\\r|\\n)*(?:[A-Za-z-]+: [^\n\\]*(?:\\n|\n))*(?:\s|\\r|\\n)*"
    rb"[A-Za-z0-9+/=]{16,}"
)


def holds_private_key(content: bytes) -> bool:
    """Return whether a private key is anywhere in `content`."""
    return _PRIVATE_KEY.search(content) is not None


def files_with_private_keys(paths: Iterable[Path]) -> list[Path]:
    """Find the files among `paths`, folders with all that is in them, that contain a private key."""
    found = []
    for path in paths:
        files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
        found += [file for file in files if not file.is_symlink() and holds_private_key(file.read_bytes())]
    return sorted(found)


def tracked_files(root: Path) -> list[Path]:
    """List the files that git tracks in the project; none where the project is no git checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=False)
    return [root / name for name in listed.stdout.decode().split("\0") if name and (root / name).is_file()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Counts of AWS IoT, DynamoDB and S3, and how they differ from the truth file."""

    registry: Registry
    processed: int
    devices: int
    archive: Archive
    difference: Difference


def measure(project: Project, local: LocalAws, *, truth_file: Path) -> Measurement:
    """Count what is stored, in the tables and the bucket that the deployed function is configured with."""
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
    """Find tracked files, synthesised output and states that contain a private key."""
    places = [*tracked_files(project.root), local.output]
    return [str(path) for path in files_with_private_keys(places)]
