"""Device lists (CSV or JSON lines) that a manifest names: reads, checks and keeps their rows."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from fleet_iot.generator.aws.limits import ATTRIBUTE_NAME, ATTRIBUTE_VALUE
from fleet_iot.generator.diagnostics import DataPath, Diagnostic, ManifestError, SourceLocation
from fleet_iot.generator.manifest.yaml import Document, Places, read_text
from fleet_iot.generator.naming import NAME_PATTERN
from fleet_iot.generator.text import counted

# Rows: kept encoded, about 100 bytes each, as a list may have a million.

Kind = tuple[str | None, tuple[str, ...]]
"""A production line, or none, and the names of a thing's own attributes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedThing:
    """One device of a list: `name` within its group, and what else the list says of it."""

    name: str
    serial: str | None
    line: str | None
    attributes: Mapping[str, str]


def encode_thing(thing: ListedThing, *, line: int) -> bytes:
    """Encode a thing and its line in the file in about 100 bytes, which sort by `name_order`.

    No field contains a tab: names, serials and ids are of narrow alphabets, and JSON escapes it.
    """
    attributes = json.dumps(dict(sorted(thing.attributes.items()))) if thing.attributes else ""
    return f"{len(thing.name):02d}{thing.name}\t{thing.serial or ''}\t{thing.line or ''}\t{attributes}\t{line}".encode()


def decode_thing(row: bytes) -> ListedThing:
    """Return the thing of a row that `encode_thing` made."""
    name, serial, line, attributes, _ = row.decode("ascii").split("\t")
    return ListedThing(
        name=name[2:], serial=serial or None, line=line or None, attributes=json.loads(attributes) if attributes else {}
    )


def name_in(row: bytes) -> bytes:
    """Return the sort key of a row's name."""
    return row.partition(b"\t")[0]


def line_in(row: bytes) -> int:
    """Return the line of the file that a row is from."""
    return int(row.rpartition(b"\t")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The rows of a file for one group, encoded and sorted; `kinds` are the kinds of things among them."""

    file: str
    rows: tuple[bytes, ...]
    kinds: frozenset[Kind]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ListedThing]:
        return map(decode_thing, self.rows)

    @property
    def last(self) -> ListedThing:
        """The last in the order of names."""
        return decode_thing(self.rows[-1])

    def line_of(self, name: str) -> int | None:
        """Return the line of a thing in the file."""
        start = f"{len(name):02d}{name}\t".encode()
        return next((line_in(row) for row in self.rows if row.startswith(start)), None)

    @property
    def digest(self) -> str:
        """SHA-256 of what it says: neither the file's format nor the order of its rows counts."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(row[: row.rindex(b"\t") + 1])
        return digest.hexdigest()


def name_order(name: str) -> tuple[int, str]:
    """Sort names of one group: by length, then as text, so that numbers come in their order."""
    return (len(name), name)


def read_value(value: Any) -> Inventory:
    """Validate for pydantic: an inventory has been read before. Raises `ValueError`."""
    if not isinstance(value, Inventory):
        raise ValueError("an inventory is the path of a file")
    return value


# Readers of the two formats, one row at a time.

KNOWN = ("name", "serial", "line", "facility", "device_type")
"""Columns with a meaning of their own."""
SEPARATORS = (",", ";", "\t")

_HEADER = "the first line names the columns, such as name,serial,line"
_OBJECT = 'one object a line, such as {"serial": "A-1"}'
_UNNAMED = re.compile(r"[^a-z0-9]+")
_KNOWN = frozenset(KNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One device as its row says: `number` is the row's line in the file, `line` the production line."""

    name: str | None
    serial: str | None
    line: str | None
    facility: str | None
    device_type: str | None
    attributes: Mapping[str, str]
    number: int
    text: str

    @property
    def own_name(self) -> str:
        """Its name, or its serial as a name."""
        return self.name if self.name is not None else _UNNAMED.sub("_", (self.serial or "").lower()).strip("_")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReader:
    """A format: `rows` gives the rows of a text with its name, or what is wrong with one in its place.

    `column` finds where the value of a named field begins in a row's text, given the file's first line.
    """

    rows: Callable[[str, str], Iterator[Row | Diagnostic]]
    column: Callable[[str, str, str], int]


def _csv_rows(text: str, file: str) -> Iterator[Row | Diagnostic]:
    """Yield the rows of a CSV file; the header names the columns and determines the separator."""
    lines = _lines(text)
    first = next(lines, "")
    if not first.strip():
        yield _fault(file, 1, 1, "the inventory is empty", _HEADER)
        return
    separator = _separator(first)
    header = [name.strip() for name in _cells(first, separator) or ()]
    faults = list(_header_faults(file, header, first, separator))
    yield from faults
    if faults:
        return
    own = [name for name in header if name not in _KNOWN]
    for number, line in enumerate(lines, start=2):
        cells = _cells(line, separator)
        if cells is not None and len(cells) == len(header):
            named = {name: value for name, cell in zip(header, cells, strict=True) if (value := cell.strip())}
            yield _row(named, {name: named[name] for name in own if name in named}, number, line)
        elif line.strip():
            values = "a quoted value that does not end" if cells is None else counted(len(cells), "value")
            message = f"this row has {values}; there are {counted(len(header), 'column')}"
            yield _fault(file, number, 1, message, f"the first line names them: {first}")


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a text, one at a time, without their ends."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end].removesuffix("\r")
        start = end + 1
    if start < len(text):
        yield text[start:]


def _separator(header: str) -> str:
    return max(SEPARATORS, key=header.count)


def _cells(line: str, separator: str) -> list[str] | None:
    """Return the values of one line; None where a quoted one does not end in it."""
    if '"' not in line:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator, strict=True))
    except csv.Error:
        return None


