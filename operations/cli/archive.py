"""`fleet archive query`: the SQL with which Athena reads the raw archive."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from fleet_iot.generator.cli.completion import complete_facility
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.lib import names as resource_names
from fleet_iot.operations.project import Project, load_project
from fleet_iot.operations.telemetry import athena as sql


@click.group()
def archive() -> None:
    """Ask the raw archive, which keeps every message as it came."""


@archive.command()
@click.option("--facility", metavar="ID", shell_complete=complete_facility, help="Of the query (default: the first).")
@click.option("--device-type", metavar="TYPE", help="Of the query (default: the facility's first).")
@click.option("--metric", metavar="NAME", help="Of the query (default: the device type's first).")
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="Day of arrival, UTC (default: today).")
def query(facility: str | None, device_type: str | None, metric: str | None, day: datetime | None) -> None:
    """Print the table's definition and a first query, for Athena."""
    project = load_project(find_project(Path.cwd()))
    choice = _choice(project, facility, device_type, metric, day or datetime.now(UTC))
    fleet = project.fleet
    account = os.environ.get("FLEET_ACCOUNT_ID") or fleet.account_id
    if account is None:
        note = "note: the bucket's name lacks the AWS account: set account_id in fleet.yaml, or FLEET_ACCOUNT_ID."
        click.echo(note, err=True)
    place = sql.ArchivePlace(
        bucket=resource_names.bucket(fleet.application, "raw-archive", account, project.environment_suffix),
        facilities=[each.id for each in project.facilities],
        device_types=[each.id for each in fleet.device_types],
    )
    click.echo(f"-- Once:\n{sql.table(place)}\n\n-- Then, as you like:\n{sql.query(choice)}")


def _choice(
    project: Project, facility: str | None, device_type: str | None, metric: str | None, day: datetime
) -> sql.Choice:
    of = project.facility(facility) if facility else project.facilities[0]
    types = {each.id: each for each in project.fleet.device_types}
    if device_type not in {None, *types}:
        raise click.UsageError(f"{device_type!r} is no device type; there are {', '.join(sorted(types))}")
    described = types[device_type] if device_type else next(iter(types.values()))
    names = [each.name for each in described.metrics]
    if metric not in {None, *names}:
        raise click.UsageError(f"{metric!r} is no metric of {described.id}; there are {', '.join(names)}")
    return sql.Choice(facility=of.id, device_type=described.id, metric=metric or names[0], day=day.date())
