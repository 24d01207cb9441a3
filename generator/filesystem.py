"""Turns errors of disks, files and databases into faults with path, cause and remedy; the command line catches them."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from fleet_iot.generator.diagnostics import EnvironmentFault

STANDARD_OUTPUT = "the standard output"
_ACCESS = "let this user read and write it (chmod, chown), or name another folder"
_SPACE = "free some space there, then run the command again: what was written before is kept"
_THERE = "something else is there: move it away, or name another path"
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), then run the command again",
    errno.EROFS: "mount it for writing, or name another folder",
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.EIO: "check the disk, then run the command again",
    errno.ELOOP: "it is a symbolic link, which is not followed here: remove it, or put the file itself there",
    errno.ENOENT: "correct the path, or make its folder",
    errno.ENOTDIR: "a file is where a folder should be: move it away",
    errno.EISDIR: "a folder is where a file should be: move it away",
    errno.EEXIST: _THERE,
    errno.ENOTEMPTY: _THERE,
    errno.ENAMETOOLONG: "use a shorter path",
    errno.EMFILE: "raise the limit of open files (ulimit -n), then run the command again",
    errno.ENFILE: "close other programs: the system has too many files open",
    errno.EBUSY: "something else uses it: wait, or stop that",
    errno.ESTALE: "mount the network's folder again",
}
_BUSY = "another command writes to it: wait until that is done, then run this one again"
_DATABASE = {
    sqlite3.SQLITE_FULL: _SPACE,
    sqlite3.SQLITE_IOERR: "check the disk, its free space and its limits, then run the command again",
    sqlite3.SQLITE_READONLY: _ACCESS,
    sqlite3.SQLITE_PERM: _ACCESS,
    sqlite3.SQLITE_CANTOPEN: _ACCESS,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
}
"""Primary result codes that say something of the storage, and not of a statement: https://www.sqlite.org/rescode.html"""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PRIMARY = 0xFF


def fault_of(
    error: OSError | sqlite3.Error,
    path: Path | None = None,
    *,
    name: str = "database",
    restore: str = "restore it from a backup",
) -> EnvironmentFault | None:
    """Turn an error of a disk, file or database into a fault with path and remedy; None for any other, such as a bug.

    Args:
        error: What the system said.
        path: The file, where the error does not name it.
        name: What a database is to people.
        restore: What to do where the database is damaged.
    """
    if isinstance(error, ConnectionError):
        return None
    if isinstance(error, OSError):
        remedy, cause = _REMEDIES.get(error.errno or 0), os.strerror(error.errno or 0)
        place = _path_of(error) or path
        if error.errno == errno.ENOENT and place is None:
            return None
    else:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & _PRIMARY
        remedy, cause, place = _DATABASE.get(code), str(error), path or _path_of(error)
        if code in _DAMAGED:
            return EnvironmentFault(f"{place or 'a file'} is no {name} that can be read: {cause}", hint=restore)
    return None if remedy is None else EnvironmentFault(f"{place or 'a temporary file'}: {cause}", hint=remedy)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole, or leave what was there. Raises OSError with its path.

    A device or pipe, such as /dev/null, is written to: a file in its place would break other programs.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def silence_stdout() -> None:
    """Discard further output to a closed standard output, so that the exit code is kept."""
    with suppress(OSError, ValueError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _path_of(error: OSError | sqlite3.Error) -> str | None:
    """Return the path that an error names; of a write, which names none, that of the file that was being written."""
    if isinstance(error, OSError) and error.filename is not None:
        named = error.filename2 if error.filename2 is not None else error.filename
        return os.fsdecode(named) if isinstance(named, str | bytes) else None
    for values in _innermost_first(error.__traceback__):
        for value in values:
            if found := _name_of(value):
                return found
    return None


def _innermost_first(trace: TracebackType | None) -> Iterator[list[Any]]:
    """Yield the local values of the frames that an error came through."""
    frames = []
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    for frame in reversed(frames):
        yield list(frame.f_locals.values())


def _name_of(value: Any) -> str | None:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, io.IOBase) and not getattr(value, "closed", False):
        name = getattr(value, "name", None)
        return STANDARD_OUTPUT if value is sys.stdout or name == "<stdout>" else _text(name)
    if isinstance(value, sqlite3.Connection):
        with suppress(sqlite3.Error):
            return str(value.execute("PRAGMA database_list").fetchone()[2]) or "a temporary database"
    return None


def _text(name: object) -> str | None:
    return os.fsdecode(name) if isinstance(name, str | bytes) and name not in ("<stderr>", "<stdin>") else None
