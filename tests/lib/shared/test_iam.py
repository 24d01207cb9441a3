"""Policy documents."""

from __future__ import annotations

import json

from fleet_iot.lib.shared import iam

KEY = "arn:aws:kms:eu-west-1:123456789012:key/k"


def test_a_statement_leaves_out_what_it_does_not_say() -> None:
    """Principal and Condition appear only where they are given."""
    statement = iam.Statement(sid="Read", actions=("s3:GetObject",), resource="arn:aws:s3:::b/*")
    assert statement.document() == {
        "Sid": "Read",
        "Effect": "Allow",
        "Action": ["s3:GetObject"],
        "Resource": "arn:aws:s3:::b/*",
    }


def test_a_policy_is_compact_json_of_the_current_version() -> None:
    """The document holds its statements in order and no white space."""
    document = iam.policy(iam.Statement(sid="A", actions=("a:B",), resource=("x", "y")))
    assert document == (
        '{"Version":"2012-10-17","Statement":[{"Sid":"A","Effect":"Allow","Action":["a:B"],"Resource":["x","y"]}]}'
    )


def test_trust_is_bound_to_account_and_source() -> None:
    """A service may assume the role for one account's one source only."""
    trust = json.loads(iam.trust("iot.amazonaws.com", account_id="123456789012", source_arn="arn:x:*"))
    assert trust["Statement"][0]["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {"aws:SourceArn": "arn:x:*"},
    }


def test_key_use_is_bound_to_service_and_context() -> None:
    """A key may be used through one service for one encryption context only."""
    statement = iam.key_use("K", "Decrypt", key_arn=KEY, via="kinesis.x", context={"aws:kinesis:arn": "s"}).document()
    assert (statement["Action"], statement["Resource"]) == (["kms:Decrypt"], KEY)
    assert statement["Condition"] == {
        "StringEquals": {"kms:ViaService": "kinesis.x", "kms:EncryptionContext:aws:kinesis:arn": "s"}
    }


def test_plain_transport_and_old_tls_are_denied_to_everyone() -> None:
    """Two statements, since the conditions of one would both have to hold."""
    plain, old = (deny("s3:*", "b", "b/*").document() for deny in (iam.deny_insecure_transport, iam.deny_old_tls))
    assert (plain["Effect"], plain["Principal"]) == (old["Effect"], old["Principal"]) == ("Deny", "*")
    assert plain["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert old["Condition"] == {"NumericLessThan": {"s3:TlsVersion": "1.2"}}
    assert plain["Resource"] == ["b", "b/*"]
