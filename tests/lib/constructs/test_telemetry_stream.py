"""The stream."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.cdktf
STREAM = "arn:aws:kinesis:ap-southeast-1:123456789012:stream/stream-telemetry-tst"


def test_topic_rules_may_put_and_encrypt_and_nothing_else(stacks) -> None:
    """One action on the stream, one on its key through Kinesis for this stream."""
    statements = stacks.platform.statements("aws_iam_role_policy", "role-topic-rule-policy")
    assert {sid: (s["Action"], s["Resource"]) for sid, s in statements.items()} == {
        "PutTelemetry": (["kinesis:PutRecord"], STREAM),
        "EncryptTelemetry": (["kms:GenerateDataKey"], "${aws_kms_key.key-data.arn}"),
    }
    assert statements["EncryptTelemetry"]["Condition"]["StringEquals"] == {
        "kms:ViaService": "kinesis.ap-southeast-1.amazonaws.com",
        "kms:EncryptionContext:aws:kinesis:arn": STREAM,
    }


def test_only_telemetry_rules_of_this_environment_assume_the_role(stacks) -> None:
    """The trust names IoT, the account, and this environment's telemetry rules."""
    trust = stacks.platform.statements("aws_iam_role", "role-topic-rule", "assume_role_policy")["AllowServiceToAssume"]
    assert trust["Principal"] == {"Service": "iot.amazonaws.com"}
    assert trust["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {"aws:SourceArn": "arn:aws:iot:ap-southeast-1:123456789012:rule/rule_telemetry_*_tst"},
    }
