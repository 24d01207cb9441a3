"""The production switch: what `retention: records` turns on, and that `short` stays destroyable."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.lib.shared.context import RECORDS, RETENTIONS, SHORT
from fleet_iot.operations.terraform import terraform_for

pytestmark = pytest.mark.cdktf
LOCKED = ("bucket-audit-trail", "bucket-raw-archive")
LOG_DAYS = {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}
"""https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html"""


def test_days_of_logs_are_such_as_aws_takes() -> None:
    """CloudWatch Logs refuses any other number, at apply."""
    for retention in RETENTIONS.values():
        assert {retention.trail_days, retention.operational_log_days} <= LOG_DAYS
    assert (SHORT.operational_log_days, SHORT.trail_days, SHORT.key_deletion_days) == (30, 90, 7)
    assert RECORDS.trail_days >= 7 * 365


def test_brief_locks_nothing(stacks: Any) -> None:
    """No Object Lock, no protection, buckets go with what they hold: `terraform destroy` leaves nothing."""
    platform = stacks.platform
    assert platform.of("aws_s3_bucket_object_lock_configuration") == {}
    assert {bucket["force_destroy"] for bucket in platform.of("aws_s3_bucket").values()} == {True}
    assert {table["deletion_protection_enabled"] for table in platform.of("aws_dynamodb_table").values()} == {False}


def test_records_are_locked_for_seven_years(records: Any) -> None:
    """Archive and trail, in governance mode; the access logs cannot be: S3 delivers none to a locked bucket."""
    locks = records.platform.of("aws_s3_bucket_object_lock_configuration")
    assert {id_: lock["rule"] for id_, lock in locks.items()} == {
        f"{bucket}-lock": {"default_retention": {"mode": "GOVERNANCE", "days": 2557}} for bucket in LOCKED
    }
    for bucket in LOCKED:
        statement = records.platform.statements("aws_s3_bucket_policy", f"{bucket}-policy")[
            "DenyBypassGovernanceRetention"
        ]
        assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
        assert statement["Action"] == ["s3:BypassGovernanceRetention"]


def test_the_switch_replaces_no_bucket(stacks: Any, records: Any) -> None:
    """Object Lock is put on in place: an argument of the bucket itself would delete it, and all in it, first."""
    former, now = (each.platform.of("aws_s3_bucket") for each in (stacks, records))
    for bucket, body in now.items():
        assert body == former[bucket] | {"force_destroy": False}


def test_nothing_of_the_records_can_be_destroyed_by_mistake(records: Any) -> None:
    """Buckets keep what they hold, tables are protected, keys wait the longest."""
    platform = records.platform
    assert {bucket["force_destroy"] for bucket in platform.of("aws_s3_bucket").values()} == {False}
    assert {table["deletion_protection_enabled"] for table in platform.of("aws_dynamodb_table").values()} == {True}
    assert {key["deletion_window_in_days"] for key in platform.of("aws_kms_key").values()} == {30}


def test_records_keep_logs_for_years(records: Any) -> None:
    """The trail seven years in its bucket and its log group; who read it as long; operational logs over a year."""
    platform = records.platform
    groups = {id_: group["retention_in_days"] for id_, group in platform.of("aws_cloudwatch_log_group").items()}
    assert groups.pop("log-group-audit-trail") == 2557
    assert set(groups.values()) == {400}
    for bucket in ("bucket-audit-trail", "bucket-access-logs"):
        (rule, *_) = platform.one("aws_s3_bucket_lifecycle_configuration", f"{bucket}-lifecycle")["rule"]
        assert rule["expiration"] == [{"days": 2557}]


def test_a_locked_archive_keeps_no_plant_from_going(records: Any) -> None:
    """Markers of prefixes would be locked too, and Terraform could not take them out."""
    assert records.facility("sg-01").of("aws_s3_object") == {}


@pytest.mark.parametrize("name", ["tap-tst", "facility-sg-01-tst"])
def test_terraform_accepts_the_records(records: Any, name: str, tmp_path: Path) -> None:
    """`terraform validate` knows every type, argument and reference."""
    folder = records.outdir / "stacks" / name
    terraform = terraform_for(environment=os.environ, logs=tmp_path)
    terraform.init(folder)
    assert "Success! The configuration is valid" in terraform.validate(folder)
