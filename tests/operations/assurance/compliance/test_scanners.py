"""Running the scanners: what they answer, and when they cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.assurance.compliance.findings import Finding
from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure
from fleet_iot.operations.assurance.compliance.scanners import require_scanners, scan_plans, scan_roles
from tests.operations.assurance.compliance import canaries


def record(check: str, resource: str, *, passed: bool, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    result = {"result": "PASSED" if passed else "FAILED", "evaluated_keys": list(keys)}
    name = f"Ensure {check}"
    path = "/scratch/stacks/tap-dev/plan.json"
    return {"check_id": check, "check_name": name, "resource": resource, "check_result": result, "file_abs_path": path}


def answer(*records: dict[str, Any], parsing_errors: int = 0) -> dict[str, Any]:
    passed = [each for each in records if each["check_result"]["result"] == "PASSED"]
    failed = [each for each in records if each["check_result"]["result"] == "FAILED"]
    summary = {"resource_count": 7, "parsing_errors": parsing_errors}
    return {"results": {"passed_checks": passed, "failed_checks": failed}, "summary": summary}


@pytest.fixture
def programs(tmp_path: Path) -> Callable[..., Path]:
    """An environment whose Python prints the given answer."""

    def build(output: object, *, code: int = 0, stderr: str = "") -> Path:
        (tmp_path / "answer").write_text(output if isinstance(output, str) else json.dumps(output))
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\ncat "{tmp_path}/answer"\necho "{stderr}" >&2\nexit {code}\n')
        python.chmod(0o755)
        return tmp_path

    return build


def test_checkov_is_heard_whether_or_not_it_found_something(programs: Callable[..., Path]) -> None:
    """It exits 1 where a check failed."""
    found = answer(
        record("CKV_AWS_28", "aws_dynamodb_table.t", passed=True, keys=("point_in_time_recovery/[0]/enabled",)),
        record("CKV_AWS_7", "aws_kms_key.k", passed=False, keys=("enable_key_rotation",)),
        record("CKV_AWS_41", "aws.default", passed=True),
        parsing_errors=2,
    )
    scan = scan_plans(programs(found, code=1), [Path("plan.json")])
    assert (7, 2) == (scan.resources, scan.parse_errors)
    assert {
        ("CKV_AWS_28", "aws_dynamodb_table.t", "point_in_time_recovery", ""),
        ("CKV_AWS_41", "tap-dev", "resource", ""),
        ("CKV_AWS_7", "aws_kms_key.k", "enable_key_rotation", "not met: Ensure CKV_AWS_7"),
    } == {(each.check, each.resource, each.attribute, each.problem) for each in scan.findings}


def test_checkov_that_looked_at_nothing_finds_nothing(programs: Callable[..., Path]) -> None:
    """It then answers with figures only; the counts fail the gate."""
    scan = scan_plans(programs({"passed": 0, "failed": 0, "resource_count": 0, "parsing_errors": 0}), [])
    assert ((), 0) == (scan.findings, scan.resources)


@pytest.mark.parametrize(("output", "code"), [("{}", 2), ("", 0)])
def test_a_scanner_that_breaks_is_no_pass(programs: Callable[..., Path], output: str, code: int) -> None:
    """Neither a crash nor silence."""
    with pytest.raises(EnvironmentFault, match="failed: it broke") as caught:
        scan_plans(programs(output, code=code, stderr="it broke"), [Path("plan.json")])
    assert "to see all of it" in str(caught.value.hint)


def test_parliament_tells_each_policy_apart(
    programs: Callable[..., Path], planned: Callable[..., PlannedInfrastructure]
) -> None:
    """A clean policy passes; a fault is known by its issue and the action that it is about."""
    issue = {"issue": "RESOURCE_MISMATCH", "title": "No resources match", "detail": [{"action": "iot:X"}]}
    scan = scan_roles(programs({"aws_iam_role_policy.a": [], "aws_iam_role_policy.b": [issue]}), {})
    assert 2 == scan.resources
    assert [("RESOURCE_MISMATCH iot:X", "No resources match"), ("role-policy", "")] == [
        (each.check, each.problem) for each in scan.findings
    ]


def test_missing_scanners_are_told_with_a_remedy(tmp_path: Path) -> None:
    """`make compliance` installs them."""
    with pytest.raises(EnvironmentFault) as caught:
        require_scanners(tmp_path)
    assert "make compliance" in str(caught.value.hint)


def test_canaries_are_made_of_real_resources(tmp_path: Path) -> None:
    """Each is a copy of the platform's, broken in one place, under a name that no resource has."""
    types = {canary.type for canary in canaries.PLAN_CANARIES}
    resources = [
        {"type": type_, "name": "real", "address": f"{type_}.real", "values": {"kept": True}} for type_ in sorted(types)
    ]
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"planned_values": {"root_module": {"resources": resources}}, "configuration": {}}))
    written = json.loads(canaries.write_plan(tmp_path / "canaries", plan=plan).read_text())
    broken = written["planned_values"]["root_module"]["resources"]
    assert len(canaries.PLAN_CANARIES) == len(broken) == len({each["address"] for each in broken})
    assert all(canaries.is_canary(each["address"]) and len(each["values"]) > 1 for each in broken)


def test_a_canary_that_sings_is_caught(finding: Callable[..., Finding]) -> None:
    """Only by its own check, and only where that failed."""
    address = "aws_kms_key.canary-ckv-aws-7"
    heard = finding("not met", scanner="checkov", check="CKV_AWS_7", resource=address)
    trials = {trial.check: trial for trial in canaries.judge([heard], {"checkov CKV_AWS_7": "Keys rotate"})}
    assert "Keys rotate" == trials["checkov CKV_AWS_7"].noticed
    assert ["checkov CKV_AWS_7"] == [check for check, trial in trials.items() if trial.is_caught]
    silent = finding("", scanner="checkov", check="CKV_AWS_7", resource=address)
    assert not any(trial.is_caught for trial in canaries.judge([silent], {}))
