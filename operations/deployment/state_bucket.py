"""The bucket of Terraform's states: checked before a deployment, or created as it must be.

A state is locked by an object beside it (`use_lockfile`), so that the bucket is all that there is to make.
https://developer.hashicorp.com/terraform/language/backend/s3
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault

CREATING = "fleet deploy --aws --create-state-bucket"

BLOCKED = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StateBucket:
    """A bucket for states; `owner` is the account that it must be of, `key_arn` a KMS key instead of S3's own."""

    name: str
    region: str
    owner: str
    key_arn: str | None = None

    @property
    def said(self) -> str:
        """Return it as a bundle names it."""
        return f"s3://{self.name} in {self.region}"


def ensure(s3: Any, bucket: StateBucket, *, creates: bool) -> bool:
    """Check the bucket, or create a missing one where `creates`; return whether it was created.

    Raises:
        EnvironmentFault: it is missing, of another account or region, or not versioned, encrypted and private.
    """
    with _reporting(bucket):
        is_there = _exists(s3, bucket)
        if not is_there and not creates:
            raise EnvironmentFault(
                f"the state bucket {bucket.name} does not exist",
                hint=f"correct TERRAFORM_STATE_BUCKET, or create it: {CREATING}",
            )
        if not is_there:
            _create(s3, bucket)
        check(s3, bucket)
    return not is_there


def check(s3: Any, bucket: StateBucket) -> None:
    """Raise EnvironmentFault, with everything that is wrong, where states do not belong into the bucket."""
    mine: dict[str, Any] = {"Bucket": bucket.name, "ExpectedBucketOwner": bucket.owner}
    region = s3.get_bucket_location(**mine).get("LocationConstraint") or "us-east-1"
    if region != bucket.region:
        raise EnvironmentFault(
            f"the state bucket {bucket.name} is in {region}, not in {bucket.region}",
            hint=f"set TERRAFORM_STATE_BUCKET_REGION={region}",
        )
    missing = []
    if s3.get_bucket_versioning(**mine).get("Status") != "Enabled":
        missing.append("versioning (an earlier state could not be restored)")
    if not _answer(s3.get_bucket_encryption, "ServerSideEncryptionConfigurationNotFoundError", mine):
        missing.append("default encryption")
    blocked = _answer(s3.get_public_access_block, "NoSuchPublicAccessBlockConfiguration", mine)
    if blocked.get("PublicAccessBlockConfiguration") != BLOCKED:
        missing.append("a block of all public access")
    if missing:
        raise EnvironmentFault(
            f"the state bucket {bucket.name} lacks {', '.join(missing)}",
            hint="set that for the bucket, or name another one in TERRAFORM_STATE_BUCKET",
        )


def _exists(s3: Any, bucket: StateBucket) -> bool:
    try:
        s3.head_bucket(Bucket=bucket.name, ExpectedBucketOwner=bucket.owner)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            return False
        if status == 403:
            raise EnvironmentFault(
                f"the state bucket {bucket.name} is not account {bucket.owner}'s, or these credentials may not use it",
                hint="bucket names are global: name one of your own in TERRAFORM_STATE_BUCKET, or its role in "
                "TERRAFORM_STATE_ROLE_ARN",
            ) from None
        if status != 301:  # it is there, in another region, which `check` names
            raise
    return True


def _create(s3: Any, bucket: StateBucket) -> None:
    """Create the bucket: private first, so that it is never anything else; repeated steps change nothing."""
    place = {"LocationConstraint": bucket.region}
    s3.create_bucket(
        Bucket=bucket.name, **({} if bucket.region == "us-east-1" else {"CreateBucketConfiguration": place})
    )
    mine: dict[str, Any] = {"Bucket": bucket.name, "ExpectedBucketOwner": bucket.owner}
    s3.put_public_access_block(**mine, PublicAccessBlockConfiguration=BLOCKED)
    s3.put_bucket_versioning(**mine, VersioningConfiguration={"Status": "Enabled"})
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": bucket.key_arn} if bucket.key_arn else None
    rule = {"ApplyServerSideEncryptionByDefault": default or {"SSEAlgorithm": "AES256"}}
    s3.put_bucket_encryption(**mine, ServerSideEncryptionConfiguration={"Rules": [rule]})
    arn = f"arn:{s3.meta.partition}:s3:::{bucket.name}"
    statement = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    s3.put_bucket_policy(**mine, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))


def _answer(call: Any, missing: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what S3 answers; nothing where it has no such configuration."""
    try:
        return dict(call(**arguments))
    except ClientError as error:
        if error.response["Error"]["Code"] == missing:
            return {}
        raise


@contextmanager
def _reporting(bucket: StateBucket) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise EnvironmentFault(
            f"the state bucket {bucket.name} cannot be checked: {error}", hint="check the credentials and their rights"
        ) from None
