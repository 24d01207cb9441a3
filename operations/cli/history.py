"""`fleet history`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import click
from botocore.exceptions import BotoCoreError, ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError, visible
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.operations.cli.history_table import FORMS
from fleet_iot.operations.local.aws import load
from fleet_iot.operations.project import load_project
from fleet_iot.operations.telemetry.history import LEVELS, history

_USUAL = {"minute": "1h", "hour": "1d", "day": "30d"}
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Moment(click.ParamType[datetime]):
    """A time: ISO 8601 (UTC where no zone is said), or how long ago, such as 90m, 24h or 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time in UTC."""
        if isinstance(value, datetime):
            return value
        ago = re.fullmatch(r"([0-9]{1,5})([mhd])", value, re.ASCII)
        if ago:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a time, such as 2026-11-23T14:00Z, nor how long ago, such as 24h")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@click.command("history")
@click.argument("thing")
@click.option(
    "--level", type=click.Choice(LEVELS), default="hour", help="By the minute, hour (default) or day, in UTC."
)
@click.option("--metric", metavar="NAME", help="Only this metric.")
@click.option("--since", type=Moment(), help="From when on: a time, or how long ago (minutes 1h, hours 1d, days 30d).")
@click.option("--until", type=Moment(), default="0m", help="Until when (now).")
@click.option("--json", "form", flag_value="json", help="Print JSON, a line each.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--table", "form", flag_value="table", default=True, help="Print a table (default).")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("build/local"), help="Local.")
@click.option("--aws", is_flag=True, help="In the AWS account of the credentials, not in the local AWS.")
def history_(
    thing: str,
    level: str,
    metric: str | None,
    since: datetime | None,
    until: datetime,
    form: str,
    folder: Path,
    aws: bool,
) -> None:
    """What THING has measured: count, mean, minimum, maximum, sum and quantiles, by the minute, hour or day."""
    project = load_project(find_project(Path.cwd()))
    table = f"table-readings-{project.environment_suffix}"
    client = boto3.client("dynamodb") if aws else load(folder).client("dynamodb")
    begin = since or Moment().convert(_USUAL[level], None, None)
    try:
        rows = list(history(client, table, thing=thing, level=level, since=_ms(begin), until=_ms(until)))
    except (BotoCoreError, ClientError) as error:
        raise EnvironmentFault(
            f"{table} cannot be asked: {error}", hint="check region, credentials and rights"
        ) from None
    wanted = [row for row in rows if metric in (None, row.metric)]
    if not wanted:
        project.thing(thing)
        raise OutcomeError(visible(f"{thing} has measured nothing{f' of {metric}' if metric else ''} in that time"))
    FORMS[form](wanted, level)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
