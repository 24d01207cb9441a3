"""Share among commands: which project and which AWS, options, and how results are printed, as JSON or as text."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import click

from fleet_iot.generator.cli.completion import complete_device_type, complete_facility, complete_metric, complete_thing
from fleet_iot.generator.cli.options import environment_option
from fleet_iot.generator.diagnostics import EnvironmentFault, visible
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.aws import Aws, account_aws, local_aws, local_folder, role_aws
from fleet_iot.operations.pki.spent import journals_here
from fleet_iot.operations.project import Project, Thing, load_project
from fleet_iot.operations.registry.names import UnknownThingError, resolve

Read = TypeVar("Read")
PATH = click.Path(path_type=Path)
SHARE = click.FloatRange(0.0, 1.0)


class Words(click.ParamType[str]):
    """A text that says something: white space at its ends is removed, and what is left is not empty."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        return str(value).strip() or self.fail("is empty", param, ctx)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
facility_option = click.option("--facility", metavar="ID", shell_complete=complete_facility, help="Only this facility.")
folder_option = click.option(
    "--dir", "folder", type=PATH, help="Folder of the local AWS (default: build/local, or that of the environment)."
)
required_facility = click.option(
    "--facility", "facility_id", required=True, metavar="ID", shell_complete=complete_facility, help="The facility."
)
facilities_option = click.option(
    "--facility",
    "facility_ids",
    multiple=True,
    metavar="ID",
    shell_complete=complete_facility,
    help="Only this facility; may be repeated.",
)
thing_argument = click.argument("thing", shell_complete=complete_thing)
things_argument = click.argument("things", nargs=-1, required=True, metavar="THING...", shell_complete=complete_thing)


def thing_option(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Build --thing NAME; `text` is its help."""
    return click.option("--thing", metavar="NAME", shell_complete=complete_thing, help=text)


def metric_option(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Build --metric NAME; `text` is its help."""
    return click.option("--metric", metavar="NAME", shell_complete=complete_metric, help=text)


def device_type_option(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Build --device-type TYPE; `text` is its help."""
    return click.option("--device-type", metavar="TYPE", shell_complete=complete_device_type, help=text)


@dataclass(frozen=True, kw_only=True)
class Site:
    """The project of the current folder, and the AWS that the command line chose for it."""

    project: Project
    folder: Path
    is_account: bool

    @cached_property
    def aws(self) -> Aws:
        """Find the AWS when it is first needed, after the command line was checked.

        Raises:
            EnvironmentFault: No local AWS is up in `folder`; or the account's credentials do not work, or are of
                another account than the project's.
        """
        return account_aws(self.project) if self.is_account else local_aws(self.folder)

    def deployer(self) -> Aws:
        """Return the AWS as Terraform reaches it: in an account, under the role of `FLEET_ASSUME_ROLE_ARN`, if set."""
        role = os.environ.get("FLEET_ASSUME_ROLE_ARN")
        return role_aws(role, region=self.project.fleet.region) if role and self.is_account else self.aws

    @property
    def journals(self) -> list[Path]:
        """The journals of the chosen AWS, which are found without it."""
        return journals_here(self.project, local=None if self.is_account else self.folder)

    def thing(self, said: str, *, facility: FacilitySpec | None = None) -> Thing:
        """Return the thing that a person means; see `resolve`. No AWS is asked."""
        return resolve(self.project, said, journals=self.journals, facility=facility)

    def read_thing(
        self, said: str, read: Callable[[str], Read], *, facility: str | None = None, metric: str | None = None
    ) -> tuple[str, Read]:
        """Return the full name of the thing that a person means, and what `read` returns for it.

        A thing that left the record and is in no journal may still have readings: its full name is read where the AWS
        answers. Raises RequestError for an unknown thing or metric, whether the AWS is up or not.
        """
        try:
            thing = self.thing(said, facility=self.project.facility(facility) if facility else None)
        except UnknownThingError as unknown:
            if not re.fullmatch(f"[a-z0-9-]+-[a-z0-9_]+-{self.project.environment_suffix}", said):
                raise
            try:
                found = read(said)
            except EnvironmentFault:
                found = None
            if not found:
                raise unknown from None
            return said, found
        if metric is not None:
            self.project.check_metric(thing.device_type, metric)
        return thing.name, read(thing.name)


def on_project(command: Callable[..., None]) -> Callable[..., None]:
    """Add --env, and pass the project of the current folder as `project`."""

    @environment_option
    @functools.wraps(command)
    def wrapped(environment: str | None, **arguments: Any) -> None:
        command(project=load_project(find_project(Path.cwd()), environment), **arguments)

    return wrapped


def on_aws(command: Callable[..., None]) -> Callable[..., None]:
    """Add --dir, --aws and --env, and pass what they choose as `site`."""

    @environment_option
    @folder_option
    @click.option("--aws", "is_account", is_flag=True, help="The AWS account of the credentials, not the local AWS.")
    @functools.wraps(command)
    def wrapped(environment: str | None, folder: Path | None, is_account: bool, **arguments: Any) -> None:
        project = load_project(find_project(Path.cwd()), environment)
        chosen = folder or local_folder(project.root, environment)
        command(site=Site(project=project, folder=chosen, is_account=is_account), **arguments)

    return wrapped


def pairs(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """Read METRIC=COLUMN options into a dict; a click callback."""
    found = {}
    for text in value:
        metric, separator, column = text.partition("=")
        if not (metric and separator and column):
            raise click.BadParameter(f"{text!r}: say METRIC=COLUMN", context, parameter)
        found[metric] = column
    return found


def columns_option(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Build --column METRIC=COLUMN, which may be repeated; `text` is its help."""
    return click.option("--column", "columns", multiple=True, metavar="METRIC=COLUMN", callback=pairs, help=text)


# Print what commands found: as JSON for programs, as lines and tables for people.

SHOWN = 20
"""Rows that are printed where a list may be long."""

Row = TypeVar("Row")


def emit(result: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Print a result: as one line of JSON, or as lines of text."""
    if as_json:
        click.echo(json.dumps(_plain(result)))
        return
    for line in lines:
        click.echo(visible(line))


def emit_rows(rows: Iterable[Row], lines: Callable[[], Iterable[str]], *, as_json: bool) -> None:
    """Print rows: each as a line of JSON, or all as lines of text."""
    if as_json:
        printed = (json.dumps(_plain(row)) for row in rows)
        while part := list(islice(printed, 500)):  # each echo flushes
            click.echo("\n".join(part))
        return
    emit(None, lines(), as_json=False)


def emit_errors(lines: Sequence[str]) -> None:
    """Print the first of many lines on stderr."""
    for line in first(lines):
        click.echo(visible(line), err=True)


def first(lines: Sequence[str]) -> list[str]:
    """Cut lines off after the first ones, and say how many more there are."""
    rest = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"and {rest:,} more: see --json"] if rest > 0 else [])]


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
