"""Run the processor's detectors over a recorded series (CSV); draw it and its anomalies, as HTML with SVG or PNG."""

from __future__ import annotations

import csv
import math
import textwrap
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from html import escape
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError
from fleet_iot.lib.specs import DeviceTypeSpec
from fleet_iot.sensor_processor.detection import BEGIN, END, LEARN_DAYS, MACHINE, DeviceDetectors, Finding
from fleet_iot.sensor_processor.ingest.catalogue import DETECTORS, Metric

TIMES = ("time", "timestamp", "datetime", "date")
LABELS = ("anomaly", "label")
OTHERS = ("changepoint",)
"""Columns that are no metrics, in upper or lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A recorded series.

    `times` are in ms; `rows` map metric name → value, without the metrics that a row lacks; `labelled` are positions of
    rows that the file marks as anomalies.
    """

    times: tuple[int, ...]
    rows: tuple[Mapping[str, float], ...]
    labelled: frozenset[int]

    @property
    def metrics(self) -> list[str]:
        """Return the metrics that any row has, in the order of the columns."""
        return list(dict.fromkeys(name for row in self.rows for name in row))


def column_names(path: Path) -> list[str]:
    """Read the names of the columns of a CSV file."""
    return [name for name in _open(path).fieldnames or () if name]


def read_history(path: Path, *, columns: Mapping[str, str], interval_s: float, is_timed: bool = True) -> History:
    """Read a recorded series from a CSV file with `,` or `;`, in the order of its times.

    Args:
        path: The file.
        columns: Metric name → column; empty where every column of numbers is a metric.
        interval_s: Seconds between two rows of a file without a column of times.
        is_timed: Whether to read a column of times where there is one.

    Raises:
        EnvironmentFault: The file cannot be read, or a cell is no number or time; names its line.
        OutcomeError: The file has no rows.
    """
    reader = _open(path)
    names = [name for name in reader.fieldnames or () if name]
    timed = next((name for name in names if is_timed and name.lower() in TIMES), None)
    label = next((name for name in names if name.lower() in LABELS), None)
    chosen = _columns(path, names, columns)
    taken: list[tuple[int, dict[str, float], bool]] = []
    for position, cells in enumerate(_read(path, reader)):
        where = f"{path.name}:{reader.line_num}"
        time = parse_time(where, cells[timed]) if timed else int(position * interval_s * 1000)
        row = {metric: _number(where, column, cells[column]) for metric, column in chosen.items() if cells.get(column)}
        taken.append((time, row, bool(label and cells[label] and _number(where, label, cells[label]))))
    if not taken:
        raise OutcomeError(f"{path} has no rows", hint="give a CSV file with a header and at least one row")
    taken.sort(key=lambda row: row[0])
    return History(
        times=tuple(time for time, _, _ in taken),
        rows=tuple(row for _, row, _ in taken),
        labelled=frozenset(place for place, (_, _, is_labelled) in enumerate(taken) if is_labelled),
    )


def _read(path: Path, reader: csv.DictReader[str]) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise EnvironmentFault(
            f"{path.name}:{reader.line_num + 1} is no row of a CSV file: {error}", hint="give a CSV file with a header"
        ) from None


