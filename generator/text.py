"""Formats counts, tables and durations for people, in every program of the command line alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fleet_iot.generator.diagnostics import visible


def table(rows: Iterable[Sequence[str]], align: str) -> list[str]:
    """Lay out rows in columns two spaces apart.

    Args:
        rows: Cells, as many in each row.
        align: For each column `<` or `>`.
    """
    cells = [tuple(map(visible, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)).rstrip()
        for row in cells
    ]


def counted(number: int, noun: str) -> str:
    """Format a number of things for people: 1 facility, 2 facilities, 1,000 rows; `noun` is the singular."""
    plural = f"{noun[:-1]}ies" if re.search("[^aeiou]y$", noun) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def duration(seconds: float) -> str:
    """Format seconds for people: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
