"""cdktf-cli, as `make cdktf` installs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.places import PROJECT

UNREACHED = (
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ETIMEDOUT",
    "ECONNRESET",
    "ENETUNREACH",
    "No matching distribution",
)
"""What npm and pip say where they reach no registry."""


def run_cdktf(
    project: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run cdktf-cli in a project, with `fleet` on the PATH; skip the test where npm's registry is not reached."""
    made = subprocess.run(["make", "cdktf"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if made.returncode and any(word in made.stdout + made.stderr for word in UNREACHED):
        pytest.skip("npm's registry cannot be reached, and cdktf-cli is not installed: make cdktf")
    assert made.returncode == 0, made.stdout + made.stderr
    chosen = dict(os.environ if environment is None else environment)
    chosen |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{chosen['PATH']}",
        "CHECKPOINT_DISABLE": "1",
        "CI": "1",
    }
    command = [str(PROJECT / ".venv-cdktf" / "bin" / "cdktf"), *arguments]
    return subprocess.run(
        command, cwd=project, env=chosen, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