def _open(path: Path) -> csv.DictReader[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFault(f"{path} cannot be read: {error}", hint="give a UTF-8 CSV file with a header") from None
    header = lines[0] if lines else ""
    return csv.DictReader(lines, delimiter=";" if header.count(";") > header.count(",") else ",")


def _columns(path: Path, names: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    missing = [column for column in columns.values() if column not in names]
    if missing:
        raise EnvironmentFault(f"{path.name} has no column {missing[0]!r}", hint=f"columns: {', '.join(names)}")
    chosen = dict(columns) or {name: name for name in names if name.lower() not in (*TIMES, *LABELS, *OTHERS)}
    if not chosen:
        raise EnvironmentFault(f"{path.name} has no column of values", hint="say which: --column METRIC=COLUMN")
    return chosen


def _number(where: str, column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not abs(number) <= LARGEST:
        hint = "leave the cell empty, or correct it; a column of times is named time, timestamp or datetime"
        raise EnvironmentFault(f"{where}: {column} {text!r} is no number", hint=hint)
    return number


def parse_time(where: str, text: str) -> int:
    """Parse an ISO date and time (UTC without a zone), or seconds to nanoseconds since 1970, into milliseconds.

    Raises:
        EnvironmentFault: It is no time; the message begins with `where`.
    """
    try:
        number = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip())
            time = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
        except (ValueError, OverflowError):
            time = math.nan
    else:
        unit = next((unit for least, unit in _UNITS if abs(number) > least), 1000.0)
        time = number * unit
    if not 0 <= time <= LATEST_MS:
        raise EnvironmentFault(
            f"{where}: {text!r} is no time since 1970", hint="write it as 2026-11-23T14:49:03, or in seconds since 1970"
        )
    return round(time)


_UNITS = ((1e17, 1e-6), (1e14, 1e-3), (1e11, 1.0))
"""Numbers from which a time is in nanoseconds, microseconds or milliseconds since 1970, and their milliseconds."""

LATEST_MS = 253_402_214_400_000
"""The last day of the year 9999."""

LARGEST = 1e125
"""Values beyond are quarantined: DynamoDB has no such numbers."""

DETECTOR_NAMES = tuple(sorted(DETECTORS))
FEWEST_DAYS = 8.0
"""Days of a history without a device type from which the machine detector is tried, which learns for seven."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An anomaly that starts at row `place`, `time` (ms), and ends at `ended` (ms), or None where it lasts to the end.

    `severity` is the highest of it; value, score and reason are those of its start. `also` are other metrics that
    belong to it, each with the time (ms) from when.
    """

    place: int
    time: int
    metric: str
    detector: str
    value: float
    score: float
    reason: str
    severity: str
    ended: int | None = None
    also: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A time (ms) in which the machine had a fault, as a person knows; `metric` is None where it may be of any."""

    begin: int
    end: int
    metric: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The findings of one pass over a history.

    `judged_from` is the time (ms) from which the machine detector reports, None where it learned to the end;
    `learned_days` are the days that it counts as learned. Without that detector all is judged.
    """

    found: tuple[Found, ...]
    judged_from: int | None
    learned_days: float | None


def metrics_for(history: History, device_type: DeviceTypeSpec | None, *, detector: str | None) -> dict[str, Metric]:
    """Return the history's metrics: those that the device type declares, or without one all, without limits.

    Without a device type and a detector, that of a new manifest is tried, or `context` where it could only learn.
    """
    if device_type is None:
        days = (history.times[-1] - history.times[0]) / 86_400_000 if history.times else 0.0
        usual = detector or (MACHINE if days >= FEWEST_DAYS else "context")
        return {
            name: Metric(name=name, unit="", minimum=None, maximum=None, detector=usual) for name in history.metrics
        }
    return {
        metric.name: Metric(**asdict(metric) | ({"detector": detector} if detector else {}))
        for metric in device_type.metrics
        if metric.name in history.metrics
    }


def backtest(history: History, metrics: Mapping[str, Metric]) -> Run:
    """Run the detectors over the history, row by row, as if it arrived now."""
    detectors = DeviceDetectors()
    found: dict[tuple[str, str, str, int], Found] = {}
    judged_from = None
    for place, (time, row) in enumerate(zip(history.times, history.rows, strict=True)):
        for finding in detectors.learn((time, place), row, metrics=metrics):
            key = *finding.event, time if finding.began is None else finding.began
            if finding.kind == BEGIN:
                found[key] = _found(finding, place=place, time=time)
            elif key in found and finding.kind == END:
                found[key] = replace(found[key], ended=finding.ended)
            elif key in found:
                also = ((time, finding.metric), *((time, name) for name in finding.together)) if finding.of else ()
                found[key] = replace(found[key], severity=finding.severity, also=(*found[key].also, *also))
        if judged_from is None and (detectors.learned_days is None or detectors.learned_days >= LEARN_DAYS):
            judged_from = history.times[0] if detectors.learned_days is None else time
    return Run(found=tuple(found.values()), judged_from=judged_from, learned_days=detectors.learned_days)


def _found(finding: Finding, *, place: int, time: int) -> Found:
    return Found(
        place=place,
        time=time,
        metric=finding.metric,
        detector=finding.detector,
        value=finding.value,
        score=round(finding.score, 3),
        reason=finding.reason,
        severity=finding.severity,
        also=tuple((time, name) for name in finding.together),
    )


# Draw a recorded series and the anomalies in it: as an HTML page with SVG, or as a PNG.

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SVG_WIDTH, HEIGHT, MARGIN = 1_200, 170, 12
MARKED = "#c8e6c9"
"""Of faults that a person marked."""
COLOURS = {
    "limits": "#c62828",
    "machine": "#ad1457",
    "context": "#ef6c00",
    "baseline": "#6a1b9a",
    "flatline": "#455a64",
    "rate": "#00838f",
    "correlation": "#2e7d32",
    "seasonal": "#1565c0",
}
STYLE = """body{font:14px system-ui,sans-serif;margin:24px;color:#222;max-width:1240px}
svg{background:#fafafa;width:100%}
h2{font-size:16px;margin:20px 0 4px}
table{border-collapse:collapse;margin-top:20px}td,th{padding:3px 10px;
text-align:left;border-bottom:1px solid #ddd}
.dot{display:inline-block;width:10px;height:10px;border-radius:5px;margin-right:6px}"""


def page(
    title: str,
    history: History,
    metrics: Mapping[str, Metric],
    found: Sequence[Found],
    *,
    faults: Sequence[Fault] = (),
    verdicts: Sequence[str] = (),
    judged: Sequence[Sequence[str]] = (),
    notes: Sequence[str] = (),
) -> str:
    """Draw the page: each anomaly is marked on its metric's line and listed below, each fault is shaded.

    Args:
        title: Its heading.
        history: The series.
        metrics: Those to draw.
        found: The anomalies.
        faults: Those that a person marked.
        verdicts: Which fault each anomaly is of; empty where no faults are known.
        judged: Rows of a table about them, its head first.
        notes: What it means, a paragraph each.
    """
    charts = "".join(
        f"<h2>{escape(name)} {escape(metric.unit)}</h2>"
        + _chart(
            history, metric, [f for f in found if f.metric == name], [f for f in faults if f.metric in (None, name)]
        )
        for name, metric in metrics.items()
    )
    rows = "".join(
        f"<tr><td>{moment(each.time)}</td><td>{moment(each.ended) if each.ended is not None else 'still on'}</td>"
        f"<td>{each.severity}</td><td>{_dot(each.detector)}{escape(each.detector)}</td>"
        f"<td>{escape(_metrics_of(each))}</td><td>{each.value:g}</td><td>{each.score:g}</td>"
        f"<td>{escape(each.reason)}</td>{f'<td>{escape(verdict)}</td>' if any(verdicts) else ''}</tr>"
        for each, verdict in zip_longest(found, verdicts)
    )
    span = f"{len(history.rows):,} rows, {moment(history.times[0])} to {moment(history.times[-1])}"
    shaded = " Shaded: labelled in the file." if history.labelled else ""
    marked = " Shaded green: marked faults." if faults else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>{span}; {len(found)} anomalies.{shaded}{marked}</p>{_table(judged)}"
        f"{''.join(f'<p>{escape(note)}</p>' for note in notes)}{charts}"
        "<table><tr>"
        "<th>since (UTC)</th><th>until</th><th>severity</th><th>detector</th>"
        "<th>metric</th><th>value</th><th>score</th><th>why</th>"
        f"{'<th>fault</th>' if any(verdicts) else ''}</tr>"
        f"{rows}</table></html>\n"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = (
        f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in row)}</tr>"
        for tag, row in zip(("th", *["td"] * len(rows)), rows, strict=False)
    )
    return f"<table>{''.join(lines)}</table>"


