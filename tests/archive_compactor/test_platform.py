"""Compaction beside the sensor processor and under Object Lock, on moto's S3 and DynamoDB."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from fleet_iot.archive_compactor.bucket import Bucket
from fleet_iot.archive_compactor.compaction import Compactor
from fleet_iot.archive_compactor.layout import column_of
from fleet_iot.archive_compactor.reader import archived_dates, archived_lines, load_state
from fleet_iot.archive_compactor.rows import from_parquet
from fleet_iot.sensor_processor.ingest.catalogue import parse_catalogue
from tests.archive_compactor.plants import CATALOGUE, HOUR_MS, START, MemoryS3, Simulation
from tests.sensor_processor.conftest import CATALOGUE as PROCESSED
from tests.sensor_processor.conftest import RECEIVED_AT, make_event, make_payload, make_record, running_platform


def test_sums_are_those_of_the_tables(tmp_path: Path) -> None:
    """For each device, minute and metric, the archive's rows have the sum and the count of the minute item."""
    random_ = random.Random(1)
    records = [
        make_record(
            number=device,
            payload=make_payload(
                time=(at := RECEIVED_AT + 7_000 * number) - 250,
                sequence=number,
                metrics={"temperature": round(random_.gauss(60, 9), 2), "vibration": round(random_.random(), 3)},
            ),
            received_at=at,
            arrived_at=at,
        )
        for number in range(40)
        for device in (1, 2, 3)
    ]
    batches = [records[start : start + 30] for start in range(0, len(records), 30)]
    with running_platform(tmp_path) as platform:
        for batch in [*batches, batches[1][10:], batches[2]]:
            assert platform.handle(make_event(*batch)) == []
        bucket = Bucket(client=platform.s3, name="bucket-mfg-raw-archive-dev")
        catalogue = parse_catalogue(json.dumps(PROCESSED).encode())
        now = datetime.fromtimestamp(RECEIVED_AT / 1000, UTC) + timedelta(hours=2)
        report = Compactor(bucket=bucket, catalogue=catalogue.device_types, now=now, expires=False).run()
        outputs = [output for day in archived_dates(bucket) for output in load_state(bucket, day).outputs]
        batches_of_rows = [batch for each in outputs for batch in from_parquet(bucket.get(each.key))]
        minutes = platform.minutes()

    assert (report.duplicates, report.failed) == (20, [])
    archived: defaultdict[tuple[str, str, str], list[Decimal]] = defaultdict(list)
    for batch in batches_of_rows:
        things, times = batch.column("thing").to_pylist(), batch.column("taken_at").to_pylist()
        for name in ("temperature", "vibration"):
            values = batch.column(column_of(name)).to_pylist()
            for thing, time, value in zip(things, times, values, strict=True):
                archived[thing, f"minute#{time:%Y-%m-%dT%H:%MZ}", name].append(Decimal(repr(value)))
    tables = {
        # The start of the minute: its last revision comes last.
        (item["device"]["S"], "#".join(item["bucket"]["S"].split("#")[:2]), name): (
            Decimal(metric["M"]["sum"]["N"]),
            int(metric["M"]["count"]["N"]),
        )
        for item in sorted(minutes, key=lambda item: item["bucket"]["S"])
        for name, metric in item["metrics"]["M"].items()
    }
    assert {key: (sum(values), len(values)) for key, values in archived.items()} == tables


def test_records_are_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a bucket with a default retention every object is locked, a run deletes nothing, and lists are replaced."""
    simulation = Simulation(s3=MemoryS3(), devices=1, interval_s=600, window_s=300)
    simulation.run(START, START + 2 * HOUR_MS)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="archive", ObjectLockEnabledForBucket=True)
        s3.put_object_lock_configuration(
            Bucket="archive",
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 2_557}},
            },
        )
        bucket = Bucket(client=s3, name="archive")
        for key, body in simulation.s3.objects.items():
            bucket.put(key, body)
        for hours in (4, 27, 24 * 5):
            now = datetime.fromtimestamp(START / 1000, UTC) + timedelta(hours=hours)
            report = Compactor(bucket=bucket, catalogue=CATALOGUE.device_types, now=now, expires=False).run()
            assert (report.deleted, report.failed, report.overtaken) == (0, [], [])
        versions = s3.list_object_versions(Bucket="archive")
        assert not versions.get("DeleteMarkers")
        assert {version["Key"].partition("/")[0] for version in versions["Versions"]} == {
            *("raw", "archive", "compaction", "tables")
        }
        until = datetime.now(UTC) + timedelta(days=2_500)
        for version in versions["Versions"]:
            of = {"Bucket": "archive", "Key": version["Key"], "VersionId": version["VersionId"]}
            assert s3.head_object(**of)["ObjectLockRetainUntilDate"] > until
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.delete_object(**of)
        assert sum(not version["IsLatest"] for version in versions["Versions"]) == 6
        assert len(list(archived_lines(bucket, archived_dates(bucket)))) == simulation.readings
