"""The verdict: what fails the gate, what is accepted, and the skips' own rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_iot.generator.diagnostics import GateError
from fleet_iot.operations.assurance.compliance.controls import Skip, read_skips, stale
from fleet_iot.operations.assurance.compliance.findings import Finding
from fleet_iot.operations.assurance.compliance.verdict import Count, Verdict, summary

HELD = ("attributes", "constraints", "different_constraints")


def test_all_is_well(verdict: Callable[..., Verdict]) -> None:
    """Nothing fails, and the figures say so."""
    assert () == verdict().faults()
    assert {"passed": 1, "failed": 0, "skipped": 0, "parse_errors": 0, "resources": 1} == {
        name: value for name, value in verdict().totals().items() if name not in HELD
    }
    assert "1 passed, 0 failed, 0 skipped with a reason" in summary(verdict())


def test_a_failed_check_fails_the_gate(verdict: Callable[..., Verdict], finding: Callable[..., Finding]) -> None:
    """It is told with resource, attribute and check."""
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
    """What was mended must leave the list."""
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
