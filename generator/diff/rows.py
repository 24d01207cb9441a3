"""Compares the recorded things of a facility with the planned ones, row by row, and holds none of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count as counting

from fleet_iot.generator import naming
from fleet_iot.generator.diff.impact import Run
from fleet_iot.generator.output.artefact import Chunk

RUNS_KEPT = 8
"""Runs that are named; what is beyond is counted."""

_NAME, _TYPE, _SERIAL, _ATTRIBUTES = b'"name":"', b'"device_type":"', b'"serial":"', b',"attributes":'


@dataclass(slots=True, kw_only=True)
class Tally:
    """Things that something happens to: how many, and the first runs of them."""

    count: int = 0
    _ends: list[tuple[str, str, int]] = field(default_factory=list)
    _place: int = -2

    def add(self, name: str, place: int) -> None:
        """Counts one more thing; `place` tells whether it follows the former one."""
        self.count += 1
        ends = self._ends
        if len(ends) <= RUNS_KEPT:
            if place == self._place + 1:
                first, _, count = ends[-1]
                ends[-1] = (first, name, count + 1)
            else:
                ends.append((name, name, 1))
        self._place = place

    @property
    def things(self) -> tuple[Run, ...]:
        """The runs to name."""
        return tuple(Run(first=first, last=last, count=count) for first, last, count in self._ends[:RUNS_KEPT])


@dataclass(slots=True, kw_only=True)
class RowDifferences:
    """What differs in one facility, by device type.

    Things that are known by serials of their own are apart: their names by serial. `replaced`: another serial under
    the same name. `fields` and `serials`: what has another value in the first of those rows.
    """

    added: dict[str, Tally] = field(default_factory=dict)
    retired: dict[str, Tally] = field(default_factory=dict)
    changed: dict[str, Tally] = field(default_factory=dict)
    replaced: dict[str, Tally] = field(default_factory=dict)
    added_devices: dict[str, dict[str, str]] = field(default_factory=dict)
    retired_devices: dict[str, dict[str, str]] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    serials: dict[str, str] = field(default_factory=dict)


def lines_of(chunks: Iterable[Chunk]) -> Iterator[bytes]:
    """The lines of a text that comes in pieces of any size."""
    rest = b""
    for chunk in chunks:
        lines = b"".join((rest, chunk)).splitlines(keepends=True)
        rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        yield from lines
    if rest:
        yield rest


class RowError(ValueError):
    """A row is not one that `fleet generate` writes."""


def compare_rows(former: Iterable[bytes], current: Iterable[bytes]) -> RowDifferences:
    """Merges two streams of rows, both sorted by device type, then by number; only rows that differ are looked into.

    Raises `RowError`.
    """
    found = RowDifferences()
    olds, news = iter(former), iter(current)
    old, new = next(olds, None), next(news, None)
    for place in counting():
        if old is None and new is None:
            return found
        if old == new:
            old, new = next(olds, None), next(news, None)
            continue
        old_key = _key(old) if old is not None else _LAST
        if old is not None and new is not None and new.startswith(old[: old.find(_ATTRIBUTES)]):
            new_key = old_key
        else:
            new_key = _key(new) if new is not None else _LAST
        if old is not None and old_key < new_key:
            _note(found.retired, found.retired_devices, old_key, place, old)
            old = next(olds, None)
        elif new is not None and new_key < old_key:
            _note(found.added, found.added_devices, new_key, place, new)
            new = next(news, None)
        elif old is not None and new is not None:
            is_other = own_serial(old) not in (None, _value(new, _SERIAL))
            tallies, details = (found.replaced, found.serials) if is_other else (found.changed, found.fields)
            _tally(tallies, old_key, place)
            if old_key[0] not in details:
                details[old_key[0]] = _fields(old, new)
            old, new = next(olds, None), next(news, None)
    raise AssertionError("the streams have an end")


def own_serial(row: bytes) -> str | None:
    """The serial by which a device is known wherever it is; None where it only follows from the thing's name."""
    name, device_type, serial = (_value(row, label) for label in (_NAME, _TYPE, _SERIAL))
    own = name.rpartition("-")[2]
    facility = name.removesuffix(f"-{device_type}-{own}")
    return None if serial == naming.named_serial(facility, device_type, own) else serial


def _note(tallies: dict[str, Tally], devices: dict[str, dict[str, str]], key: _Key, place: int, row: bytes) -> None:
    serial = own_serial(row)
    if serial is None:
        _tally(tallies, key, place)
    else:
        devices.setdefault(key[0], {})[serial] = key[2]


_Key = tuple[str, int, str]
_LAST: _Key = ("\U0010ffff", 0, "")


def _key(row: bytes) -> _Key:
    """Device type, then number: names of one type differ in their number alone, and a longer one is a higher one."""
    name = _value(row, _NAME)
    return (_value(row, _TYPE), len(name), name)


def _value(row: bytes, label: bytes) -> str:
    try:
        start = row.index(label) + len(label)
        return row[start : row.index(b'"', start)].decode("ascii")
    except ValueError:
        raise _strange(row) from None


def _strange(row: bytes) -> RowError:
    return RowError(f"{row[:60].decode('ascii', 'backslashreplace').rstrip()!r} is no thing")


def _tally(tallies: dict[str, Tally], key: _Key, place: int) -> None:
    tallies.setdefault(key[0], Tally()).add(key[2], place)


def _fields(old: bytes, new: bytes) -> str:
    """What differs between two rows of one thing, as `line: b2 → b3`."""
    before, after = _flat(old), _flat(new)
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return ", ".join(f"{name}: {before.get(name, 'none')} → {after.get(name, 'none')}" for name in names)


def _flat(row: bytes) -> dict[str, str]:
    """The fields of a row, its attributes among them."""
    try:
        fields = json.loads(row)
        attributes: dict[str, str] = fields.pop("attributes")
        return {**fields, **attributes}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _strange(row) from None
