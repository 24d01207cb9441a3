"""Formats tables and durations for people, in every program of the command line alike."""

from __future__ import annotations

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


def duration(seconds: float) -> str:
    """Format seconds for people: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
