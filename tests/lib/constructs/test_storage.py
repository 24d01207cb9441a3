"""The buckets."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.cdktf
ARCHIVE = "arn:aws:s3:::bucket-mfg-raw-archive-123456789012-tst"
BUCKETS = ("bucket-access-logs", "bucket-audit-trail", "bucket-lanes", "bucket-raw-archive")


def test_the_bucket_names_hold_application_purpose_account_and_environment(stacks) -> None:
    """Bucket names are global, so that a known account is part of them."""
    buckets = stacks.platform.of("aws_s3_bucket")
    assert {id_: bucket["bucket"] for id_, bucket in buckets.items()} == {
        "bucket-access-logs": "bucket-mfg-access-logs-123456789012-tst",
        "bucket-audit-trail": "bucket-mfg-audit-trail-123456789012-tst",
        "bucket-lanes": "bucket-mfg-lanes-123456789012-tst",
        "bucket-raw-archive": "bucket-mfg-raw-archive-123456789012-tst",
    }


@pytest.mark.parametrize("bucket", BUCKETS)
def test_every_bucket_is_private_versioned_and_destroyable(stacks, bucket: str) -> None:
    """Public access blocked in all four ways, ownership enforced, versions kept, contents destroyed with it."""
    platform = stacks.platform
    assert platform.one("aws_s3_bucket", bucket)["force_destroy"] is True
    block = platform.one("aws_s3_bucket_public_access_block", f"{bucket}-public-access")
    assert {key: value for key, value in block.items() if key != "bucket"} == {
        "block_public_acls": True,
        "block_public_policy": True,
        "ignore_public_acls": True,
        "restrict_public_buckets": True,
    }
    ownership = platform.one("aws_s3_bucket_ownership_controls", f"{bucket}-ownership")
    assert ownership["rule"] == {"object_ownership": "BucketOwnerEnforced"}
    versioning = platform.one("aws_s3_bucket_versioning", f"{bucket}-versioning")
    assert versioning["versioning_configuration"] == {"status": "Enabled"}


@pytest.mark.parametrize("bucket", BUCKETS)
def test_every_bucket_refuses_plain_transport_and_old_tls(stacks, bucket: str) -> None:
    """Everyone is denied everything on bucket and objects without TLS 1.2."""
    statements = stacks.platform.statements("aws_s3_bucket_policy", f"{bucket}-policy")
    name = stacks.platform.one("aws_s3_bucket", bucket)["bucket"]
    for sid, condition in (
        ("DenyInsecureTransport", {"Bool": {"aws:SecureTransport": "false"}}),
        ("DenyOldTls", {"NumericLessThan": {"s3:TlsVersion": "1.2"}}),
    ):
        assert statements[sid] == {
            "Sid": sid,
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["s3:*"],
            "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
            "Condition": condition,
        }


def test_archive_state_and_trail_are_access_logged(stacks) -> None:
    """All log into the access-log bucket, under a prefix of their own."""
    logging = stacks.platform.of("aws_s3_bucket_logging")
    assert {id_: (entry["target_bucket"], entry["target_prefix"]) for id_, entry in logging.items()} == {
        f"{bucket}-logging": ("${aws_s3_bucket.bucket-access-logs.bucket}", f"{bucket}/")
        for bucket in ("bucket-audit-trail", "bucket-lanes", "bucket-raw-archive")
    }


def test_access_logs_come_from_this_platform_alone(stacks) -> None:
    """S3's log delivery is bound to the three logged buckets and the account."""
    statement = stacks.platform.statements("aws_s3_bucket_policy", "bucket-access-logs-policy")["AllowS3LogDelivery"]
    assert statement["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnEquals": {
            "aws:SourceArn": [
                ARCHIVE,
                "arn:aws:s3:::bucket-mfg-audit-trail-123456789012-tst",
                "arn:aws:s3:::bucket-mfg-lanes-123456789012-tst",
            ]
        },
    }


@pytest.mark.parametrize("bucket", BUCKETS)
def test_every_bucket_cleans_up_after_itself(stacks, bucket: str) -> None:
    """Uploads that never ended and earlier versions go."""
    rules = stacks.platform.one("aws_s3_bucket_lifecycle_configuration", f"{bucket}-lifecycle")["rule"]
    assert rules[0]["abort_incomplete_multipart_upload"] == [{"days_after_initiation": 7}]
    days = 1 if bucket == "bucket-lanes" else 90
    assert rules[0]["noncurrent_version_expiration"] == [{"noncurrent_days": days}]


