"""A release: the same bytes from any checkout, what it brings along, and what keeps it back."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.dependencies import declared
from tests.places import PROJECT
from tools.release import find_faults, read_version

RELEASED = "## {version} - 2026-11-30\n\n### Added\n- Something.\n\n"
NAME, VERSION = "fleet_iot", "9.8.7"


@pytest.mark.parametrize(
    ("changelog", "fault"),
    [
        ("# Changelog\n\n## Unreleased\n\n" + RELEASED.format(version="1.2.0"), None),
        ("# Changelog\n\n" + RELEASED.format(version="1.2.0") + RELEASED.format(version="1.1.0"), None),
        ("# Changelog\n\n## Unreleased\n- More.\n\n" + RELEASED.format(version="1.2.0"), "entries under Unreleased"),
        ("# Changelog\n\n" + RELEASED.format(version="1.1.0"), "pyproject.toml has 1.2.0"),
        ("# Changelog\n\n## 1.2.0\n- Something.\n", "pyproject.toml has 1.2.0"),
        ("# Changelog\n\n## 1.2.0 - 2026-11-30\n\n" + RELEASED.format(version="1.1.0"), "says nothing about 1.2.0"),
        ("# Changelog\n", "pyproject.toml has 1.2.0"),
    ],
)
def test_the_changelog_names_the_release(tmp_path: Path, changelog: str, fault: str | None) -> None:
    """Its first release is the version of pyproject.toml, with a date and a text, and nothing is left above it."""
    (tmp_path / "CHANGELOG.md").write_text(changelog)
    found = find_faults(tmp_path, version="1.2.0")
    assert len(found) == (fault is not None)
    assert all(str(fault) in each for each in found)


def test_the_version_is_in_one_place() -> None:
    """Neither code nor build settings repeat it."""
    version = read_version(PROJECT)
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert distribution("fleet-iot").version == version
    files = [path for folder in ("generator", "lib", "operations") for path in (PROJECT / folder).rglob("*.py")]
    assert not [path for path in files if f'"{version}"' in path.read_text(encoding="utf-8")]


def test_what_the_package_imports_is_declared() -> None:
    """Each import of another project is of a dependency in pyproject.toml, or of one that those bring along."""
    needed = declared()
    owners = {module: set(map(canonicalize_name, names)) for module, names in packages_distributions().items()}
    own = {"fleet_iot", "lib", "parliament"}  # parliament runs in .venv-scan
    for folder in ("generator", "lib", "operations", "lambda/sensor_processor"):
        for path in (PROJECT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.append(node.module)
                for module in {name.partition(".")[0] for name in names} - own - sys.stdlib_module_names:
                    assert owners[module] & needed, f"{path} imports {module}"


def checkout(folder: Path, *, time: str) -> Path:
    """A repository with the tracked files as they are, of which the changelog releases VERSION, in one commit."""
    folder.mkdir(parents=True)
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout
    present = b"\0".join(name for name in tracked.split(b"\0") if name and os.path.lexists(PROJECT / os.fsdecode(name)))
    archive = subprocess.run(
        ["tar", "--create", "--null", "--files-from=-"], cwd=PROJECT, input=present, capture_output=True, check=True
    )
    subprocess.run(["tar", "--extract"], cwd=folder, input=archive.stdout, check=True)
    changelog, settings = folder / "CHANGELOG.md", folder / "pyproject.toml"
    changelog.write_text(changelog.read_text().replace("## Unreleased\n", f"## {VERSION} - 2026-11-30\n- All.\n", 1))
    settings.write_text(re.sub(r'(?m)^version = ".*"$', f'version = "{VERSION}"', settings.read_text()))
    identity = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | identity | {"GIT_AUTHOR_DATE": time, "GIT_COMMITTER_DATE": time}
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "release"]):
        subprocess.run(["git", *command], cwd=folder, env=environment, check=True)
    return folder


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The release of one commit, built in two checkouts: in other folders, with another umask, language and zone."""
    subprocess.run(
        [PROJECT / "setup-venv", sys.executable, ".venv-release", "requirements/release.txt", "tools"],
        cwd=PROJECT,
        check=True,
    )
    one, other = tmp_path_factory.mktemp("a") / "one", tmp_path_factory.mktemp("b") / "a" / "longer" / "path"
    variables = {one: {"TZ": "UTC"}, other: {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7"}}
    for (folder, changed), umask in zip(variables.items(), (0o022, 0o077), strict=True):
        checkout(folder, time="2026-11-30T06:00:00Z")
        (folder / "generator" / "left_over.py").write_text("raise SystemExit\n")
        python = PROJECT / ".venv-release" / "bin" / "python"
        command = [str(python), "-m", "tools.release", "--environment", str(PROJECT / ".venv")]
        subprocess.run(
            command, cwd=folder, env=os.environ | changed, umask=umask, check=True, stdout=subprocess.DEVNULL
        )
    return one / "build" / "release", other / "build" / "release"


@pytest.mark.slow
def test_the_same_commit_gives_the_same_bytes(releases: tuple[Path, Path]) -> None:
    """All files of the release, and the checksums are theirs; what is not committed is not in it."""
    one, other = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in releases)
    assert one == other
    sums = one.pop("SHA256SUMS").decode().splitlines()
    assert sums == [f"{hashlib.sha256(one[name]).hexdigest()}  {name}" for name in sorted(one)]
    assert set(one) == {
        *(f"{NAME}-{VERSION}-py3-none-any.whl", f"{NAME}-{VERSION}.tar.gz"),
        *(f"{name}-{VERSION}.cdx.json" for name in ("fleet-iot", "sensor-processor", "archive-compactor")),
    }


@pytest.mark.slow
def test_wheel_and_sdist_have_the_same_files(releases: tuple[Path, Path]) -> None:
    """The links of `fleet_iot` are files in both; neither has the sample's record, tests, or what was not committed."""
    with zipfile.ZipFile(releases[0] / f"{NAME}-{VERSION}-py3-none-any.whl") as wheel:
        wheel_files = {name for name in wheel.namelist() if name.startswith(f"{NAME}/")}
    with tarfile.open(releases[0] / f"{NAME}-{VERSION}.tar.gz") as sdist:
        names = {each.name.removeprefix(f"{NAME}-{VERSION}/") for each in sdist.getmembers() if each.isfile()}
        assert not [each.name for each in sdist.getmembers() if each.issym() or each.islnk()]
    assert {name for name in names if name.startswith(f"{NAME}/")} == wheel_files
    assert {f"{NAME}/lib/app.py", f"{NAME}/sensor_processor/handler.py"} <= wheel_files
    assert not [name for name in names if "left_over" in name or "facilities/" in name or name.startswith("tests/")]


@pytest.mark.slow
def test_the_sboms_say_what_the_locks_say(releases: tuple[Path, Path]) -> None:
    """Every package that is installed with the tool, or is in a Lambda's zip, with version, hashes and licence."""
    locks = {
        "fleet-iot": (PROJECT / "requirements" / "main.txt").read_text(),
        "sensor-processor": (PROJECT / "lambda" / "sensor_processor" / "requirements.txt").read_text(),
        "archive-compactor": (PROJECT / "lambda" / "archive_compactor" / "requirements.txt").read_text(),
    }
    boms = {name: json.loads((releases[0] / f"{name}-{VERSION}.cdx.json").read_text()) for name in locks}
    package, *functions = boms.values()
    for bom in boms.values():
        top = bom["metadata"]["component"]
        assert ("CycloneDX", "1.6", VERSION) == (bom["bomFormat"], bom["specVersion"], top["version"])
        assert "2026-11-30T06:00:00+00:00" == bom["metadata"]["timestamp"]
        lock = locks[top["name"]]
        for each in bom["components"]:
            assert f"\n{each['name']}=={each['version']} " in f"\n{lock}", each["name"]
            assert each["licenses"] and "NOASSERTION" not in json.dumps(each["licenses"]), each["name"]
            (files,) = each["externalReferences"]
            assert files["hashes"] and all(f"sha256:{digest['content']}" in lock for digest in files["hashes"])
        known = {top["bom-ref"], *(each["bom-ref"] for each in bom["components"])}
        assert {each["ref"] for each in bom["dependencies"]} == known
    for function in functions:
        lock = locks[function["metadata"]["component"]["name"]]
        assert {each["name"] for each in function["components"]} == set(re.findall(r"(?m)^(\S+)==", lock))
    names = {each["name"] for each in package["components"]}
    assert {"boto3", "botocore", "cdktf", "msgspec", "ddsketch"} <= names and not names & {"pytest", "mypy", "ruff"}
