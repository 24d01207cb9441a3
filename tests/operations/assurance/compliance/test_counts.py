"""Counting what was looked at: nothing less than what was synthesised will do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.operations.assurance.compliance.controls import Catalogue, Control
from fleet_iot.operations.assurance.compliance.findings import Finding
from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure
from fleet_iot.operations.assurance.compliance.scanners import Scan
from fleet_iot.operations.assurance.compliance.verdict import Count, coverage, synthesised_types

CATALOGUE = Catalogue(
    frameworks=(),
    controls={"C 1": Control(id="C 1", title="Roles are trusted by services only")},
    checks={"checkov CKV_AWS_60": ("C 1",)},
    only={},
    not_met=(),
)
TRUST = json.dumps({"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole"}]})


@pytest.fixture
def counted(
    tmp_path: Path, planned: Callable[..., PlannedInfrastructure], finding: Callable[..., Finding]
) -> Callable[..., list[str]]:
    """What is wrong with the counts of a stack of one role, seen whole unless told otherwise."""

    def build(
        *,
        is_planned: bool = True,
        policy: str = TRUST,
        read: int = 1,
        judged: bool = True,
        csrs: int = 0,
        catalogue: Catalogue = CATALOGUE,
    ) -> Any:
        stack = tmp_path / "tap-dev"
        stack.mkdir()
        (stack / "cdk.tf.json").write_text(json.dumps({"resource": {"aws_iam_role": {"r": {}}}}))
        address = "aws_iam_role.r"
        seen = [finding(scanner="checkov", check="CKV_AWS_60", resource=address)] if judged else []
        counts = coverage(
            synthesised_types([stack]),
            planned=planned({address: {"assume_role_policy": policy}} if is_planned else {}),
            findings=seen,
            catalogue=catalogue,
            plans=Scan(findings=(), resources=read, parse_errors=0, titles={}),
            roles=Scan(findings=(), resources=0, parse_errors=0, titles={}),
            csrs=csrs,
        )
        return [each.what for each in counts if not each.is_right]

    return build


def test_a_stack_that_was_seen_whole(counted: Callable[..., list[str]]) -> None:
    """Only the project's own checks did not run here."""
    assert ["own checks that saw something"] == counted()


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"is_planned": False}, "resources of tap-dev, planned"),
        ({"read": 0}, "resources that checkov read"),
        ({"judged": False}, "resources of types that checkov knows, with a verdict"),
        ({"judged": False}, "resources judged by at least one check"),
        ({"judged": False}, "controls with a check that looked at something"),
        ({"policy": "${data.x.json}"}, "policies that the own checks read"),
        ({"csrs": 1}, "certificates, one for each CSR"),
    ],
)
def test_what_was_not_seen_is_told(counted: Callable[..., list[str]], missing: dict[str, Any], said: str) -> None:
    """A resource that is not planned, not scanned, not judged; a policy that is not read; a CSR without certificate."""
    assert said in counted(**missing)


def test_a_surplus_resource_is_as_wrong_as_a_missing_one() -> None:
    """The gate looked at something that was not synthesised."""
    assert not Count(what="x", expected=1, seen=2).is_right


def test_a_control_that_nothing_in_the_fleet_can_answer_is_not_expected(counted: Callable[..., list[str]]) -> None:
    """Registered in bulk, a fleet has no certificates: a control that only their checks answer does not apply."""
    only_certificates = dataclasses.replace(CATALOGUE, checks={"fleet certificate-from-csr": ("C 1",)})
    assert "controls with a check that looked at something" not in counted(judged=False, catalogue=only_certificates)
