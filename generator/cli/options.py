"""Options that several commands share, and how paths are shown."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet_iot.generator.cli.completion import complete_environment, complete_facility
from fleet_iot.generator.diagnostics import EnvironmentFault, FleetError
from fleet_iot.generator.manifest.project import MANIFEST_NAME, environment_file, find_project
from fleet_iot.lib.specs import chosen_suffix

if TYPE_CHECKING:
    from fleet_iot.generator.diff.identities import Identities

manifest_option = click.option(
    "--manifest",
    "manifest_path",
    type=click.Path(path_type=Path),
    help=f"The manifest; its folder is the project. Default: the nearest {MANIFEST_NAME}, from here upward.",
)

facility_option = click.option(
    "--facility",
    "facilities",
    metavar="ID",
    multiple=True,
    shell_complete=complete_facility,
    help="Only this facility; may be repeated.",
)

environment_option = click.option(
    "--env",
    "environment",
    metavar="NAME",
    envvar="FLEET_ENV",
    shell_complete=complete_environment,
    help="Merge fleet.NAME.yaml into the manifest. Default: the variable FLEET_ENV, else none.",
)


def found_manifest(given: Path | None) -> Path:
    """Return the manifest that a command acts on."""
    return given.absolute() if given is not None else find_project(Path.cwd()) / MANIFEST_NAME


def shown(path: Path) -> str:
    """Return a path as people read it: from here, or whole, whichever is shorter."""
    return min(os.path.relpath(path), str(path), key=len)


def layers(path: Path, environment: str | None) -> str:
    """Return the manifest and its environment's file, as people read them."""
    return f"{shown(path)} with {environment_file(path, environment).name}" if environment else shown(path)


def suffix_of(declared: str) -> str:
    """Return the suffix of this environment, where the manifest has `declared`; raises `EnvironmentFault`."""
    try:
        return chosen_suffix(os.environ, declared)
    except ValueError as error:
        raise EnvironmentFault(str(error), hint="set ENVIRONMENT_SUFFIX to such a value, or unset it") from None


def identities_of(project: Path, declared: str) -> Identities:
    """Return the identities of this environment: `FLEET_IDENTITIES`, else the project's folder of that name."""
    from fleet_iot.generator.diff.identities import Identities

    folder = Path(os.environ.get("FLEET_IDENTITIES") or project / "identities")
    return Identities(folder=folder, suffix=suffix_of(declared))


def printable(text: str) -> str:
    """Return the text with a `?` for what the terminal's encoding lacks: names of plants may be in any script."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


@contextmanager
def with_env_in_hints(environment: str | None) -> Iterator[None]:
    """Add `--env` to the commands in hints."""
    try:
        yield
    except FleetError as error:
        if environment and error.hint:
            error.hint = re.sub(r"\bfleet (generate|plan)\b", rf"\g<0> --env {environment}", error.hint)
        raise