def _header_faults(file: str, header: list[str], line: str, separator: str) -> Iterator[Diagnostic]:
    for place, name in enumerate(header):
        at = _start(line, separator, place)
        if not name:
            yield _fault(file, 1, at, "this column has no name", "name it, or remove it")
        elif name in header[:place]:
            yield _fault(file, 1, at, f"the column `{name}` appears twice", "keep one of them")
    if not header:
        yield _fault(file, 1, 1, "a quoted column name does not end", "close the quotes")
    elif not {"name", "serial"} & set(header):
        yield _fault(file, 1, 1, "there is neither a column `name` nor a column `serial`", _HEADER)


def _csv_column(field: str, line: str, first: str) -> int:
    separator = _separator(first)
    header = [name.strip() for name in _cells(first, separator) or ()]
    return _start(line, separator, header.index(field)) if field in header else 1


def _start(line: str, separator: str, place: int) -> int:
    """Return the column where the value at a place begins, from 1."""
    start, is_quoted = 0, False
    for at, character in enumerate(line):
        if place == 0:
            break
        is_quoted ^= character == '"'
        if character == separator and not is_quoted:
            place -= 1
            start = at + 1
    return start + 1


def _json_rows(text: str, file: str) -> Iterator[Row | Diagnostic]:
    """Yield the rows of JSON lines, with attributes in `attributes`."""
    is_empty = True
    for number, line in enumerate(_lines(text), start=1):
        if not line.strip():
            continue
        is_empty = False
        try:
            value = json.loads(line, object_pairs_hook=_unique)
        except RecursionError:
            yield _fault(file, number, 1, "this line is nested too deep", _OBJECT)
            continue
        except json.JSONDecodeError as error:
            yield _fault(file, number, error.colno, f"this is not JSON: {error.msg}", _OBJECT)
            continue
        except ValueError as error:
            yield _fault(file, number, 1, str(error), "keep one of them")
            continue
        faults = list(_object_faults(file, number, line, value))
        yield from faults
        if not faults:
            attributes = value.pop("attributes", {})
            yield _row({key: item for key, item in value.items() if item is not None}, attributes, number, line)
    if is_empty:
        yield _fault(file, 1, 1, "the inventory is empty", _OBJECT)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"the key `{twice}` appears twice in this object")
    return members


