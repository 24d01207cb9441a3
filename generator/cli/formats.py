"""Writes diagnostics for programs: JSON, SARIF 2.1.0 for code scanning, and the commands of GitHub's workflows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fleet_iot.generator.diagnostics import Diagnostic, SourceLocation, visible
from fleet_iot.generator.manifest.rules import RULES, rule_id

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
"""https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html"""

TEXT_RULES: dict[str, str] = {
    "unreadable-file": "The manifest is a file that can be read.",
    "too-large": "The manifest is no larger than any manifest is.",
    "encoding": "The manifest is UTF-8.",
    "control-character": "The text contains no control character and no byte order mark within.",
    "syntax": "The manifest is YAML, and one document.",
    "empty-manifest": "The manifest is not empty.",
    "too-deep": "Nothing is nested deeper than any manifest is.",
    "too-many-values": "Aliases expand to no more values than any manifest has.",
    "alias-loop": "No alias refers to a value that contains itself.",
    "merge-key": "The value of a merge key is a mapping, or a list of mappings.",
    "key-type": "A key is one word.",
    "duplicate-key": "No key appears twice in the same mapping.",
    "yaml-trap": "Values that YAML readers disagree about are in quotes, or in plain decimal.",
    "comment": "No comment begins within a text: a text with ` #` is in quotes.",
    "tag": "The text has no tags.",
    "missing-key": "Each part has the keys that it needs.",
    "unknown-key": "Each part has only keys that are known there.",
    "wrong-type": "Each value is of its type.",
    "wrong-length": "Text, and collections, are neither empty nor too long.",
    "wrong-pattern": "Ids and names keep to their alphabet.",
    "wrong-value": "Each value is one that its key accepts.",
    "out-of-range": "Numbers are within their range.",
    "one-environment": "Environments in one account and region have different suffixes, which do not end alike.",
    "one-application": "Environments in one account have different suffixes for each application and region.",
    "inventory": "A device list is CSV or JSON lines, each row one device that AWS IoT accepts and a group names.",
    "former-word": "Values are written in their present words.",
    "unknown-choice": "A choice is one of those that there are.",
}
"""The rules of text and shape: what each asks for."""


def catalogue() -> dict[str, str]:
    """Return every rule by its id: what it asks for, in one sentence."""
    return TEXT_RULES | {rule_id(rule): (rule.__doc__ or "").partition("\n")[0] for rule in RULES}


def to_json(diagnostics: Sequence[Diagnostic]) -> str:
    """Return one JSON object; docs/validation.md describes it, and fields are only ever added."""
    body = {
        "format": 1,
        "valid": all(diagnostic.is_warning for diagnostic in diagnostics),
        "diagnostics": [
            {
                **_place(diagnostic.location),
                "severity": _severity(diagnostic),
                "rule": diagnostic.rule,
                "message": diagnostic.message,
                "hint": diagnostic.hint,
                "related": [_place(place) for place in diagnostic.related],
            }
            for diagnostic in diagnostics
        ],
    }
    return json.dumps(body, indent=2)


def to_sarif(
    diagnostics: Sequence[Diagnostic], *, tool: str = "fleet validate", sentences: Mapping[str, str] | None = None
) -> str:
    """Return a SARIF log of one run, with the rules that it found broken; `sentences` say what each rule demands."""
    sentences = catalogue() if sentences is None else sentences
    rules = sorted({diagnostic.rule for diagnostic in diagnostics})
    driver = {
        "name": tool,
        "version": _version(),
        "rules": [
            {"id": rule, "shortDescription": {"text": sentences.get(rule, "A rule of this project.")}} for rule in rules
        ],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(diagnostic, rules.index(diagnostic.rule)) for diagnostic in diagnostics],
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def to_github(diagnostics: Sequence[Diagnostic]) -> str:
    """Return one workflow command for each fault, which GitHub shows at its line of a pull request.

    https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
    """
    return "\n".join(_command(diagnostic) for diagnostic in diagnostics)


FORMATS: dict[str, Callable[[Sequence[Diagnostic]], str]] = {"json": to_json, "sarif": to_sarif, "github": to_github}
"""The formats for programs; `text`, for people, is the diagnostics' own."""


def _place(location: SourceLocation) -> dict[str, Any]:
    return {"file": location.file, "line": location.line, "column": location.column}


def _severity(diagnostic: Diagnostic) -> str:
    """Return the level in the words of SARIF and GitHub."""
    return "warning" if diagnostic.is_warning else "error"


def _result(diagnostic: Diagnostic, index: int) -> dict[str, Any]:
    result = {
        "ruleId": diagnostic.rule,
        "ruleIndex": index,
        "level": _severity(diagnostic),
        "message": {"text": _sentence(diagnostic)},
        "locations": [_location(diagnostic.location)],
    }
    if diagnostic.related:
        related = [_location(place) | {"message": {"text": "See also here."}} for place in diagnostic.related]
        result["relatedLocations"] = related
    return result


def _location(location: SourceLocation) -> dict[str, Any]:
    region = {"startLine": location.line, "startColumn": location.column}
    return {"physicalLocation": {"artifactLocation": {"uri": _uri(location.file)}, "region": region}}


def _uri(file: str) -> str:
    """Return a relative reference where the file's name is relative, so that it is valid on every machine."""
    path = Path(file)
    escaped = quote(os.fsencode(path.as_posix()))
    return f"file://{escaped}" if path.is_absolute() else escaped


def _sentence(diagnostic: Diagnostic) -> str:
    message = visible(diagnostic.message)
    return f"{message}\nhint: {visible(diagnostic.hint)}" if diagnostic.hint else message


def in_command(text: str, *, is_property: bool = False) -> str:
    """Escape a text for a workflow command: line ends as `%0A`, other hidden characters as escapes."""
    return visible(_escaped(text, is_property=is_property))


def _command(diagnostic: Diagnostic) -> str:
    place = diagnostic.location
    values = {"file": place.file, "line": place.line, "col": place.column, "title": diagnostic.rule}
    properties = ",".join(f"{name}={in_command(str(value), is_property=True)}" for name, value in values.items())
    return f"::{_severity(diagnostic)} {properties}::{_escaped(_sentence(diagnostic), is_property=False)}"


def _escaped(text: str, *, is_property: bool) -> str:
    """Escape as the runner's own toolkit does: `%` first, then what would end the command or a property."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if is_property else text


def _version() -> str:
    try:
        return version("fleet-iot")
    except PackageNotFoundError:
        return "0"
