"""Check names and tags against AWS's limits, before an apply would fail half-way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..faults import ManifestError, SynthesisError

BUCKET_MAXIMUM = 63
BUCKET_PATTERN = re.compile(r"[a-z0-9][a-z0-9.-]{1,}[a-z0-9]")
BUCKET_BEGINNINGS = ("xn--", "sthree-", "amzn-s3-demo-")
BUCKET_ENDINGS = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""

ADDRESS_PATTERN = re.compile(r"\d+(\.\d+){3}")

TAGS_MAXIMUM = 50
TAG_KEY_MAXIMUM = 128
TAG_VALUE_MAXIMUM = 256
TAG_PUNCTUATION = frozenset("_.:/=+-@ ")
"""https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html; IAM ignores the case of keys:
https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html"""

NAME_MAXIMA = {
    "aws_cloudtrail": ("name", 128),
    "aws_cloudwatch_dashboard": ("dashboard_name", 255),
    "aws_cloudwatch_log_group": ("name", 512),
    "aws_cloudwatch_log_metric_filter": ("name", 512),
    "aws_cloudwatch_metric_alarm": ("alarm_name", 255),
    "aws_dynamodb_table": ("name", 255),
    "aws_iam_role": ("name", 64),
    "aws_iot_domain_configuration": ("name", 128),
    "aws_iot_policy": ("name", 128),
    "aws_iot_provisioning_template": ("name", 36),
    "aws_iot_thing": ("name", 128),
    "aws_iot_thing_group": ("name", 128),
    "aws_iot_thing_type": ("name", 128),
    "aws_iot_topic_rule": ("name", 128),
    "aws_kinesis_stream": ("name", 128),
    "aws_kms_alias": ("name", 256),
    "aws_lambda_function": ("function_name", 64),
    "aws_s3_bucket": ("bucket", BUCKET_MAXIMUM),
    "aws_s3_bucket_intelligent_tiering_configuration": ("name", 64),
    "aws_scheduler_schedule": ("name", 64),
    "aws_sns_topic": ("name", 256),
    "aws_sqs_queue": ("name", 80),
}
"""Resource type → its name argument, and the maximum length in its service's API."""


def bucket_fault(name: str) -> str | None:
    """Return S3's objection to a bucket name, as a predicate, or None."""
    if len(name) > BUCKET_MAXIMUM:
        return f"is {len(name) - BUCKET_MAXIMUM} longer than S3's {BUCKET_MAXIMUM} characters"
    if not BUCKET_PATTERN.fullmatch(name):
        return "is not 3 to 63 lower-case letters, digits, dots and hyphens between letters or digits"
    if ".." in name or ADDRESS_PATTERN.fullmatch(name):
        return "has two dots in a row, or is an IP address"
    for reserved in BUCKET_BEGINNINGS:
        if name.startswith(reserved):
            return f"begins with {reserved}, which S3 keeps for itself"
    for reserved in BUCKET_ENDINGS:
        if name.endswith(reserved):
            return f"ends in {reserved}, which S3 keeps for itself"
    return None


def role_fault(name: str) -> str | None:
    """Return IAM's objection to the length of a role name, as a predicate, or None."""
    maximum = NAME_MAXIMA["aws_iam_role"][1]
    return f"is {len(name) - maximum} longer than IAM's {maximum} characters" if len(name) > maximum else None


def check_tags(tags: Mapping[str, str]) -> None:
    """Raise ManifestError where AWS would reject the default tags; CloudTrail accepts none without a value."""
    fault = _tags_fault(tags)
    if fault:
        raise ManifestError(
            f"the tags {fault}.", remedy="Correct `tags` in the manifest and run `fleet generate`.", key=("tags",)
        )


def _tags_fault(tags: Mapping[str, str]) -> str | None:
    if len(tags) > TAGS_MAXIMUM:
        return f"are {len(tags)}, more than AWS's {TAGS_MAXIMUM}"
    seen: dict[str, str] = {}
    for key, value in tags.items():
        if key.lower().startswith("aws:"):
            return f"include the key {key!r}, which is reserved by AWS"
        for text, maximum, what in ((key, TAG_KEY_MAXIMUM, "key"), (value, TAG_VALUE_MAXIMUM, "value")):
            if not 1 <= len(text) <= maximum:
                return f"include the {what} {text!r}, which does not have 1 to {maximum} characters"
            if not all(character.isalnum() or character in TAG_PUNCTUATION for character in text):
                return f"include the {what} {text!r}: AWS accepts letters, digits, spaces and any of _ . : / = + - @"
        other = seen.setdefault(key.casefold(), key)
        if other != key:
            return f"include the keys {other!r} and {key!r}, which are the same to IAM"
    return None


def check_names(stack: str, resources: Mapping[str, Mapping[str, Mapping[str, Any]]], *, key: tuple[str, ...]) -> None:
    """Raise SynthesisError at the first name in `stack` that is too long for AWS.

    Args:
        resources: Resource type → logical id → arguments.
        key: The manifest's key that decides the names.
    """
    for kind, (argument, maximum) in NAME_MAXIMA.items():
        for id_, body in resources.get(kind, {}).items():
            name = body.get(argument, "")
            if len(name) > maximum and "${" not in name:
                raise SynthesisError(
                    f"{kind}.{id_} of {stack} would be named {name}, longer than AWS's {maximum} characters.",
                    remedy=f"Shorten the id, or the environment's suffix, by {len(name) - maximum}.",
                    key=key,
                )
