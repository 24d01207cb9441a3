"""Pairs the rows of a list with planned things before any call: by name, by serial, else the next free thing.

Things, rows and pairs lie in a temporary file that SQLite makes and takes away itself, so that a million of each cost
no memory. Rows that name their thing come first; only what is left is given out in the order of the approved record.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import msgspec

from operations.onboarding.lists.record import Fault, Material, Row
from operations.onboarding.planned import PlannedThing

_SCHEMA = """
CREATE TABLE things (position INTEGER PRIMARY KEY, name TEXT UNIQUE, serial TEXT, device_type TEXT, line BLOB,
                     row INTEGER);
CREATE TABLE rows (number INTEGER PRIMARY KEY, place TEXT, name TEXT, serial TEXT, device_type TEXT, thing INTEGER,
                   is_certificate INTEGER, der BLOB, fingerprint BLOB, key BLOB, already INTEGER, former INTEGER);
CREATE TABLE faults (number INTEGER PRIMARY KEY, place TEXT, reason TEXT, remedy TEXT);
"""
_AFTER_THINGS = "CREATE INDEX by_serial ON things (serial)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the journal knows of a key: the thing that has it; `is_done` where nothing is left to do for that."""

    thing: str
    fingerprint: bytes
    is_done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A planned thing and the material that it gets."""

    thing: PlannedThing
    row: int
    place: str
    material: Material


class Matching:
    """The pairs of one list and one facility; close it when done."""

    def __init__(self, *, suffix: str, device_type: str | None = None, keep_material: bool = True) -> None:
        """`device_type`: the rows that name no thing are of this type. Without `keep_material` (a dry run), pairs hold
        no DER."""
        self._suffix = suffix
        self._device_type = device_type
        self._keep = keep_material
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA cache_size = -16384")
        self._db.executescript(_SCHEMA)
        self._encode = msgspec.json.Encoder().encode

    def close(self) -> None:
        self._db.close()

    def add_things(self, things: Iterable[PlannedThing], *, is_taken: Callable[[str], bool]) -> int:
        """The planned things; a taken one has a certificate already and is not free. Returns how many there are."""
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO things VALUES (?, ?, ?, ?, ?, ?)",
            (
                (
                    at,
                    thing.name,
                    thing.serial,
                    thing.device_type,
                    self._encode(thing),
                    -1 if is_taken(thing.name) else None,
                )
                for at, thing in enumerate(things)
            ),
        )
        self._db.execute(_AFTER_THINGS)
        self._db.execute("COMMIT")
        return int(self._db.execute("SELECT count(*) FROM things").fetchone()[0])

    def add_rows(self, entries: Iterable[Row | Fault], *, held: Callable[[bytes], Held | None]) -> None:
        """All entries of the list, in its order; then the rows that name no thing get what is free."""
        self._db.execute("BEGIN")
        for entry in entries:
            if isinstance(entry, Fault):
                self._refuse(entry.number, entry.place, entry.reason, entry.remedy)
                if entry.spoils is not None:
                    self._spoil(entry)
            else:
                self._add(entry, held(entry.material.key))
        self._give_out()
        self._db.execute("COMMIT")

    @property
    def counts(self) -> dict[str, int]:
        """`rows`, `faults`, `pairs` to onboard, rows that are onboarded `already`, planned things left `unpaired`."""
        query = """SELECT (SELECT count(*) FROM rows), (SELECT count(*) FROM faults),
            (SELECT count(*) FROM rows WHERE thing IS NOT NULL AND NOT already),
            (SELECT count(*) FROM rows WHERE already), (SELECT count(*) FROM things WHERE row IS NULL)"""
        rows, faults, pairs, already, free = self._db.execute(query).fetchone()
        return {"rows": rows + faults, "faults": faults, "pairs": pairs, "already": already, "unpaired": free}

    def certificates(self) -> int:
        """How many pairs have a certificate of their own; the others have a CSR."""
        query = "SELECT count(*) FROM rows WHERE thing IS NOT NULL AND NOT already AND is_certificate"
        return int(self._db.execute(query).fetchone()[0])

    def pairs(self) -> Iterator[Pair]:
        """What to onboard, in the order of the approved record."""
        decode = msgspec.json.Decoder(PlannedThing).decode
        query = """SELECT line, number, place, is_certificate, der, fingerprint, key
            FROM things JOIN rows ON number = row WHERE NOT already ORDER BY position"""
        for line, number, place, is_certificate, der, fingerprint, key in self._db.execute(query):
            material = Material(
                is_certificate=bool(is_certificate), der=der, fingerprint=fingerprint, key=key, common_name=None
            )
            yield Pair(thing=decode(line), row=number, place=place, material=material)

    def faults(self) -> Iterator[Fault]:
        """What cannot be onboarded, in the list's order."""
        for number, place, reason, remedy in self._db.execute("SELECT * FROM faults ORDER BY number"):
            yield Fault(number=number, place=place, reason=reason, remedy=remedy)

    def _add(self, row: Row, held: Held | None) -> None:
        fault = None
        thing = self._named(row)
        if (
            held is not None
            and held.fingerprint != row.material.fingerprint
            and (thing is None or thing[1] != held.thing)
        ):
            fault = (f"its key is that of {held.thing} already", "two devices would share it: give this one its own")
        elif held is not None and held.fingerprint == row.material.fingerprint:
            own = self._by("name", held.thing)
            if own is None or (thing is not None and thing[0] != own[0]):
                fault = (f"it is onboarded as {held.thing}", "leave it out of the list, or retire that thing first")
            elif held.is_done or own[3] in (None, -1):
                self._insert(row, own[0], already=held.is_done, former=own[3])
                self._db.execute("UPDATE things SET row = ? WHERE position = ?", (row.number, own[0]))
                return
        if fault is None and thing is None and row.must_match:
            fault = (f"no planned thing has its {_identity(row)}", "add it to fleet.yaml, or correct the list")
        if fault is None and thing is not None:
            position, name, device_type, taken = thing
            if row.device_type not in (None, device_type):
                fault = (f"says it is a {row.device_type}, {name} is a {device_type}", "correct the list")
            elif taken == -1:
                fault = (f"{name} has another certificate already", "rotate the device instead of onboarding it anew")
            elif taken is not None:
                fault = (f"row {taken} is {name} already", "leave only the true one in")
            else:
                self._insert(row, position)
                self._db.execute("UPDATE things SET row = ? WHERE position = ?", (row.number, position))
                return
        if fault is not None:
            self._refuse(row.number, row.place, *fault)
        else:
            self._insert(row, None)

    def _named(self, row: Row) -> tuple[int, str, str, int | None] | None:
        """The planned thing that the row's name, with or without suffix, or its serial is of."""
        if row.name is not None:
            found = self._by("name", row.name) or self._by("name", f"{row.name}-{self._suffix}")
            if found is not None or row.must_match:
                return found
        return self._by("serial", row.serial) if row.serial is not None else None

    def _by(self, column: str, value: str) -> tuple[int, str, str, int | None] | None:
        query = f"SELECT position, name, device_type, row FROM things WHERE {column} = ?"  # noqa: S608 - our own words
        found: tuple[int, str, str, int | None] | None = self._db.execute(query, (value,)).fetchone()
        return found

    def _give_out(self) -> None:
        """The next free thing of the right type for each row that names none; a fault where none is left."""
        next_of: dict[str | None, int] = {}
        for number, place, device_type in self._waiting():
            found = self._db.execute(
                """SELECT position FROM things
                WHERE position >= ? AND row IS NULL AND (? IS NULL OR device_type = ?) LIMIT 1""",
                (next_of.get(device_type, 0), device_type, device_type),
            ).fetchone()
            if found is None:
                of_type = f" of type {device_type}" if device_type else ""
                reason = f"there is no planned thing{of_type} left for it: the list has more rows than that"
                self._refuse(number, place, reason, "raise the count in fleet.yaml and run `fleet generate`")
                next_of[device_type] = 1 << 62
                continue
            next_of[device_type] = found[0] + 1
            self._db.execute("UPDATE things SET row = ? WHERE position = ?", (number, found[0]))
            self._db.execute("UPDATE rows SET thing = ? WHERE number = ?", (found[0], number))
        self._db.execute("DELETE FROM rows WHERE thing IS NULL")

    def _waiting(self) -> Iterator[tuple[int, str, str | None]]:
        """The rows that have no thing yet, a slice at a time: meanwhile the same table is written to."""
        query = """SELECT number, place, coalesce(device_type, ?) FROM rows
            WHERE thing IS NULL AND number > ? ORDER BY number LIMIT 1000"""
        last = 0
        while part := self._db.execute(query, (self._device_type, last)).fetchall():
            yield from part
            last = part[-1][0]

    def _insert(self, row: Row, position: int | None, *, already: bool = False, former: int | None = None) -> None:
        material = row.material
        self._db.execute(
            "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(row.number, row.place, row.name, row.serial, row.device_type, position, material.is_certificate),
                *(material.der if self._keep else None, material.fingerprint, material.key, already, former),
            ),
        )

    def _refuse(self, number: int, place: str, reason: str, remedy: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO faults VALUES (?, ?, ?, ?)", (number, place, reason, remedy))

    def _spoil(self, fault: Fault) -> None:
        """Takes back the earlier row that a later one shows to be bad too."""
        found = self._db.execute("SELECT place, already, former FROM rows WHERE number = ?", (fault.spoils,)).fetchone()
        if found is None or found[1]:
            return
        self._db.execute("DELETE FROM rows WHERE number = ?", (fault.spoils,))
        self._db.execute("UPDATE things SET row = ? WHERE row = ?", (found[2], fault.spoils))
        reason = f"row {fault.number} {fault.reason.replace(f'row {fault.spoils}', 'this row')}"
        self._refuse(int(fault.spoils or 0), found[0], reason, fault.remedy)


def _identity(row: Row) -> str:
    return f"name {row.name!r}" if row.name is not None else f"serial {row.serial!r}"
