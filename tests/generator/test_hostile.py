"""Text that breaks out of templates elsewhere ends, in every field, in a refusal or in one harmless literal."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from markdown_it import MarkdownIt

from fleet_iot.generator.diagnostics import Diagnostic, ManifestError
from fleet_iot.generator.manifest.load import validate
from fleet_iot.generator.manifest.models import FleetManifest
from fleet_iot.generator.manifest.yaml import parse_document
from fleet_iot.generator.output.render import render_facility, render_fleet, render_registry
from fleet_iot.generator.plan.build import plan_fleet

HOSTILE = {
    "quotes": "'",
    "double quotes": '"',
    "three double quotes": '"""',
    "three quotes": "'''",
    "backslash": "\\",
    "backslash and quote": "\\'",
    "escape": "\\u2028",
    "python": "__import__('os').system('id')",
    "end of a call": "'), os.system('id'), ('",
    "f-string": "{n!r}",
    "old format": "%(n)04d %s",
    "template expression": "{{ 7*7 }}",
    "template statement": "{% raw %}{% endraw %}",
    "template comment": "{# x #}",
    "terraform expression": "${file('/etc/passwd')}",
    "terraform directive": "%{ if true }x%{ endif }",
    "policy variable": "${iot:ClientId}",
    "wildcard": "*",
    "topic wildcards": "+/#",
    "end of a comment": "*/",
    "sql": "'; DROP TABLE x; --",
    "sql comment": "-- x",
    "shell": "$(id)`id`",
    "html": "<script>alert(1)</script>",
    "html comment": "<!-- x -->",
    "cdata": "]]>",
    "entity": "&lt;&#60;",
    "markdown link": "[x](javascript:alert(1))",
    "markdown image": "![x](http://example.com/x.png)",
    "markdown table": "| a | b |",
    "markdown code": "`x`",
    "markdown emphasis": "**x** _y_ ~~z~~",
    "markdown heading": "# x",
    "address": "http://example.com www.example.com a@example.com",
    "path upward": "../../etc/passwd",
    "windows path": "..\\..\\x",
    "absolute path": "/etc/passwd",
    "token of the account": "ACCOUNT_ID",
    "line break": "a\nb",
    "carriage return": "a\r\nb",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "next line": "a\x85b",
    "nul": "a\0b",
    "terminal escape": "\x1b[31mred",
    "right to left override": "\u202egnp.exe",
    "bidi isolate": "\u2066x\u2069",
    "zero width space": "a\u200bb",
    "soft hyphen": "a\xadb",
    "tag characters": "\U000e0041",
    "private use": "\ue000",
    "homoglyph": "\u0430dmin",
    "full width": "\uff1cscript\uff1e",
    "combining": "e\u0301\u0301",
    "ideographs": "\u6771\u4eac\u5de5\u5834",
    "emoji": "\U0001f3ed",
    "yaml": "x: !!python/object/apply:os.system [id]",
    "csv formula": "=HYPERLINK(1)",
}

Setter = Callable[[dict[str, Any], str], None]


def _renamed(part: dict[str, Any], old: str, new: str) -> None:
    part[new] = part.pop(old)


def _attributes(data: dict[str, Any]) -> dict[str, Any]:
    things = data["facilities"]["sg-01"]["things"]
    if not isinstance(things["press"], dict):
        things["press"] = {"count": 2, "attributes": {}}
    attributes: dict[str, Any] = things["press"]["attributes"]
    return attributes


FREE: dict[str, Setter] = {
    "tag": lambda data, text: data["tags"].update(owner=text),
    "tag key": lambda data, text: data["tags"].update({text: "x"}),
    "name": lambda data, text: data["facilities"]["sg-01"].update(name=text),
    "description": lambda data, text: data["device_types"]["press"].update(description=text),
    "unit": lambda data, text: data["device_types"]["press"]["metrics"]["temperature"].update(unit=text[:32]),
    "attribute": lambda data, text: _attributes(data).update(line=text),
    "contact": lambda data, text: data["facilities"]["sg-01"].update(contact={"name": text}),
    "line": lambda data, text: data["facilities"]["sg-01"].update(lines={"b2": {"name": text}}),
    "default contact": lambda data, text: data.update(defaults={"contact": {"name": text}}),
    "facility's tag": lambda data, text: data["facilities"]["sg-01"].update(tags={"owner": text}),
    "facility's attribute": lambda data, text: data["facilities"]["th-01"].update(attributes={"hall": text}),
    "serial": lambda data, text: data["facilities"]["th-01"].update(
        things={"press": {"names": {"x": {"serial": text}}}}
    ),
    "attribute name": lambda data, text: _attributes(data).update({text: "x"}),
}
"""Fields whose text a person chooses."""

