"""Print a history as a table, CSV or JSON lines: `fleet history`."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import click
from botocore.exceptions import BotoCoreError, ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError, visible
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.operations.local.aws import load
from fleet_iot.operations.project import load_project
from fleet_iot.operations.telemetry.history import LEVELS, Row, history
from fleet_iot.sensor_processor.planning.history_items import QUANTILES

COLUMNS = ("start", "metric", "count", "mean", "min", "max", "sum", *QUANTILES)
_TIMES = {"minute": "%Y-%m-%dT%H:%MZ", "hour": "%Y-%m-%dT%HZ", "day": "%Y-%m-%d"}


def print_json(rows: Iterable[Row], level: str) -> None:
    """An object a row."""
    for row in rows:
        numbers = {name: getattr(row, name) for name in COLUMNS[1:7]}
        click.echo(json.dumps({"start": _time(row, level), "is_over": row.is_over, **numbers, **row.quantiles}))


def print_csv(rows: Iterable[Row], level: str) -> None:
    """A line a row, after one of names."""
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow((*COLUMNS, "is_over"))
    for row in rows:
        out.writerow((*_cells(row, level, "{!r}"), str(row.is_over).lower()))


def print_table(rows: Iterable[Row], level: str) -> None:
    """Columns of text; an asterisk marks what is not over."""
    table = [COLUMNS, *(tuple(_cells(row, level, "{:.6g}", "" if row.is_over else "*")) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        aligned = [
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        click.echo(visible("  ".join(aligned)))


def _time(row: Row, level: str) -> str:
    return f"{datetime.fromtimestamp(row.start / 1000, UTC):{_TIMES[level]}}"


def _cells(row: Row, level: str, number: str, mark: str = "") -> Iterator[str]:
    yield _time(row, level) + mark
    yield row.metric
    yield str(row.count)
    yield from (number.format(value) for value in (row.mean, row.min, row.max))
    yield row.sum
    yield from (number.format(row.quantiles[name]) for name in QUANTILES)


FORMS = {"json": print_json, "csv": print_csv, "table": print_table}
"""By the name of the form."""


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
