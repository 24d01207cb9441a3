"""Find a project and its records: `lib/environments/NAME` of an environment with an overlay, else `lib/facilities`.

An environment with an overlay beside the manifest (`fleet.prod.yaml`) has a record of its own. All others share one,
and differ by their suffix alone.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from ..faults import UnknownEnvironmentError

MANIFEST = "fleet.yaml"
PART_ENDING = ".yaml"
"""Ending of a file of one facility or device type: `facilities/sg-01.yaml`."""

RECORD = "lib/facilities"
ENVIRONMENTS = "lib/environments"
VARIABLE = "FLEET_ENV"
"""The variable that names the environment where no option does."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")

_COMMAND = re.compile(
    r"\bfleet (?:generate|plan|cost|validate|check|explain|message|synth|deploy|destroy|preflight|isolation|compliance|"
    r"onboard|bundle|certificates|simulate|history|backtest|replay|demo|"
    r"(?:keys|ca|local|device|anomalies|quarantine|archive) [a-z]+)\b(?! --env)"
)
"""A command of a project in a text."""


def nearest_project(start: Path) -> Path | None:
    """Return the nearest folder, from `start` upward, with a manifest."""
    start = start.absolute()
    return next((folder for folder in (start, *start.parents) if (folder / MANIFEST).exists()), None)


def record_name(environment: str | None) -> str:
    """Return the folder of an environment's record, below the project; None is the manifest without overlay."""
    return RECORD if environment is None else f"{ENVIRONMENTS}/{environment}"


def name_of(folder: Path) -> str:
    """Return the name of the record in `folder`, as `record_name` does."""
    parent = folder.parent.name
    return record_name(folder.name) if parent == ENVIRONMENTS.rpartition("/")[2] else RECORD


def environments(manifest: Path) -> list[str]:
    """Return the environments that have an overlay beside the manifest."""
    start, end = f"{manifest.stem}.", manifest.suffix
    names = (path.name[len(start) : -len(end)] for path in manifest.parent.glob(f"{start}*{end}"))
    return sorted(name for name in names if _NAME.fullmatch(name))


def find_overlay(manifest: Path, environment: str) -> Path:
    """Return the overlay of an environment: `fleet.prod.yaml` for `prod`. Raises UnknownEnvironmentError."""
    name = _overlay(manifest, environment)
    is_name = _NAME.fullmatch(environment) is not None
    if is_name and manifest.with_name(name).exists():
        return manifest.with_name(name)
    known = environments(manifest)
    near = difflib.get_close_matches(environment, known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known)}" if known else ""
    if is_name and os.path.lexists(manifest.parent / record_name(environment)):
        hint = removal(manifest, environment)
    raise UnknownEnvironmentError(
        f"there is no environment `{environment}`: it would be {name} beside {manifest.name}",
        remedy=hint or f"write that file with what differs, or leave out --env and the variable {VARIABLE}",
    )


def _overlay(manifest: Path, environment: str) -> str:
    return f"{manifest.stem}.{environment}{manifest.suffix}"


def orphans(manifest: Path) -> list[str]:
    """Return what is in `lib/environments` without an overlay, by name: records of environments that are gone."""
    known = {*environments(manifest), "__pycache__"}
    try:
        return sorted({path.name for path in (manifest.parent / ENVIRONMENTS).iterdir()} - known)
    except (FileNotFoundError, NotADirectoryError):
        return []


def removal(manifest: Path, environment: str) -> str:
    """Return how to end an environment whose overlay is gone."""
    overlay = _overlay(manifest, environment)
    return (
        f"{record_name(environment)} is left of it: where it is deployed, restore {overlay} and destroy its stacks; "
        f"then remove it: git rm -r {record_name(environment)}"
    )


def with_environment(text: str, environment: str | None) -> str:
    """Return a text, such as a hint, whose `fleet` commands name the environment."""
    return _COMMAND.sub(rf"\g<0> --env {environment}", text) if environment else text
