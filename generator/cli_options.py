"""What several commands share: the option that names the manifest, and how its path is found and shown."""

from __future__ import annotations

import os
from pathlib import Path

import click

from generator.project import MANIFEST_NAME, find_project

manifest_option = click.option(
    "--manifest",
    "manifest_path",
    type=click.Path(path_type=Path),
    help=f"The manifest; its folder is the project. Default: the nearest {MANIFEST_NAME}, upward from here.",
)


def found_manifest(given: Path | None) -> Path:
    """The manifest that a command acts on."""
    return given.absolute() if given is not None else find_project(Path.cwd()) / MANIFEST_NAME


def shown(path: Path) -> str:
    """A path as people read it: from here, or whole, whichever is shorter."""
    return min(os.path.relpath(path), str(path), key=len)
