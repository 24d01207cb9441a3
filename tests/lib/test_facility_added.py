"""A plant comes and goes through the generator: no other stack changes by a byte."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.project import ROOT, copy_programs, synthesis_environment
from tests.places import SAMPLE

pytestmark = pytest.mark.cdktf
ADDED = """
  sg-02:
    name: Tuas Plant 2, Singapore
    timezone: Asia/Singapore
    things: {boiler: 3, press-monitor: {count: 2, attributes: {line: a1}}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs with a copy of the sample's manifest."""
    folder = copy_programs(tmp_path_factory.mktemp("project"))
    shutil.copy(SAMPLE / "fleet.yaml", folder / "fleet.yaml")
    return folder


def _generate(project: Path, *arguments: str) -> None:
    _run(project, ROOT, "-m", "fleet_iot", "generate", *arguments)


def _synthesise(project: Path, name: str) -> dict[str, dict[str, str]]:
    """Stack → file → SHA-256, of all that a synthesis wrote for it."""
    outdir = project / name
    _run(project, project, "-m", "lib.app", outdir=outdir)
    return {
        stack.name: {
            path.relative_to(stack).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in stack.rglob("*")
            if path.is_file()
        }
        for stack in (outdir / "stacks").iterdir()
    }


def _run(project: Path, programs: Path, *arguments: str, outdir: Path | None = None) -> None:
    environment = synthesis_environment(programs, outdir or project)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_plant_that_comes_and_goes_changes_no_other_stack(project: Path) -> None:
    """Generated, synthesised, compared: the others' files are the same while it is there and after it is gone."""
    _generate(project)
    before = _synthesise(project, "before")
    manifest = (project / "fleet.yaml").read_text()
    (project / "fleet.yaml").write_text(manifest.rstrip() + "\n" + ADDED)
    _generate(project, "--facility", "sg-02")
    meanwhile = _synthesise(project, "meanwhile")
    (project / "fleet.yaml").write_text(manifest)
    _generate(project, "--allow", "destroys-data", "--allow", "breaks-identity")
    after = _synthesise(project, "after")
    assert len(before) == 5
    assert sum(map(len, before.values())) > 5, "the Lambda's zip is compared too"
    assert meanwhile.keys() - before.keys() == {"facility-sg-02-dev"}
    assert {name: files for name, files in meanwhile.items() if name in before} == before
    assert after == before


def test_another_count_changes_its_own_plants_stack_alone(project: Path) -> None:
    """The things that were there keep their addresses; the platform and the other plants are not touched."""
    manifest = (SAMPLE / "fleet.yaml").read_text()
    (project / "fleet.yaml").write_text(manifest)
    _generate(project, "--allow", "destroys-data", "--allow", "breaks-identity")
    before = _synthesise(project, "fewer")
    (project / "fleet.yaml").write_text(manifest.replace("press-monitor: 24", "press-monitor: 25"))
    _generate(project, "--facility", "sg-01")
    after = _synthesise(project, "more")
    assert {name for name in before if before[name] != after[name]} == {"facility-sg-01-dev"}
