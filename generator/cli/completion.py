"""Completes ids of the manifest in shells, fast: a key press waits for it.

The manifest is read as lines, not as YAML: it may be half written, and importing the models takes longer than a person
wants to wait. A manifest with facilities in braces completes nothing.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from fleet_iot.generator.diagnostics import FleetError
from fleet_iot.generator.manifest.project import environment_file, find_project, part_files
from fleet_iot.lib.record.place import MANIFEST, PART_ENDING, environments, record_name

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_FLEET_COMPLETE"
"""The variable by which a shell requests completions: click's name for the program `fleet`."""

MOST_THINGS = 100
"""Things to offer: more are no help."""
_NAME = b'{"name":"'
"""The begin of a thing's line in the record."""
_DECLARED = re.compile(r"(DeviceTypeSpec|MetricSpec)\(\s*(?:id|name)='([a-z0-9_-]+)'")
_ID_LINE = re.compile(r"""( +)(["']?)([a-z0-9][a-z0-9-]*)\2:(\s|$)""")


def complete_facility(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the facilities whose ids begin with what is typed."""
    return _complete(context, incomplete, {"facilities": "facility"})


def complete_name(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the facilities, device types and, once one is begun, things whose names begin with what is typed."""
    found = _complete(context, incomplete, {"facilities": "facility", "device_types": "device type"})
    return [*found, *(complete_thing(context, _, incomplete) if incomplete else [])]


def complete_device_type(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the device types whose ids begin with what is typed."""
    return _complete(context, incomplete, {"device_types": "device type"})


def complete_thing(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the first things of the record whose short names begin with what is typed."""
    try:
        return [CompletionItem(name) for name in islice(thing_names(_record(context), incomplete), MOST_THINGS)]
    except (OSError, FleetError):
        return []


def complete_metric(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the metrics that begin with what is typed: those of the thing or device type that was named, else all."""
    try:
        text = (_record(context) / "fleet.py").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, FleetError):
        return []
    # What follows an option without its value is not parsed yet.
    named = f"-{'-'.join([context.params.get('thing') or '', *context.args])}-"
    found: dict[str, list[str]] = {}
    for kind, name in _DECLARED.findall(text):
        if kind == "DeviceTypeSpec":
            found[name] = []
        elif found:
            found[next(reversed(found))].append(name)
    chosen = [type_ for type_ in found if type_ == context.params.get("device_type") or f"-{type_}-" in named]
    names = dict.fromkeys(name for type_ in chosen or found for name in found[type_])
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def complete_environment(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the environments whose names begin with what is typed."""
    try:
        return [CompletionItem(name) for name in environments(_manifest(context)) if name.startswith(incomplete)]
    except (OSError, FleetError):
        return []


def script(program: click.Command, shell: str) -> str:
    """Return the script that a shell runs to complete `fleet`."""
    kind = get_completion_class(shell)
    assert kind is not None, f"click knows no {shell}"  # noqa: S101 - our own list
    return kind(program, {}, "fleet", VARIABLE).source()


def ids(manifest: Path, section: str) -> Iterator[str]:
    """Yield the keys of a top-level section: what is indented as its first line is, up to the next top-level key."""
    indentation = None
    is_within = False
    if not manifest.is_file():  # a pipe would keep the shell waiting
        return
    with manifest.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line[:1] not in " \t#\r\n":
                is_within = re.match(rf"{section}\s*:", line) is not None
            elif is_within and (found := _ID_LINE.match(line)):
                indentation = found[1] if indentation is None else indentation
                if found[1] == indentation:
                    yield found[3]


def thing_names(record: Path, begin: str) -> Iterator[str]:
    """Yield the names in the record that begin so, searched as bytes: a plant may have a million things."""
    for path in sorted(record.glob("*/things.jsonl")):
        if path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                at = text.find(wanted := _NAME + begin.encode())
                while at >= 0:
                    at += len(_NAME)
                    yield text[at : text.find(b'"', at)].decode()
                    at = text.find(wanted, at)


def _complete(context: click.Context, incomplete: str, sections: dict[str, str]) -> list[CompletionItem]:
    try:
        manifest = _manifest(context)
        environment = context.params.get("environment") or os.environ.get("FLEET_ENV")
        files = [manifest, *([environment_file(manifest, environment)] if environment else [])]
        found = {id_: what for section, what in sections.items() for file in files for id_ in ids(file, section)}
        for section, what in sections.items():
            found |= {file.name.removesuffix(PART_ENDING): what for file in part_files(manifest, section)}
    except (OSError, FleetError):
        return []
    return [CompletionItem(id_, help=what) for id_, what in found.items() if id_.startswith(incomplete)]


def _manifest(context: click.Context) -> Path:
    named = context.params.get("manifest_path")
    return named if isinstance(named, Path) else find_project(Path.cwd()) / MANIFEST


def _record(context: click.Context) -> Path:
    environment = context.params.get("environment") or os.environ.get("FLEET_ENV")
    return _manifest(context).parent / record_name(environment)
