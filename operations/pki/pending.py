"""The good CSRs of a list, each with its thing, until they are signed; a list of a million costs no memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from fleet_iot.operations.lists.record import Fault, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A CSR that is to be signed: its thing, the SHA-256 of its key, and its own DER."""

    number: int
    thing: str
    key: bytes
    request: bytes


class AskedRequests:
    """The CSRs of one list, in a temporary file that SQLite makes and takes away itself; close it when done."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("", isolation_level=None)
        self._rows.execute("PRAGMA cache_size = -16384")
        self._rows.execute(
            """CREATE TABLE asked (number INTEGER PRIMARY KEY, place TEXT, thing TEXT UNIQUE, key BLOB, request BLOB,
            serial BLOB)"""
        )
        self._rows.execute("BEGIN")

    def close(self) -> None:
        """Takes the file away."""
        self._rows.close()

    def add(self, row: Row, *, serial: bytes | None) -> Fault | None:
        """A row whose common name is its thing's; `serial` is that of the certificate which it has, if any.

        Where another row has the same thing, neither stays: the fault of this one, which spoils the other.
        """
        thing = str(row.material.common_name)
        other = self._rows.execute("SELECT number FROM asked WHERE thing = ?", (thing,)).fetchone()
        if other is not None:
            return Fault(
                number=row.number,
                place=row.place,
                reason=f"has the thing of row {other[0]}",
                remedy="leave only the true one in",
                spoils=other[0],
            )
        request = row.material.der if serial is None else None
        values = (row.number, row.place, thing, row.material.key, request, serial)
        self._rows.execute("INSERT INTO asked VALUES (?, ?, ?, ?, ?, ?)", values)
        return None

    def spoil(self, fault: Fault) -> Fault | None:
        """Takes the row back that the fault of a later one shows to be bad too: its own fault, if it was good yet."""
        found = self._rows.execute("SELECT place FROM asked WHERE number = ?", (fault.spoils,)).fetchone()
        if found is None:
            return None
        self._rows.execute("DELETE FROM asked WHERE number = ?", (fault.spoils,))
        reason = f"row {fault.number} {fault.reason.replace(f'row {fault.spoils}', 'this row')}"
        return Fault(number=int(fault.spoils or 0), place=found[0], reason=reason, remedy=fault.remedy)

    def counts(self) -> tuple[int, int]:
        """How many there are, and how many of them have a certificate."""
        total, signed = self._rows.execute("SELECT count(*), count(serial) FROM asked").fetchone()
        return int(total), int(signed)

    def unsigned(self) -> Iterator[Asked]:
        """Those that are to be signed, in the list's order, a slice at a time: meanwhile they are written to."""
        query = """SELECT number, thing, key, request FROM asked WHERE serial IS NULL AND number > ?
            ORDER BY number LIMIT 1000"""
        last = 0
        while part := self._rows.execute(query, (last,)).fetchall():
            for number, thing, key, request in part:
                yield Asked(number=number, thing=thing, key=bytes(key), request=bytes(request))
            last = part[-1][0]

    def signed(self, made: list[tuple[int, bytes]]) -> None:
        """The serial numbers of the certificates that rows got."""
        self._rows.executemany("UPDATE asked SET serial = ? WHERE number = ?", [(serial, row) for row, serial in made])

    def serials(self) -> Iterator[bytes]:
        """The serial numbers of all, in the list's order."""
        for (serial,) in self._rows.execute("SELECT serial FROM asked WHERE serial IS NOT NULL ORDER BY number"):
            yield bytes(serial)