def _metrics_of(found: Found) -> str:
    return ", ".join(dict.fromkeys([found.metric, *(name for _, name in found.also)]))


def _chart(history: History, metric: Metric, found: Sequence[Found], faults: Sequence[Fault]) -> str:
    values = [row.get(metric.name) for row in history.rows]
    known = [value for value in values if value is not None]
    near = near_limits(metric, known)
    low, high = min([*known, *near], default=0.0), max([*known, *near], default=1.0)
    scale = (HEIGHT - 2 * MARGIN) / ((high - low) or 1.0)
    step = SVG_WIDTH / max(len(values), 1)

    def y(value: float) -> float:
        return round(HEIGHT - MARGIN - (value - low) * scale, 1)

    parts = [f'<rect x="{first * step:.1f}" width="{(last - first + 1) * step:.1f}" height="{HEIGHT}" fill="#fff3c4"/>'
             for first, last in spans(history.labelled)]  # fmt: skip
    for fault in faults:
        first, last = bisect_left(history.times, fault.begin), bisect_right(history.times, fault.end)
        parts.append(f'<rect class="fault" x="{first * step:.1f}" width="{max(last - first, 0.5) * step:.1f}" '
                     f'height="{HEIGHT}" fill="{MARKED}"/>')  # fmt: skip
    parts += [
        f'<rect class="event" x="{each.place * step:.1f}" '
        f'width="{max(_last(history, each) - each.place, 0.5) * step:.1f}" '
        f'height="{HEIGHT}" fill="{COLOURS[each.detector]}" fill-opacity="0.2"/>'
        for each in found
    ]
    parts += [
        f'<line x1="0" x2="{SVG_WIDTH}" y1="{y(limit)}" y2="{y(limit)}" stroke="#c62828" stroke-dasharray="6 4"/>'
        for limit in near
    ]
    parts.append(f'<path d="{_path(values, step, y)}" fill="none" stroke="#37474f" stroke-width="1"/>')
    parts += [
        f'<circle cx="{each.place * step:.1f}" cy="{y(each.value)}" r="5" fill="{COLOURS[each.detector]}">'
        f"<title>{moment(each.time)} {escape(each.reason)}</title></circle>"
        for each in found
    ]
    return (
        f'<svg viewBox="0 0 {SVG_WIDTH} {HEIGHT}" role="img" aria-label="{escape(metric.name)}">{"".join(parts)}</svg>'
    )


