"""The command `python -m lib.app`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.settings import PROJECT


def _app(**environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FLEET_", "TERRAFORM_", "ENVIRO"))}
    return subprocess.run(
        [sys.executable, "-m", "lib.app"],
        cwd=PROJECT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_bad_setting_is_told_before_anything_is_loaded() -> None:
    """One sentence, one remedy, exit 7, no traceback."""
    done = _app(FLEET_FACILITIES="atlantis")
    assert (done.returncode, done.stdout) == (7, "")
    error, hint = done.stderr.splitlines()
    assert error == "error: FLEET_FACILITIES names 'atlantis', which is no generated facility."
    assert hint.startswith("hint: Choose from my-jb-01, sg-01, th-ry-01")


@pytest.mark.cdktf
def test_a_bad_csr_line_is_told_with_its_place(tmp_path: Path) -> None:
    """File and line, exit 7, nothing synthesised."""
    file = tmp_path / "identities" / "tst" / "sg-01.csrs.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text('{"thing":"sg-01-x-tst","csr":"none"}\n')
    done = _app(
        ENVIRONMENT_SUFFIX="tst",
        FLEET_FACILITIES="sg-01",
        FLEET_IDENTITIES=str(tmp_path / "identities"),
        FLEET_OUTDIR=str(tmp_path / "out"),
    )
    assert done.returncode == 7
    assert done.stderr.startswith(f"error: {file}:1: no PEM certificate request")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.cdktf
def test_one_facility_is_synthesised_into_a_folder_that_is_not_there_yet(
    tmp_path: Path, csr: Callable[[str], str]
) -> None:
    """stdout names the stacks to apply, without the endpoint that stays a week; stderr counts the missing CSRs."""
    outdir = tmp_path / "deep" / "out"
    done = _app(
        ENVIRONMENT_SUFFIX="tst",
        FLEET_ACCOUNT_ID="123456789012",
        FLEET_FACILITIES="sg-01",
        FLEET_IDENTITIES=str(tmp_path),
        FLEET_OUTDIR=str(outdir),
    )
    assert (done.returncode, done.stdout.split()) == (0, ["tap-tst", "facility-sg-01-tst"])
    assert done.stderr.startswith("note: sg-01: 70 of 70 things have no CSR yet")
    synthesised = sorted(path.name for path in (outdir / "stacks").iterdir())
    assert synthesised == ["endpoint-tst", "facility-sg-01-tst", "tap-tst"]
