"""The reference pages, made from the code: commands with their options, manifest keys, and exit codes.

`python -m fleet_iot.generator.cli.reference` rewrites `docs/reference/` of a checkout; a test checks that it is fresh.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fleet_iot.generator import diagnostics
from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.manifest.schema import schema_text

FOLDER = Path("docs") / "reference"
_BANNER = "<!-- Made by `python -m fleet_iot.generator.cli.reference`: change the code, not this page. -->\n"
_LONGEST_ENUM = 8
"""Values that are listed in a table; longer lists, such as time zones, are in the schema."""


def pages() -> dict[str, str]:
    """Return the text of each reference page, by file name."""
    return {"commands.md": commands_page(), "exit-codes.md": exit_codes_page(), "manifest.md": manifest_page()}


def commands_page() -> str:
    """Describe each command: usage, help, arguments' and options' meaning, defaults and environment variables."""
    parts = [_BANNER, "# Commands\n", "Exit codes: [exit-codes.md](exit-codes.md).\n"]
    for path, command in _commands(main, "fleet"):
        context = click.Context(command, info_name=path)
        usage = " ".join([path, *command.collect_usage_pieces(context)])
        parts += [f"## {path}\n", f"`{usage}`\n", _paragraphs(command.help or "")]
        if rows := [_option_row(option, context) for option in command.params if isinstance(option, click.Option)]:
            parts.append("\n".join(["| option | |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _commands(group: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, with its full name, groups opened."""
    if not isinstance(group, click.Group):
        yield path, group
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        if (command := group.get_command(context, name)) is not None and not command.hidden:
            yield from _commands(command, f"{path} {name}")


def _option_row(option: click.Option, context: click.Context) -> str:
    metavar = "" if option.is_flag or option.count else f" {option.make_metavar(context)}"
    names = ", ".join(f"`{name}{metavar}`" for name in (*option.opts, *option.secondary_opts))
    extra = option.get_help_extra(context)
    notes = [
        *(["required"] if option.required else []),
        *([f"default: {extra['default']}"] if extra.get("default") else []),
        *([f"variable: `{option.envvar}`"] if isinstance(option.envvar, str) else []),
    ]
    noted = f" ({'; '.join(notes)})" if notes else ""
    return f"| {_cell(names)} | {_cell(option.help or '')}{noted} |"


def exit_codes_page() -> str:
    """List the exit codes with the errors that have them."""
    codes: dict[int, list[str]] = {0: ["Done, or nothing to do."]}
    for kind in sorted(_errors(), key=lambda kind: kind.exit_code):
        codes.setdefault(kind.exit_code, []).append(_first_sentence(kind.__doc__ or ""))
    codes[2].append("An option or argument is wrong. `fleet plan --detailed-exitcode`: there are changes.")
    codes[130] = ["Interrupted by Ctrl-C."]
    rows = [f"| {code} | {_cell(' '.join(texts))} |" for code, texts in sorted(codes.items())]
    return "\n".join([_BANNER, "# Exit codes\n", "The same mistake gives the same code in every command.\n"]) + (
        "\n" + "\n".join(["| code | |", "|---|---|", *rows]) + "\n"
    )


def _errors() -> list[type[diagnostics.FleetError]]:
    return [kind for kind in vars(diagnostics).values() if isinstance(kind, type) and _is_outcome(kind)]


def _is_outcome(kind: type) -> bool:
    return issubclass(kind, diagnostics.FleetError) and kind is not diagnostics.FleetError


def manifest_page() -> str:
    """List every key of the manifest with its type, default and meaning, from the schema that editors use."""
    schema = json.loads(schema_text())
    rows = [
        f"| `{path}` | {_cell(_kind(part))} | {_default(part)} | {_cell(_meaning(part, schema))} |"
        for path, part in _keys(schema, schema, "")
    ]
    table = "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows])
    how = (
        "How the keys work together: [the manifest](../manifest.md). An editor with a YAML language server reads the "
        "same from `fleet.schema.json`.\n"
    )
    return "\n".join([_BANNER, "# Keys of the manifest\n", how, table]) + "\n"


def _keys(part: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each key below `part` with its schema, depth first; `<id>` is in place of names that a user chooses."""
    required = set(part.get("required", ()))
    for name, inner in part.get("properties", {}).items():
        yield from _key(inner | {"needed": name in required}, schema, f"{path}{name}")


def _key(part: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, part
    for option in (part, *part.get("anyOf", ())):
        target = _resolved(option, schema)
        yield from _keys(target, schema, f"{path}.")
        for inner in target.get("patternProperties", {}).values():
            for choice in inner.get("anyOf", [inner]):
                if "$ref" in choice:
                    yield from _keys(_resolved(choice, schema), schema, f"{path}.<name>.")


def _resolved(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
    return found


def _kind(part: dict[str, Any]) -> str:
    """Return the type of a value, with its limits, in words."""
    if "anyOf" in part:
        return " or ".join(dict.fromkeys(_kind(each) for each in part["anyOf"] if each.get("type") != "null"))
    if "const" in part:
        return f"`{json.dumps(part['const'])}`"
    if "enum" in part:
        values = part["enum"]
        listed = ", ".join(f"`{value}`" for value in values[:_LONGEST_ENUM])
        return listed if len(values) <= _LONGEST_ENUM else f"one of {len(values)}, such as `{values[0]}`"
    if "$ref" in part or "patternProperties" in part or part.get("type") == "object":
        return "mapping"
    names = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "array": "list",
    }
    kind = names[part["type"]]
    low, high = part.get("minimum", part.get("exclusiveMinimum")), part.get("maximum")
    limits = (
        [f"from {low:g}"] if low is not None and "minimum" in part else [f"above {low:g}"] if low is not None else []
    )
    return " ".join([kind, *limits, *([f"to {high:,}"] if high is not None else [])])


def _default(part: dict[str, Any]) -> str:
    value = part.get("default")
    if part.get("needed"):
        return "needed"
    return "" if value in (None, {}, []) or isinstance(value, dict) else f"`{json.dumps(value)}`"


def _meaning(part: dict[str, Any], schema: dict[str, Any]) -> str:
    for each in (part, *part.get("anyOf", ())):
        if text := each.get("description") or _resolved(each, schema).get("description"):
            return _first_sentence(text) if "$ref" in each and "description" not in part else str(text)
    for inner in part.get("patternProperties", {}).values():
        if text := _resolved(inner, schema).get("description"):
            return f"By id: {text[0].lower()}{text[1:]}"
    return ""


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", " ".join(text.split()))[0]


def _paragraphs(text: str) -> str:
    """Return help text without the line breaks and the marks that click reads."""
    paragraphs = [" ".join(each.replace("\b", "").split()) for each in text.split("\n\n")]
    return "\n\n".join(paragraphs).replace("<", "&lt;") + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    for _name, _text in pages().items():
        _path = FOLDER / _name
        _path.parent.mkdir(parents=True, exist_ok=True)
        _path.write_text(_text, encoding="utf-8")