def _object_faults(file: str, number: int, line: str, value: Any) -> Iterator[Diagnostic]:
    if not isinstance(value, dict):
        yield _fault(file, number, 1, "this line is no object", _OBJECT)
        return
    for name, item in value.items():
        at = _json_column(name, line, "")
        if name == "attributes":
            if not isinstance(item, dict) or not all(isinstance(text, str) for text in item.values()):
                yield _fault(file, number, at, "`attributes` must be an object of texts", "put values in quotes")
        elif name not in _KNOWN:
            hint = f"known: {', '.join((*KNOWN, 'attributes'))}; everything else belongs into `attributes`"
            yield _fault(file, number, at, f"unknown key `{name}`", hint)
        elif item is not None and not isinstance(item, str):
            yield _fault(file, number, at, f"`{name}` must be text", "put it in quotes")


def _json_column(field: str, line: str, _: str) -> int:
    return max(line.find(json.dumps(field)), line.find(f'"{field}"'), 0) + 1


def _row(values: Mapping[str, str], attributes: Mapping[str, str], number: int, text: str) -> Row:
    return Row(**{name: values.get(name) for name in KNOWN}, attributes=attributes, number=number, text=text)


def _fault(file: str, line: int, column: int, message: str, hint: str) -> Diagnostic:
    location = SourceLocation(file=file, line=line, column=column)
    return Diagnostic(location=location, message=message, hint=hint, rule="inventory")


READERS: dict[str, RowReader] = {
    ".csv": RowReader(rows=_csv_rows, column=_csv_column),
    ".jsonl": RowReader(rows=_json_rows, column=_json_column),
}
"""By the ending of the file's name."""


# Attributes of a thing, as AWS IoT accepts them.

ATTRIBUTES_MAXIMUM = 50
"""Of a thing with a thing type: https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""
RESERVED = ("facility", "serial")
"""Those that every thing has."""
SERIAL_PATTERN = r"^[a-zA-Z0-9_.,@/:#=\[\]-]{1,128}$"


def check_attribute(name: str, value: str, *, path: DataPath = ()) -> Iterator[Diagnostic]:
    """Yield why AWS IoT would refuse an attribute of a thing; `path` is that of the attribute."""
    if name in RESERVED:
        message = f"every thing has the attribute `{name}` already"
        yield Diagnostic(path=path, message=message, hint="rename it", is_key=True)
    if not ATTRIBUTE_NAME.takes(name):
        message = f"{name!r} is no attribute name: 1 to {ATTRIBUTE_NAME.max} letters, digits and any of _ . , @ / : # -"
        yield Diagnostic(path=path, message=message, hint="AWS IoT accepts no spaces there", is_key=True)
    if not ATTRIBUTE_VALUE.takes(value):
        most = ATTRIBUTE_VALUE.max
        message = f"the attribute `{name}` may contain letters, digits and any of _ . , @ / : # = [ ] -, up to {most}"
        hint = "AWS IoT accepts no spaces there: write north-hall, not north hall"
        yield Diagnostic(path=path, message=message, hint=hint)


# Checks: each row goes to the groups that it is for.

MAXIMUM_FAULTS = 100
"""Of a file: a wrong column is wrong in each of a million rows."""
NAME_WORDS = "1 to 32 lower-case letters, digits and underscores, no underscore first"

_NAME, _SERIAL = re.compile(NAME_PATTERN), re.compile(SERIAL_PATTERN)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOfList:
    """A group of things that names a file: its path and place in the manifest, and its facility's lines."""

    path: DataPath
    place: SourceLocation
    lines: frozenset[str]

    @property
    def facility(self) -> str:
        """Its facility's id."""
        return str(self.path[1])

    @property
    def device_type(self) -> str:
        """Its device type's id."""
        return str(self.path[3])


