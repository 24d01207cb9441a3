"""Checks of keys and of what they encrypt: everything at rest, by a key of the platform's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from fleet_iot.lib.names import LANES, RAW_ARCHIVE
from fleet_iot.operations.assurance.compliance.findings import Observation, check, observe, problem_unless
from fleet_iot.operations.assurance.compliance.infrastructure import (
    Body,
    PlannedInfrastructure,
    Resource,
    Statement,
    block_of,
    kind_of,
    made_up_id,
    name_of,
    read_statements,
)

KEY_OF: dict[str, tuple[str, ...]] = {
    "aws_kinesis_stream": ("kms_key_id",),
    "aws_dynamodb_table": ("server_side_encryption", "kms_key_arn"),
    "aws_sqs_queue": ("kms_master_key_id",),
    "aws_sns_topic": ("kms_master_key_id",),
    "aws_cloudwatch_log_group": ("kms_key_id",),
    "aws_lambda_function": ("kms_key_arn",),
    "aws_cloudtrail": ("kms_key_id",),
}
"""Type that stores data → where it names its key; buckets have a resource of their own for that."""

ROTATION_DAYS = 365


HEADER = "s3:x-amz-server-side-encryption"
"""The condition key of the header by which a writer asks for encryption, and the prefix of the related ones."""

KEY, CUSTOMER = "-aws-kms-key-id", "-customer-algorithm"
OWN = "own"
FOREIGN = "arn:aws:kms:eu-west-1:999999999999:key/11111111-2222-3333-4444-555555555555"

OWN_WRITES: dict[str, dict[str, str]] = {
    "that asks for no encryption": {},
    "under its own key": {"": "aws:kms", KEY: OWN},
}
FOREIGN_WRITES: dict[str, dict[str, str]] = {
    "under a foreign key": {"": "aws:kms", KEY: FOREIGN},
    "under a foreign key, twice": {"": "aws:kms:dsse", KEY: FOREIGN},
    "that names a foreign key only": {KEY: FOREIGN},
    "under AWS's own key": {"": "aws:kms"},
    "by SSE-S3": {"": "AES256"},
    "by another kind of its own key": {"": "aws:kms:dsse", KEY: OWN},
    "under a customer's key": {CUSTOMER: "AES256"},
}
"""Requests that a writer may make, by the ends of the condition keys."""


@check("key-rotation", "Every key rotates once a year and stays in its region")
def keys_rotate(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for key in planned.of("aws_kms_key"):
        yield observe(
            key,
            "enable_key_rotation",
            problem_unless(key.body.get("enable_key_rotation") is True, "does not rotate"),
            problem_unless(
                key.body.get("rotation_period_in_days", 0) <= ROTATION_DAYS, "rotates less than once a year"
            ),
            problem_unless(key.body.get("is_enabled") is not False, "is disabled"),
            problem_unless(key.body.get("multi_region") is not True, "leaves its region"),
        )


@check("own-key", "Everything that stores data is encrypted by a key of the platform's own")
def own_key(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for type_, path in KEY_OF.items():
        for resource in planned.of(type_):
            value = _at(resource.body, path)
            is_own = _is_own_key(planned, resource, value)
            yield observe(
                resource, ".".join(path), problem_unless(is_own, f"is encrypted by {value or 'no key of its own'}")
            )


@check("stream-encrypted", "Streams are encrypted")
def stream_encrypted(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for stream in planned.of("aws_kinesis_stream"):
        yield observe(
            stream, "encryption_type", problem_unless(stream.body.get("encryption_type") == "KMS", "is not encrypted")
        )


@check("bucket-encrypted", "Buckets are encrypted by an own key, those for access logs by SSE-S3")
def buckets_encrypted(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """S3 delivers access logs to SSE-S3 buckets only, so only those have no key of their own.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerLogs.html
    """
    targets = _log_targets(planned)
    for bucket in planned.of("aws_s3_bucket"):
        defaults = [
            block_of(rule, "apply_server_side_encryption_by_default")
            for each in planned.belonging("aws_s3_bucket_server_side_encryption_configuration", "bucket", bucket)
            for rule in each.blocks("rule")
        ]
        default = defaults[0] if defaults else {}
        algorithm, key = default.get("sse_algorithm"), default.get("kms_master_key_id")
        if bucket in targets:
            yield observe(
                bucket, "encryption", problem_unless(algorithm == "AES256", f"accepts no access logs under {algorithm}")
            )
            continue
        owner = next(
            iter(planned.belonging("aws_s3_bucket_server_side_encryption_configuration", "bucket", bucket)), bucket
        )
        yield observe(
            bucket,
            "encryption",
            problem_unless(algorithm == "aws:kms", f"is encrypted by {algorithm or 'nothing that is said'}"),
            problem_unless(_is_own_key(planned, owner, key), "has no key of its own"),
        )


@check("archive-own-key", "Archive and state accept no object under another key or by another kind of encryption")
def archive_writes(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """Evaluates requests that S3 might get under the denials in the bucket's policy."""
    for bucket in planned.of("aws_s3_bucket"):
        if kind_of(bucket) not in (RAW_ARCHIVE, LANES):
            continue
        texts = [
            str(each.body.get("policy", "")) for each in planned.belonging("aws_s3_bucket_policy", "bucket", bucket)
        ]
        denials = [
            statement
            for text in texts
            for statement in read_statements(text)
            if _denies_writes(statement, f"arn:aws:s3:::{name_of(bucket)}/*")
        ]
        own = _own_key_arn(planned, bucket, " ".join(texts))
        try:
            taken = [how for how, asked in OWN_WRITES.items() if _is_denied(denials, asked, own)]
            let_in = [how for how, asked in FOREIGN_WRITES.items() if not _is_denied(denials, asked, own)]
        except ValueError as error:
            yield observe(bucket, "policy", str(error))
            continue
        yield observe(
            bucket,
            "policy",
            problem_unless(not taken, f"refuses a write {' and '.join(taken)}"),
            problem_unless(not let_in, f"accepts a write {' and '.join(let_in)}"),
        )


