"""A list of any length is read, matched and forecast in the same memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.onboarding_lists import write_certificate_list
from benchmarks.onboarding_project import PLANT, make_onboarding_project, python_path
from tests.operations.onboarding.site import thing_name

ROWS = int(os.environ.get("FLEET_ROWS", "50000"))
LIMIT_MB = 200
"""For a million rows too; FLEET_ROWS=1000000 shows it."""


@pytest.mark.slow
def test_a_dry_run_holds_no_list(tmp_path: Path) -> None:
    """Every row is matched, and the process never held more than its programs and a fixed share of the list."""
    project = make_onboarding_project(tmp_path / "project", things=ROWS)
    path = tmp_path / "list.csv"
    write_certificate_list(path, map(thing_name, range(ROWS, 0, -1)))
    command = [sys.executable, "-m", "generator", "onboard", "--facility", PLANT, "--from", str(path)]
    process = subprocess.Popen(
        [*command, "--dry-run", "--json"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": python_path(project)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    told = json.loads(process.stdout.read())
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert (0, ROWS, ROWS, 0) == (process.returncode, told["rows"], told["pairs"], told["faults"])
    peak_mb = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(f"{ROWS:,} rows: {peak_mb:.0f} MB, {used.ru_utime + used.ru_stime:.1f} s of CPU")
    assert peak_mb < LIMIT_MB