class ListCheck:
    """One pass over a file for all groups that name it; `first` is the file's first line."""

    def __init__(self, shown: str, reader: RowReader, *, first: str, groups: Sequence[GroupOfList]) -> None:
        self._shown, self._reader, self._first = shown, reader, first
        self._groups = groups
        self._takers: dict[tuple[str | None, str | None], tuple[int, ...]] = {}
        self._rows: list[list[bytes]] = [[] for _ in groups]
        self._kinds: list[set[Kind]] = [set() for _ in groups]
        self._faults: list[Diagnostic] = []

    def take(self, rows: Iterable[Row | Diagnostic]) -> None:
        """Check rows until the end, or until too many have an error."""
        for row in rows:
            if isinstance(row, Diagnostic):
                self._faults.append(row)
            else:
                self._take(row)
            if len(self._faults) >= MAXIMUM_FAULTS:
                break

    def _take(self, row: Row) -> None:
        takers = self._takers_of(row)
        found = [*self._thing_faults(row)]
        if not takers:
            where = " in ".join(filter(None, (row.device_type, row.facility)))
            message = f"no group matches this row: the manifest names this file for no {where}"
            hint = f"facilities.{row.facility or '…'}.things.{row.device_type or '…'}: {{inventory: {self._shown}}}"
            found.append(self._fault(row, "facility" if row.facility is not None else "device_type", message, hint))
        for place in takers:
            found += self._line_faults(row, self._groups[place])
        self._faults += found
        if found:
            return
        thing = ListedThing(name=row.own_name, serial=row.serial, line=row.line, attributes=row.attributes)
        encoded = encode_thing(thing, line=row.number)
        for place in takers:
            self._rows[place].append(encoded)
            self._kinds[place].add((row.line, tuple(row.attributes)))

    def inventories(self) -> tuple[Inventory, ...]:
        """Return the rows of each group, sorted by name, and note names that appear twice."""
        for rows in self._rows:
            rows.sort()
            for before, row in pairwise(rows):
                if name_in(before) == name_in(row) and len(self._faults) < MAXIMUM_FAULTS:
                    self._faults.append(self._twice(*sorted((before, row), key=line_in)))
        return tuple(
            Inventory(file=self._shown, rows=tuple(rows), kinds=frozenset(kinds))
            for rows, kinds in zip(self._rows, self._kinds, strict=True)
        )

    def diagnostics(self) -> list[Diagnostic]:
        """Return the diagnostics; where there are too many, the last says so."""
        faults = self._faults[:MAXIMUM_FAULTS]
        if len(faults) == MAXIMUM_FAULTS:
            message = f"there are {MAXIMUM_FAULTS} faults in this file; there may be more"
            last = SourceLocation(file=self._shown, line=max(fault.location.line for fault in faults) + 1)
            faults.append(Diagnostic(location=last, message=message, hint="correct these first", rule="inventory"))
        if not faults:
            for group, rows in zip(self._groups, self._rows, strict=True):
                if not rows:
                    message = f"`{self._shown}` has no row of {group.device_type} in {group.facility}"
                    hint = "add one, or remove the group"
                    faults.append(Diagnostic(location=group.place, message=message, hint=hint, rule="inventory"))
        return faults

    def _takers_of(self, row: Row) -> tuple[int, ...]:
        """Return the groups that a row is for, as far as it says."""
        key = (row.facility, row.device_type)
        if key not in self._takers:
            self._takers[key] = tuple(
                place
                for place, group in enumerate(self._groups)
                if row.facility in (None, group.facility) and row.device_type in (None, group.device_type)
            )
        return self._takers[key]

    def _thing_faults(self, row: Row) -> Iterator[Diagnostic]:
        if row.name is None and row.serial is None:
            hint = "give it a `name`, a `serial`, or both"
            yield self._fault(row, "name", "this row has neither name nor serial", hint)
        elif row.name is not None and not _NAME.fullmatch(row.name):
            hint = "the thing's whole name begins with facility and device type; what belongs here is the rest"
            yield self._fault(row, "name", f'the name "{row.name}" must be {NAME_WORDS}', hint)
        if row.serial is not None and not _SERIAL.fullmatch(row.serial):
            message = f'the serial "{row.serial}" must be 1 to 128 letters, digits and any of _ . , @ / : # = [ ] -'
            yield self._fault(row, "serial", message, "AWS IoT accepts no spaces in attributes")
        elif row.name is None and row.serial is not None and not _NAME.fullmatch(row.own_name):
            message = f'the serial "{row.serial}" makes no name: `{row.own_name}` is longer than 32, or empty'
            yield self._fault(row, "serial", message, "give the thing a `name` as well")
        for name, value in row.attributes.items():
            for found in check_attribute(name, value):
                yield self._fault(row, name, found.message, found.hint)

    def _line_faults(self, row: Row, group: GroupOfList) -> Iterator[Diagnostic]:
        if row.line is not None and row.line not in group.lines:
            known = ", ".join(sorted(group.lines))
            hint = f"there are: {known}" if known else f"describe it: facilities.{group.facility}.lines"
            yield self._fault(row, "line", f"`{group.facility}` has no line `{row.line}`", hint)

    def _twice(self, first: bytes, again: bytes) -> Diagnostic:
        thing = decode_thing(again)
        before, place = (SourceLocation(file=self._shown, line=line_in(row)) for row in (first, again))
        message = f"the name `{thing.name}` appears twice, first at {before}"
        hint = "keep one; a row without a name is named by its serial"
        return Diagnostic(location=place, message=message, hint=hint, rule="inventory", related=(before,))

    def _fault(self, row: Row, field: str, message: str, hint: str) -> Diagnostic:
        column = self._reader.column(field, row.text, self._first)
        location = SourceLocation(file=self._shown, line=row.number, column=column)
        return Diagnostic(location=location, message=message, hint=hint, rule="inventory")


