"""`fleet history`."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from fleet_iot.generator.diagnostics import OutcomeError
from fleet_iot.generator.text import table
from fleet_iot.operations.aws import reporting_aws_errors
from fleet_iot.operations.cli.options import Site, emit_rows, on_aws
from fleet_iot.operations.telemetry.history import LEVELS, Row, history
from fleet_iot.sensor_processor.planning.items import QUANTILES

COLUMNS = ("start", "metric", "count", "mean", "min", "max", "sum", *QUANTILES)
_TIMES = {"minute": "%Y-%m-%dT%H:%MZ", "hour": "%Y-%m-%dT%HZ", "day": "%Y-%m-%d"}
_DEFAULT_SINCE = {"minute": "1h", "hour": "1d", "day": "30d"}
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Moment(click.ParamType[datetime]):
    """A time: ISO 8601 (UTC without a zone), or how long ago, such as 90m, 24h or 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time in UTC."""
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
@click.option("--level", type=click.Choice(LEVELS), default="hour", show_default=True, help="Period of a row, in UTC.")
@click.option("--metric", metavar="NAME", help="Only this metric.")
@click.option("--since", type=Moment(), help="A time, or how long ago (default: minutes 1h, hours 1d, days 30d).")
@click.option("--until", type=Moment(), default="0m", help="A time, or how long ago (default: now).")
@click.option("--json", "form", flag_value="json", help="Print JSON, an object a line.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--table", "form", flag_value="table", default=True, help="Print a table (default).")
@on_aws
def history_(
    site: Site, thing: str, level: str, metric: str | None, since: datetime | None, until: datetime, form: str
) -> None:
    """Show the history of THING: count, mean, minimum, maximum, sum and quantiles by minute, hour or day."""
    client, name = site.aws.client("dynamodb"), site.project.names.readings_table
    begin = since or Moment().convert(_DEFAULT_SINCE[level], None, None)
    with reporting_aws_errors(f"cannot read {name}"):
        rows = list(history(client, name, thing=thing, level=level, since=_ms(begin), until=_ms(until)))
    wanted = [row for row in rows if metric in (None, row.metric)]
    if not wanted:
        site.project.check_metric(site.project.thing(thing).device_type, metric)
        raise OutcomeError(f"{thing} has no readings{f' of {metric}' if metric else ''} in that time")
    if form == "csv":
        _print_csv(wanted, level)
    else:
        objects = [_object(row, level) for row in wanted]
        emit_rows(objects, lambda: _table(wanted, level), as_json=form == "json")


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _object(row: Row, level: str) -> dict[str, Any]:
    numbers = {name: getattr(row, name) for name in COLUMNS[1:7]}
    return {"start": _time(row, level), "is_over": row.is_over, **numbers, **row.quantiles}


def _print_csv(rows: Sequence[Row], level: str) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow((*COLUMNS, "is_over"))
    for row in rows:
        out.writerow((*_cells(row, level, "{!r}"), str(row.is_over).lower()))


def _table(rows: Sequence[Row], level: str) -> list[str]:
    """Lay the rows out in columns; an asterisk marks a period that is not over."""
    cells = [tuple(_cells(row, level, "{:.6g}", "" if row.is_over else "*")) for row in rows]
    return table([COLUMNS, *cells], "<<" + ">" * (len(COLUMNS) - 2))


def _time(row: Row, level: str) -> str:
    return f"{datetime.fromtimestamp(row.start / 1000, UTC):{_TIMES[level]}}"


def _cells(row: Row, level: str, number: str, mark: str = "") -> Iterator[str]:
    yield _time(row, level) + mark
    yield row.metric
    yield str(row.count)
    yield from (number.format(value) for value in (row.mean, row.min, row.max))
    yield row.sum
    yield from (number.format(row.quantiles[name]) for name in QUANTILES)
