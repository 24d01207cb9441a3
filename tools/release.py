"""Build a release from the committed files: `python -m tools.release`, which `make release` runs.

The same commit gives the same bytes, whatever the folder, the clock and the umask: file times are the commit's
(SOURCE_DATE_EPOCH), owners and modes are set, and the wheel is built from the sdist, so that both have the same files.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
OUTPUT = Path("build") / "release"
SUMS = "SHA256SUMS"
HEADING = re.compile(r"^## (?P<name>\S+)(?: - (?P<date>\d{4}-\d{2}-\d{2}))?$", flags=re.MULTILINE)


def read_version(source: Path) -> str:
    """Return the version, which pyproject.toml has and nothing else."""
    version = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert isinstance(version, str)  # noqa: S101 - the format's own rule
    return version


def find_faults(source: Path, *, version: str) -> list[str]:
    """Return what makes the changelog of `source` not ready for a release of `version`, a sentence each."""
    text = (source / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = list(HEADING.finditer(text))
    ends = [*(each.start() for each in headings), len(text)][1:]
    bodies = {each["name"]: text[each.end() : end].strip() for each, end in zip(headings, ends, strict=True)}
    released = [each for each in headings if each["name"] != "Unreleased"]
    faults = []
    if bodies.get("Unreleased"):
        faults.append("CHANGELOG.md has entries under Unreleased: move them below a heading of the new version")
    if not released or released[0]["name"] != version or not released[0]["date"]:
        faults.append(f"CHANGELOG.md's first release is not `## {version} - DATE`, and pyproject.toml has {version}")
    elif not bodies[version]:
        faults.append(f"CHANGELOG.md says nothing about {version}")
    return faults


def export(project: Path, folder: Path) -> int:
    """Write the files of the last commit into `folder`; return the commit's time, in seconds since the epoch."""
    archive = subprocess.run(
        ["git", "-c", "tar.umask=0022", "archive", "--format=tar", "HEAD"], cwd=project, capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as members:
        members.extractall(folder, filter="data")
    time = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=project, capture_output=True, text=True, check=True)
    return int(time.stdout)


def build(source: Path, output: Path, *, epoch: int) -> None:
    """Build sdist and wheel of `source` into `output`, the wheel from the sdist. Raises CalledProcessError."""
    _build("--sdist", source, output, epoch=epoch)
    (sdist,) = output.glob("*.tar.gz")
    normalise(sdist, epoch=epoch)
    with tempfile.TemporaryDirectory() as unpacked:
        with tarfile.open(sdist) as members:
            members.extractall(unpacked, filter="data")
        (root,) = Path(unpacked).iterdir()
        _build("--wheel", root, output, epoch=epoch)


def _build(kind: str, source: Path, output: Path, *, epoch: int) -> None:
    command = [sys.executable, "-m", "build", "--quiet", "--no-isolation", kind, "--outdir", str(output), str(source)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


def normalise(sdist: Path, *, epoch: int) -> None:
    """Write an sdist again in the order of its names, with the same time, owner and modes for all members."""
    content = io.BytesIO()
    with tarfile.open(sdist) as members, tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as written:
        for member in sorted(members.getmembers(), key=lambda each: each.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            written.addfile(member, members.extractfile(member) if member.isfile() else None)
    with sdist.open("wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=epoch) as packed:
        packed.write(content.getvalue())


def write_sums(output: Path) -> None:
    """Write the SHA-256 of each file in `output`, as `sha256sum --check` reads it."""
    files = sorted(path for path in output.iterdir() if path.name != SUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (output / SUMS).write_text("".join(lines))


def main() -> int:
    """Build wheel, sdist, SBOMs and checksums into build/release; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument("--project", type=Path, default=PROJECT, help="the checkout to release")
    parser.add_argument("--environment", type=Path, default=PROJECT / ".venv", help="where licences are read from")
    chosen = parser.parse_args()
    output = (chosen.project / OUTPUT).resolve()
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        epoch = export(chosen.project, source)
        version = read_version(source)
        if faults := find_faults(source, version=version):
            print(*(f"error: {fault}" for fault in faults), sep="\n", file=sys.stderr)
            return 1
        build(source, output, epoch=epoch)
        from tools.sbom import write_sboms

        write_sboms(source, output, environment=chosen.environment, version=version, epoch=epoch)
    write_sums(output)
    print((output / SUMS).read_text(), end="")
    print(f"To publish: git tag -a v{version} -m v{version}, then the files of {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
