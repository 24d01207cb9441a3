"""The wheel: the `fleet` command and its project, outside the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.places import PROJECT

AUDIT = """
import os, sys
def record(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith({clone!r}):
        with open({log!r}, "a") as log:
            log.write(arguments[0] + "\\n")
sys.addaudithook(record)
"""


def _tracked(folder: Path) -> Path:
    """Copy what git tracks, as it lies on the disk, so that no leftover of a former build gets into the wheel."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        source, target = PROJECT / name, folder / name
        if source.is_symlink() or source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tracked files."""
    source, wheels = _tracked(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(wheels), str(source)], check=True)
    (made,) = wheels.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A virtual environment with nothing but the wheel and its dependencies, and the log of files opened in the clone.

    The dependencies are those of the running environment, reached by path; its editable install is not.
    """
    folder = tmp_path_factory.mktemp("installed")
    environment, log = folder / "venv", folder / "opened"
    venv.create(environment, with_pip=True, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    command = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, str(wheel)], check=True)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "sitecustomize.py").write_text(AUDIT.format(clone=f"{PROJECT}/", log=str(log)))
    log.touch()
    return environment, log


@pytest.mark.slow
def test_the_wheel_has_one_import_root(wheel: Path) -> None:
    """Nothing of it is called `lib` or `generator` in anybody's site-packages, and no sample comes along."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"fleet_iot"}
    assert not [name for name in names if "facilities/" in name or "/tests/" in name]
    assert {
        "fleet_iot/lib/tap_stack.py",
        "fleet_iot/generator/templates/facility/RUNBOOK.md.j2",
        "fleet_iot/generator/templates/project/github.yml.j2",
        "fleet_iot/sensor_processor/handler.py",
        "fleet_iot/sensor_processor/requirements.txt",
    } <= set(names)


@pytest.mark.cdktf
@pytest.mark.slow
def test_a_project_of_ones_own_needs_the_wheel_only(installed: tuple[Path, Path], tmp_path: Path) -> None:
    """`init`, `validate`, `generate` and `synth` give the stacks of that project and open no file of the repository."""
    environment, log = installed
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "PYTHON", "ENVIRO"))}
    kept |= {"HOME": str(tmp_path), "FLEET_ACCOUNT_ID": "123456789012", "PATH": f"{environment}/bin:{kept['PATH']}"}

    def fleet(*arguments: str, folder: Path) -> str:
        done = subprocess.run(["fleet", *arguments], cwd=folder, env=kept, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert fleet("--version", folder=tmp_path).startswith("fleet 0.")
    fleet("init", "plant", "--yes", folder=tmp_path)
    plant = tmp_path / "plant"
    for wheels in (PROJECT / "build" / "lambda").glob("wheels-*"):
        (plant / "build" / "lambda").mkdir(parents=True, exist_ok=True)
        (plant / "build" / "lambda" / wheels.name).symlink_to(wheels)
    fleet("validate", folder=plant)
    fleet("generate", folder=plant)
    stacks = fleet("synth", folder=plant).split()
    record = {path.parent.name.replace("_", "-") for path in (plant / "lib" / "facilities").glob("*/__init__.py")}
    assert record
    assert {stack for stack in stacks if stack.startswith("facility-")} == {f"facility-{id_}-dev" for id_ in record}
    for stack in stacks:
        assert json.loads((plant / "cdktf.out" / "stacks" / stack / "cdk.tf.json").read_text())["resource"]
    opened = {Path(path) for path in log.read_text().splitlines()}
    wanted = (PROJECT / ".venv", PROJECT / "build" / "lambda", Path(sys.prefix))
    assert not [path for path in opened if not any(path.is_relative_to(folder) for folder in wanted)]


@pytest.mark.slow
def test_the_users_own_imports_work_in_the_repository() -> None:
    """`from lib.tap_stack import TapStack` and the modules beside it, from the top-level folder."""
    code = "from lib.tap_stack import TapStack; from lib.specs import FacilitySpec; print(TapStack.__module__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "lib.tap_stack"
