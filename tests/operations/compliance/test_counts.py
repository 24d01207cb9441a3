"""Counting what was looked at: nothing less than what was synthesised will do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.operations.assurance.compliance.canaries import PLAN_CANARIES, POLICY_CANARIES
from fleet_iot.operations.assurance.compliance.counts import Count, count, synthesised_types
from fleet_iot.operations.assurance.compliance.findings import Finding
from fleet_iot.operations.assurance.compliance.infrastructure import Estate
from fleet_iot.operations.assurance.compliance.scanners import Scan

TRUST = json.dumps({"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole"}]})


@pytest.fixture
def counted(tmp_path: Path, estate: Callable[..., Estate], finding: Callable[..., Finding]) -> Callable[..., list[str]]:
    """What is wrong with the counts of a stack of one role, seen whole unless told otherwise."""

    def build(*, planned: bool = True, policy: str = TRUST, read: int = 1, judged: bool = True, csrs: int = 0) -> Any:
        stack = tmp_path / "tap-dev"
        stack.mkdir()
        (stack / "cdk.tf.json").write_text(json.dumps({"resource": {"aws_iam_role": {"r": {}}}}))
        address = "aws_iam_role.r"
        seen = [finding(scanner="checkov", check="CKV_AWS_60", resource=address)] if judged else []
        counts = count(
            synthesised_types([stack]),
            estate=estate({address: {"assume_role_policy": policy}} if planned else {}),
            findings=seen,
            trials=(),
            plans=Scan(findings=(), resources=read + len(PLAN_CANARIES), parse_errors=0, titles={}),
            roles=Scan(findings=(), resources=len(POLICY_CANARIES), parse_errors=0, titles={}),
            csrs=csrs,
        )
        return [each.what for each in counts if not each.is_right]

    return build


OTHERS = [
    "checks that checkov passed",
    "own checks that saw something",
    "own checks tried by a mutation",
    "mutations",
]
"""Wrong in every sample here: one role is far from 150 passed checks, and nothing was tried on it."""


def test_a_stack_that_was_seen_whole(counted: Callable[..., list[str]]) -> None:
    """Every other count is right."""
    assert OTHERS == counted()


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"planned": False}, "resources of tap-dev, planned"),
        ({"read": 0}, "resources that checkov read"),
        ({"judged": False}, "resources of types that checkov knows, with a verdict"),
        ({"policy": "${data.x.json}"}, "policies that the own checks read"),
        ({"csrs": 1}, "certificates, one for each CSR"),
    ],
)
def test_what_was_not_seen_is_told(counted: Callable[..., list[str]], missing: dict[str, Any], said: str) -> None:
    """A resource that is not planned, not scanned, not judged; a policy that is not read; a CSR without certificate."""
    assert said in counted(**missing)


def test_more_is_right_only_where_it_may_be() -> None:
    """A surplus resource is as wrong as a missing one."""
    assert not Count(what="x", expected=1, seen=2).is_right
    assert Count(what="x", expected=1, seen=2, at_least=True).is_right
