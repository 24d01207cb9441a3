"""Diagnostics for programs say what those for people say, in the shape that each program asks for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fleet_iot.generator.cli.commands import OUTPUT_FORMATS, main
from fleet_iot.generator.cli.formats import FORMATS, catalogue, to_github, to_json, to_sarif
from fleet_iot.generator.diagnostics import Diagnostic, SourceLocation, visible
from tests.places import PROJECT

ROOT = PROJECT
GOLDEN = ROOT / "tests" / "golden"
CASES = sorted(file.parent for file in GOLDEN.glob("*/stderr.txt"))

PLACES = st.builds(
    SourceLocation,
    file=st.sampled_from(["fleet.yaml", "../a b/flé,et:%.yaml", "/etc/fleet.yaml"]),
    line=st.integers(1, 10**6),
    column=st.integers(1, 10**4),
)
DIAGNOSTICS = st.lists(
    st.builds(
        Diagnostic,
        location=PLACES,
        message=st.text(min_size=1),
        hint=st.text(),
        rule=st.sampled_from(sorted(catalogue())),
        related=st.lists(PLACES, max_size=2).map(tuple),
        is_warning=st.booleans(),
    ),
    max_size=4,
)


def answers(case: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    """Run `fleet validate` in a golden case and return the result."""
    monkeypatch.chdir(case)
    return CliRunner().invoke(main, ["validate", *arguments])


def told(stderr: str) -> list[tuple[str, int, int, str, str]]:
    """File, line, column, message and hint of each fault in the text for people."""
    found = re.findall(r"^(.+?):(\d+):(\d+): (.*)(?:\n  hint: (.*))?$", stderr, flags=re.MULTILINE)
    return [(file, int(line), int(column), message, hint) for file, line, column, message, hint in found]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_format_tells_the_same_faults(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON, SARIF and workflow commands hold, in order, what the text holds; exit codes are the same."""
    expected = told((case / "stderr.txt").read_text("utf-8"))
    is_valid = all(message.startswith("warning: ") for *_, message, _ in expected)
    code = 0 if is_valid else 3
    as_json = answers(case, monkeypatch, "--format", "json")
    body = json.loads(as_json.stdout)
    assert (code, "", is_valid) == (as_json.exit_code, as_json.stderr, body["valid"])
    assert expected == [
        (
            item["file"],
            item["line"],
            item["column"],
            "warning: " * (item["severity"] == "warning") + visible(item["message"]),
            visible(item["hint"]),
        )
        for item in body["diagnostics"]
    ]
    assert {item["rule"] for item in body["diagnostics"]} <= set(catalogue())

    as_sarif = answers(case, monkeypatch, "--format", "sarif")
    (run,) = json.loads(as_sarif.stdout)["runs"]
    regions = [result["locations"][0]["physicalLocation"]["region"] for result in run["results"]]
    assert [fault[1:3] for fault in expected] == [(place["startLine"], place["startColumn"]) for place in regions]
    assert (code, [item["rule"] for item in body["diagnostics"]]) == (
        as_sarif.exit_code,
        [result["ruleId"] for result in run["results"]],
    )

    as_github = answers(case, monkeypatch, "--format", "github")
    commands = [line for line in as_github.stdout.splitlines() if line.startswith(("::error ", "::warning "))]
    assert (code, len(expected)) == (as_github.exit_code, len(commands))
    assert is_valid == (commands != as_github.stdout.splitlines())


