"""The command `fleet synth`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.places import PROJECT


def _fleet(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fleet_iot", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_refuses_where_there_is_no_project(tmp_path: Path) -> None:
    """The exit code and the message are those of the synthesis."""
    answer = _fleet(tmp_path, "synth")
    assert answer.returncode == 7
    assert answer.stderr.startswith("error: there is no fleet.yaml in ")
