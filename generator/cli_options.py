"""What several commands share: the options for manifest and facilities, and how a path is found and shown."""

from __future__ import annotations

import os
from pathlib import Path

import click

from generator.completion import complete_facility
from generator.project import MANIFEST_NAME, find_project

manifest_option = click.option(
    "--manifest",
    "manifest_path",
    type=click.Path(path_type=Path),
    help=f"The manifest; its folder is the project. Default: the nearest {MANIFEST_NAME}, upward from here.",
)

facility_option = click.option(
    "--facility",
    "facilities",
    metavar="ID",
    multiple=True,
    shell_complete=complete_facility,
    help="This facility alone; may be repeated.",
)


def found_manifest(given: Path | None) -> Path:
    """The manifest that a command acts on."""
    return given.absolute() if given is not None else find_project(Path.cwd()) / MANIFEST_NAME


def shown(path: Path) -> str:
    """A path as people read it: from here, or whole, whichever is shorter."""
    return min(os.path.relpath(path), str(path), key=len)