def _denies_writes(statement: Statement, objects: str) -> bool:
    """Return whether it denies writes to everybody by encryption only; others are about transport."""
    return (
        not statement.is_allow
        and not statement.inverted
        and "*" in [value for _, value in statement.principals]
        and bool({"s3:PutObject", "s3:*"} & set(statement.actions))
        and objects in statement.resources
        and all(condition.key.startswith(HEADER) for condition in statement.conditions)
    )


def _is_denied(denials: Iterable[Statement], asked: Mapping[str, str], own: str) -> bool:
    request = {f"{HEADER}{name}": own if value == OWN else value for name, value in asked.items()}
    return any(statement.applies_to(request) for statement in denials)


def _own_key_arn(planned: PlannedInfrastructure, bucket: Resource, policy: str) -> str:
    """Return the ARN of the bucket's default key as `policy` names it; a text that is no ARN where it names another."""
    for each in planned.belonging("aws_s3_bucket_server_side_encryption_configuration", "bucket", bucket):
        for rule in each.blocks("rule"):
            value = block_of(rule, "apply_server_side_encryption_by_default").get("kms_master_key_id")
            key = planned.target(each, value)
            found = re.search(rf"arn:aws:kms:[\w-]+:\d+:key/{made_up_id(key.address)}", policy) if key else None
            if found:
                return found[0]
    return "the key of the bucket"


def _log_targets(planned: PlannedInfrastructure) -> list[Resource]:
    return [
        bucket
        for bucket in planned.of("aws_s3_bucket")
        if planned.belonging("aws_s3_bucket_logging", "target_bucket", bucket)
    ]


def _is_own_key(planned: PlannedInfrastructure, resource: Resource, value: object) -> bool:
    """Return whether this names a customer-managed key: a reference to one, its ARN, or an alias that is not AWS's."""
    if not isinstance(value, str):
        return False
    target = planned.target(resource, value)
    if target is not None:
        return target.type == "aws_kms_key"
    return value.startswith(("arn:aws:kms:", "alias/key-")) and ":alias/aws/" not in value


def _at(body: Body, path: tuple[str, ...]) -> object:
    for block in path[:-1]:
        body = block_of(body, block)
    return body.get(path[-1])
