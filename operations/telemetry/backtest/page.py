"""Draws a history and what was found in it as one HTML page: plain SVG, no script, nothing fetched."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape

from fleet_iot.operations.telemetry.backtest.run import Found
from fleet_iot.operations.telemetry.backtest.series import History
from fleet_iot.sensor_processor.ingest.catalogue import Metric

WIDTH, HEIGHT, MARGIN = 1_200, 170, 12
COLOURS = {
    "limits": "#c62828",
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


def page(title: str, history: History, metrics: Mapping[str, Metric], found: Sequence[Found]) -> str:
    """The page; what is found is marked on its metric's line and listed below."""
    charts = "".join(
        f"<h2>{escape(name)} {escape(metric.unit)}</h2>"
        + _chart(history, metric, [f for f in found if f.metric == name])
        for name, metric in metrics.items()
    )
    rows = "".join(
        f"<tr><td>{moment(each.time)}</td><td>{moment(each.ended) if each.ended is not None else 'still on'}</td>"
        f"<td>{each.severity}</td><td>{_dot(each.detector)}{escape(each.detector)}</td>"
        f"<td>{escape(each.metric)}</td><td>{each.value:g}</td><td>{each.score:g}</td><td>{escape(each.reason)}</td></tr>"
        for each in found
    )
    span = f"{len(history.rows):,} rows, {moment(history.times[0])} to {moment(history.times[-1])}"
    shaded = " Shaded: labelled in the file." if history.labelled else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>{span}; {len(found)} anomalies.{shaded}</p>{charts}"
        "<table><tr>"
        "<th>since (UTC)</th><th>until</th><th>severity</th><th>detector</th>"
        "<th>metric</th><th>value</th><th>score</th><th>why</th></tr>"
        f"{rows}</table></html>\n"
    )


def _chart(history: History, metric: Metric, found: Sequence[Found]) -> str:
    values = [row.get(metric.name) for row in history.rows]
    known = [value for value in values if value is not None]
    near = near_limits(metric, known)
    low, high = min([*known, *near], default=0.0), max([*known, *near], default=1.0)
    scale = (HEIGHT - 2 * MARGIN) / ((high - low) or 1.0)
    step = WIDTH / max(len(values), 1)

    def y(value: float) -> float:
        return round(HEIGHT - MARGIN - (value - low) * scale, 1)

    parts = [f'<rect x="{first * step:.1f}" width="{(last - first + 1) * step:.1f}" height="{HEIGHT}" fill="#fff3c4"/>'
             for first, last in spans(history.labelled)]  # fmt: skip
    parts += [
        f'<rect class="event" x="{each.place * step:.1f}" '
        f'width="{max(_last(history, each) - each.place, 0.5) * step:.1f}" '
        f'height="{HEIGHT}" fill="{COLOURS[each.detector]}" fill-opacity="0.2"/>'
        for each in found
    ]
    parts += [
        f'<line x1="0" x2="{WIDTH}" y1="{y(limit)}" y2="{y(limit)}" stroke="#c62828" stroke-dasharray="6 4"/>'
        for limit in near
    ]
    parts.append(f'<path d="{_path(values, step, y)}" fill="none" stroke="#37474f" stroke-width="1"/>')
    parts += [
        f'<circle cx="{each.place * step:.1f}" cy="{y(each.value)}" r="5" fill="{COLOURS[each.detector]}">'
        f"<title>{moment(each.time)} {escape(each.reason)}</title></circle>"
        for each in found
    ]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(metric.name)}">{"".join(parts)}</svg>'


def _last(history: History, found: Found) -> int:
    """The row at which an event is over."""
    return len(history.rows) if found.ended is None else bisect_left(history.times, found.ended)


def near_limits(metric: Metric, values: Sequence[float]) -> list[float]:
    """The limits to draw: one that is far from all values (NaN are none) would press them flat."""
    known = [value for value in values if value == value]
    low, high = min(known, default=0.0), max(known, default=1.0)
    bounds = [limit for limit in (metric.minimum, metric.maximum) if limit is not None]
    return [limit for limit in bounds if low - (high - low) <= limit <= high + (high - low)]


def _path(values: Sequence[float | None], step: float, y: Callable[[float], float]) -> str:
    """The line: for each pixel its lowest and highest value, so that no peak is lost however many rows there are."""
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
    """First and last of each run of neighbouring places."""
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
    """`time` (ms) for people, in UTC."""
    return f"{datetime.fromtimestamp(time / 1000, UTC):%Y-%m-%d %H:%M:%S}"
