"""Spent keys: those that were revoked, retired or replaced, with their history. They are kept for ever.

Journals and the own authority's ledger each have a table of them, which is only ever added to, in the transaction that
spends the key. A key is known by the SHA-256 of its SubjectPublicKeyInfo, so that it is the same key in any CSR or
certificate, however that is encoded; a certificate by the SHA-256 of its DER, which is its id in AWS IoT.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from fleet_iot.operations.project import Project
from fleet_iot.operations.storage import located

SCHEMA = """
CREATE TABLE IF NOT EXISTS spent (id INTEGER PRIMARY KEY, key BLOB, certificate_id TEXT, thing TEXT, what TEXT,
    at REAL, by TEXT, reason TEXT);
CREATE INDEX IF NOT EXISTS spent_by_key ON spent (key);
CREATE INDEX IF NOT EXISTS spent_by_certificate ON spent (certificate_id);
"""

_COLUMNS = {"id", "key", "certificate_id", "thing", "what", "at", "by", "reason"}
LOCALS = ("build/local", "build/environments/*/local")
"""The local AWS's folder in a project, unless `--dir` gives another."""


class End(StrEnum):
    """The end of a key. REUSED: a retired one was accepted again on request; a revocation outweighs it."""

    REVOKED = "revoked"
    RETIRED = "retired"
    REPLACED = "replaced"
    ROTATING = "rotating"
    REUSED = "reused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """A key or certificate that must not come back: how it ended, as which thing's, when (seconds since 1970), by which
    command, and why."""

    what: End
    thing: str
    at: float
    by: str
    reason: str

    @property
    def is_final(self) -> bool:
        """Return whether no option brings it back."""
        return self.what in (End.REVOKED, End.ROTATING)

    @property
    def clause(self) -> str:
        """Its history in one clause, to go on after `its key`."""
        on = datetime.datetime.fromtimestamp(self.at, datetime.UTC)
        why = f": {self.reason}" if self.reason else ""
        if self.what is End.ROTATING:
            return f"is the old one of {self.thing}, which is being rotated since {on:%Y-%m-%d} ({self.by}){why}"
        return f"was {self.what} on {on:%Y-%m-%d} as that of {self.thing} ({self.by}){why}"

    @property
    def remedy(self) -> str:
        """The remedy."""
        if self.what is End.REVOKED:
            return "a revocation is never taken back: give the device another key"
        if self.what is End.ROTATING:
            return "finish that first: fleet device rotate --finish; or give this device a key of its own"
        return "give the device another key; or, where it is the same device that comes back: --reuse-retired"


Write = tuple[str, tuple[Any, ...]]


def spend(
    what: End, *, key: bytes | None, certificate_id: str | None, thing: str, at: float, by: str, reason: str
) -> Write:
    """Record that a key, or (without `key`) only a certificate, is spent; repeated records are written once."""
    return (
        """INSERT INTO spent (key, certificate_id, thing, what, at, by, reason) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
        WHERE coalesce((SELECT what FROM spent WHERE key IS ?1 AND certificate_id IS ?2 ORDER BY id DESC LIMIT 1), '')
        <> ?4""",
        (key or None, certificate_id, thing, what.value, at, by, reason),
    )


def last_end(connection: sqlite3.Connection, key: bytes | None, certificate_id: str | None) -> Spent | None:
    """Return one file's entry on the key or the certificate: its first revocation, else the last, also REUSED."""
    found = connection.execute(
        """SELECT what, thing, at, by, reason FROM spent WHERE key = ? OR certificate_id = ?
        ORDER BY what = 'revoked' DESC, CASE what WHEN 'revoked' THEN id ELSE -id END LIMIT 1""",
        (key or None, certificate_id),
    ).fetchone()
    if found is None:
        return None
    what, thing, at, by, reason = found
    return Spent(what=End(what), thing=thing, at=at, by=by, reason=reason)


