"""Reads the parts of a manifest that stand in files of their own: `facilities/ID.yaml` and `device_types/ID.yaml`.

The file's name is the id, and the file holds what would stand below that id in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleet_iot.generator.diagnostics import Diagnostic, ManifestError, SourceLocation
from fleet_iot.generator.manifest.document import Document, read_document
from fleet_iot.generator.manifest.project import PART_ENDING, part_files
from fleet_iot.generator.manifest.sources import DataPath, Places

SECTIONS = ("device_types", "facilities")
"""Top-level keys of the manifest, and folders beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartedPlaces:
    """The places of a manifest, and those of its parts by the first two steps of their paths."""

    own: Places
    parts: dict[DataPath, Places]

    def at(self, path: DataPath, *, is_key: bool = False) -> SourceLocation:
        """The place of the value at `path`, or of its key; that of a part's id is the beginning of its file."""
        part = self.parts.get(path[:2])
        if part is None:
            return self.own.at(path, is_key=is_key)
        return part.at(path[2:], is_key=is_key and len(path) > 2)


def with_parts(document: Document, path: Path, *, name: str) -> Document:
    """The manifest at `path` with its parts; raises `ManifestError` with what is in any of them."""
    data, faults, unreadable = document.data, list(document.faults), list[Diagnostic]()
    parts: dict[DataPath, Places] = {}
    for section in SECTIONS:
        unreadable += _misnamed(path, section, name)
        found: dict[str, Any] = {}
        for file in part_files(path, section):
            shown = str(Path(name).with_name(section) / file.name)
            try:
                part = read_document(file, name=shown, within=path.parent)
            except ManifestError as error:
                unreadable += error.diagnostics
                continue
            id_ = file.name.removesuffix(PART_ENDING)
            faults += part.faults
            found[id_] = part.data
            parts[section, id_] = part.sources
        if found and isinstance(data, dict) and (data.get(section) is None or isinstance(data[section], dict)):
            own = data.get(section) or {}
            unreadable += (_twice(document, (section, id_), parts) for id_ in found if id_ in own)
            data = data | {section: own | found}
    if unreadable:
        raise ManifestError([*faults, *unreadable])
    if not parts:
        return document
    return replace(document, data=data, sources=PartedPlaces(own=document.sources, parts=parts), faults=tuple(faults))


def _twice(document: Document, path: DataPath, parts: dict[DataPath, Places]) -> Diagnostic:
    first = document.sources.at(path, is_key=True)
    return Diagnostic(
        location=parts[path].at(()),
        message=f"`{path[0]}.{path[1]}` stands in a file of its own and in the manifest, at {first}",
        hint="keep one of them",
        rule="duplicate-key",
        related=(first,),
    )


def _misnamed(path: Path, section: str, name: str) -> Iterator[Diagnostic]:
    for file in sorted(path.with_name(section).glob("*.yml")):
        yield Diagnostic(
            location=SourceLocation(file=str(Path(name).with_name(section) / file.name)),
            message=f"only files that end in {PART_ENDING} are read here",
            hint=f"rename it to {file.stem}{PART_ENDING}",
            rule="unreadable-file",
        )
