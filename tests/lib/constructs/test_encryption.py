"""The keys and who may use them."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.cdktf
ACCOUNT = "123456789012"
REGION = "ap-southeast-1"


def test_three_keys_rotate_and_can_be_destroyed(stacks) -> None:
    """Data, logs and audit rotate yearly and are deleted after the shortest window."""
    keys = stacks.platform.of("aws_kms_key")
    assert {id_: (k["enable_key_rotation"], k["deletion_window_in_days"]) for id_, k in keys.items()} == {
        "key-audit": (True, 7),
        "key-data": (True, 7),
        "key-logs": (True, 7),
    }


def test_each_key_has_its_alias(stacks) -> None:
    """An alias carries purpose and environment."""
    aliases = stacks.platform.of("aws_kms_alias")
    assert {alias["name"]: alias["target_key_id"] for alias in aliases.values()} == {
        "alias/key-audit-tst": "${aws_kms_key.key-audit.key_id}",
        "alias/key-data-tst": "${aws_kms_key.key-data.key_id}",
        "alias/key-logs-tst": "${aws_kms_key.key-logs.key_id}",
    }


def test_administrators_may_not_use_a_key(stacks) -> None:
    """The account's statement without condition holds neither a data operation nor a wildcard."""
    for key in stacks.platform.of("aws_kms_key"):
        statement = stacks.platform.statements("aws_kms_key", key)["AllowKeyAdministration"]
        used = [a for a in statement["Action"] if any(word in a for word in ("Encrypt", "Decrypt", "DataKey", "*"))]
        assert used == []


def test_the_data_key_is_used_through_six_services(stacks) -> None:
    """Roles of this account use it through stream, tables, archive, queue, topic and function alone."""
    statement = stacks.platform.statements("aws_kms_key", "key-data")["AllowUseThroughServices"]
    assert statement["Condition"] == {
        "StringEquals": {
            "kms:CallerAccount": ACCOUNT,
            "kms:ViaService": [
                f"{s}.{REGION}.amazonaws.com" for s in ("kinesis", "dynamodb", "s3", "sqs", "sns", "lambda")
            ],
        }
    }


def test_grants_are_kept_by_services_alone(stacks) -> None:
    """CreateGrant is allowed only for a resource of AWS, through the two services that keep grants."""
    statement = stacks.platform.statements("aws_kms_key", "key-data")["AllowGrantsForServices"]
    assert statement["Action"] == ["kms:CreateGrant"]
    assert statement["Condition"]["Bool"] == {"kms:GrantIsForAWSResource": "true"}
    assert statement["Condition"]["StringEquals"]["kms:ViaService"] == [
        f"{service}.{REGION}.amazonaws.com" for service in ("dynamodb", "lambda")
    ]


def test_the_logs_key_is_bound_to_the_log_groups(stacks) -> None:
    """Every log group of the platform is in the encryption context that the key takes, and no other."""
    statement = stacks.platform.statements("aws_kms_key", "key-logs")["AllowPlatformLogGroups"]
    groups = {group["name"] for group in stacks.platform.of("aws_cloudwatch_log_group").values()}
    assert set(statement["Condition"]["ArnEquals"]["kms:EncryptionContext:aws:logs:arn"]) == {
        f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}" for group in groups
    }


def test_the_audit_key_is_bound_to_the_trails(stacks) -> None:
    """CloudTrail may make data keys for the two trails only, in their own encryption contexts."""
    trails = [
        f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/{trail}-mfg-{REGION}-tst"
        for trail in ("trail-audit", "trail-data-events")
    ]
    statements = stacks.platform.statements("aws_kms_key", "key-audit")
    assert statements["AllowCloudTrailEncrypt"]["Principal"] == {"Service": "cloudtrail.amazonaws.com"}
    assert statements["AllowCloudTrailEncrypt"]["Condition"] == {
        "StringEquals": {"aws:SourceArn": trails, "kms:EncryptionContext:aws:cloudtrail:arn": trails}
    }
    assert statements["AllowCloudTrailDescribeKey"]["Condition"] == {"StringEquals": {"aws:SourceArn": trails}}


def test_all_that_can_be_encrypted_names_its_key(stacks) -> None:
    """Stream, tables, queue, function, log groups and trails use a customer-managed key."""
    platform = stacks.platform
    data, logs, audit = (f"${{aws_kms_key.key-{purpose}.arn}}" for purpose in ("data", "logs", "audit"))
    assert platform.one("aws_kinesis_stream", "stream-telemetry")["kms_key_id"] == data
    assert {t["server_side_encryption"]["kms_key_arn"] for t in platform.of("aws_dynamodb_table").values()} == {data}
    assert platform.one("aws_sqs_queue", "queue-processor-failures")["kms_master_key_id"] == data
    assert platform.one("aws_lambda_function", "function-sensor-processor")["kms_key_arn"] == data
    assert {g["kms_key_id"] for g in platform.of("aws_cloudwatch_log_group").values()} == {logs}
    assert {trail["kms_key_id"] for trail in platform.of("aws_cloudtrail").values()} == {audit}
    encryptions = platform.of("aws_s3_bucket_server_side_encryption_configuration")
    algorithms = {
        id_: json.dumps(e["rule"][0]["apply_server_side_encryption_by_default"]) for id_, e in encryptions.items()
    }
    assert algorithms == {
        "bucket-access-logs-encryption": '{"sse_algorithm": "AES256"}',
        "bucket-audit-trail-encryption": json.dumps({"kms_master_key_id": audit, "sse_algorithm": "aws:kms"}),
        "bucket-lanes-encryption": json.dumps({"kms_master_key_id": data, "sse_algorithm": "aws:kms"}),
        "bucket-raw-archive-encryption": json.dumps({"kms_master_key_id": data, "sse_algorithm": "aws:kms"}),
    }
