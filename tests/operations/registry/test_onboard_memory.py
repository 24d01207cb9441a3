"""A list of any length is read, matched and forecast in the same memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.onboarding import PLANT, make_onboarding_project, python_path
from tests.operations.lists.builders import write_certificate_list
from tests.operations.registry.site import thing_name

ROWS = int(os.environ.get("FLEET_ROWS", "50000"))
LIMIT_MB = 200
"""For a million rows too; FLEET_ROWS=1000000 shows it."""


MEASURED = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, used = os.wait4(process.pid, 0)
print(used.ru_maxrss, used.ru_utime + used.ru_stime, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Runs a command from a small process: a child's peak begins with the memory of the process that it was forked from."""


@pytest.mark.slow
def test_a_dry_run_holds_no_list(tmp_path: Path) -> None:
    """Every row is matched, and the process never held more than its programs and a fixed share of the list."""
    project = make_onboarding_project(tmp_path / "project", things=ROWS)
    path = tmp_path / "list.csv"
    write_certificate_list(path, map(thing_name, range(ROWS, 0, -1)))
    command = [sys.executable, "-m", "fleet_iot", "onboard", "--facility", PLANT, "--from", str(path)]
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, *command, "--dry-run", "--json"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": python_path(project)},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(run.stdout)
    assert (ROWS, ROWS, 0) == (told["rows"], told["pairs"], told["faults"])
    peak, cpu_s = map(float, run.stderr.splitlines()[-1].split())
    peak_mb = peak / (1e6 if sys.platform == "darwin" else 1e3)
    print(f"{ROWS:,} rows: {peak_mb:.0f} MB, {cpu_s:.1f} s of CPU")
    assert peak_mb < LIMIT_MB
