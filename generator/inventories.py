"""Reads lists of devices, CSV or JSON lines, into the manifest that names them.

A row has a `name`, a `serial`, or both: a thing without a name is named by its serial. It may have a `line`. Where a
list has the columns `facility` or `device_type`, a group takes the rows of its own, so that one file can serve a whole
fleet. In CSV every other column is an attribute, in JSON lines `attributes` holds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from generator.attributes import SERIAL_PATTERN, misfits
from generator.diagnostics import Diagnostic, ManifestError, SourceLocation
from generator.document import Document, read_text
from generator.inventory import Inventory, ListedThing, name_order
from generator.inventory_rows import READERS, Row
from generator.naming import NAME_PATTERN
from generator.sources import DataPath, Places

NAME_WORDS = "1 to 32 lower-case letters, digits and underscores, no underscore first"
MAXIMUM_FAULTS = 100
"""Of a file: a wrong column is wrong in each of a million rows."""

_NAME, _SERIAL = re.compile(NAME_PATTERN), re.compile(SERIAL_PATTERN)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """A group of things that names a file, and the production lines that its facility has."""

    path: DataPath
    file: str
    lines: frozenset[str]

    @property
    def facility(self) -> str:
        return str(self.path[1])

    @property
    def device_type(self) -> str:
        return str(self.path[3])


def with_inventories(document: Document, path: Path, *, name: str) -> Document:
    """The manifest at `path` with the things of the files that it names in place of their names."""
    groups = list(_groups(document.data))
    if not groups:
        return document
    faults = list(document.faults)
    files: dict[str, tuple[Row, ...]] = {}
    broken: set[str] = set()
    lists: dict[DataPath, Inventory] = {}
    taken: dict[str, set[int]] = {}
    for group in groups:
        place = document.sources.at(group.path)
        shown = str(Path(name).parent / group.file)
        if group.file not in files:
            files[group.file], found = _read(path.parent / group.file, group.file, shown, place)
            faults += found
            broken |= {group.file} if found else set()
        rows = [row for row in files[group.file] if row.is_of(group.facility, group.device_type)]
        taken.setdefault(group.file, set()).update(row.line for row in rows)
        lists[group.path], found = _listed(rows, group, shown)
        faults += found
        if not rows and group.file not in broken:
            message = f"`{group.file}` has no row of {group.device_type} in {group.facility}"
            hint = "add one, or take the group away"
            faults.append(Diagnostic(location=place, message=message, hint=hint, rule="inventory"))
    for file, rows_of_file in files.items():
        faults += _untaken(rows_of_file, taken[file], str(Path(name).parent / file))
    data = document.data
    for group_path, listed in lists.items():
        data = _replaced(data, group_path, listed)
    return replace(
        document,
        data=data,
        sources=ListedPlaces(own=document.sources, lists=lists),
        faults=tuple(faults),
    )


def _groups(data: Any) -> Iterator[_Group]:
    facilities = data.get("facilities") if isinstance(data, dict) else None
    for id_, facility in facilities.items() if isinstance(facilities, dict) else ():
        things = facility.get("things") if isinstance(facility, dict) else None
        for type_, group in things.items() if isinstance(things, dict) else ():
            if isinstance(group, dict) and isinstance(group.get("inventory"), str):
                lines = facility.get("lines")
                yield _Group(
                    path=("facilities", id_, "things", type_, "inventory"),
                    file=group["inventory"],
                    lines=frozenset(lines if isinstance(lines, dict) else ()),
                )


def _read(path: Path, file: str, shown: str, place: SourceLocation) -> tuple[tuple[Row, ...], list[Diagnostic]]:
    """The rows of a file, and what is wrong in it; `place` is where the manifest names it."""
    pure = PurePosixPath(file)
    reader = READERS.get(pure.suffix)
    if pure.is_absolute() or ".." in pure.parts or "\\" in file or "\0" in file or reader is None:
        message = f'the inventory "{file}" is no path of a .csv or .jsonl file below the manifest\'s folder'
        hint = "put it beside the manifest: inventories/sg-01.csv"
        return (), [Diagnostic(location=place, message=message, hint=hint, rule="inventory")]
    try:
        text = read_text(path, shown, what="the inventory")
    except ManifestError as error:
        hint = f"the manifest names it at {place}"
        return (), [replace(it, hint=it.hint or hint, related=(place,)) for it in error.diagnostics]
    rows, faults = reader(text, shown, MAXIMUM_FAULTS)
    return rows, _told(faults)


def _told(faults: list[Diagnostic]) -> list[Diagnostic]:
    """Where there are too many to be told, the last says so."""
    if len(faults) < MAXIMUM_FAULTS:
        return faults
    last = faults[MAXIMUM_FAULTS - 1]
    message = f"there are {MAXIMUM_FAULTS} faults up to here; what follows was not looked at"
    return [*faults[: MAXIMUM_FAULTS - 1], replace(last, message=message, hint="mend these first")]


def _listed(rows: Iterable[Row], group: _Group, shown: str) -> tuple[Inventory, list[Diagnostic]]:
    """What a group takes from a file, in the order of names."""
    faults: list[Diagnostic] = []
    things: dict[str, tuple[ListedThing, int]] = {}
    for row in rows:
        if len(faults) >= MAXIMUM_FAULTS:
            break
        thing = ListedThing(name=row.own_name, serial=row.serial, line=row.place, attributes=row.attributes)
        found = [*_faults(row, group, shown)]
        if not found and thing.name in things:
            first = SourceLocation(file=shown, line=things[thing.name][1])
            named = "" if row.name else f", from its serial `{row.serial}`,"
            message = f"the name `{thing.name}`{named} stands twice, first at {first}"
            found.append(_fault(row, shown, "name" if row.name else "serial", message, "keep one", related=(first,)))
        faults += found
        if not found:
            things[thing.name] = (thing, row.line)
    ordered = [things[name] for name in sorted(things, key=name_order)]
    inventory = Inventory(
        file=shown,
        rows=tuple(thing.encoded() for thing, _ in ordered),
        lines=tuple(line for _, line in ordered),
    )
    return inventory, _told(faults)


def _faults(row: Row, group: _Group, shown: str) -> Iterator[Diagnostic]:
    if row.name is None and row.serial is None:
        hint = "give it a `name`, a `serial`, or both"
        yield _fault(row, shown, "name", "this row has neither name nor serial", hint)
    elif row.name is not None and not _NAME.fullmatch(row.name):
        message = f'the name "{row.name}" must be {NAME_WORDS}'
        hint = "the thing's whole name begins with facility and device type; what belongs here is the rest"
        yield _fault(row, shown, "name", message, hint)
    if row.serial is not None and not _SERIAL.fullmatch(row.serial):
        message = f'the serial "{row.serial}" must be 1 to 128 letters, digits and any of _ . , @ / : # = [ ] -'
        yield _fault(row, shown, "serial", message, "AWS IoT takes no spaces in attributes")
    elif row.name is None and row.serial is not None and not _NAME.fullmatch(row.own_name):
        message = f'the serial "{row.serial}" makes no name: `{row.own_name}` is longer than 32, or empty'
        yield _fault(row, shown, "serial", message, "give the thing a `name` besides")
    if row.place is not None and row.place not in group.lines:
        message = f"`{group.facility}` has no line `{row.place}`"
        known = ", ".join(sorted(group.lines))
        hint = f"there are: {known}" if known else f"describe it: facilities.{group.facility}.lines"
        yield _fault(row, shown, "line", message, hint)
    for name, value in row.attributes.items():
        for misfit in misfits(name, value):
            yield _fault(row, shown, name, misfit.message, misfit.hint)


def _fault(
    row: Row, shown: str, column: str, message: str, hint: str, *, related: tuple[SourceLocation, ...] = ()
) -> Diagnostic:
    location = SourceLocation(file=shown, line=row.line, column=row.column(column))
    return Diagnostic(location=location, message=message, hint=hint, rule="inventory", related=related)


def _untaken(rows: Iterable[Row], taken: set[int], shown: str) -> list[Diagnostic]:
    """A row that no group takes would be lost without a word."""
    faults = []
    for row in rows:
        if row.line not in taken:
            where = " in ".join(filter(None, (row.device_type, row.facility)))
            message = f"no group takes this row: the manifest names this file for no {where}"
            column = "facility" if row.facility is not None else "device_type"
            hint = f"facilities.{row.facility or '…'}.things.{row.device_type or '…'}: {{inventory: {shown}}}"
            faults.append(_fault(row, shown, column, message, hint))
            if len(faults) >= MAXIMUM_FAULTS:
                break
    return _told(faults)


def _replaced(data: Any, path: DataPath, value: object) -> Any:
    """The data with a value in place of another, and what is on the way to it made anew."""
    return value if not path else {**data, path[0]: _replaced(data[path[0]], path[1:], value)}
