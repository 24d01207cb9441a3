"""Finds the project that a command acts on, and the files of its environments."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError

MANIFEST_NAME = "fleet.yaml"
PART_ENDING = ".yaml"
_ENVIRONMENT = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def find_project(start: Path) -> Path:
    """Return the nearest folder, from `start` upward, with a `fleet.yaml`."""
    start = start.absolute()
    for folder in (start, *start.parents):
        if (folder / MANIFEST_NAME).exists():
            return folder
    raise EnvironmentFault(
        f"there is no {MANIFEST_NAME} in {start} or in a folder above it",
        hint="go into the project's folder, or name the manifest: --manifest PATH",
    )


def leads_out(path: Path, project: Path) -> bool:
    """Return whether `path`, with all its links resolved, lies outside the project's folder."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(project))


def environment_file(manifest: Path, environment: str) -> Path:
    """Return the file of an environment: `fleet.prod.yaml` for `prod`; raises `RequestError` where there is none."""
    name = f"{manifest.stem}.{environment}{manifest.suffix}"
    if _ENVIRONMENT.fullmatch(environment) and manifest.with_name(name).exists():
        return manifest.with_name(name)
    known = environments(manifest)
    near = difflib.get_close_matches(environment, known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known)}" if known else ""
    raise RequestError(
        f"there is no environment `{environment}`: it would be {name} beside {manifest.name}",
        hint=hint or "write that file with what differs, or leave out --env and the variable FLEET_ENV",
    )


def part_files(manifest: Path, section: str) -> list[Path]:
    """Return the files of a section's parts, such as `facilities/sg-01.yaml`, sorted by id."""
    files = sorted(manifest.with_name(section).glob(f"*{PART_ENDING}"))
    return [file for file in files if not file.name.startswith(".")]


def environments(manifest: Path) -> list[str]:
    """Return the environments that have a file beside the manifest."""
    start, end = f"{manifest.stem}.", manifest.suffix
    names = (path.name[len(start) : -len(end)] for path in manifest.parent.glob(f"{start}*{end}"))
    return sorted(name for name in names if _ENVIRONMENT.fullmatch(name))