def _last(history: History, found: Found) -> int:
    """Return the row at which an anomaly ends."""
    return len(history.rows) if found.ended is None else bisect_left(history.times, found.ended)


def near_limits(metric: Metric, values: Sequence[float]) -> list[float]:
    """Return the limits to draw: one far from all values (NaN is none) would flatten them."""
    known = [value for value in values if value == value]
    low, high = min(known, default=0.0), max(known, default=1.0)
    bounds = [limit for limit in (metric.minimum, metric.maximum) if limit is not None]
    return [limit for limit in bounds if low - (high - low) <= limit <= high + (high - low)]


def _path(values: Sequence[float | None], step: float, y: Callable[[float], float]) -> str:
    """Draw the line: for each pixel its lowest and highest value, so that no peak is lost among many rows."""
    columns: dict[int, list[float]] = {}
    for place, value in enumerate(values):
        if value is not None:
            columns.setdefault(int(place * step), []).append(value)
    points = []
    for column, held in columns.items():
        points += [f"{column},{y(held[0])}"]
        if len(held) > 1:
            points += [f"{column},{y(min(held))}", f"{column},{y(max(held))}", f"{column},{y(held[-1])}"]
    return "M" + " L".join(points) if points else ""


def spans(places: frozenset[int]) -> list[tuple[int, int]]:
    """Return first and last of each run of neighbouring places."""
    spans: list[tuple[int, int]] = []
    for place in sorted(places):
        if spans and spans[-1][1] == place - 1:
            spans[-1] = spans[-1][0], place
        else:
            spans.append((place, place))
    return spans


def _dot(detector: str) -> str:
    return f'<span class="dot" style="background:{COLOURS[detector]}"></span>'


def moment(time: int) -> str:
    """Format a time (ms) for people, in UTC."""
    return f"{datetime.fromtimestamp(time / 1000, UTC):%Y-%m-%d %H:%M:%S}"


