"""The verdict: what fails the gate, what is accepted, and that nothing less was looked at than was synthesised."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.generator.diagnostics import GateError
from fleet_iot.operations.assurance.compliance.findings import Catalogue, Control, Finding, Skip, read_skips, stale
from fleet_iot.operations.assurance.compliance.gate import Count, Verdict, coverage, summary, synthesised_types
from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure
from fleet_iot.operations.assurance.compliance.scanners import Scan

HELD = ("attributes", "constraints", "different_constraints")


def test_all_is_well(verdict: Callable[..., Verdict]) -> None:
    """Nothing fails, and the figures say so."""
    assert () == verdict().faults()
    assert {"passed": 1, "failed": 0, "skipped": 0, "parse_errors": 0, "resources": 1} == {
        name: value for name, value in verdict().totals().items() if name not in HELD
    }
    assert "1 passed, 0 failed, 0 skipped with a reason" in summary(verdict())


def test_a_failed_check_fails_the_gate(verdict: Callable[..., Verdict], finding: Callable[..., Finding]) -> None:
    """It is reported with resource, attribute and check."""
    (fault,) = verdict(findings=(finding("does not rotate"),)).faults()
    assert "aws_kms_key.key-data enable_key_rotation: does not rotate (fleet key-rotation)" == fault


def test_an_accepted_finding_does_not(
    verdict: Callable[..., Verdict], finding: Callable[..., Finding], skip: Callable[..., Skip]
) -> None:
    """Only that check on that resource is accepted."""
    other = finding("does not rotate", resource="aws_kms_key.key-logs")
    judged = verdict(findings=(finding("does not rotate"), other), skips=(skip(),))
    assert {"passed": 0, "failed": 1, "skipped": 1} == judged.by_scanner()["fleet"]
    assert ["key-logs" in fault for fault in judged.faults()] == [True]


def test_a_stale_skip_fails_the_gate(verdict: Callable[..., Verdict], skip: Callable[..., Skip]) -> None:
    """A skip of what was fixed must leave the list."""
    (fault,) = verdict(skips=(skip(),)).faults()
    assert "the skip of fleet key-rotation on aws_kms_key.key-data is stale: nothing fails there" == fault


def test_what_was_not_looked_at_fails_the_gate(verdict: Callable[..., Verdict]) -> None:
    """A count that is not reached, a file that is not read."""
    counts = (Count(what="resources", expected=2, seen=1),)
    assert (
        "resources: 1 where 2 were expected",
        "4 files could not be parsed",
    ) == verdict(counts=counts, parse_errors=4).faults()


def test_committed_skips_have_reasons() -> None:
    """Each can be read, and names scanner, check and resource."""
    for skip in read_skips():
        assert skip.check.split(" ")[0] in {"checkov", "parliament", "fleet"}
        assert "." in skip.resource


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"check": "checkov X", "resource": "a.b", "reason": "because"}], "has no reason"),
        ([{"check": "checkov X", "resource": "a.b", "reason": "for a reason that is long enough"}] * 2, "twice"),
    ],
)
def test_skips_are_held_to_their_own_rules(tmp_path: Path, rows: list[dict[str, str]], said: str) -> None:
    """No skip without reason, and none twice."""
    path = tmp_path / "skips.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(GateError, match=said):
        read_skips(path)


def test_a_skip_of_another_scanner_is_stale(finding: Callable[..., Finding], skip: Callable[..., Skip]) -> None:
    """The scanner is part of the pair."""
    failing = finding("does not rotate")
    assert () == stale([skip()], [failing])
    other = skip(check="checkov key-rotation")
    assert (other,) == stale([other], [failing])


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
    """Return a function that lists the wrong counts of a stack of one role, complete by default."""

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