def find_spent(connection: sqlite3.Connection, key: bytes | None, certificate_id: str | None) -> Spent | None:
    """Return how the key or the certificate ended, by one file; None where it may be used."""
    return decisive([last_end(connection, key, certificate_id)])


def decisive(ends: Iterable[Spent | None]) -> Spent | None:
    """Return the decisive entry of several files: the first revocation, else the last; None where the key may be used,
    also because it was accepted again on request after its last end."""
    known = [each for each in ends if each is not None]
    revoked = [each for each in known if each.what is End.REVOKED]
    if revoked:
        return min(revoked, key=lambda each: each.at)
    last = max(known, key=lambda each: each.at, default=None)
    return None if last is None or last.what is End.REUSED else last


def key_digest(info: bytes) -> bytes:
    """Return the identifier of a key: the SHA-256 of its SubjectPublicKeyInfo."""
    return hashlib.sha256(info).digest()


class SpentKeys:
    """The spent keys of several files, which are read and never changed; close it when done."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Open those that are there. Raises EnvironmentFault where one cannot be read."""
        self._files: list[tuple[Path, sqlite3.Connection]] = []
        for path in paths:
            if not path.is_file():
                continue
            with located(path):
                connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
                # A file of another format has no such table; the next command that writes converts an older one.
                columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(spent)")}
                if columns >= _COLUMNS:
                    self._files.append((path, connection))
                else:
                    connection.close()

    def close(self) -> None:
        """Close the files."""
        for _, connection in self._files:
            connection.close()

    def keys(self) -> frozenset[bytes]:
        """Return all keys that are spent."""
        found = set()
        for path, connection in self._files:
            with located(path):
                found |= {
                    bytes(key) for (key,) in connection.execute("SELECT DISTINCT key FROM spent WHERE key <> x''")
                }
        return frozenset(key for key in found if self.find(key, None) is not None)

    def find(self, key: bytes | None, certificate_id: str | None) -> Spent | None:
        """Return how the key or the certificate ended, by all files."""
        return decisive(self.ends(key, certificate_id))

    def ends(self, key: bytes | None, certificate_id: str | None) -> list[Spent]:
        """Return each file's entry on the key or the certificate."""
        known = []
        for path, connection in self._files:
            with located(path):
                known.append(last_end(connection, key, certificate_id))
        return [each for each in known if each is not None]


def journals_folder() -> Path:
    """Return `FLEET_JOURNAL_DIR`, else a folder below the home folder: beside the keys, outside the project and its
    `make clean`."""
    return Path(os.environ.get("FLEET_JOURNAL_DIR") or Path.home() / ".fleet" / "journal")


def journal_name(project: Project) -> str:
    """Return the journal's file name: one an application and environment, in the folder of its account."""
    return f"{project.fleet.application}-{project.environment_suffix}.sqlite"


def journals_of(project: Project, *, local: Path | None = None) -> list[Path]:
    """Return the journals of the application on this machine: of all environments, accounts and regions, and of the
    local AWS in its usual folders and in `local`."""
    locals_ = {*(folder for pattern in LOCALS for folder in project.root.glob(pattern)), *([local] if local else [])}
    folders = {*journals_folder().glob("*"), *map(journal_folder, locals_)}
    found = {path.resolve() for folder in folders for path in folder.glob(f"{project.fleet.application}-*.sqlite")}
    return sorted(found)


def journals_here(project: Project, *, local: Path | None, account: str | None = None) -> list[Path]:
    """Return the journals of this environment: that of the local AWS in a folder, or, without one, those of the
    account, else of the project's account, else of every account, in its region."""
    if local is not None:
        return [journal_folder(local) / journal_name(project)]
    folders = f"{account or project.account_id or '*'}-{project.fleet.region}"
    return sorted(journals_folder().glob(f"{folders}/{journal_name(project)}"))


def journal_folder(local: Path) -> Path:
    """Return the folder of a local AWS's journals: they are deleted with it."""
    return local / "journal"
