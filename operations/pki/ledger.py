"""The ledger: every certificate that the authority has signed, and its state; in SQLite, beside its key."""

from __future__ import annotations

import datetime
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.pki.keystore import LEDGER
from fleet_iot.operations.pki.spent import SCHEMA as SPENT_SCHEMA
from fleet_iot.operations.pki.spent import End, Spent, find_spent, spend
from fleet_iot.operations.storage import (
    FormatError,
    Kept,
    connect,
    exclusive,
    located,
    make_private_folder,
    open_private,
    transaction,
)

FORMAT = 2
"""1 had no spent keys: see `_from_format_1`."""
SCHEMA = f"""{SPENT_SCHEMA}
CREATE TABLE IF NOT EXISTS certificates (serial BLOB PRIMARY KEY, thing TEXT, facility TEXT, key BLOB, der BLOB,
    issued REAL, not_after REAL, revoked REAL, reason TEXT, note TEXT);
CREATE INDEX IF NOT EXISTS certificates_by_key ON certificates (key);
CREATE INDEX IF NOT EXISTS certificates_by_thing ON certificates (thing);
CREATE INDEX IF NOT EXISTS certificates_by_revocation ON certificates (revoked) WHERE revoked IS NOT NULL;
CREATE TABLE IF NOT EXISTS lists (number INTEGER PRIMARY KEY, revoked INTEGER, issued REAL, next_update REAL);
"""
RELEASED = ("superseded", "affiliationChanged")
"""Reasons for which a certificate is revoked and its key is not: "no cause to suspect that the private key has been
compromised", and the key stays in use (https://www.itu.int/rec/T-REC-X.509, 9.5.3.1)."""
SKEW_S = 300.0
"""Most seconds between the clocks of machines that share a ledger."""
_KEPT = Kept(name="ledger", restore="restore it from a backup: it knows what the authority has signed")
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
    """Number of certificates by state; `next_expiry` is that of the valid ones."""

    signed: int
    valid: int
    revoked: int
    expired: int
    next_expiry: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Facts that decide on signing a key for a thing, None each where there is none: the serial number of its valid
    certificate for the key; another thing that has the key; when the thing's valid certificate for another key expires;
    and how the key ended."""

    valid: bytes | None
    owner: str | None
    other_key_until: float | None
    spent: Spent | None


class Ledger:
    """The ledger in a file, founded where it is new. Raises EnvironmentFault where the file is none of ours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with located(path, kept=_KEPT):
                self._database = connect(
                    path, synchronous="FULL", schema=SCHEMA, format_=FORMAT, older={1: _from_format_1}
                )
        except FormatError as error:
            raise EnvironmentFault(f"{path} is no ledger that can be read: {error}", hint=_KEPT.restore) from None

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def add(self, facility: str, signed: Iterable[Signed], *, issued: float, not_after: float) -> int:
        """Record certificates, all or none, before they are handed out. Valid ones that their things have for other
        keys are revoked as superseded in the same transaction: a thing has one key. Returns how many.

        Raises EnvironmentFault for a serial number that is there already: then none was written.
        """
        given = list(signed)
        rows = [(each.serial, each.thing, facility, each.key, each.der, issued, not_after) for each in given]
        query = "SELECT serial FROM certificates WHERE thing = ? AND key <> ? AND revoked IS NULL AND not_after > ?"
        try:
            with located(self.path, kept=_KEPT), transaction(self._database):
                self._database.executemany(
                    "INSERT INTO certificates VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)", rows
                )
                older = [
                    bytes(serial)
                    for each in given
                    for (serial,) in self._database.execute(query, (each.thing, each.key, issued))
                ]
                self._revoke(older, at=issued, reason="superseded", note="another key was signed", by="ca sign")
        except sqlite3.IntegrityError:
            raise EnvironmentFault(
                "a serial number came twice", hint="this machine's random numbers are not: use another"
            ) from None
        return len(older)

    def standing(self, key: bytes, thing: str, *, now: float) -> Standing:
        """Return the ledger's entries on a key and on the thing that is to have it."""
        query = """SELECT serial, thing, key, not_after, revoked, reason FROM certificates
            WHERE key = ?1 OR (thing = ?2 AND revoked IS NULL AND not_after > ?3) ORDER BY rowid"""
        valid, owner, other = None, None, None
        for serial, of, found, not_after, revoked, reason in self._read(query, key, thing, now):
            if found != key:
                other = float(not_after)
            elif of != thing and (revoked is None or reason not in RELEASED):
                owner = str(of)
            elif of == thing and revoked is None and not_after > now:
                valid = bytes(serial)
        return Standing(valid=valid, owner=owner, other_key_until=other, spent=self.spent(key, None))

    def spent(self, key: bytes | None, certificate_id: str | None) -> Spent | None:
        """Return how the key or the certificate ended, if it did."""
        with located(self.path, kept=_KEPT):
            return find_spent(self._database, key, certificate_id)

    def certificate(self, serial: bytes) -> tuple[str, bytes]:
        """Return the thing, and the certificate's DER."""
        ((thing, der),) = self._read("SELECT thing, der FROM certificates WHERE serial = ?", serial)
        return str(thing), bytes(der)

    def of_thing(self, thing: str) -> list[Entry]:
        """Return the thing's certificates, by their end."""
        return self._entries("thing = ? ORDER BY not_after, serial", thing)

    def of_serial(self, serial: bytes) -> list[Entry]:
        """Return the certificate with this serial number, if there is one."""
        return self._entries("serial = ?", serial)

    def revoked(self) -> Iterator[Entry]:
        """Yield revoked certificates by time, also expired ones: a CRL may have to list them once more."""
        yield from self._entries("revoked IS NOT NULL ORDER BY revoked, serial")

    def revoke(self, serials: Iterable[bytes], *, at: float, reason: str, note: str) -> None:
        """Record revocations; they are final. In the same transaction their keys are spent, unless the reason allows
        the key to be used further; also those of certificates revoked or expired before."""
        with located(self.path, kept=_KEPT), transaction(self._database):
            self._revoke(serials, at=at, reason=reason, note=note, by="ca revoke")

    def _revoke(self, serials: Iterable[bytes], *, at: float, reason: str, note: str, by: str) -> None:
        for serial in serials:
            self._database.execute(
                """UPDATE certificates SET revoked = ?1, reason = ?2, note = ?3
                WHERE serial = ?4 AND revoked IS NULL AND not_after > ?1""",
                (at, reason, note, serial),
            )
            (found,) = self._read("SELECT thing, key, der FROM certificates WHERE serial = ?", serial)
            self._database.execute(*_ended(*found, at=at, reason=reason, note=note, by=by))

    def last_list(self) -> tuple[int, int]:
        """Return the number of the last CRL, and how many revocations it has; 0 and -1 where there is none."""
        found = self._read("SELECT number, revoked FROM lists ORDER BY number DESC LIMIT 1")
        return (int(found[0][0]), int(found[0][1])) if found else (0, -1)

    def last_issued(self) -> float:
        """Return when the last CRL was published, in seconds since 1970; 0 where there is none."""
        ((at,),) = self._read("SELECT coalesce(max(issued), 0) FROM lists")
        return float(at)

    def check_clock(self, now: float) -> None:
        """Raise EnvironmentFault where the clock is behind what the authority has done already: what it would sign
        now would be out of order, and a CRL older than its predecessor."""
        ((signed, revoked),) = self._read(
            """SELECT coalesce((SELECT issued FROM certificates ORDER BY rowid DESC LIMIT 1), 0),
            coalesce((SELECT max(revoked) FROM certificates WHERE revoked IS NOT NULL), 0)"""
        )
        last = max(signed, revoked, self.last_issued())
        if now < last - SKEW_S:
            raise EnvironmentFault(
                f"this machine's clock says {_iso(now)}, and the authority's ledger goes to {_iso(last)}",
                hint="set the clock right; or, if it was wrong then, restore ledger and CRL from before",
            )

    def add_list(self, number: int, *, revoked: int, issued: float, next_update: float) -> None:
        """Write a CRL down that has been published."""
        with located(self.path, kept=_KEPT):
            self._database.execute("INSERT INTO lists VALUES (?, ?, ?, ?)", (number, revoked, issued, next_update))

    def counts(self, *, now: float) -> Counts:
        """Count certificates by state."""
        query = """SELECT count(*), count(revoked), coalesce(sum(revoked IS NULL AND not_after <= ?1), 0),
            min(CASE WHEN revoked IS NULL AND not_after > ?1 THEN not_after END) FROM certificates"""
        ((signed, revoked, expired, next_expiry),) = self._read(query, now)
        return Counts(
            signed=signed, valid=signed - revoked - expired, revoked=revoked, expired=expired, next_expiry=next_expiry
        )

    def _entries(self, where: str, *values: object) -> list[Entry]:
        query = f"SELECT {_FOUND} FROM certificates WHERE {where}"  # noqa: S608 - our own words
        names = _FOUND.split(", ")
        return [Entry(**dict(zip(names, found, strict=True))) for found in self._read(query, *values)]

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with located(self.path, kept=_KEPT):
            return self._database.execute(query, values).fetchall()


