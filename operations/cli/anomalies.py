"""`fleet anomalies list | ack`."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from operator import attrgetter

import click

from fleet_iot.generator.diagnostics import OutcomeError
from fleet_iot.generator.text import table
from fleet_iot.operations.aws import reporting_aws_errors
from fleet_iot.operations.cli.options import Site, emit, emit_rows, facility_option, json_option, on_aws
from fleet_iot.operations.telemetry.anomalies import Anomaly, acknowledge, read_anomalies


@click.group()
def anomalies() -> None:
    """List and acknowledge anomalies."""


@anomalies.command("list")
@click.option("--thing", metavar="NAME", help="Only this thing, which is quick: others are found by a scan.")
@facility_option
@click.option("--all", "is_all", is_flag=True, help="Also those that are acknowledged.")
@json_option
@on_aws
def list_(site: Site, thing: str | None, facility: str | None, is_all: bool, as_json: bool) -> None:
    """List unacknowledged anomalies, the newest first."""
    if facility is not None:
        site.project.facility(facility)
    client, name = site.aws.client("dynamodb"), site.project.names.readings_table
    with reporting_aws_errors(f"cannot read {name}"):
        found = read_anomalies(client, name, thing=thing, facility=facility)
        listed = [each for each in found if is_all or not each.acknowledged_by]
    if thing is not None and not listed:
        site.project.thing(thing)
    listed.sort(key=attrgetter("time"), reverse=True)
    emit_rows(listed, lambda: _lines(listed, is_all=is_all), as_json=as_json)


@anomalies.command()
@click.argument("thing")
@click.argument("anomaly_id", metavar="ID")
@click.option("--by", metavar="NAME", default=getpass.getuser, help="Who acknowledges it (default: you).")
@click.option("--note", metavar="TEXT", help="What was done about it.")
@on_aws
def ack(site: Site, thing: str, anomaly_id: str, by: str, note: str | None) -> None:
    """Acknowledge the anomaly ID of THING; `list --json` prints ids."""
    client, name = site.aws.client("dynamodb"), site.project.names.readings_table
    now = datetime.now(UTC)
    with reporting_aws_errors(f"cannot write to {name}"):
        is_found = acknowledge(client, name, thing=thing, anomaly_id=anomaly_id, by=by, note=note, now=now)
    if not is_found:
        site.project.thing(thing)
        raise OutcomeError(f"{thing} has no anomaly {anomaly_id}", hint=f"see: fleet anomalies list --thing {thing}")
    emit(None, [f"acknowledged by {by}"], as_json=False)


def _lines(listed: list[Anomaly], *, is_all: bool) -> list[str]:
    rows = [(each.time, each.severity, each.thing, _text(each)) for each in listed]
    return [*table(rows, "<<<<"), f"{len(listed):,} {'anomalies' if is_all else 'unacknowledged anomalies'}"]


def _text(anomaly: Anomaly) -> str:
    worse = f", {anomaly.severity} since {anomaly.escalated_at}" if anomaly.escalated_at else ""
    ended = f", ended {anomaly.ended_at}" if anomaly.ended_at else ", still on"
    seen = f"  [acknowledged by {anomaly.acknowledged_by}]" if anomaly.acknowledged_by else ""
    return f"{anomaly.reason}{worse}{ended}{seen}"
