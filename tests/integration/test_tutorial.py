"""The tutorial and the how-tos are followed by a new user, on a local AWS of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.document_blocks import environment, script
from tests.places import PROJECT, link_wheels

pytestmark = [
    pytest.mark.local_aws,
    pytest.mark.skipif("FLEET_TUTORIAL" not in os.environ, reason="FLEET_TUTORIAL: eight minutes"),
]

PAGES = [PROJECT / "docs" / name for name in ("tutorial.md", "how-to.md")]
"""The how-tos continue in the project that the tutorial makes."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder; a local AWS that is left in the tutorial's project is ended."""
    link_wheels(tmp_path / "songhong")
    yield tmp_path
    if (project := tmp_path / "songhong" / "build" / "local" / "endpoint.json").exists():
        subprocess.run(["fleet", "local", "down"], cwd=project.parents[2], env=environment(tmp_path), check=True)


def test_the_tutorial_works(folder: Path) -> None:
    """Each command succeeds in an empty folder with an empty home."""
    done = subprocess.run(
        ["bash", "-c", script(*PAGES)], cwd=folder, env=environment(folder / "home"), capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}{done.stderr[-6000:]}"
