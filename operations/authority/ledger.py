"""The ledger: every certificate that the authority has signed, and what became of it; in SQLite, beside its key."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from generator.diagnostics import EnvironmentFault
from operations.database import connect

FORMAT = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS certificates (serial BLOB PRIMARY KEY, thing TEXT, facility TEXT, key BLOB, der BLOB,
    issued REAL, not_after REAL, revoked REAL, reason TEXT, note TEXT);
CREATE INDEX IF NOT EXISTS certificates_by_key ON certificates (key);
CREATE INDEX IF NOT EXISTS certificates_by_thing ON certificates (thing);
CREATE INDEX IF NOT EXISTS certificates_by_revocation ON certificates (revoked) WHERE revoked IS NOT NULL;
CREATE TABLE IF NOT EXISTS lists (number INTEGER PRIMARY KEY, revoked INTEGER, issued REAL, next_update REAL);
"""
_FOUND = "serial, thing, facility, not_after, revoked, reason"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A certificate as it was signed; `key` is the SHA-256 of its public key's SubjectPublicKeyInfo."""

    serial: bytes
    thing: str
    key: bytes
    der: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A certificate of the ledger; times in seconds since 1970, `revoked` and `reason` None where it is not."""

    serial: bytes
    thing: str
    facility: str
    not_after: float
    revoked: float | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many certificates there are in each state; `next_expiry` is that of the valid ones."""

    signed: int
    valid: int
    revoked: int
    expired: int
    next_expiry: float | None


class Ledger:
    """The ledger in a file, founded where it is new. Raises EnvironmentFault where the file is none of ours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._database = connect(path, synchronous="FULL", schema=SCHEMA, format_=FORMAT)
        except sqlite3.DatabaseError:
            raise EnvironmentFault(
                f"{path} is no ledger that can be read",
                hint="restore it from a backup: it knows what the authority has signed",
            ) from None

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def add(self, facility: str, signed: Iterable[Signed], *, issued: float, not_after: float) -> None:
        """Writes certificates down, all or none, before anyone gets them.

        Raises EnvironmentFault for a serial number that is there already: then none was written.
        """
        rows = [(each.serial, each.thing, facility, each.key, each.der, issued, not_after) for each in signed]
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany("INSERT INTO certificates VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)", rows)
            self._database.execute("COMMIT")
        except BaseException as error:
            self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.IntegrityError):
                raise EnvironmentFault(
                    "a serial number came twice", hint="this machine's random numbers are not: use another"
                ) from None
            raise

    def valid(self, key: bytes, thing: str, *, now: float) -> bytes | None:
        """The serial number of the last certificate that the thing got for this key, None where none holds."""
        query = """SELECT serial FROM certificates WHERE key = ? AND thing = ? AND revoked IS NULL AND not_after > ?
            ORDER BY rowid DESC LIMIT 1"""
        found = self._database.execute(query, (key, thing, now)).fetchone()
        return bytes(found[0]) if found else None

    def certificate(self, serial: bytes) -> tuple[str, bytes]:
        """The thing, and the certificate's DER."""
        query = "SELECT thing, der FROM certificates WHERE serial = ?"
        thing, der = self._database.execute(query, (serial,)).fetchone()
        return str(thing), bytes(der)

    def of_thing(self, thing: str) -> list[Entry]:
        """The thing's certificates, by their end."""
        return self._entries("thing = ? ORDER BY not_after, serial", thing)

    def of_serial(self, serial: bytes) -> list[Entry]:
        """The certificate with this serial number, if there is one."""
        return self._entries("serial = ?", serial)

    def revoked(self) -> Iterator[Entry]:
        """What was revoked, by time. Those that have expired since stay: a CRL may have to show them once more."""
        yield from self._entries("revoked IS NOT NULL ORDER BY revoked, serial")

    def revoke(self, serials: Iterable[bytes], *, at: float, reason: str, note: str) -> None:
        """Writes revocations down; none is ever taken back."""
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany(
            "UPDATE certificates SET revoked = ?, reason = ?, note = ? WHERE serial = ? AND revoked IS NULL",
            [(at, reason, note, serial) for serial in serials],
        )
        self._database.execute("COMMIT")

    def last_list(self) -> tuple[int, int]:
        """Number of the last CRL, and how many revocations it has; 0 and -1 where there is none."""
        found = self._database.execute("SELECT number, revoked FROM lists ORDER BY number DESC LIMIT 1").fetchone()
        return (int(found[0]), int(found[1])) if found else (0, -1)

    def add_list(self, number: int, *, revoked: int, issued: float, next_update: float) -> None:
        """Writes a CRL down that has been published."""
        self._database.execute("INSERT INTO lists VALUES (?, ?, ?, ?)", (number, revoked, issued, next_update))

    def counts(self, *, now: float) -> Counts:
        """How many certificates there are."""
        query = """SELECT count(*), count(revoked), coalesce(sum(revoked IS NULL AND not_after <= ?1), 0),
            min(CASE WHEN revoked IS NULL AND not_after > ?1 THEN not_after END) FROM certificates"""
        signed, revoked, expired, next_expiry = self._database.execute(query, (now,)).fetchone()
        return Counts(
            signed=signed,
            valid=signed - revoked - expired,
            revoked=revoked,
            expired=expired,
            next_expiry=next_expiry,
        )

    def _entries(self, where: str, *values: object) -> list[Entry]:
        query = f"SELECT {_FOUND} FROM certificates WHERE {where}"  # noqa: S608 - our own words
        names = _FOUND.split(", ")
        return [Entry(**dict(zip(names, found, strict=True))) for found in self._database.execute(query, values)]


@contextmanager
def opened_ledger(keys: Path, *, is_writing: bool) -> Iterator[Ledger]:
    """The ledger in the folder of the keys; one command at a time writes, the next one waits.

    Raises EnvironmentFault where it is to be read only, and is not there.
    """
    path = keys / "authority.sqlite"
    if not is_writing and not path.exists():
        raise EnvironmentFault(
            f"the authority's ledger {path} is not there", hint="point FLEET_KEYS_DIR at the right folder"
        )
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(keys / "authority.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if is_writing:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        ledger = Ledger(path)
        try:
            yield ledger
        finally:
            ledger.close()
    finally:
        os.close(descriptor)
