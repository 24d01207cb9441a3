"""The bucket of the states: created as it must be, and refused where it is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.deployment.state_bucket import StateBucket, ensure

ACCOUNT = "123456789012"
BUCKET = StateBucket(name="company-states", region="eu-central-1", owner=ACCOUNT)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 without buckets."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield boto3.client("s3", region_name=BUCKET.region)


def test_a_missing_bucket_is_named_and_created_on_request(s3: Any) -> None:
    """Versioned, encrypted, private, with a policy for TLS only; checked, it is right, and not created again."""
    with pytest.raises(EnvironmentFault, match="does not exist") as refused:
        ensure(s3, BUCKET, creates=False)
    assert "--create-state-bucket" in (refused.value.hint or "")
    assert ensure(s3, BUCKET, creates=True)
    assert not ensure(s3, BUCKET, creates=True)
    policy = json.loads(s3.get_bucket_policy(Bucket=BUCKET.name)["Policy"])
    assert {"aws:SecureTransport": "false"} == policy["Statement"][0]["Condition"]["Bool"]
    assert "Enabled" == s3.get_bucket_versioning(Bucket=BUCKET.name)["Status"]
    rules = s3.get_bucket_encryption(Bucket=BUCKET.name)["ServerSideEncryptionConfiguration"]["Rules"]
    assert "AES256" == rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"]


def test_a_key_of_the_state_is_the_buckets_default(s3: Any) -> None:
    """TERRAFORM_STATE_KEY_ARN encrypts what is put without a key, too."""
    arn = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    ensure(s3, StateBucket(name="keyed", region=BUCKET.region, owner=ACCOUNT, key_arn=arn), creates=True)
    (rule,) = s3.get_bucket_encryption(Bucket="keyed")["ServerSideEncryptionConfiguration"]["Rules"]
    assert arn == rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"]


def test_all_that_a_bucket_lacks_is_said_at_once(s3: Any) -> None:
    """One that somebody made by hand."""
    s3.create_bucket(Bucket=BUCKET.name, CreateBucketConfiguration={"LocationConstraint": BUCKET.region})
    with pytest.raises(EnvironmentFault) as refused:
        ensure(s3, BUCKET, creates=True)
    for lacking in ("versioning", "a block of all public access"):
        assert lacking in refused.value.message


def test_a_bucket_in_another_region_is_named_with_it(s3: Any) -> None:
    """The hint is the variable to set."""
    elsewhere = StateBucket(name=BUCKET.name, region="eu-west-1", owner=ACCOUNT)
    ensure(s3, BUCKET, creates=True)
    with pytest.raises(EnvironmentFault, match="is in eu-central-1, not in eu-west-1") as refused:
        ensure(s3, elsewhere, creates=False)
    assert "TERRAFORM_STATE_BUCKET_REGION=eu-central-1" in (refused.value.hint or "")


def test_a_bucket_of_another_account_is_refused(s3: Any) -> None:
    """Whoever owns it would read and write the states; S3 compares the owner."""
    stubbed = Stubber(s3)
    expected = {"Bucket": BUCKET.name, "ExpectedBucketOwner": ACCOUNT}
    stubbed.add_client_error("head_bucket", http_status_code=403, expected_params=expected)
    with stubbed, pytest.raises(EnvironmentFault, match=f"not account {ACCOUNT}'s"):
        ensure(s3, BUCKET, creates=True)
