"""The Lambda's zip."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest

from fleet_iot.lib.faults import PrerequisiteError
from fleet_iot.lib.shared import packaging
from fleet_iot.lib.specs import METRIC_WORDS, FleetSpec
from tests.places import PROJECT

SOURCE = PROJECT / "lambda" / "sensor_processor"
HOST = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())


@pytest.fixture(scope="session")
def wheels_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder whose wheels are installed once for all tests here."""
    return tmp_path_factory.mktemp("lambda")


def _build(fleet: FleetSpec, build: Path, source: Path = SOURCE) -> packaging.LambdaZip:
    return packaging.build_zip(source=source, fleet=fleet, architecture=HOST, build=build)


@pytest.mark.slow
def test_two_builds_give_the_same_bytes(fleet: FleetSpec, wheels_cache: Path, tmp_path: Path) -> None:
    """Neither the place of the source, nor its file times and modes, nor compiled leftovers change the zip."""
    first = _build(fleet, wheels_cache)
    copy = tmp_path / "sensor_processor"
    shutil.copytree(SOURCE, copy)
    for path in copy.rglob("*.py"):
        os.utime(path, (0, 0))
        path.chmod(0o600)
    (copy / "__pycache__").mkdir(exist_ok=True)
    (copy / "__pycache__" / "handler.cpython-311.pyc").write_bytes(b"x")
    before = first.path.read_bytes()
    again = _build(fleet, wheels_cache, source=copy)
    assert again.path.read_bytes() == before
    assert again.source_code_hash == base64.b64encode(hashlib.sha256(before).digest()).decode()


def test_the_zip_says_nothing_of_the_machine_that_built_it(fleet: FleetSpec, wheels_cache: Path) -> None:
    """No member has the path of an interpreter, a checkout or the build: elsewhere the bytes are the same."""
    places = {sys.prefix, sys.base_prefix, str(PROJECT), str(wheels_cache)}
    with zipfile.ZipFile(_build(fleet, wheels_cache).path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert [] == [name for name, bytes_ in contents.items() if any(place.encode() in bytes_ for place in places)]


def test_a_changed_source_gives_another_zip(fleet: FleetSpec, wheels_cache: Path, tmp_path: Path) -> None:
    """The hash that Terraform compares changes with the code."""
    copy = tmp_path / "sensor_processor"
    shutil.copytree(SOURCE, copy)
    (copy / "added.py").write_text("ADDED = 1\n")
    assert _build(fleet, wheels_cache, source=copy).source_code_hash != _build(fleet, wheels_cache).source_code_hash


def test_the_zip_holds_code_catalogue_and_dependencies_only(fleet: FleetSpec, wheels_cache: Path) -> None:
    """Sorted, with fixed times, and without what pip or the interpreter leave behind."""
    with zipfile.ZipFile(_build(fleet, wheels_cache).path) as archive:
        members = archive.infolist()
    names = [member.filename for member in members]
    assert names == sorted(names)
    assert {"catalogue.json", "sensor_processor/handler.py", "msgspec/__init__.py", "isal/__init__.py"} <= set(names)
    assert [name for name in names if "__pycache__" in name or name.endswith((".pyc", "RECORD", "INSTALLER"))] == []
    assert {member.date_time for member in members} == {packaging.ZIP_EPOCH}


@pytest.mark.slow
def test_the_zip_imports_on_this_host(fleet: FleetSpec, wheels_cache: Path, tmp_path: Path) -> None:
    """Unpacked, with boto3 as the runtime's, it gives the handler and the compiled libraries of its own."""
    with zipfile.ZipFile(_build(fleet, wheels_cache).path) as archive:
        archive.extractall(tmp_path)
    code = (
        "import isal.igzip_lib, msgspec, sensor_processor.handler as h; "
        "print(msgspec.__file__); print(isal.__file__); print(callable(h.handle))"
    )
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "AWS_DEFAULT_REGION": "eu-west-1"}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.split()
    assert printed == [f"{tmp_path}/msgspec/__init__.py", f"{tmp_path}/isal/__init__.py", "True"]


@pytest.mark.slow
def test_the_compactors_zip_imports_on_this_host(fleet: FleetSpec, wheels_cache: Path, tmp_path: Path) -> None:
    """It has the processor's parsing and no other program, runs unpacked, and fits into a request of Lambda's."""
    built = packaging.build_compactor_zip(fleet=fleet, architecture=HOST, build=wheels_cache)
    with zipfile.ZipFile(built.path) as archive:
        packages = {tuple(name.split("/")[1:3]) for name in archive.namelist() if name.startswith("fleet_iot/")}
        archive.extractall(tmp_path)
    assert ("sensor_processor", "ingest") in packages
    assert {package for package, _ in packages} == {"archive_compactor", "sensor_processor"}
    assert built.path.stat().st_size < 50 * 1024 * 1024
    code = "import fleet_iot.archive_compactor.handler as h, arro3.io; print(h.__file__, arro3.io.__file__)"
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "AWS_DEFAULT_REGION": "eu-west-1"}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.split()
    assert [path.startswith(f"{tmp_path}/") for path in printed] == [True, True]


def test_the_catalogue_holds_every_metric_with_its_limits(fleet: FleetSpec) -> None:
    """The processor's catalogue has every metric that the manifest declares; a limit that is not declared is null."""
    device_types = json.loads(packaging.catalogue(fleet))["device_types"]
    assert device_types == {
        device_type.id: {
            "metrics": {
                m.name: {METRIC_WORDS.get(key, key): value for key, value in asdict(m).items() if key != "name"}
                for m in device_type.metrics
            }
        }
        for device_type in fleet.device_types
    }


@pytest.mark.slow
def test_a_lock_that_cannot_be_installed_is_an_environment_fault(fleet: FleetSpec, tmp_path: Path) -> None:
    """A package without a hash, or that no registry has, is said in one sentence, and no half folder stays."""
    source = tmp_path / "source"
    source.mkdir()
    (source / packaging.LOCK).write_text("no-such-package-in-any-registry==0.0.0\n")
    build = tmp_path / "build"
    with pytest.raises(PrerequisiteError) as caught:
        packaging.build_zip(source=source, fleet=fleet, architecture=HOST, build=build)
    assert "could not be installed from requirements.txt: ERROR" in caught.value.message
    assert list(build.iterdir()) == []
