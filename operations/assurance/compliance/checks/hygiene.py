"""Checks of every resource alike: known, named, destroyable, in the right account; and that nothing leaks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from fleet_iot.operations.assurance.compliance.findings import Check, Observation, saw, unless
from fleet_iot.operations.assurance.compliance.infrastructure import (
    CREDENTIAL,
    IOT_LOG_GROUP,
    LAMBDA_LOG_GROUP,
    NAMED,
    NAMELESS,
    Estate,
    blocks_of,
)

DESTROYABLE: dict[str, dict[str, Any]] = {
    "aws_s3_bucket": {"force_destroy": True},
    "aws_dynamodb_table": {"deletion_protection_enabled": False},
    "aws_kinesis_stream": {"enforce_consumer_deletion": True},
    "aws_kms_key": {"deletion_window_in_days": 7},
    "aws_iam_role": {"force_detach_policies": True},
    "aws_cloudwatch_log_group": {"skip_destroy": False},
    "aws_lambda_function": {"skip_destroy": False},
}
"""Type → what must hold so that `terraform destroy` leaves nothing."""

PROTECTED: dict[str, dict[str, Any]] = {
    "aws_s3_bucket": {"force_destroy": False},
    "aws_dynamodb_table": {"deletion_protection_enabled": True},
    "aws_kms_key": {"deletion_window_in_days": 30},
}
"""What holds instead where records are kept."""

LOCK, LOCK_DAYS = "aws_s3_bucket_object_lock_configuration", 2557

SECRETS = {
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "access key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "credential of the plan": re.compile(re.escape(CREDENTIAL)),
    "token": re.compile(r"\b(?:ghp|gho|xox[abp])[_-][A-Za-z0-9]{20,}"),
}

SECRET_ATTRIBUTES = frozenset({"private_key", "secret", "secret_key", "password", "token", "secret_string"})

SECRET_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL", re.IGNORECASE)
SECRET_LENGTH = 12
"""Characters below which the value of a variable is no secret, or would be found by chance."""


def _types_known(estate: Estate) -> Iterator[Observation]:
    for type_ in sorted({resource.type for resource in estate.resources}):
        is_known = type_ in NAMED or type_ in NAMELESS
        yield saw(
            type_,
            "type",
            unless(is_known, "is unknown to the gate: see compliance/resource_types.py"),
        )


def _named(estate: Estate) -> Iterator[Observation]:
    for type_, (attribute, pattern) in NAMED.items():
        for resource in estate.of(type_):
            name = str(resource.body.get(attribute))
            patterns = [pattern] + [LAMBDA_LOG_GROUP] * (type_ == "aws_cloudwatch_log_group")
            is_right = any(_named_by(each, estate.environment_suffix).fullmatch(name) for each in patterns)
            is_given = type_ == "aws_cloudwatch_log_group" and name == IOT_LOG_GROUP
            yield saw(resource, attribute, unless(is_right or is_given, f"is named '{name}'"))


def _destroyable(estate: Estate) -> Iterator[Observation]:
    is_kept = estate.retention == "records"
    for resource in estate.resources:
        demands = (DESTROYABLE | PROTECTED if is_kept else DESTROYABLE).get(resource.type, {})
        lifecycle = resource.block("lifecycle")
        problems = [
            f"{attribute} is {resource.body.get(attribute)}, not {value}"
            for attribute, value in demands.items()
            if resource.body.get(attribute, value if value is False else None) != value
        ]
        if demands or lifecycle:
            yield saw(
                resource,
                ", ".join(demands) or "lifecycle",
                *problems,
                unless(not lifecycle.get("prevent_destroy"), "prevents its own destruction"),
            )


def _locked(estate: Estate) -> Iterator[Observation]:
    """Where records are kept, every bucket but those that take access logs, which S3 delivers to no locked bucket."""
    if estate.retention != "records":
        return
    for bucket in estate.of("aws_s3_bucket"):
        if not estate.belonging("aws_s3_bucket_logging", "target_bucket", bucket):
            days = [
                retained.get("days", 0)
                for lock in estate.belonging(LOCK, "bucket", bucket)
                for rule in lock.blocks("rule")
                for retained in blocks_of(rule, "default_retention")
            ]
            yield saw(bucket, "object lock", unless(days and min(days) >= LOCK_DAYS, f"locks its objects {days} days"))


def no_secret(estate: Estate, environment: Mapping[str, str] | None = None) -> Iterator[Observation]:
    variables = os.environ if environment is None else environment
    values = {
        f"value of {name}": re.compile(re.escape(value))
        for name, value in variables.items()
        if SECRET_VARIABLE.search(name) and len(value) >= SECRET_LENGTH and not PurePosixPath(value).is_absolute()
    }
    for stack in estate.stacks:
        found = [name for name, pattern in (SECRETS | values).items() if pattern.search(stack.plan_text)]
        yield saw(stack.name, "plan", unless(not found, f"holds a {', '.join(found)}"))
    for resource in estate.resources:
        kept = sorted(SECRET_ATTRIBUTES & {name for name, value in resource.body.items() if value})
        text = [name for name, pattern in SECRETS.items() if pattern.search(_text(resource.body))]
        if kept or text:
            yield saw(
                resource, ", ".join(kept) or "body", f"would keep a {', '.join(kept + text)} in Terraform's state"
            )


def _state_explicit(estate: Estate) -> Iterator[Observation]:
    for stack in estate.stacks:
        local, bucket = stack.backend.get("local"), stack.backend.get("s3")
        path = str((local or {}).get("path", ""))
        yield saw(
            stack.name,
            "backend",
            unless(local or bucket, "says not where its state is kept"),
            unless(not local or (path and not path.startswith("/")), "keeps its state at an absolute path"),
            unless(not bucket or bucket.get("encrypt") is True, "keeps its state unencrypted"),
            unless(not bucket or bucket.get("use_lockfile") is True, "does not lock its state"),
        )


def _right_account(estate: Estate) -> Iterator[Observation]:
    for stack in estate.stacks:
        accounts, region = stack.provider.get("allowed_account_ids"), stack.provider.get("region")
        keys = [name for name in ("access_key", "secret_key", "token") if stack.provider.get(name)]
        yield saw(
            stack.name,
            "provider",
            unless(accounts and len(accounts) == 1, "would go into any account"),
            unless(region, "does not say its region"),
            unless(not keys, f"holds a {', '.join(keys)}"),
        )


def _named_by(pattern: str, suffix: str) -> re.Pattern[str]:
    separator = "_" if "_{suffix}" in pattern else "-"
    purpose = rf"[a-z0-9_]+(?:{separator}[a-z0-9_]+)*"  # a thing's own name may hold underscores
    return re.compile(
        re.escape(pattern)
        .replace(r"\{purpose\}", purpose)
        .replace(r"\{suffix\}", re.escape(suffix.replace("-", separator)))
    )


def _text(value: Any) -> str:
    """All strings of a body, one a line."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "\n".join(map(_text, value.values()))
    return "\n".join(map(_text, value)) if isinstance(value, list) else ""


CHECKS = (
    Check(id="types-known", demand="No resource type goes unnoticed", look=_types_known),
    Check(id="named", demand="Names are type, purpose and environment", look=_named),
    Check(
        id="destroyable",
        demand="Everything can be destroyed, with what it holds; records are protected instead",
        look=_destroyable,
    ),
    Check(id="records-locked", demand="Records are locked for seven years", look=_locked, about=LOCK),
    Check(id="no-secret", demand="Neither plan nor state holds a secret", look=no_secret),
    Check(id="state-explicit", demand="A stack says where its state is kept: encrypted, locked", look=_state_explicit),
    Check(id="right-account", demand="A stack goes into one account and region only", look=_right_account),
)
