"""Finds the project that a command acts on, and the files of its environments."""

from __future__ import annotations

import os
from pathlib import Path

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.lib.faults import UnknownEnvironmentError
from fleet_iot.lib.record.place import MANIFEST, PART_ENDING, find_overlay, nearest_project


def find_project(start: Path) -> Path:
    """Return the nearest folder, from `start` upward, with a `fleet.yaml`."""
    if found := nearest_project(start):
        return found
    raise EnvironmentFault(
        f"there is no {MANIFEST} in {start.absolute()} or in a folder above it",
        hint="go into the project's folder, or name the manifest: --manifest PATH",
    )


def leads_out(path: Path, project: Path) -> bool:
    """Return whether `path`, with all its links resolved, lies outside the project's folder."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(project))


def environment_file(manifest: Path, environment: str) -> Path:
    """Return the file of an environment: `fleet.prod.yaml` for `prod`; raises `RequestError` where there is none."""
    try:
        return find_overlay(manifest, environment)
    except UnknownEnvironmentError as error:
        raise RequestError(error.message, hint=error.remedy) from None


def part_files(manifest: Path, section: str) -> list[Path]:
    """Return the files of a section's parts, such as `facilities/sg-01.yaml`, sorted by id."""
    files = sorted(manifest.with_name(section).glob(f"*{PART_ENDING}"))
    return [file for file in files if not file.name.startswith(".")]
