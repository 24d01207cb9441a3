"""The report: as data, and as a page for a reader."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fleet_iot.operations.assurance.compliance.findings import Catalogue, Control, Finding
from fleet_iot.operations.assurance.compliance.gate import Verdict

WORDS = ("passed", "failed", "skipped")


def build_report(verdict: Verdict, catalogue: Catalogue, *, about: dict[str, str]) -> dict[str, Any]:
    """Build the report, in an order that does not change between runs; `about` identifies fleet and scanners."""
    controls = _controls(verdict, catalogue)
    return {
        "about": about,
        "totals": verdict.totals(),
        "by_scanner": verdict.by_scanner(),
        "faults": list(verdict.faults()),
        "looked_at": [{**asdict(count), "is_right": count.is_right} for count in verdict.counts],
        "frameworks": [
            {**asdict(framework), **_summed([each for each in controls if each["framework"] == framework.id])}
            for framework in catalogue.frameworks
            if any(each["framework"] == framework.id for each in controls)
        ],
        "controls": controls,
        "skips": [asdict(skip) for skip in verdict.skips],
        "not_met": [{"what": what, "why": why} for what, why in catalogue.not_met],
    }


def _controls(verdict: Verdict, catalogue: Catalogue) -> list[dict[str, Any]]:
    """List every control that a finding answers, with its verdict and the findings."""
    answers: dict[Control, list[Finding]] = {}
    for finding in verdict.findings:
        for control in catalogue.controls_of(finding):
            answers.setdefault(control, []).append(finding)
    order = {framework.id: place for place, framework in enumerate(catalogue.frameworks)}
    return [
        _control(control, sorted(answers[control]), verdict)
        for control in sorted(answers, key=lambda each: (order[each.framework], _numbers_last(each.id)))
    ]


def _control(control: Control, findings: list[Finding], verdict: Verdict) -> dict[str, Any]:
    words = Counter(map(verdict.word_for, findings))
    return {
        "id": control.id,
        "framework": control.framework,
        "title": control.title,
        "verdict": "failed" if words["failed"] else "skipped" if words["skipped"] else "passed",
        **{word: words[word] for word in WORDS},
        "results": [_result(finding, verdict) for finding in findings],
    }


def _result(finding: Finding, verdict: Verdict) -> dict[str, str]:
    skip = verdict.skip_of(finding)
    check = f"{finding.scanner} {finding.check}"
    result = {
        "resource": finding.resource,
        "attribute": finding.attribute,
        "verdict": verdict.word_for(finding),
        "check": check,
        "demand": verdict.titles.get(check, ""),
    }
    said = {"problem": finding.problem, "reason": skip.reason if skip else ""}
    return result | {name: text for name, text in said.items() if text}


def _summed(controls: list[dict[str, Any]]) -> dict[str, int]:
    """Count the controls of a framework by verdict."""
    verdicts = Counter(control["verdict"] for control in controls)
    return {"controls": len(controls), **{word: verdicts[word] for word in WORDS}}


def _numbers_last(text: str) -> list[tuple[int, str]]:
    """Return a sort key that puts `S3.9` before `S3.13`."""
    parts, number = [], ""
    for character in f"{text} ":
        if character.isdigit():
            number += character
            continue
        if number:
            parts.append((int(number), ""))
            number = ""
        parts.append((-1, character))
    return parts


FOLDER = Path(__file__).parent
TEMPLATE = "report.html.j2"
STYLE = "report.css"

VERDICT_WORDS = {"passed": "passed", "failed": "failed", "skipped": "accepted"}
OF_CONTROLS = {**VERDICT_WORDS, "skipped": "exceptions"}
"""Verdicts as the page calls them: on one resource, and on a control, where the rest has passed."""


def render_page(report: dict[str, Any]) -> str:
    """Render a report of build_report as one page: no script, no address but those of the frameworks."""
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
        **report, words=VERDICT_WORDS, control_words=OF_CONTROLS, style=(FOLDER / STYLE).read_text(encoding="utf-8")
    )


def _by_check(results: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Group the results of a control by check, separating those that did not pass."""
    found = []
    for check, group in groupby(results, key=lambda each: each["check"]):
        members = list(group)
        counts = Counter(VERDICT_WORDS[each["verdict"]] for each in members)
        found.append(
            {
                "check": check,
                "demand": members[0]["demand"],
                "figures": ", ".join(f"{counts[word]} {word}" for word in VERDICT_WORDS.values() if counts[word]),
                "notable": [each for each in members if each["verdict"] != "passed"],
                "passed": [each for each in members if each["verdict"] == "passed"],
            }
        )
    return found
