"""The picture of a detector's trade-off: the delay of level shifts against the budget of false alarms, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 72, 14, 40, 52
"""Of one panel, and the margins of its plot, in px."""

HEAD = 66
SHORTEST, LONGEST = 1.0, 2_880.0
"""Delays (minutes) at the ends of the axis; what is not found is above it."""

TICKS = {1: "1 min", 10: "10 min", 60: "1 h", 360: "6 h", 1_440: "1 d"}
NEVER = 16
"""Height above the axis at which the median fault is not found, in px."""

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 14px; font-weight: 600 } .small { font-size: 11px; fill: #57606a }
  .grid { stroke: #8c959f; stroke-opacity: .35 } .axis { stroke: #57606a } .line { fill: none; stroke-width: 2 }
  .c0 { stroke: #0072b2 } .f0 { fill: #0072b2 } .c1 { stroke: #c04a00 } .f1 { fill: #c04a00 }
  .c2 { stroke: #007a5a } .f2 { fill: #007a5a }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9da7b3 } .axis { stroke: #9da7b3 }
    .c0 { stroke: #56b4e9 } .f0 { fill: #56b4e9 } .c1 { stroke: #f0a030 } .f1 { fill: #f0a030 }
    .c2 { stroke: #3ecf9f } .f2 { fill: #3ecf9f }
  }
"""
DASHES = ("", "7 3", "2 3")


def trade_off(by_budget: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Draw a panel for each kind of noise.

    Args:
        by_budget: for each budget, in order, and each kind of noise, what `alarms.figures` returns.
    """
    names = list(next(iter(by_budget.values())))
    columns = min(2, len(names))
    rows = math.ceil(len(names) / 2)
    faults = list(by_budget[next(iter(by_budget))][names[0]]["faults"]) if names else []
    size = f'width="{WIDTH * max(columns, 1)}" height="{HEAD + HEIGHT * rows}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        "<title>Delay of level shifts against the budget of false alarms</title>",
        f"<style>{STYLE}</style>",
        _text(
            LEFT,
            20,
            "Median delay of a level shift, by false alarms a device-month: the budget, and as measured",
            "title",
        ),
    ]
    for number, name in enumerate(faults):
        x = LEFT + number * 150
        parts += [
            f'<polyline class="c{number} line" stroke-dasharray="{DASHES[number]}" points="{x},44 {x + 34},44"/>',
            _mark(number, x + 17, 44),
            _text(x + 42, 48, f"shift of {name}"),
        ]
    for number, name in enumerate(names):
        runs = [of_budget[name] for of_budget in by_budget.values()]
        x, y = (number % 2) * WIDTH, HEAD + (number // 2) * HEIGHT
        parts.append(f'<g transform="translate({x} {y})">')
        parts += _panel(name, list(by_budget), runs)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _panel(name: str, budgets: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    width = WIDTH - LEFT - RIGHT
    parts = [_text(LEFT, TOP - NEVER - 8, name, "title"), _text(LEFT - 6, TOP - NEVER + 4, "not found", "small", "end")]
    parts.append(_line("grid", LEFT, TOP - NEVER, WIDTH - RIGHT, TOP - NEVER))
    for delay, words in TICKS.items():
        y = _height(delay)
        parts += [_line("grid", LEFT, y, WIDTH - RIGHT, y), _text(LEFT - 6, y + 4, words, "small", "end")]
    bottom = HEIGHT - BOTTOM
    parts += [_line("axis", LEFT, bottom, WIDTH - RIGHT, bottom), _line("axis", LEFT, TOP - NEVER, LEFT, bottom)]
    parts.append(_text(LEFT - 6, bottom + 18, "budget", anchor="end"))
    parts.append(_text(LEFT - 6, bottom + 34, "measured", "small", "end"))
    places = [LEFT + width * (number + 0.5) / len(budgets) for number in range(len(budgets))]
    for x, budget, run in zip(places, budgets, runs, strict=True):
        seen = run["false_a_device_month_after_a_week"]
        parts.append(_text(x, bottom + 18, budget, anchor="middle"))
        parts.append(_text(x, bottom + 34, "–" if seen is None else f"{seen:.2g}", "small", "middle"))
    for number, fault in enumerate(runs[0]["faults"]):
        heights = [_height(run["faults"][fault]["median_delay_min"]) for run in runs]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(places, heights, strict=True))
        parts.append(f'<polyline class="c{number} line" stroke-dasharray="{DASHES[number]}" points="{points}"/>')
        parts += [_mark(number, x, y) for x, y in zip(places, heights, strict=True)]
    return parts


def _height(delay: float | None) -> float:
    """Return the y of a delay in minutes, on a logarithmic axis; None is above it."""
    if delay is None:
        return TOP - NEVER
    share = math.log(min(max(delay, SHORTEST), LONGEST) / SHORTEST) / math.log(LONGEST / SHORTEST)
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _mark(number: int, x: float, y: float) -> str:
    """Draw a circle, square or triangle, so that a line is not identified by colour only."""
    if number == 0:
        return f'<circle class="f0" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    if number == 1:
        return f'<rect class="f1" x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9"/>'
    return f'<path class="f2" d="M{x:.1f} {y - 6:.1f}l6 10h-12z"/>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
