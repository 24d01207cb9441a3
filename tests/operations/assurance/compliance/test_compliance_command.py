"""`fleet compliance`: exit codes, the files that it writes, and what it prints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.operations.assurance.compliance.findings import Finding
from fleet_iot.operations.assurance.compliance.gate import Verdict
from fleet_iot.operations.cli import assurance as cli
from tests.places import PROJECT, SAMPLE


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, str, str, Path]]:
    """Runs the command in a copy of the sample with the scanners' lock, under a verdict that is given."""
    project = tmp_path / "project"
    shutil.copytree(SAMPLE, project, ignore=shutil.ignore_patterns("build", "cdktf.out"))
    (project / "requirements").symlink_to(PROJECT / "requirements")
    monkeypatch.chdir(project)

    def build(verdict: Verdict, *arguments: str) -> tuple[int, str, str, Path]:
        monkeypatch.setattr(cli, "run_gate", lambda project, folder, say: verdict)
        folder = tmp_path / "compliance"
        folder.mkdir()
        result = CliRunner().invoke(main, ["compliance", "--dir", str(folder), *arguments])
        return result.exit_code, result.stdout, result.stderr, folder

    return build


def test_a_clean_gate_exits_0(run: Callable[..., tuple[int, str, str, Path]], verdict: Callable[..., Verdict]) -> None:
    """Report and page are written, and the figures printed."""
    code, out, err, folder = run(verdict())
    assert (0, "") == (code, err)
    assert "1 passed, 0 failed" in out
    report = json.loads((folder / "report.json").read_text())
    figures = {"passed", "failed", "skipped", "parse_errors", "resources"}
    assert figures | {"attributes", "constraints", "different_constraints"} == set(report["totals"])
    assert "12 attributes are accepted by AWS's service models, under 34 constraints, 5 different ones" in out
    assert (folder / "report.html").read_text().startswith("<!doctype html>")


def test_a_gate_with_faults_exits_5(
    run: Callable[..., tuple[int, str, str, Path]],
    verdict: Callable[..., Verdict],
    finding: Callable[..., Finding],
) -> None:
    """The first twenty faults are printed; the report is written all the same."""
    findings = tuple(finding("does not rotate", resource=f"aws_kms_key.k{n:02}") for n in range(30))
    code, _, err, folder = run(verdict(findings=findings))
    assert 5 == code
    assert 20 == err.count("does not rotate")
    assert "found 30 faults (the first 20 are above)" in err
    assert 30 == len(json.loads((folder / "report.json").read_text())["faults"])


def test_json_prints_the_figures_alone(
    run: Callable[..., tuple[int, str, str, Path]], verdict: Callable[..., Verdict]
) -> None:
    """For programs."""
    code, out, _, _ = run(verdict(), "--json")
    assert 0 == code
    assert 1 == json.loads(out)["passed"]
