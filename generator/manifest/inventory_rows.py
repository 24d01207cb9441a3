"""Reads the rows of a list of devices from its text, one at a time: CSV with a header, or JSON lines."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet_iot.generator.diagnostics import Diagnostic, SourceLocation

KNOWN = ("name", "serial", "line", "facility", "device_type")
"""Columns with a meaning of their own."""
SEPARATORS = (",", ";", "\t")

_HEADER = "the first line names the columns, such as name,serial,line"
_OBJECT = 'one object a line, such as {"serial": "A-1"}'
_UNNAMED = re.compile(r"[^a-z0-9]+")
_KNOWN = frozenset(KNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One device as its row says; `line` is the row's own in the file, `place` the production line."""

    name: str | None
    serial: str | None
    place: str | None
    facility: str | None
    device_type: str | None
    attributes: Mapping[str, str]
    line: int
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
    """The header names the columns, and says by what they are separated."""
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
            values = "a quoted value that does not end" if cells is None else _counted(len(cells), "value")
            message = f"this row has {values}; there are {_counted(len(header), 'column')}"
            yield _fault(file, number, 1, message, f"the first line names them: {first}")


def _lines(text: str) -> Iterator[str]:
    """The lines of a text, one at a time, without their ends."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end].removesuffix("\r")
        start = end + 1
    if start < len(text):
        yield text[start:]


def _separator(header: str) -> str:
    return max(SEPARATORS, key=header.count)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _cells(line: str, separator: str) -> list[str] | None:
    """The values of one line; None where a quoted one does not end in it."""
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
            yield _fault(file, 1, at, "this column has no name", "name it, or take it away")
        elif name in header[:place]:
            yield _fault(file, 1, at, f"the column `{name}` stands twice", "keep one of them")
    if not header:
        yield _fault(file, 1, 1, "a quoted column name does not end", "close the quotes")
    elif not {"name", "serial"} & set(header):
        yield _fault(file, 1, 1, "there is neither a column `name` nor a column `serial`", _HEADER)


def _csv_column(field: str, line: str, first: str) -> int:
    separator = _separator(first)
    header = [name.strip() for name in _cells(first, separator) or ()]
    return _start(line, separator, header.index(field)) if field in header else 1


def _start(line: str, separator: str, place: int) -> int:
    """The column where the value at a place begins, from 1."""
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
    """An object a line, its attributes in `attributes`."""
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
        raise ValueError(f"the key `{twice}` stands twice in this object")
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
            hint = f"known: {', '.join((*KNOWN, 'attributes'))}; what else there is belongs into `attributes`"
            yield _fault(file, number, at, f"unknown key `{name}`", hint)
        elif item is not None and not isinstance(item, str):
            yield _fault(file, number, at, f"`{name}` must be text", "put it in quotes")


def _json_column(field: str, line: str, _: str) -> int:
    return max(line.find(json.dumps(field)), line.find(f'"{field}"'), 0) + 1


def _row(values: Mapping[str, str], attributes: Mapping[str, str], line: int, text: str) -> Row:
    return Row(
        name=values.get("name"),
        serial=values.get("serial"),
        place=values.get("line"),
        facility=values.get("facility"),
        device_type=values.get("device_type"),
        attributes=attributes,
        line=line,
        text=text,
    )


def _fault(file: str, line: int, column: int, message: str, hint: str) -> Diagnostic:
    location = SourceLocation(file=file, line=line, column=column)
    return Diagnostic(location=location, message=message, hint=hint, rule="inventory")


READERS: dict[str, RowReader] = {
    ".csv": RowReader(rows=_csv_rows, column=_csv_column),
    ".jsonl": RowReader(rows=_json_rows, column=_json_column),
}
"""By the ending of the file's name."""