NARROW: dict[str, Setter] = {
    "application": lambda data, text: data.update(application=text),
    "suffix": lambda data, text: data.update(environment_suffix=text),
    "region": lambda data, text: data.update(region=text),
    "account": lambda data, text: data.update(account_id=text),
    "facility id": lambda data, text: _renamed(data["facilities"], "sg-01", text),
    "device type id": lambda data, text: _renamed(data["device_types"], "press", text),
    "things of a type": lambda data, text: _renamed(data["facilities"]["sg-01"]["things"], "press", text),
    "metric": lambda data, text: _renamed(data["device_types"]["press"]["metrics"], "temperature", text),
    "timezone": lambda data, text: data["facilities"]["sg-01"].update(timezone=text),
    "registration": lambda data, text: data["facilities"]["sg-01"].update(registration=text),
    "detector": lambda data, text: data["device_types"]["press"]["metrics"]["temperature"].update(detector=text),
    "count": lambda data, text: data["facilities"]["sg-01"]["things"].update(press=text),
    "interval": lambda data, text: data["device_types"]["press"].update(sample_interval_s=text),
    "limit": lambda data, text: data["device_types"]["press"]["metrics"]["temperature"].update(max=text),
    "key": lambda data, text: data.update({text: 1}),
    "name of a thing": lambda data, text: data["facilities"]["th-01"].update(things={"press": {"names": [text]}}),
    "line of things": lambda data, text: data["facilities"]["th-01"]["things"].update(press={"count": 2, "line": text}),
    "numbers of a line": lambda data, text: data["facilities"]["th-01"].update(
        lines={"b2": {}}, things={"press": {"count": 2, "lines": {"b2": text}}}
    ),
    "id of a line": lambda data, text: data["facilities"]["th-01"].update(lines={text: {}}),
    "inventory": lambda data, text: data["facilities"]["th-01"].update(things={"press": {"inventory": text}}),
    "email": lambda data, text: data["facilities"]["th-01"].update(contact={"name": "x", "email": text}),
    "phone": lambda data, text: data["facilities"]["th-01"].update(contact={"name": "x", "phone": text}),
    "default": lambda data, text: data.update(defaults={"timezone": text}),
    "version": lambda data, text: data.update(version=text),
}
"""Fields that take only what is known or keeps to a pattern."""


def assert_told_in_lines_of_their_own(faults: tuple[Diagnostic, ...]) -> None:
    """Each with its rule and its place; the text of the manifest forges no line and sends nothing to the terminal."""
    assert faults
    for fault in faults:
        assert fault.rule
        first, *rest = str(fault).splitlines()
        assert first.startswith("fleet.yaml:1:")
        assert not rest or (1 == len(rest) and rest[0].startswith("  hint: "))
        assert "\x1b" not in first and "\u202e" not in first


def judged(data: dict[str, Any], setter: Setter, text: str) -> FleetManifest | None:
    """The manifest with the text in a field; None where that is refused."""
    changed = copy.deepcopy(data)
    setter(changed, text)
    try:
        return validate(parse_document(json.dumps(changed, ensure_ascii=True), name="fleet.yaml"))
    except ManifestError as error:
        faults = error.diagnostics
    assert_told_in_lines_of_their_own(faults)
    return None


def rendered(manifest: FleetManifest) -> dict[str, bytes]:
    """All files of a manifest; every gate has let them pass."""
    plan = plan_fleet(manifest)
    artefacts = [render_fleet(plan), render_registry(manifest.facilities)]
    for facility in plan.facilities:
        artefacts += render_facility(facility)
    return {artefact.path: b"".join(artefact.chunks) for artefact in artefacts}


