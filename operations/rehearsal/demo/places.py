"""Counts what the platform holds, each figure at its own place: AWS IoT, DynamoDB, S3 and Terraform's states."""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from fleet_iot.operations.rehearsal.demo.compare import AnomalyItem, MinuteItem

_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What AWS IoT holds of the fleet: its things, and the distinct active certificates attached to them."""

    things: int
    certificates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What the archive bucket holds: distinct records by their number in the stream, and what they are."""

    lines: int
    readings: Counter[tuple[str, int, int]]
    quarantined: int
    rule_errors: int


def count_registry(iot: Any, suffix: str) -> Registry:
    """Things of this environment and the active certificates that are attached to them."""
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
    """All minute items and anomaly items of the readings table."""
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
    """The archive's records, each counted once however often its batch was delivered."""
    raw = {line["sequence_number"]: line for line in lines_below(s3, bucket, "raw/")}
    quarantined = {line["sequence_number"] for line in lines_below(s3, bucket, "quarantine/")}
    errors = sum(1 for key in _keys(s3, bucket, "iot-rule-errors/") if not key.endswith("/"))
    readings: Counter[tuple[str, int, int]] = Counter()
    for line in raw.values():
        payload = json.loads(base64.b64decode(line["raw"]))
        readings[line["thing"], payload["time"], payload["sequence"]] += 1
    return Archive(lines=len(raw), readings=readings, quarantined=len(quarantined), rule_errors=errors)


def count_items(dynamodb: Any, table: str) -> int:
    """How many items a table holds, read now: DescribeTable's own count is hours old."""
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, Select="COUNT", ConsistentRead=True)
    return sum(page["Count"] for page in pages)


def _keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", ()):
            yield entry["Key"]


def lines_below(s3: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """The NDJSON lines of every object below a prefix."""
    for key in _keys(s3, bucket, prefix):
        if key.endswith(".ndjson.gz"):
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            yield from map(json.loads, gzip.decompress(body).splitlines())


def _epoch_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
