"""Draws a history and what was found in it as one PNG: a panel for each metric, events shaded, their reasons below."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from fleet_iot.operations.telemetry.backtest.page import COLOURS, moment, near_limits, spans
from fleet_iot.operations.telemetry.backtest.run import Found
from fleet_iot.operations.telemetry.backtest.series import History
from fleet_iot.sensor_processor.ingest.catalogue import Metric

WIDTH, PANEL, LINE, HEAD, FOOT = 14.0, 2.4, 0.21, 0.75, 0.75
"""Inches: the picture's width, a panel's height, a line of text's, and what is above and below the panels."""

DPI = 110
LISTED = 40
"""Reasons that are written out, the first ones; the page has them all."""

WRAP = 150
"""Characters of a line of text at that width."""

LEAST_SHARE = 0.003
"""Of the width: what an event of one reading is drawn as, so that it can be seen."""

INK, LABELLED, LIMIT = "#37474f", "#fff3c4", "#c62828"


def image(title: str, history: History, metrics: Mapping[str, Metric], found: Sequence[Found]) -> bytes:
    """The PNG; events are numbered in the order of their beginnings, on their panels and in the list below them."""
    lines = _listing(found)
    below = FOOT + LINE * len(lines)
    height = HEAD + PANEL * len(metrics) + below
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(left=0.07, right=0.985, top=1 - HEAD / height, bottom=below / height, hspace=0.14)
    has_clock = history.times[0] > 0
    for panel, metric in zip(panels, metrics.values(), strict=True):
        numbered = [(number, each) for number, each in enumerate(found, start=1) if each.metric == metric.name]
        _draw(panel, history, metric, numbered, has_clock=has_clock)
    if has_clock:
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        panels[-1].xaxis.set_major_locator(locator)
        panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    panels[-1].set_xlabel("time (UTC)" if has_clock else "hours since the first row")
    figure.text(0.07, 1 - 0.3 / height, title, fontsize=14, weight="bold", va="center", parse_math=False)
    figure.text(0.07, 1 - 0.56 / height, _summary(history, found), fontsize=9.5, color=INK, va="center")
    for place, (number, text, colour) in enumerate(lines):
        y = (below - FOOT - LINE * (place + 0.2)) / height
        figure.text(0.088, y, number, fontsize=9, va="center", ha="right", color=colour, weight="bold")
        figure.text(0.095, y, text, fontsize=9, va="center", color=INK, parse_math=False)
    figure.align_ylabels()
    written = BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()


def _draw(
    panel: Axes, history: History, metric: Metric, numbered: Sequence[tuple[int, Found]], *, has_clock: bool
) -> None:
    def x(time: int) -> float:
        return time / 86_400_000 if has_clock else time / 3_600_000  # matplotlib's dates are days since 1970

    values = [row.get(metric.name, math.nan) for row in history.rows]
    times = [x(time) for time in history.times]
    least = LEAST_SHARE * ((times[-1] - times[0]) or 1.0)
    for first, last in spans(history.labelled):
        panel.axvspan(times[first], max(times[last], times[first] + least), color=LABELLED, linewidth=0, zorder=0)
    panel.plot(times, values, color=INK, linewidth=0.8, zorder=2)
    for limit in near_limits(metric, values):
        panel.axhline(limit, color=LIMIT, linewidth=0.9, linestyle=(0, (6, 4)), zorder=1)
    for place, (number, each) in enumerate(numbered):
        colour, start = COLOURS[each.detector], x(each.time)
        end = times[-1] if each.ended is None else x(each.ended)
        panel.axvspan(start, max(end, start + least), color=colour, alpha=0.25, linewidth=0, zorder=1)
        panel.plot([start], [each.value], "o", color=colour, markersize=5, zorder=3)
        panel.annotate(
            str(number),
            (start, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(1, -2 - 9 * (place % 3)),  # neighbours side by side would hide each other
            textcoords="offset points",
            va="top",
            fontsize=8,
            color=colour,
            weight="bold",
            annotation_clip=False,
        )
    panel.set_xlim(times[0], times[-1] if times[-1] > times[0] else times[0] + 1.0)
    panel.margins(y=0.12)
    unit = f" ({metric.unit})" if metric.unit else ""
    panel.set_ylabel(f"{metric.name}{unit}", parse_math=False)
    panel.grid(alpha=0.25, linewidth=0.6)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _summary(history: History, found: Sequence[Found]) -> str:
    span = f"{len(history.rows):,} rows, {moment(history.times[0])} to {moment(history.times[-1])}"
    labelled = "; yellow: labelled in the file" if history.labelled else ""
    return f"{span}; anomalies: {len(found)}, shaded from beginning to end; dashed: limits{labelled}."


def _listing(found: Sequence[Found]) -> list[tuple[str, str, str]]:
    """The lines below the panels: number, text, and the number's colour."""
    lines: list[tuple[str, str, str]] = []
    for number, each in enumerate(found[:LISTED], start=1):
        ended = f"until {moment(each.ended)}" if each.ended is not None else "still on at the end"
        text = f"{moment(each.time)}, {ended}   {each.severity}, {each.detector}:   {each.reason}"
        first, *rest = textwrap.wrap(text, WRAP) or [text]
        lines += [(str(number), first, COLOURS[each.detector]), *(("", line, INK) for line in rest)]
    if len(found) > LISTED:
        lines.append(("", f"… and {len(found) - LISTED} more: an HTML page lists them all", INK))
    return lines
