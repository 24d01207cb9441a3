"""The wheel: the `fleet` command and its project, outside the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.dependencies import declared
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


def _link(one: Path | str, other: Path | str) -> None:
    """Link a file, or copy it where the other place is on another disk."""
    try:
        os.link(one, other)
    except OSError:
        shutil.copy2(one, other)


def _dependencies(folder: Path) -> Path:
    """Put the packages that the wheel declares, with all that they need, into a folder; no others."""
    site = Path(sysconfig.get_path("purelib"))
    files = (file for name in declared() for file in distribution(name).files or ())
    folder.mkdir()
    for name in {file.parts[0] for file in files} - {"..", "__pycache__"}:
        if (site / name).is_dir():
            shutil.copytree(site / name, folder / name, copy_function=_link)
        elif (site / name).exists():
            _link(site / name, folder / name)
    return folder


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


MANIFEST = """\
version: 1
application: donau
environment_suffix: thu
region: eu-central-1
tags: {owner: Produktion}
device_types:
  presse:
    description: Hydraulische Presse, 250 t
    sample_interval_s: 5
    metrics:
      temperatur: {unit: celsius, min: 5, max: 80}
      druck: {unit: bar, min: 0, max: 250}
  may-nen-khi:
    description: May nen khi truc vit
    sample_interval_s: 5
    metrics:
      temperatur: {unit: celsius, min: 0, max: 110}
facilities:
  muenchen:
    name: Nhà máy München-Süd „Größe“
    timezone: Europe/Berlin
    contact: {name: Nguyễn Thị Hương, email: schicht@example.com}
    registration: bulk
    things: {presse: 3, may-nen-khi: 2}
"""
"""Another company: one plant, two types, names in German and Vietnamese."""

KEPT = ("FLEET_PROVIDER_MIRROR", "PIP_", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY")
"""What the machine says about where packages come from."""

STRANGER = 65534
"""The user id of `nobody`."""


def _interpreter() -> Path | None:
    """A Python 3.11 that every user of the machine can run; None where there is none."""
    candidates = (Path(sys.executable).resolve(), *Path("/usr/bin").glob("python3.11"))
    found = (path for path in candidates if all(each.stat().st_mode & 0o005 == 0o005 for each in path.parents))
    return next(found, None)


class Newcomer:
    """A user without rights in an empty home, who has a virtual environment and the wheel.

    Where the tests run as root, that is `nobody`, and the clone is closed to him; elsewhere the log of opened files
    says that nothing of it was read.
    """

    def __init__(self, folder: Path, wheel: Path, python: Path | None) -> None:
        self.is_stranger = os.getuid() == 0 and python is not None
        self.home, self.log = folder / "home", folder / "opened"
        for path in (self.home, folder / "tmp"):
            path.mkdir()
        self.log.touch()
        self.environment = {
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PATH": f"{self.home}/venv/bin:{os.environ['PATH']}",
            "TMPDIR": str(folder / "tmp"),
        } | {name: value for name, value in os.environ.items() if name.startswith(KEPT)}
        packages = _dependencies(folder / "packages")
        shutil.copy(wheel, self.home)
        if self.is_stranger:
            folder.chmod(0o755)
            self.own(self.home, folder / "tmp", self.log)
        interpreter = python if self.is_stranger else Path(sys.executable)
        self.run(str(interpreter), "-m", "venv", "--without-pip", "venv")
        site = self.home / "venv" / "lib" / "python3.11" / "site-packages"
        (site / "dependencies.pth").write_text(f"{packages}\n")
        (site / "sitecustomize.py").write_text(AUDIT.format(clone=f"{PROJECT}/", log=str(self.log)))
        self.run("python", "-m", "pip", "install", "--quiet", "--no-index", "--find-links", ".", "fleet-iot")

    def own(self, *paths: Path) -> None:
        """Make paths the newcomer's."""
        for path in paths if self.is_stranger else ():
            os.chown(path, STRANGER, STRANGER)

    def run(self, *command: str, folder: str = ".") -> str:
        """Run a command in a folder of his home, expect success, and return what it printed."""
        user = {"user": STRANGER, "group": STRANGER, "extra_groups": []} if self.is_stranger else {}
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command,
            cwd=self.home / folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            **user,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def newcomer(wheel: Path) -> Iterator[Newcomer]:
    """The newcomer, with the clone closed to everybody but its owner; pytest's own folders are closed too."""
    mode = PROJECT.stat().st_mode
    PROJECT.chmod(0o700)
    try:
        with tempfile.TemporaryDirectory(prefix="newcomer-", ignore_cleanup_errors=True) as folder:
            yield Newcomer(Path(folder), wheel, _interpreter())
    finally:
        PROJECT.chmod(mode)


@pytest.mark.local_aws
@pytest.mark.cdktf
@pytest.mark.slow
def test_a_newcomer_goes_from_nothing_to_a_demo_of_ones_own(newcomer: Newcomer) -> None:
    """Install, init, an edit, generate, check, and the demo with that manifest, of which all is counted once."""
    assert newcomer.run("fleet", "--version").startswith("fleet 0.")
    newcomer.run("fleet", "init", "werk", "--yes")
    project = newcomer.home / "werk"
    (project / "fleet.yaml").write_text(MANIFEST, encoding="utf-8")
    (project / "build" / "lambda").mkdir(parents=True)
    for wheels in (PROJECT / "build" / "lambda").glob("wheels-*"):
        shutil.copytree(wheels, project / "build" / "lambda" / wheels.name, copy_function=_link)
        (project / "build" / "lambda" / wheels.name).chmod(0o755)
    newcomer.own(project / "build", project / "build" / "lambda")

    def fleet(*arguments: str) -> str:
        return newcomer.run("fleet", *arguments, folder="werk")

    fleet("validate")
    fleet("generate")
    fleet("check")
    said = fleet("demo", "--rate", "50", "--duration", "10")
    assert "1 facility, 5 things, 5 certificates" in said
    report = json.loads((project / "build" / "demo" / "report.json").read_text())
    assert (report["things"], report["things_published"], report["lost"], report["duplicated"]) == (5, 5, 0, 0)
    assert (report["histories"], report["faults_injected"], report["faults_detected"]) == (2, 2, 2)
    assert report["anomalies_detected"] == report["anomalies_injected"] > 2 and not report["anomalies_false"]
    assert not (project / "cdktf.out").exists() and not newcomer.log.read_text()


@pytest.mark.slow
def test_the_users_own_imports_work_in_the_repository() -> None:
    """`from lib.tap_stack import TapStack` and the modules beside it, from the top-level folder."""
    code = "from lib.tap_stack import TapStack; from lib.specs import FacilitySpec; print(TapStack.__module__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "lib.tap_stack"
