"""Finds the project that a command acts on."""

from __future__ import annotations

from pathlib import Path

from generator.diagnostics import EnvironmentFault

MANIFEST_NAME = "fleet.yaml"


def find_project(start: Path) -> Path:
    """The nearest folder, from `start` upward, that holds a `fleet.yaml`."""
    start = start.absolute()
    for folder in (start, *start.parents):
        if (folder / MANIFEST_NAME).exists():
            return folder
    raise EnvironmentFault(
        f"there is no {MANIFEST_NAME} in {start} or in a folder above it",
        hint="go into the project's folder, or name the manifest: --manifest PATH",
    )
