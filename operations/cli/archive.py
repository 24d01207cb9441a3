"""`fleet archive query`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from fleet_iot.operations.cli.options import facility_option, on_project
from fleet_iot.operations.project import Project
from fleet_iot.operations.telemetry.archive import query_statement, table_statement


@click.group()
def archive() -> None:
    """Query the raw archive, which keeps every message as it was sent."""


@archive.command()
@facility_option
@click.option("--device-type", metavar="TYPE", help="Of the query (default: the first).")
@click.option("--metric", metavar="NAME", help="Of the query (default: the device type's first).")
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="Day of arrival, UTC (default: today).")
@on_project
def query(
    project: Project, facility: str | None, device_type: str | None, metric: str | None, day: datetime | None
) -> None:
    """Print Athena's SQL: the table's definition and a first query."""
    chosen = project.facility(facility or project.facilities[0].id)
    described = project.device_type(device_type or project.fleet.device_types[0].id)
    project.check_metric(described.id, metric)
    if project.account_id is None:
        note = "note: the bucket's name lacks the AWS account: set account_id in fleet.yaml, or FLEET_ACCOUNT_ID."
        click.echo(note, err=True)
    types = [each.id for each in project.fleet.device_types]
    table = table_statement(
        project.names.raw_archive, facilities=[each.id for each in project.facilities], device_types=types
    )
    first_query = query_statement(
        facility=chosen.id,
        device_type=described.id,
        metric=metric or described.metrics[0].name,
        day=(day or datetime.now(UTC)).date(),
    )
    click.echo(f"-- Once:\n{table}\n\n-- Then, as you like:\n{first_query}")
