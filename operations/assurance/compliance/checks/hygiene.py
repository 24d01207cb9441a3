"""Checks of every resource: its type, name, account, state, secrets, and whether AWS accepts its attributes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from fleet_iot.operations.assurance.compliance.findings import Observation, check, observe, problem_unless
from fleet_iot.operations.assurance.compliance.infrastructure import (
    CREDENTIAL,
    IOT_LOG_GROUP,
    LAMBDA_LOG_GROUP,
    NAMED,
    NAMELESS,
    PlannedInfrastructure,
    blocks_of,
)
from fleet_iot.operations.assurance.compliance.requests import judge_resource

DESTROYABLE: dict[str, dict[str, Any]] = {
    "aws_s3_bucket": {"force_destroy": True},
    "aws_dynamodb_table": {"deletion_protection_enabled": False},
    "aws_kinesis_stream": {"enforce_consumer_deletion": True},
    "aws_kms_key": {"deletion_window_in_days": 7},
    "aws_iam_role": {"force_detach_policies": True},
    "aws_cloudwatch_log_group": {"skip_destroy": False},
    "aws_lambda_function": {"skip_destroy": False},
}
"""Type → the attributes with which `terraform destroy` leaves nothing."""

PROTECTED: dict[str, dict[str, Any]] = {
    "aws_s3_bucket": {"force_destroy": False},
    "aws_dynamodb_table": {"deletion_protection_enabled": True},
    "aws_kms_key": {"deletion_window_in_days": 30},
}
"""The attributes instead where records are kept."""

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
"""Characters below which the value of a variable is no secret, or would match by chance."""


@check("types-known", "Every resource type is known to the gate")
def types_known(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for type_ in sorted({resource.type for resource in planned.resources}):
        is_known = type_ in NAMED or type_ in NAMELESS
        yield observe(
            type_,
            "type",
            problem_unless(is_known, "is unknown to the gate: see compliance/resource_types.py"),
        )


@check("named", "Names are type, purpose and environment")
def named(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for type_, (attribute, pattern) in NAMED.items():
        for resource in planned.of(type_):
            name = str(resource.body.get(attribute))
            patterns = [pattern] + [LAMBDA_LOG_GROUP] * (type_ == "aws_cloudwatch_log_group")
            is_right = any(_named_by(each, planned.environment_suffix).fullmatch(name) for each in patterns)
            is_given = type_ == "aws_cloudwatch_log_group" and name == IOT_LOG_GROUP
            yield observe(resource, attribute, problem_unless(is_right or is_given, f"is named '{name}'"))


@check("destroyable", "Everything can be destroyed, contents included; records are protected instead")
def destroyable(planned: PlannedInfrastructure) -> Iterator[Observation]:
    is_kept = planned.retention == "records"
    for resource in planned.resources:
        demands = (DESTROYABLE | PROTECTED if is_kept else DESTROYABLE).get(resource.type, {})
        lifecycle = resource.block("lifecycle")
        problems = [
            f"{attribute} is {resource.body.get(attribute)}, not {value}"
            for attribute, value in demands.items()
            if resource.body.get(attribute, value if value is False else None) != value
        ]
        if demands or lifecycle:
            yield observe(
                resource,
                ", ".join(demands) or "lifecycle",
                *problems,
                problem_unless(not lifecycle.get("prevent_destroy"), "prevents its own destruction"),
            )


@check("records-locked", "Records are locked for seven years", about=LOCK)
def locked(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """With records, every bucket but those of access logs, which S3 delivers to no locked bucket."""
    if planned.retention != "records":
        return
    for bucket in planned.of("aws_s3_bucket"):
        if not planned.belonging("aws_s3_bucket_logging", "target_bucket", bucket):
            days = [
                retained.get("days", 0)
                for lock in planned.belonging(LOCK, "bucket", bucket)
                for rule in lock.blocks("rule")
                for retained in blocks_of(rule, "default_retention")
            ]
            yield observe(
                bucket, "object lock", problem_unless(days and min(days) >= LOCK_DAYS, f"locks its objects {days} days")
            )


@check("no-secret", "Neither plan nor state holds a secret")
def no_secret(planned: PlannedInfrastructure, environment: Mapping[str, str] | None = None) -> Iterator[Observation]:
    variables = os.environ if environment is None else environment
    values = {
        f"value of {name}": re.compile(re.escape(value))
        for name, value in variables.items()
        if SECRET_VARIABLE.search(name) and len(value) >= SECRET_LENGTH and not PurePosixPath(value).is_absolute()
    }
    for stack in planned.stacks:
        found = [name for name, pattern in (SECRETS | values).items() if pattern.search(stack.plan_text)]
        yield observe(stack.name, "plan", problem_unless(not found, f"holds a {', '.join(found)}"))
    for resource in planned.resources:
        kept = sorted(SECRET_ATTRIBUTES & {name for name, value in resource.body.items() if value})
        text = [name for name, pattern in SECRETS.items() if pattern.search(_text(resource.body))]
        if kept or text:
            yield observe(
                resource, ", ".join(kept) or "body", f"would keep a {', '.join(kept + text)} in Terraform's state"
            )


@check("state-explicit", "A stack's state has an explicit backend: encrypted, locked")
def state_explicit(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for stack in planned.stacks:
        local, bucket = stack.backend.get("local"), stack.backend.get("s3")
        path = str((local or {}).get("path", ""))
        yield observe(
            stack.name,
            "backend",
            problem_unless(local or bucket, "says not where its state is kept"),
            problem_unless(not local or (path and not path.startswith("/")), "keeps its state at an absolute path"),
            problem_unless(not bucket or bucket.get("encrypt") is True, "keeps its state unencrypted"),
            problem_unless(not bucket or bucket.get("use_lockfile") is True, "does not lock its state"),
        )


@check("right-account", "A stack is deployed to one account and region only")
def right_account(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for stack in planned.stacks:
        accounts, region = stack.provider.get("allowed_account_ids"), stack.provider.get("region")
        keys = [name for name in ("access_key", "secret_key", "token") if stack.provider.get(name)]
        yield observe(
            stack.name,
            "provider",
            problem_unless(accounts and len(accounts) == 1, "would go into any account"),
            problem_unless(region, "does not say its region"),
            problem_unless(not keys, f"holds a {', '.join(keys)}"),
        )


def _named_by(pattern: str, suffix: str) -> re.Pattern[str]:
    separator = "_" if "_{suffix}" in pattern else "-"
    purpose = rf"[a-z0-9_]+(?:{separator}[a-z0-9_]+)*"  # a thing's own name may contain underscores
    return re.compile(
        re.escape(pattern)
        .replace(r"\{purpose\}", purpose)
        .replace(r"\{suffix\}", re.escape(suffix.replace("-", separator)))
    )


def _text(value: Any) -> str:
    """Return all strings of a body, one a line."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "\n".join(map(_text, value.values()))
    return "\n".join(map(_text, value)) if isinstance(value, list) else ""


@check("api-takes-it", "Every attribute is mapped to a member of an AWS call, and accepted by its service model")
def accepted_by_api(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """One observation a resource where all is well, else one for each problem."""
    for resource in planned.resources:
        judged = judge_resource(resource, planned=planned)
        if not judged.problems:
            yield observe(resource, f"{judged.attributes} attributes")
        for attribute, problem in judged.problems:
            yield observe(resource, attribute, problem)
