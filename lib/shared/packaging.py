"""Build the Lambdas' zips reproducibly: a function, the metric catalogue and the locked wheels."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ..faults import PrerequisiteError
from ..specs import METRIC_WORDS, FleetSpec

PYTHON_VERSION = "3.11"
"""The Lambdas' runtime, on Amazon Linux 2."""

PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_24")
"""Wheels that glibc 2.26 runs."""

WHEEL_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time of the zip format: file times would change every build."""

DROPPED_SUFFIXES = frozenset({".pyc", ".pyi"})
DROPPED_METADATA = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})
"""Files that pip adds about the installation: they vary with the machine, and nothing reads them."""

SCRIPTS = "bin/"
"""Commands of the wheels: nothing in the function calls them, and pip writes its own interpreter's path into each."""

LOCK = "requirements.txt"
"""The lock of the wheels, in the source folder; not part of the zip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaZip:
    """A built zip; `source_code_hash` is its SHA-256 in base64, as Lambda and Terraform expect."""

    path: Path
    source_code_hash: str
    architecture: str


def find_source(name: str = "sensor_processor") -> Path:
    """Return the folder of a function: beside this package when installed, in `lambda/` in the repository."""
    root = Path(__file__).resolve().parents[2]
    return next(path for path in (root / name, root / "lambda" / name) if path.is_dir())


def build_compactor_zip(*, fleet: FleetSpec, architecture: str, build: Path) -> LambdaZip:
    """Build the archive compactor's zip. It parses messages as the sensor processor does, so it has that code, too."""
    return build_zip(
        source=find_source("archive_compactor"),
        fleet=fleet,
        architecture=architecture,
        build=build,
        root="fleet_iot/",
        shared=(find_source() / "ingest",),
    )


def build_zip(
    *, source: Path, fleet: FleetSpec, architecture: str, build: Path, root: str = "", shared: Iterable[Path] = ()
) -> LambdaZip:
    """Build the zip of the package `source`, of the wheels in its lock and of `fleet`'s catalogue, below `build`.

    Args:
        root: Folder of the packages in the zip.
        shared: Packages of another function, with the name of that.
    """
    wheels = _wheels(lock=source / LOCK, architecture=architecture, build=build)
    members = {name: path for name, path in _members(wheels) if not name.startswith(SCRIPTS)}
    members.update({f"{root}{source.name}/{name}": path for name, path in _members(source) if name != LOCK})
    for folder in shared:
        members.update({f"{root}{folder.parent.name}/{folder.name}/{name}": path for name, path in _members(folder)})
    contents = {name: path.read_bytes() for name, path in members.items()}
    contents["catalogue.json"] = catalogue(fleet)
    digest = hashlib.sha256()
    build.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=build, suffix=".zip", delete=False) as staged:
        _write_zip(Path(staged.name), contents)
        digest.update(Path(staged.name).read_bytes())
    path = build / f"{source.name.replace('_', '-')}-{architecture}-{digest.hexdigest()[:12]}.zip"
    Path(staged.name).replace(path)
    return LambdaZip(path=path, source_code_hash=base64.b64encode(digest.digest()).decode(), architecture=architecture)


def catalogue(fleet: FleetSpec) -> bytes:
    """Return the metrics of each device type as JSON, as the sensor processor reads them."""
    return json.dumps(
        {
            "application": fleet.application,
            "device_types": {
                device_type.id: {
                    "metrics": {
                        metric.name: {
                            METRIC_WORDS.get(key, key): value for key, value in asdict(metric).items() if key != "name"
                        }
                        for metric in device_type.metrics
                    }
                }
                for device_type in fleet.device_types
            },
        },
        sort_keys=True,
        indent=1,
    ).encode()


def _write_zip(path: Path, contents: dict[str, bytes]) -> None:
    """Write a zip without compression: deflate's bytes differ between versions of zlib."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            member = zipfile.ZipInfo(name, ZIP_EPOCH)
            member.create_system = 3
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(member, contents[name])


def _members(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        is_noise = path.suffix in DROPPED_SUFFIXES or path.name.startswith(".") or "__pycache__" in path.parts
        is_varying = path.parent.suffix == ".dist-info" and path.name in DROPPED_METADATA
        if path.is_file() and not is_noise and not is_varying:
            yield path.relative_to(folder).as_posix(), path


def _wheels(*, lock: Path, architecture: str, build: Path) -> Path:
    """Return the folder of the unpacked wheels, downloaded once for each lock and architecture."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    folder = build / f"wheels-{architecture}-{digest}"
    if folder.is_dir():
        return folder
    build.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=build))
    machine = WHEEL_MACHINES[architecture]
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
            *("--target", str(staged), "--no-deps", "--no-compile", "--require-hashes", "--only-binary=:all:"),
            *(part for name in PLATFORMS for part in ("--platform", f"{name}_{machine}")),
            *("--python-version", PYTHON_VERSION, "--implementation", "cp", "-r", str(lock)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(staged, ignore_errors=True)
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()[-200:]]
        raise PrerequisiteError(
            f"The Lambda's wheels for {architecture} could not be installed from {lock.name}: {errors[0]}",
            remedy="See that pip reaches the package registry (or a folder of wheels: PIP_FIND_LINKS) and run again.",
        )
    try:
        staged.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(staged)
    return folder
