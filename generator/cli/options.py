"""Options that several commands share, and how paths are shown."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_iot.generator.cli.completion import complete_environment, complete_facility
from fleet_iot.generator.diagnostics import EnvironmentFault, FleetError
from fleet_iot.generator.diff.impact import REFUSED, Impact
from fleet_iot.generator.manifest.project import environment_file, find_project
from fleet_iot.lib.faults import ExpectedError
from fleet_iot.lib.record.place import MANIFEST, VARIABLE, with_environment
from fleet_iot.lib.record.read import refuse_claimed_suffix
from fleet_iot.lib.specs import chosen_suffix

if TYPE_CHECKING:
    from fleet_iot.generator.diff.identities import Identities
    from fleet_iot.generator.manifest.models import FleetManifest

manifest_option = click.option(
    "--manifest",
    "manifest_path",
    type=click.Path(path_type=Path),
    help=f"The manifest; its folder is the project. Default: the nearest {MANIFEST}, from here upward.",
)

facility_option = click.option(
    "--facility",
    "facilities",
    metavar="ID",
    multiple=True,
    shell_complete=complete_facility,
    help="Only this facility; may be repeated.",
)

allow_option = click.option(
    "--allow",
    "allowed",
    type=click.Choice([impact.value for impact in REFUSED]),
    multiple=True,
    callback=lambda context, parameter, value: frozenset(map(Impact, value)),
    help="Permit changes with this impact; may be repeated. `fleet plan` shows the impact.",
)


def environment_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add --env, pass it as `environment`, and name it in the commands that hints suggest."""

    @click.option(
        "--env",
        "environment",
        metavar="NAME",
        envvar=VARIABLE,
        shell_complete=complete_environment,
        help="The environment of fleet.NAME.yaml. Default: the variable FLEET_ENV, else none.",
    )
    @functools.wraps(command)
    def wrapped(environment: str | None, **arguments: Any) -> None:
        try:
            command(environment=environment, **arguments)
        except FleetError as error:
            error.hint = with_environment(error.hint, environment) if error.hint else error.hint
            raise

    return wrapped


def found_manifest(given: Path | None) -> Path:
    """Return the manifest that a command acts on."""
    return given.absolute() if given is not None else find_project(Path.cwd()) / MANIFEST


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


def identities_of(path: Path, environment: str | None, manifest: FleetManifest) -> Identities:
    """Return the identities of this environment: `FLEET_IDENTITIES`, else the folder of that name beside the manifest.

    Raises:
        EnvironmentFault: `ENVIRONMENT_SUFFIX` is not allowed, or is the suffix of another environment's record.
    """
    from fleet_iot.generator.diff.identities import Identities

    suffix = suffix_of(manifest.environment_suffix)
    if suffix != manifest.environment_suffix:  # else the manifest's rules have compared it with the others
        try:
            refuse_claimed_suffix(path, environment, manifest, suffix=suffix, account_id=manifest.account_id)
        except ExpectedError as error:
            raise EnvironmentFault(error.message.removesuffix("."), hint=error.remedy) from None
    folder = Path(os.environ.get("FLEET_IDENTITIES") or path.with_name("identities"))
    return Identities(folder=folder, suffix=suffix)


def printable(text: str) -> str:
    """Return the text with a `?` for what the terminal's encoding lacks: names of plants may be in any script."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