def test_state_expires_after_a_month(stacks) -> None:
    """Long after the processor has written each base again."""
    lifecycle = stacks.platform.one("aws_s3_bucket_lifecycle_configuration", "bucket-lanes-lifecycle")
    assert lifecycle["rule"][0]["expiration"] == [{"days": 30}]


def test_raw_readings_cool_down_and_never_expire(stacks) -> None:
    """Intelligent-Tiering after 30 days, Glacier after 90, from 128 kB on: smaller ones cost more than they save."""
    lifecycle = stacks.platform.one("aws_s3_bucket_lifecycle_configuration", "bucket-raw-archive-lifecycle")
    assert lifecycle["rule"][1:3] == [
        {
            "id": id_,
            "status": "Enabled",
            "filter": [{"and": [{"prefix": prefix, "object_size_greater_than": 131_071}]}],
            "transition": [
                {"days": 30, "storage_class": "INTELLIGENT_TIERING"},
                {"days": 90, "storage_class": "GLACIER"},
            ],
        }
        for id_, prefix in (("cool-down", "raw/"), ("cool-down-archive", "archive/"))
    ]
    assert lifecycle["transition_default_minimum_object_size"] == "all_storage_classes_128K"
    assert {rule["id"]: rule["expiration"] for rule in lifecycle["rule"] if "expiration" in rule} == {
        "bulk-registration": [{"days": 35}]
    }


def test_the_archive_takes_no_object_under_another_key(stacks) -> None:
    """Everyone is denied a foreign key, encryption without a key, other kinds and customers' keys; no header passes."""
    statements = stacks.platform.statements("aws_s3_bucket_policy", "bucket-raw-archive-policy")
    header = "s3:x-amz-server-side-encryption"
    key = f"{header}-aws-kms-key-id"
    assert {sid: s["Condition"] for sid, s in statements.items() if header in json.dumps(s)} == {
        "DenyForeignKeys": {"Null": {key: "false"}, "StringNotEquals": {key: "${aws_kms_key.key-data.arn}"}},
        "DenyEncryptionWithoutKey": {"Null": {header: "false", key: "true"}},
        "DenyOtherEncryption": {"Null": {header: "false"}, "StringNotEquals": {header: "aws:kms"}},
        "DenyCustomerKeys": {"Null": {f"{header}-customer-algorithm": "false"}},
    }
    for sid in ("DenyForeignKeys", "DenyEncryptionWithoutKey", "DenyOtherEncryption", "DenyCustomerKeys"):
        statement = statements[sid]
        assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", ["s3:PutObject"])
        assert statement["Resource"] == f"{ARCHIVE}/*"
    for bucket in ("bucket-access-logs", "bucket-audit-trail"):  # S3 and CloudTrail choose their own there
        assert header not in stacks.platform.one("aws_s3_bucket_policy", f"{bucket}-policy")["policy"]


def test_rule_errors_may_be_stored_and_nothing_else(stacks) -> None:
    """One action below iot-rule-errors/, one on the key through S3 for this bucket."""
    statements = stacks.platform.statements("aws_iam_role_policy", "role-rule-errors-policy")
    assert {sid: (s["Action"], s["Resource"]) for sid, s in statements.items()} == {
        "PutRuleErrors": (["s3:PutObject"], f"{ARCHIVE}/iot-rule-errors/*"),
        "EncryptRuleErrors": (["kms:GenerateDataKey"], "${aws_kms_key.key-data.arn}"),
    }
    assert statements["EncryptRuleErrors"]["Condition"]["StringEquals"] == {
        "kms:ViaService": "s3.ap-southeast-1.amazonaws.com",
        "kms:EncryptionContext:aws:s3:arn": ARCHIVE,
    }


def test_the_tables_have_the_keys_that_the_processor_writes(stacks) -> None:
    """Readings by device and bucket, with expiry; devices by device, without."""
    tables = stacks.platform.of("aws_dynamodb_table")
    assert {id_: (t["name"], t["hash_key"], t.get("range_key")) for id_, t in tables.items()} == {
        "table-readings": ("table-readings-tst", "device", "bucket"),
        "table-devices": ("table-devices-tst", "device", None),
        "table-lanes": ("table-lanes-tst", "lane", None),
    }
    assert tables["table-readings"]["ttl"] == {"attribute_name": "expires_at", "enabled": True}
    assert "ttl" not in tables["table-devices"]