@pytest.mark.slow
@given(DIAGNOSTICS)
def test_sarif_has_the_shape_that_its_schema_asks_for(diagnostics: list[Diagnostic]) -> None:
    """Required properties, index and id of each rule, places from 1, and URIs without a character to escape."""
    log = json.loads(to_sarif(diagnostics))
    assert ("2.1.0", 1) == (log["version"], len(log["runs"]))
    assert log["$schema"].startswith("https://")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert {"name", "version", "rules"} == set(driver)
    assert all(rule["id"] and rule["shortDescription"]["text"] for rule in driver["rules"])
    assert "unicodeCodePoints" == run["columnKind"]
    assert len(diagnostics) == len(run["results"])
    for diagnostic, result in zip(diagnostics, run["results"], strict=True):
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == diagnostic.rule
        assert ("warning" if diagnostic.is_warning else "error") == result["level"]
        assert result["message"]["text"].startswith(visible(diagnostic.message))
        places = [*result["locations"], *result.get("relatedLocations", ())]
        for place, location in zip(places, (diagnostic.location, *diagnostic.related), strict=True):
            region = place["physicalLocation"]["region"]
            assert {"startLine": location.line, "startColumn": location.column} == region
            uri = place["physicalLocation"]["artifactLocation"]["uri"]
            assert re.fullmatch(r"[A-Za-z0-9._~:/%-]+", uri)
            assert location.file == unquote(urlsplit(uri).path)
            assert location.file.startswith("/") == uri.startswith("file:///")


@pytest.mark.slow
@given(DIAGNOSTICS)
def test_json_gives_back_every_fault(diagnostics: list[Diagnostic]) -> None:
    """The JSON output gives a program exactly the diagnostics that were written."""
    body = json.loads(to_json(diagnostics))
    assert (1, all(each.is_warning for each in diagnostics)) == (body["format"], body["valid"])
    assert diagnostics == [
        Diagnostic(
            location=SourceLocation(file=item["file"], line=item["line"], column=item["column"]),
            message=item["message"],
            hint=item["hint"],
            rule=item["rule"],
            related=tuple(SourceLocation(**place) for place in item["related"]),
            is_warning=item["severity"] == "warning",
        )
        for item in body["diagnostics"]
    ]


@pytest.mark.slow
@given(DIAGNOSTICS.filter(bool))
def test_workflow_commands_are_read_back_by_the_runners_rules(diagnostics: list[Diagnostic]) -> None:
    """One line a fault, whatever it holds; unescaped as the runner does, it is the fault."""

    def unescaped(text: str) -> str:
        for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            text = text.replace(code, character)
        return text

    lines = to_github(diagnostics).split("\n")
    assert len(diagnostics) == len(lines)
    for diagnostic, line in zip(diagnostics, lines, strict=True):
        command = "::warning " if diagnostic.is_warning else "::error "
        assert line.startswith(command)
        properties, message = line.removeprefix(command).split("::", 1)
        found = {key: unescaped(value) for key, value in (item.split("=", 1) for item in properties.split(","))}
        place = diagnostic.location
        expected = {"file": place.file, "line": str(place.line), "col": str(place.column), "title": diagnostic.rule}
        assert expected == found
        hint = f"\nhint: {visible(diagnostic.hint)}" if diagnostic.hint else ""
        assert visible(diagnostic.message) + hint == unescaped(message)


@given(st.text(), st.text())
def test_text_for_people_cannot_forge_a_line(message: str, hint: str) -> None:
    """No line break, escape sequence or bidi mark of a manifest reaches the terminal."""
    text = str(Diagnostic(location=SourceLocation(file="fleet.yaml"), message=message, hint=hint))
    lines = text.splitlines()
    assert (2 if hint else 1) == len(lines)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", text)


def test_formats_of_the_command_are_those_that_there_are() -> None:
    """The choices in the help, which loads nothing, are the writers."""
    assert OUTPUT_FORMATS == ("text", *FORMATS)


def test_duplicate_key_names_its_first_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs get the other place of a key that appears twice as a place, not only in the sentence."""
    body = json.loads(answers(GOLDEN / "duplicate_facility", monkeypatch, "--format", "json").stdout)
    (fault,) = body["diagnostics"]
    (other,) = fault["related"]
    assert f"first at {other['file']}:{other['line']}:{other['column']}" in fault["message"]


def test_every_rule_is_documented() -> None:
    """docs/validation.md has each rule's id, with what it asks for."""
    document = (ROOT / "docs" / "validation.md").read_text("utf-8")
    assert [] == [f"{rule}: {text}" for rule, text in catalogue().items() if f"| `{rule}` | {text} |" not in document]
