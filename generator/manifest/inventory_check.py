"""Checks the rows of a list of devices, and hands each to the groups that it is for; holds them encoded alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fleet_iot.generator.diagnostics import Diagnostic, SourceLocation
from fleet_iot.generator.manifest.attributes import SERIAL_PATTERN, misfits
from fleet_iot.generator.manifest.inventory import (
    Inventory,
    Kind,
    ListedThing,
    decode_thing,
    encode_thing,
    line_in,
    name_in,
)
from fleet_iot.generator.manifest.inventory_rows import Row, RowReader
from fleet_iot.generator.manifest.sources import DataPath
from fleet_iot.generator.naming import NAME_PATTERN

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
        """Takes rows until all are taken, or too many have a fault."""
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
            message = f"no group takes this row: the manifest names this file for no {where}"
            hint = f"facilities.{row.facility or '…'}.things.{row.device_type or '…'}: {{inventory: {self._shown}}}"
            found.append(self._fault(row, "facility" if row.facility is not None else "device_type", message, hint))
        for place in takers:
            found += self._line_faults(row, self._groups[place])
        self._faults += found
        if found:
            return
        thing = ListedThing(name=row.own_name, serial=row.serial, line=row.place, attributes=row.attributes)
        encoded = encode_thing(thing, line=row.line)
        for place in takers:
            self._rows[place].append(encoded)
            self._kinds[place].add((row.place, tuple(row.attributes)))

    def inventories(self) -> tuple[Inventory, ...]:
        """What each group takes, in the order of names; a name that stands twice is told."""
        for rows in self._rows:
            rows.sort()
            for before, row in pairwise(rows):
                if name_in(before) == name_in(row) and len(self._faults) < MAXIMUM_FAULTS:
                    self._faults.append(self._twice(*sorted((before, row), key=line_in)))
        return tuple(
            Inventory(file=self._shown, rows=tuple(rows), kinds=frozenset(kinds))
            for rows, kinds in zip(self._rows, self._kinds, strict=True)
        )

    def told(self) -> list[Diagnostic]:
        """What is wrong; where there are too many faults to be told, the last says so."""
        faults = self._faults[:MAXIMUM_FAULTS]
        if len(faults) == MAXIMUM_FAULTS:
            message = f"there are {MAXIMUM_FAULTS} faults in this file; there may be more"
            last = SourceLocation(file=self._shown, line=max(fault.location.line for fault in faults) + 1)
            faults.append(Diagnostic(location=last, message=message, hint="mend these first", rule="inventory"))
        if not faults:
            for group, rows in zip(self._groups, self._rows, strict=True):
                if not rows:
                    message = f"`{self._shown}` has no row of {group.device_type} in {group.facility}"
                    hint = "add one, or take the group away"
                    faults.append(Diagnostic(location=group.place, message=message, hint=hint, rule="inventory"))
        return faults

    def _takers_of(self, row: Row) -> tuple[int, ...]:
        """The groups that a row is for, as far as it says."""
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
            yield self._fault(row, "serial", message, "AWS IoT takes no spaces in attributes")
        elif row.name is None and row.serial is not None and not _NAME.fullmatch(row.own_name):
            message = f'the serial "{row.serial}" makes no name: `{row.own_name}` is longer than 32, or empty'
            yield self._fault(row, "serial", message, "give the thing a `name` besides")
        for name, value in row.attributes.items():
            for misfit in misfits(name, value):
                yield self._fault(row, name, misfit.message, misfit.hint)

    def _line_faults(self, row: Row, group: GroupOfList) -> Iterator[Diagnostic]:
        if row.place is not None and row.place not in group.lines:
            known = ", ".join(sorted(group.lines))
            hint = f"there are: {known}" if known else f"describe it: facilities.{group.facility}.lines"
            yield self._fault(row, "line", f"`{group.facility}` has no line `{row.place}`", hint)

    def _twice(self, first: bytes, again: bytes) -> Diagnostic:
        thing = decode_thing(again)
        before, place = (SourceLocation(file=self._shown, line=line_in(row)) for row in (first, again))
        message = f"the name `{thing.name}` stands twice, first at {before}"
        hint = "keep one; a row without a name is named by its serial"
        return Diagnostic(location=place, message=message, hint=hint, rule="inventory", related=(before,))

    def _fault(self, row: Row, field: str, message: str, hint: str) -> Diagnostic:
        column = self._reader.column(field, row.text, self._first)
        location = SourceLocation(file=self._shown, line=row.line, column=column)
        return Diagnostic(location=location, message=message, hint=hint, rule="inventory")