@cache
def rendered_with(data: Callable[[], dict[str, Any]], fields: tuple[str, ...], text: str) -> dict[str, bytes]:
    """All files, with the text in some of the free fields."""

    def fill(part: dict[str, Any], value: str) -> None:
        for field in fields:
            FREE[field](part, value)

    manifest = judged(data(), fill, text)
    assert manifest is not None
    return rendered(manifest)


def meaning(path: str, content: bytes, text: str) -> Any:
    """Return the meaning of the content in its file's language, with the text replaced by a harmless one."""

    def harmless(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(text, BENIGN)
        if isinstance(value, dict):
            return {harmless(key): (shown if key == "markdown" else harmless)(item) for key, item in value.items()}
        return [harmless(item) for item in value] if isinstance(value, list | tuple) else value

    def shown(markdown: str) -> Any:
        tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
        return [
            (token.type, token.tag, [(child.type, harmless(child.content)) for child in _joined(token)])
            for token in tokens
        ]

    if path.endswith(".py"):
        tree = ast.parse(content)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant):
                node.value = harmless(node.value)
        return ast.dump(tree)
    if path.endswith((".json", ".jsonl")):
        return [harmless(json.loads(line)) for line in (content.splitlines() if path.endswith("l") else [content])]
    if path.endswith(".md"):
        return shown(content.decode())
    return content


def _joined(token: Any) -> list[Any]:
    """The inline tokens, with pieces of text that follow each other as one: where they are cut means nothing."""
    joined: list[Any] = []
    for child in token.children or ():
        kind = "text" if child.type == "text_special" else child.type
        if joined and kind == joined[-1].type == "text":
            joined[-1].content += child.content
        else:
            child.type = kind
            joined.append(child)
    return joined


BENIGN = "qx-benign-xq"


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_free_field_refuses_or_holds_the_text_as_data(text: str, data: Any) -> None:
    """Read by the parser of its language, each file means what it means with a harmless word in the field."""
    value = f"qx{text}xq"[:32]
    taken = tuple(field for field, setter in FREE.items() if judged(data(), setter, value) is not None)
    wanted, found = rendered_with(data, taken, BENIGN), rendered_with(data, taken, value)
    assert list(wanted) == list(found)
    for path in found:
        assert meaning(path, wanted[path], BENIGN) == meaning(path, found[path], value), (taken, path)


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_field_of_known_words_refuses_the_text(text: str, data: Any) -> None:
    """Ids, patterns, choices, numbers and keys take none of it."""
    for field, setter in NARROW.items():
        assert judged(data(), setter, text) is None, field
        assert judged(data(), setter, f"a{text}a") is None, field


@pytest.mark.parametrize(
    "kind", ["three double quotes", "template expression", "html", "ideographs", "terraform expression"]
)
def test_generated_python_says_what_the_manifest_says(kind: str, project: Any, data: Any) -> None:
    """Written by the command, then run: name, unit, description and tags are the manifest's own."""
    text = HOSTILE[kind]
    manifest = data()
    FREE["name"](manifest, text)
    FREE["unit"](manifest, text)
    if text.isascii():
        FREE["description"](manifest, text)
    project.write(manifest)
    result = project.fleet("generate")
    assert (0, "") == (result.exit_code, result.stderr)
    plant: dict[str, Any] = {}
    fleet: dict[str, Any] = {}
    for scope, file in ((plant, project.tree / "sg_01" / "__init__.py"), (fleet, project.tree / "fleet.py")):
        exec(compile(file.read_text("ascii"), str(file), "exec"), scope)  # noqa: S102
    press = next(item for item in fleet["FLEET"].device_types if item.id == "press")
    assert text == plant["FACILITY"].name
    assert manifest["device_types"]["press"]["description"] == press.description
    assert text[:32] == next(metric.unit for metric in press.metrics if metric.name == "temperature")
    assert manifest["tags"] == fleet["FLEET"].tags


def test_some_hostile_text_is_taken_as_data(data: Any) -> None:
    """The refusals are not all there is: names and units hold most of it, as people may need."""
    taken = [text for text in HOSTILE.values() if judged(data(), FREE["name"], text) is not None]
    assert len(taken) >= len(HOSTILE) // 2
