"""Counts what was looked at against what was synthesised, so that the gate cannot pass by looking at nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.operations.assurance.compliance.canaries import PLAN_CANARIES, POLICY_CANARIES
from fleet_iot.operations.assurance.compliance.checks import CHECKS
from fleet_iot.operations.assurance.compliance.findings import CHECKOV, OWN, Finding
from fleet_iot.operations.assurance.compliance.infrastructure import Estate
from fleet_iot.operations.assurance.compliance.mutations import Trial
from fleet_iot.operations.assurance.compliance.policies import POLICY_ATTRIBUTES, policies
from fleet_iot.operations.assurance.compliance.scanners import Scan

LEAST_MUTATIONS = 40
LEAST_PASSED = 150
"""What checkov passes at the least; issue and documents promise it."""

KNOWN_TO_CHECKOV = frozenset(
    {
        "aws_cloudtrail",
        "aws_cloudwatch_log_group",
        "aws_cloudwatch_metric_alarm",
        "aws_dynamodb_table",
        "aws_iam_role",
        "aws_iam_role_policy",
        "aws_kinesis_stream",
        "aws_kms_key",
        "aws_lambda_function",
        "aws_s3_bucket",
        "aws_s3_bucket_lifecycle_configuration",
        "aws_s3_bucket_ownership_controls",
        "aws_s3_bucket_policy",
        "aws_s3_bucket_public_access_block",
        "aws_sns_topic",
        "aws_sns_topic_policy",
        "aws_sqs_queue",
        "aws_sqs_queue_policy",
    }
)
"""Types that checkov has checks for: each such resource must have a verdict. It has none for IoT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many of something there are, and how many were seen; `at_least` where more is better."""

    what: str
    expected: int
    seen: int
    at_least: bool = False

    @property
    def is_right(self) -> bool:
        return self.seen >= self.expected if self.at_least else self.seen == self.expected


def synthesised_types(stacks: Iterable[Path]) -> dict[str, Counter[str]]:
    """Stack → resource type → number, read from the synthesised files and nothing else."""
    found = {}
    for stack in stacks:
        resources = json.loads((stack / "cdk.tf.json").read_bytes()).get("resource", {})
        found[stack.name] = Counter({type_: len(bodies) for type_, bodies in resources.items()})
    return found


def count(
    synthesised: dict[str, Counter[str]],
    *,
    estate: Estate,
    findings: Iterable[Finding],
    trials: Collection[Trial],
    plans: Scan,
    roles: Scan,
    csrs: int,
) -> tuple[Count, ...]:
    """Every count, the stacks first."""
    findings = tuple(findings)
    total: Counter[str] = sum(synthesised.values(), Counter())
    planned = Counter(resource.stack for resource in estate.resources)
    judged = {each.resource for each in findings if each.scanner == CHECKOV}
    scanned = [each for each in estate.resources if each.type in KNOWN_TO_CHECKOV]
    own = {each.check for each in findings if each.scanner == OWN}
    expected = {check.id for check in CHECKS if not check.about or total[check.about]}
    tried = {trial.check for trial in trials}
    return (
        *(
            Count(what=f"resources of {stack}, planned", expected=types.total(), seen=planned[stack])
            for stack, types in sorted(synthesised.items())
        ),
        Count(what="resources that checkov read", expected=total.total(), seen=plans.resources - len(PLAN_CANARIES)),
        Count(
            what="resources of types that checkov knows, with a verdict",
            expected=sum(total[type_] for type_ in KNOWN_TO_CHECKOV),
            seen=sum(each.address in judged for each in scanned),
        ),
        Count(
            what="checks that checkov passed",
            expected=LEAST_PASSED,
            seen=sum(each.scanner == CHECKOV and each.has_passed for each in findings),
            at_least=True,
        ),
        Count(
            what="policies of roles that parliament read",
            expected=total["aws_iam_role_policy"] + total["aws_iam_policy"],
            seen=roles.resources - len(POLICY_CANARIES),
        ),
        Count(
            what="policies that the own checks read",
            expected=sum(total[type_] for type_ in POLICY_ATTRIBUTES),
            seen=sum(bool(policy.statements) for policy in policies(estate)),
        ),
        Count(what="certificates, one for each CSR", expected=csrs, seen=total["aws_iot_certificate"]),
        Count(what="own checks that saw something", expected=len(expected), seen=len(expected & own)),
        Count(what="own checks tried by a mutation", expected=len(expected), seen=len(expected & tried)),
        Count(what="mutations", expected=LEAST_MUTATIONS, seen=len(trials), at_least=True),
    )
