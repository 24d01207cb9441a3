"""The command `fleet synth`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import PROJECT, SAMPLE


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


@pytest.mark.cdktf
def test_it_synthesises_the_current_project(tmp_path: Path) -> None:
    """The stacks' names on stdout, their files where FLEET_OUTDIR says."""
    chosen = {"FLEET_ACCOUNT_ID": "123456789012", "FLEET_FACILITIES": "sg-01", "FLEET_OUTDIR": str(tmp_path)}
    answer = _fleet(SAMPLE, "synth", HOME=str(Path.home()), **chosen)
    assert (answer.returncode, answer.stdout) == (0, "tap-dev\nfacility-sg-01-dev\n"), answer.stderr
    assert (tmp_path / "stacks" / "tap-dev" / "cdk.tf.json").is_file()
