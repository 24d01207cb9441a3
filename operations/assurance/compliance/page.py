"""The report as one page to read: no script, no address but those of the frameworks."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

FOLDER = Path(__file__).parent
TEMPLATE = "report.html.j2"
STYLE = "report.css"

WORDS = {"passed": "passed", "failed": "failed", "skipped": "accepted"}
OF_CONTROLS = {**WORDS, "skipped": "exceptions"}
"""Verdicts as the page calls them: on one resource, and on a control, where the rest has passed."""


def render_page(report: dict[str, Any]) -> str:
    """The page of a report as `report.build_report` makes it."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["by_check"] = _by_check
    environment.filters["thousands"] = lambda number: f"{number:,}"
    template = environment.get_template(TEMPLATE)
    return template.render(
        **report, words=WORDS, control_words=OF_CONTROLS, style=(FOLDER / STYLE).read_text(encoding="utf-8")
    )


def _by_check(results: list[dict[str, str]]) -> list[dict[str, Any]]:
    """The results of a control, those of one check together; what did not pass apart."""
    found = []
    for check, group in groupby(results, key=lambda each: each["check"]):
        members = list(group)
        counts = Counter(WORDS[each["verdict"]] for each in members)
        found.append(
            {
                "check": check,
                "demand": members[0]["demand"],
                "figures": ", ".join(f"{counts[word]} {word}" for word in WORDS.values() if counts[word]),
                "notable": [each for each in members if each["verdict"] != "passed"],
                "passed": [each for each in members if each["verdict"] == "passed"],
            }
        )
    return found
