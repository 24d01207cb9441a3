"""Prints rows of history as a table, as CSV or as lines of JSON."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import click

from fleet_iot.generator.diagnostics import visible
from fleet_iot.operations.telemetry.history import Row
from fleet_iot.sensor_processor.planning.items import QUANTILES

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
