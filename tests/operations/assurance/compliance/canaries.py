"""Canaries: resources that the scanners must find fault with, scanned beside the real ones.

A scanner that has quietly stopped to look passes everything. Its findings on the canaries show whether it looked.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.operations.assurance.compliance.findings import CHECKOV, PARLIAMENT, Finding
from fleet_iot.operations.assurance.compliance.infrastructure import Body
from tests.operations.assurance.compliance.mutations import Trial
from tests.operations.assurance.compliance.mutations.edits import Edit, put

EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A resource of a type, broken, and checkov's check that must see it."""

    check: str
    name: str
    type: str
    edit: Edit


PLAN_CANARIES: tuple[Canary, ...] = tuple(
    Canary(check=check, name=name, type=type_, edit=edit)
    for check, name, type_, edit in (
        ("CKV_AWS_7", "a key does not rotate", "aws_kms_key", put("enable_key_rotation", False)),
        ("CKV_AWS_28", "a table cannot be brought back", "aws_dynamodb_table", put("point_in_time_recovery", [])),
        ("CKV_AWS_43", "a stream is not encrypted", "aws_kinesis_stream", put("encryption_type", "NONE")),
        ("CKV_AWS_36", "a trail is not signed", "aws_cloudtrail", put("enable_log_file_validation", False)),
        ("CKV_AWS_67", "a trail is of one region", "aws_cloudtrail", put("is_multi_region_trail", False)),
        ("CKV_AWS_27", "a queue is not encrypted", "aws_sqs_queue", put("sqs_managed_sse_enabled", False)),
        (
            "CKV_AWS_53",
            "a bucket takes public ACLs",
            "aws_s3_bucket_public_access_block",
            put("block_public_acls", False),
        ),
        ("CKV_AWS_116", "a function has no dead-letter queue", "aws_lambda_function", put("dead_letter_config", [])),
        ("CKV_AWS_62", "a role may do everything", "aws_iam_role_policy", put("policy", json.dumps(EVERYTHING))),
        ("CKV_AWS_355", "a role may do it to everything", "aws_iam_role_policy", put("policy", json.dumps(EVERYTHING))),
    )
)

POLICY_CANARIES: dict[str, tuple[str, Body]] = {
    "an action that does not exist": (
        "UNKNOWN_ACTION",
        {"Effect": "Allow", "Action": "s3:PutObjects", "Resource": "arn:aws:s3:::x/*"},
    ),
    "objects written to a bucket's own ARN": (
        "RESOURCE_MISMATCH",
        {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::x"},
    ),
    "a condition that the action does not know": (
        "UNKNOWN_CONDITION_FOR_ACTION",
        {
            "Effect": "Allow",
            "Action": "kinesis:PutRecord",
            "Resource": "arn:aws:kinesis:eu-west-1:123456789012:stream/x",
            "Condition": {"StringEquals": {"s3:prefix": "x"}},
        },
    ),
}
"""Faulty policies by what is wrong with them: parliament's word for it, and the statement."""


def write_plan(folder: Path, *, plan: Path) -> Path:
    """A plan that holds the canaries only, made from the resources of a real one."""
    document = json.loads(plan.read_bytes())
    resources = document["planned_values"]["root_module"]["resources"]
    broken = []
    for canary in PLAN_CANARIES:
        resource = copy.deepcopy(next(each for each in resources if each["type"] == canary.type))
        resource |= {"name": _id(canary), "address": _address(canary)}
        canary.edit(resource["values"])
        broken.append(resource)
    document["planned_values"]["root_module"]["resources"] = broken
    document["resource_changes"] = []
    document["configuration"] = {"root_module": {}}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / plan.name
    path.write_text(json.dumps(document))
    return path


def role_policies() -> dict[str, str]:
    """The broken policies by the names that parliament's verdicts on them will have."""
    return {
        f"canary: {name}": json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        for name, (_, statement) in POLICY_CANARIES.items()
    }


def judge(findings: Iterable[Finding], titles: Mapping[str, str]) -> tuple[Trial, ...]:
    """Return a trial for each canary, with what the scanners said of it."""
    problems = {(each.scanner, each.check.split(" ")[0], each.resource) for each in findings if not each.has_passed}
    expected = [(CHECKOV, each.check, _address(each), each.name) for each in PLAN_CANARIES]
    expected += [(PARLIAMENT, issue, f"canary: {name}", name) for name, (issue, _) in POLICY_CANARIES.items()]
    return tuple(
        Trial(
            check=f"{scanner} {check}",
            mutation=name,
            noticed=titles.get(f"{scanner} {check}", check) if (scanner, check, resource) in problems else "",
        )
        for scanner, check, resource, name in expected
    )


def is_canary(resource: str) -> bool:
    return resource.startswith("canary: ") or ".canary-" in resource


def _id(canary: Canary) -> str:
    return f"canary-{canary.check.lower().replace('_', '-')}"


def _address(canary: Canary) -> str:
    return f"{canary.type}.{_id(canary)}"
