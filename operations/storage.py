"""Storage that fails: a full disk, a read-only folder, a damaged database; told with path, cause and remedy."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from generator.diagnostics import EnvironmentFault

_ACCESS = "let this user read and write it (chmod, chown), or name another folder"
_SPACE = "free some space there, then run the command again: what was written before is kept"
_LINK = "it is a symbolic link, which is not followed here: remove it, or put the file itself there"
_ERRNO = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), then run the command again",
    errno.EROFS: "mount it for writing, or name another folder",
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.EIO: "check the disk, then run the command again",
    errno.ELOOP: _LINK,
    errno.ENOTDIR: "a file is where a folder should be: move it away",
    errno.EISDIR: "a folder is where a file should be: move it away",
    errno.EMFILE: "raise the limit of open files (ulimit -n), then run the command again",
}
_SQLITE = {
    sqlite3.SQLITE_FULL: _SPACE,
    sqlite3.SQLITE_IOERR: "check the disk, its free space and its limits, then run the command again",
    sqlite3.SQLITE_READONLY: _ACCESS,
    sqlite3.SQLITE_PERM: _ACCESS,
    sqlite3.SQLITE_CANTOPEN: _ACCESS,
    sqlite3.SQLITE_BUSY: "another command writes to it: wait until that is done, then run this one again",
    sqlite3.SQLITE_LOCKED: "another command writes to it: wait until that is done, then run this one again",
    sqlite3.SQLITE_CORRUPT: "",
    sqlite3.SQLITE_NOTADB: "",
}
"""Primary result codes that say something of the storage, and not of a statement: https://www.sqlite.org/rescode.html"""
_PRIMARY = 0xFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a database is to people, and what to do where it is damaged or none of this program's."""

    name: str = "database"
    restore: str = "restore it from a backup"


DATABASE = Kept()


def storage_fault(
    error: OSError | sqlite3.Error, path: Path | None, *, kept: Kept = DATABASE
) -> EnvironmentFault | None:
    """What to tell of an error in a file or folder; None where the error is not the storage's."""
    if isinstance(error, OSError):
        hint = _ERRNO.get(error.errno or 0)
        named = error.filename if isinstance(error.filename, (str, bytes, os.PathLike)) else None
        place, cause = (os.fsdecode(named) if named else path), os.strerror(error.errno or 0)
    else:
        hint = _SQLITE.get((getattr(error, "sqlite_errorcode", None) or 0) & _PRIMARY)
        place, cause = path, str(error)
    place = place or "a temporary file"
    if hint is None:
        return None
    if not hint:
        return EnvironmentFault(f"{place} is no {kept.name} that can be read: {cause}", hint=kept.restore)
    return EnvironmentFault(f"{place}: {cause}", hint=hint)


@contextmanager
def located(path: Path | None, *, kept: Kept = DATABASE) -> Iterator[None]:
    """Raises EnvironmentFault for what fails inside because of the storage; other errors pass as they are."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        fault = storage_fault(error, path, kept=kept)
        if fault is None:
            raise
        raise fault from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All writes inside, or none. The error that broke it off is the one that is raised, whatever a rollback says."""
    if connection.in_transaction:  # the rollback of an earlier one failed: the disk may be well again
        connection.execute("ROLLBACK")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite rolls back by itself after most errors of the disk: https://www.sqlite.org/lang_transaction.html
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
