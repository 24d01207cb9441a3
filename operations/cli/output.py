"""Print what commands found: as JSON for programs, as lines and tables for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

import click

from fleet_iot.generator.diagnostics import visible

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
        for row in rows:
            click.echo(json.dumps(_plain(row)))
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
