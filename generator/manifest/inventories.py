"""Reads lists of devices, CSV or JSON lines, into the manifest that names them.

A row has a `name`, a `serial`, or both: a thing without a name is named by its serial. It may have a `line`. Where a
list has the columns `facility` or `device_type`, a group takes the rows of its own, so that one file can serve a whole
fleet. In CSV every other column is an attribute, in JSON lines `attributes` holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from fleet_iot.generator.diagnostics import Diagnostic, ManifestError, SourceLocation
from fleet_iot.generator.manifest.document import Document, read_text
from fleet_iot.generator.manifest.inventory import Inventory
from fleet_iot.generator.manifest.inventory_check import GroupOfList, ListCheck
from fleet_iot.generator.manifest.inventory_rows import READERS
from fleet_iot.generator.manifest.sources import DataPath, Places


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPlaces:
    """The places of a manifest, and those of things in its lists: the name of a thing stands behind `inventory`."""

    own: Places
    lists: dict[DataPath, Inventory]

    def at(self, path: DataPath, *, is_key: bool = False) -> SourceLocation:
        """The place of the value at `path`, or of its key."""
        listed = self.lists.get(path[:5])
        line = listed.line_of(str(path[5])) if listed and len(path) > 5 else None
        if listed and line is not None:
            return SourceLocation(file=listed.file, line=line)
        return self.own.at(path, is_key=is_key)


def with_inventories(document: Document, path: Path, *, name: str) -> Document:
    """The manifest at `path` with the things of the files that it names in place of their names."""
    files: dict[str, list[GroupOfList]] = {}
    for file, group in _groups(document):
        files.setdefault(file, []).append(group)
    if not files:
        return document
    data, faults = document.data, list(document.faults)
    lists: dict[DataPath, Inventory] = {}
    for file, groups in files.items():
        found, told = _read(path.parent, file, str(Path(name).parent / file), groups)
        faults += told
        lists |= {group.path: inventory for group, inventory in zip(groups, found, strict=True)}
    for group_path, listed in lists.items():
        data = _replaced(data, group_path, listed)
    places = ListedPlaces(own=document.sources, lists=lists)
    return replace(document, data=data, sources=places, faults=tuple(faults))


def _groups(document: Document) -> Iterator[tuple[str, GroupOfList]]:
    """Every group that names a file, whatever else is wrong with the data."""
    data = document.data
    facilities = data.get("facilities") if isinstance(data, dict) else None
    for id_, facility in facilities.items() if isinstance(facilities, dict) else ():
        things = facility.get("things") if isinstance(facility, dict) else None
        for type_, group in things.items() if isinstance(things, dict) else ():
            if isinstance(group, dict) and isinstance(group.get("inventory"), str):
                lines = facility.get("lines")
                path = ("facilities", id_, "things", type_, "inventory")
                yield (
                    group["inventory"],
                    GroupOfList(
                        path=path,
                        place=document.sources.at(path),
                        lines=frozenset(lines if isinstance(lines, dict) else ()),
                    ),
                )


def _read(
    project: Path, file: str, shown: str, groups: Sequence[GroupOfList]
) -> tuple[Sequence[Inventory], list[Diagnostic]]:
    """What each group takes from a file, and what is wrong in it."""
    nothing = [Inventory(file=shown, rows=(), kinds=frozenset())] * len(groups)
    pure, place = PurePosixPath(file), groups[0].place
    reader = READERS.get(pure.suffix)
    if pure.is_absolute() or ".." in pure.parts or "\\" in file or "\0" in file or reader is None:
        message = f'the inventory "{file}" is no path of a .csv or .jsonl file below the manifest\'s folder'
        hint = "put it beside the manifest: inventories/sg-01.csv"
        faults = [Diagnostic(location=group.place, message=message, hint=hint, rule="inventory") for group in groups]
        return nothing, faults
    try:
        text = read_text(project / file, shown, what="the inventory", within=project)
    except ManifestError as error:
        hint = f"the manifest names it at {place}"
        return nothing, [replace(it, hint=it.hint or hint, related=(place,)) for it in error.diagnostics]
    check = ListCheck(shown, reader, first=text.partition("\n")[0].removesuffix("\r"), groups=groups)
    check.take(reader.rows(text, shown))
    return check.inventories(), check.told()


def _replaced(data: Any, path: DataPath, value: object) -> Any:
    """The data with a value in place of another, and what is on the way to it made anew."""
    return value if not path else {**data, path[0]: _replaced(data[path[0]], path[1:], value)}
