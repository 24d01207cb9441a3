"""`fleet anomalies list | ack`."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import click
from botocore.exceptions import BotoCoreError, ClientError

from fleet_iot.generator.cli.completion import complete_facility
from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError, visible
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.operations.local.aws import load
from fleet_iot.operations.project import load_project
from fleet_iot.operations.telemetry.anomalies import Anomaly, acknowledge
from fleet_iot.operations.telemetry.anomalies import anomalies as read


def _place(command: Any) -> Any:
    folder = click.option(
        "--dir", "folder", type=click.Path(path_type=Path), default=Path("build/local"), help="Local."
    )
    aws = click.option("--aws", is_flag=True, help="In the AWS account of the credentials, not in the local AWS.")
    return folder(aws(command))


@click.group()
def anomalies() -> None:
    """See what is strange on the machines, and say that you have seen it."""


@anomalies.command("list")
@click.option("--thing", metavar="NAME", help="Only of this thing, which is quick.")
@click.option("--facility", metavar="ID", shell_complete=complete_facility, help="Only of this facility.")
@click.option("--all", "is_all", is_flag=True, help="Also what was acknowledged.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line each.")
@_place
def list_(thing: str | None, facility: str | None, is_all: bool, as_json: bool, folder: Path, aws: bool) -> None:
    """The anomalies that nobody has acknowledged, the newest first."""

    def found(client: Any, table: str) -> list[Anomaly]:
        held = read(client, table, thing=thing, facility=facility)
        return sorted((each for each in held if is_all or not each.acknowledged_by), key=_newest, reverse=True)

    project = load_project(find_project(Path.cwd()))
    if facility is not None:
        project.facility(facility)
    listed = _ask(folder, aws, found)
    if thing is not None and not listed:
        project.thing(thing)
    for each in listed:
        click.echo(json.dumps(asdict(each)) if as_json else visible(_line(each)))
    if not as_json:
        click.echo(f"{len(listed):,} anomalies" + ("" if is_all else " that nobody has acknowledged"))


@anomalies.command()
@click.argument("thing")
@click.argument("anomaly_id", metavar="ID")
@click.option("--by", metavar="NAME", default=getpass.getuser, help="Who has seen it (default: you).")
@click.option("--note", metavar="TEXT", help="What was done about it.")
@_place
def ack(thing: str, anomaly_id: str, by: str, note: str | None, folder: Path, aws: bool) -> None:
    """Note that somebody has seen the anomaly ID of THING; `list --json` tells ids."""
    now = datetime.now(UTC)
    if not _ask(
        folder,
        aws,
        lambda client, table: acknowledge(client, table, thing=thing, anomaly_id=anomaly_id, by=by, note=note, now=now),
    ):
        raise OutcomeError(f"{thing} has no anomaly {anomaly_id}", hint=f"see: fleet anomalies list --thing {thing}")
    click.echo(visible(f"acknowledged by {by}"))


def _ask(folder: Path, aws: bool, question: Callable[[Any, str], Any]) -> Any:
    table = f"table-readings-{load_project(find_project(Path.cwd())).environment_suffix}"
    client = boto3.client("dynamodb") if aws else load(folder).client("dynamodb")
    try:
        return question(client, table)
    except (BotoCoreError, ClientError) as error:
        raise EnvironmentFault(
            f"{table} cannot be asked: {error}", hint="check region, credentials and rights"
        ) from None


def _newest(anomaly: Anomaly) -> str:
    return anomaly.time


def _line(anomaly: Anomaly) -> str:
    worse = f", {anomaly.severity} since {anomaly.escalated_at}" if anomaly.escalated_at else ""
    ended = f", ended {anomaly.ended_at}" if anomaly.ended_at else ", still on"
    seen = f"  [seen by {anomaly.acknowledged_by}]" if anomaly.acknowledged_by else ""
    return f"{anomaly.time}  {anomaly.severity:<8}  {anomaly.thing}  {anomaly.reason}{worse}{ended}{seen}"