# Lists in the manifest. A row has a `name`, a `serial`, or both: a thing without a name is named by its serial. With
# columns `facility` or `device_type` one file can serve the whole fleet: each group gets the rows of its own. In CSV
# every other column is an attribute, in JSON lines they are in `attributes`.


@dataclass(frozen=True, slots=True, kw_only=True)
class _RowPlaces:
    """The places of an inventory's things by name; `place` is where the manifest names the file."""

    inventory: Inventory
    place: SourceLocation

    def at(self, path: DataPath, *, is_key: bool = False) -> SourceLocation:
        line = self.inventory.line_of(str(path[0])) if path else None
        return self.place if line is None else SourceLocation(file=self.inventory.file, line=line)


def with_inventories(document: Document, path: Path, *, name: str) -> Document:
    """Return the manifest at `path` with the things of the files that it names in place of their names."""
    files: dict[str, list[GroupOfList]] = {}
    for file, group in _groups(document):
        files.setdefault(file, []).append(group)
    if not files:
        return document
    data, faults = document.data, list[Diagnostic]()
    places: dict[DataPath, tuple[Places, DataPath]] = {}
    for file, groups in files.items():
        found, diagnostics = _read(path.parent, file, str(Path(name).parent / file), groups)
        faults += diagnostics
        for group, inventory in zip(groups, found, strict=True):
            places[group.path] = (_RowPlaces(inventory=inventory, place=group.place), ())
            data = _replaced(data, group.path, inventory)
    return document.changed(data, places, faults)


def _groups(document: Document) -> Iterator[tuple[str, GroupOfList]]:
    """Yield every group that names a file, whatever else is wrong with the data."""
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
                        place=document.at(path),
                        lines=frozenset(lines if isinstance(lines, dict) else ()),
                    ),
                )


def _read(
    project: Path, file: str, shown: str, groups: Sequence[GroupOfList]
) -> tuple[Sequence[Inventory], list[Diagnostic]]:
    """Return each group's rows of a file, and its diagnostics."""
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
    return check.inventories(), check.diagnostics()


def _replaced(data: Any, path: DataPath, value: object) -> Any:
    """Return the data with another value at `path`; what it shares with the given data is not changed."""
    return value if not path else {**data, path[0]: _replaced(data[path[0]], path[1:], value)}


# Numbers of things on a production line: `1-10`, or `1-10, 25-26`.

SPANS_PATTERN = r"^[0-9]{1,7}( ?- ?[0-9]{1,7})?( ?, ?[0-9]{1,7}( ?- ?[0-9]{1,7})?){0,999}$"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Span:
    """The numbers from `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def read_spans(text: str) -> tuple[Span, ...]:
    """Return the spans in a text of `SPANS_PATTERN`, in its order, unchecked."""
    parts = (part.partition("-") for part in text.replace(" ", "").split(","))
    return tuple(Span(first=int(first), last=int(last or first)) for first, _, last in parts)