def _ended(
    thing: str, key: bytes, der: bytes, *, at: float, reason: str | None, note: str | None, by: str
) -> tuple[str, tuple[Any, ...]]:
    """Record that a certificate ended, and its key with it unless the reason allows the key to be used further."""
    return spend(
        End.REVOKED,
        key=None if reason in RELEASED else bytes(key),
        certificate_id=hashlib.sha256(der).hexdigest(),
        thing=thing,
        at=at,
        by=by,
        reason=f"{reason}, {note}" if note else str(reason),
    )


def _from_format_1(connection: sqlite3.Connection) -> None:
    """Format 1 had revocations, and no spent keys."""
    query = "SELECT thing, key, der, revoked, reason, note FROM certificates WHERE revoked IS NOT NULL ORDER BY revoked"
    for thing, key, der, at, reason, note in connection.execute(query).fetchall():
        connection.execute(*_ended(thing, key, der, at=at, reason=reason, note=note, by="ca revoke"))


def _iso(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="seconds")


@contextmanager
def opened_ledger(keys: Path, *, is_writing: bool) -> Iterator[Ledger]:
    """Open the ledger in the folder of the keys; one command at a time writes, others wait.

    Raises EnvironmentFault where it is to be read only, and is not there.
    """
    path = keys / LEDGER
    if not is_writing and not path.exists():
        raise EnvironmentFault(
            f"the authority's ledger {path} is not there", hint="point FLEET_KEYS_DIR at the right folder"
        )
    make_private_folder(keys)
    lock = exclusive(keys / "authority.lock", opens=open_private) if is_writing else nullcontext()
    with lock, closing(Ledger(path)) as ledger:
        yield ledger
