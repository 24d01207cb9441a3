"""Reads the rows of a list of devices from its text: CSV with a header, or JSON lines."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from generator.diagnostics import Diagnostic, SourceLocation

KNOWN = ("name", "serial", "line", "facility", "device_type")
"""Columns with a meaning of their own."""
SEPARATORS = (",", ";", "\t")
_HEADER = "the first line names the columns, such as name,serial,line"
_UNNAMED = re.compile(r"[^a-z0-9]+")


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
    columns: Callable[[str], int] = field(compare=False)

    @property
    def own_name(self) -> str:
        """Its name, or its serial as a name."""
        return self.name if self.name is not None else _UNNAMED.sub("_", (self.serial or "").lower()).strip("_")

    def is_of(self, facility: str, device_type: str) -> bool:
        """It is of this group, as far as it says."""
        return self.facility in (None, facility) and self.device_type in (None, device_type)

    def column(self, name: str) -> int:
        """Where in its line a value begins, from 1."""
        return self.columns(name)


Reader = Callable[[str, str, int], tuple[tuple[Row, ...], list[Diagnostic]]]
"""Takes a text, its name and how many faults are enough; gives its rows, and what is wrong in it."""


def read_csv(text: str, file: str, most: int) -> tuple[tuple[Row, ...], list[Diagnostic]]:
    """The rows of a CSV; the header names the columns, and says by what they are separated."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        return (), [_fault(file, 1, 1, "the inventory is empty", _HEADER)]
    separator = max(SEPARATORS, key=lines[0].count)
    header = [name.strip() for name in _cells(lines[0], separator) or ()]
    faults = list(_header_faults(file, header, lines[0], separator))
    if faults:
        return (), faults
    rows: list[Row] = []
    for number, line in enumerate(lines[1:], start=2):
        cells = _cells(line, separator)
        if not line.strip():
            continue
        if cells is None or len(cells) != len(header):
            values = "a quoted value that does not end" if cells is None else _counted(len(cells), "value")
            message = f"this row has {values}; there are {_counted(len(header), 'column')}"
            faults.append(_fault(file, number, 1, message, f"the first line names them: {lines[0]}"))
            if len(faults) >= most:
                break
            continue
        named = {name: value for name, value in zip(header, map(str.strip, cells), strict=True) if value}
        attributes = {name: value for name, value in named.items() if name not in KNOWN}
        rows.append(_row(named, attributes, number, _in_csv(line, separator, header)))
    return tuple(rows), faults


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
    column = _in_csv(line, separator, [str(place) for place in range(len(header))])
    for place, name in enumerate(header):
        at = column(str(place))
        if not name:
            yield _fault(file, 1, at, "this column has no name", "name it, or take it away")
        elif name in header[:place]:
            yield _fault(file, 1, at, f"the column `{name}` stands twice", "keep one of them")
    if not header:
        yield _fault(file, 1, 1, "a quoted column name does not end", "close the quotes")
    elif not {"name", "serial"} & set(header):
        message = "there is neither a column `name` nor a column `serial`"
        yield _fault(file, 1, 1, message, _HEADER)


def _in_csv(line: str, separator: str, header: list[str]) -> Callable[[str], int]:
    """Finds the column where the value of a named field begins, when it is asked for."""

    def column(name: str) -> int:
        if name not in header:
            return 1
        start, is_quoted, left = 0, False, header.index(name)
        for place, character in enumerate(line):
            if left == 0:
                break
            is_quoted ^= character == '"'
            if character == separator and not is_quoted:
                left -= 1
                start = place + 1
        return start + 1

    return column


def read_json_lines(text: str, file: str, most: int) -> tuple[tuple[Row, ...], list[Diagnostic]]:
    """The rows of JSON lines: an object a line, its attributes in `attributes`."""
    rows: list[Row] = []
    faults: list[Diagnostic] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if len(faults) >= most:
            break
        try:
            value = json.loads(line, object_pairs_hook=_unique)
        except RecursionError:
            faults.append(_fault(file, number, 1, "this line is nested too deep", "an object with plain values"))
            continue
        except json.JSONDecodeError as error:
            faults.append(_fault(file, number, error.colno, f"this is not JSON: {error.msg}", "one object a line"))
            continue
        except ValueError as error:
            faults.append(_fault(file, number, 1, str(error), "keep one of them"))
            continue
        found = list(_object_faults(file, number, line, value))
        if found:
            faults += found
            continue
        attributes = value.pop("attributes", {})
        rows.append(_row({k: v for k, v in value.items() if v is not None}, attributes, number, _in_json(line)))
    if not rows and not faults:
        faults.append(_fault(file, 1, 1, "the inventory is empty", 'one object a line, such as {"serial": "A-1"}'))
    return tuple(rows), faults


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place]))
        raise ValueError(f"the key `{twice}` stands twice in this object")
    return members


def _object_faults(file: str, number: int, line: str, value: Any) -> Iterator[Diagnostic]:
    if not isinstance(value, dict):
        yield _fault(file, number, 1, "this line is no object", 'one object a line, such as {"serial": "A-1"}')
        return
    column = _in_json(line)
    for name, item in value.items():
        if name == "attributes":
            if not isinstance(item, dict) or not all(isinstance(text, str) for text in item.values()):
                yield _fault(
                    file, number, column(name), "`attributes` must be an object of texts", "put values in quotes"
                )
        elif name not in KNOWN:
            hint = f"known: {', '.join((*KNOWN, 'attributes'))}; what else there is belongs into `attributes`"
            yield _fault(file, number, column(name), f"unknown key `{name}`", hint)
        elif item is not None and not isinstance(item, str):
            yield _fault(file, number, column(name), f"`{name}` must be text", "put it in quotes")


def _in_json(line: str) -> Callable[[str], int]:
    """Finds the column of a key, when it is asked for."""
    return lambda name: max(line.find(json.dumps(name)), 0) + 1


def _row(values: Mapping[str, str], attributes: Mapping[str, str], line: int, columns: Callable[[str], int]) -> Row:
    return Row(
        name=values.get("name"),
        serial=values.get("serial"),
        place=values.get("line"),
        facility=values.get("facility"),
        device_type=values.get("device_type"),
        attributes=attributes,
        line=line,
        columns=columns,
    )


def _fault(file: str, line: int, column: int, message: str, hint: str) -> Diagnostic:
    location = SourceLocation(file=file, line=line, column=column)
    return Diagnostic(location=location, message=message, hint=hint, rule="inventory")


READERS: dict[str, Reader] = {".csv": read_csv, ".jsonl": read_json_lines}
"""By the ending of the file's name."""