WIDTH, PANEL, LINE, HEAD, FOOT = 14.0, 2.4, 0.21, 0.75, 0.75
"""Inches: width of the picture, height of a panel, of a line of text, and of the space above and below the panels."""

DPI = 110
LISTED = 40
"""Reasons that are written out; the page has them all."""

WRAP = 150
"""Characters of a line of text at that width."""

LEAST_SHARE = 0.003
"""Share of the width that an anomaly of one reading is drawn with, so that it can be seen."""

INK, LABELLED, LIMIT = "#37474f", "#fff3c4", "#c62828"


def image(
    title: str,
    history: History,
    metrics: Mapping[str, Metric],
    found: Sequence[Found],
    *,
    faults: Sequence[Fault] = (),
) -> bytes:
    """Draw the PNG; anomalies are numbered in the order of their starts, on their panels and in the list below."""
    # Imported here: matplotlib needs half a second, and the page does not need matplotlib.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

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
        own = [fault for fault in faults if fault.metric in (None, metric.name)]
        _draw(panel, history, metric, numbered, own, has_clock=has_clock)
    if has_clock:
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        panels[-1].xaxis.set_major_locator(locator)
        panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    panels[-1].set_xlabel("time (UTC)" if has_clock else "hours since the first row")
    figure.text(0.07, 1 - 0.3 / height, title, fontsize=14, weight="bold", va="center", parse_math=False)
    figure.text(0.07, 1 - 0.56 / height, _summary(history, found, faults), fontsize=9.5, color=INK, va="center")
    for place, (number, text, colour) in enumerate(lines):
        y = (below - FOOT - LINE * (place + 0.2)) / height
        figure.text(0.088, y, number, fontsize=9, va="center", ha="right", color=colour, weight="bold")
        figure.text(0.095, y, text, fontsize=9, va="center", color=INK, parse_math=False)
    figure.align_ylabels()
    written = BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()


def _draw(
    panel: Axes,
    history: History,
    metric: Metric,
    numbered: Sequence[tuple[int, Found]],
    faults: Sequence[Fault],
    *,
    has_clock: bool,
) -> None:
    def x(time: int) -> float:
        return time / 86_400_000 if has_clock else time / 3_600_000  # matplotlib's dates are days since 1970

    values = [row.get(metric.name, math.nan) for row in history.rows]
    times = [x(time) for time in history.times]
    least = LEAST_SHARE * ((times[-1] - times[0]) or 1.0)
    for first, last in spans(history.labelled):
        panel.axvspan(times[first], max(times[last], times[first] + least), color=LABELLED, linewidth=0, zorder=0)
    for fault in faults:
        panel.axvspan(x(fault.begin), max(x(fault.end), x(fault.begin) + least), color=MARKED, linewidth=0, zorder=0)
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


def _summary(history: History, found: Sequence[Found], faults: Sequence[Fault]) -> str:
    span = f"{len(history.rows):,} rows, {moment(history.times[0])} to {moment(history.times[-1])}"
    labelled = "; yellow: labelled in the file" if history.labelled else ""
    marked = "; green: marked faults" if faults else ""
    return f"{span}; anomalies: {len(found)}, shaded from beginning to end; dashed: limits{labelled}{marked}."


def _listing(found: Sequence[Found]) -> list[tuple[str, str, str]]:
    """Return the lines below the panels: number, text, and the number's colour."""
    lines: list[tuple[str, str, str]] = []
    for number, each in enumerate(found[:LISTED], start=1):
        ended = f"until {moment(each.ended)}" if each.ended is not None else "still on at the end"
        text = f"{moment(each.time)}, {ended}   {each.severity}, {each.detector}:   {each.reason}"
        first, *rest = textwrap.wrap(text, WRAP) or [text]
        lines += [(str(number), first, COLOURS[each.detector]), *(("", line, INK) for line in rest)]
    if len(found) > LISTED:
        lines.append(("", f"… and {len(found) - LISTED} more: an HTML page lists them all", INK))
    return lines
