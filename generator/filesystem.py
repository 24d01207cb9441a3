"""Says what a disk or a file refused, where, and what to do: for the one place that catches it, the command line."""

from __future__ import annotations

import errno
import getpass
import io
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from generator.diagnostics import EnvironmentFault, FleetError, WriteError

_FULL = "free some space there, and run the command again: what it had done stays"
_RIGHTS = "give {user} the right to it, or run the command as its owner"
_REMEDIES: dict[int, tuple[type[FleetError], str]] = {
    errno.ENOSPC: (WriteError, _FULL),
    errno.EDQUOT: (WriteError, _FULL),
    errno.EFBIG: (WriteError, "raise the limit on a file's size (ulimit -f), or write elsewhere"),
    errno.EROFS: (WriteError, "write elsewhere, or mount it so that it can be written"),
    errno.EIO: (WriteError, "the disk is failing: see the system's log"),
    errno.EACCES: (EnvironmentFault, _RIGHTS),
    errno.EPERM: (EnvironmentFault, _RIGHTS),
    errno.ENOENT: (EnvironmentFault, "correct the path, or make its folder"),
    errno.ENOTDIR: (EnvironmentFault, "a part of the path is a file: correct it"),
    errno.EISDIR: (EnvironmentFault, "it is a folder: name a file in it"),
    errno.EEXIST: (EnvironmentFault, "something else is there: take it away, or name another path"),
    errno.ENOTEMPTY: (EnvironmentFault, "something else is there: take it away, or name another path"),
    errno.ELOOP: (EnvironmentFault, "its symbolic links lead in a circle, or lead out: take them away"),
    errno.ENAMETOOLONG: (EnvironmentFault, "use a shorter path"),
    errno.EMFILE: (EnvironmentFault, "raise the limit on open files (ulimit -n)"),
    errno.ENFILE: (EnvironmentFault, "close other programs: the system has too many files open"),
    errno.EBUSY: (EnvironmentFault, "something else uses it: wait, or stop that"),
    errno.ESTALE: (EnvironmentFault, "mount the network's folder again"),
}
_DATABASE: dict[int, tuple[type[FleetError], str]] = {
    sqlite3.SQLITE_FULL: (WriteError, _FULL),
    sqlite3.SQLITE_READONLY: (EnvironmentFault, _RIGHTS),
    sqlite3.SQLITE_CANTOPEN: (EnvironmentFault, _RIGHTS),
    sqlite3.SQLITE_PERM: (EnvironmentFault, _RIGHTS),
    sqlite3.SQLITE_IOERR: (WriteError, "see whether its disk is full or failing, and run the command again"),
    sqlite3.SQLITE_CORRUPT: (EnvironmentFault, "restore it from a backup"),
    sqlite3.SQLITE_NOTADB: (EnvironmentFault, "restore it from a backup"),
    sqlite3.SQLITE_BUSY: (EnvironmentFault, "another command uses it: wait until that is done"),
    sqlite3.SQLITE_LOCKED: (EnvironmentFault, "another command uses it: wait until that is done"),
}
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""Primary result codes: https://www.sqlite.org/rescode.html"""


def fault_of(
    error: OSError | sqlite3.Error, *, path: Path | None = None, damaged: str | None = None
) -> FleetError | None:
    """What to tell people of an error of the file system; None for one that is something else, such as a bug.

    Args:
        error: What was raised.
        path: The file that it is about, where the error may name none.
        damaged: What to do where a database is damaged; otherwise, restore it from a backup.
    """
    if isinstance(error, sqlite3.Error):
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        kind, remedy = _DATABASE.get(code, (None, ""))
        reason = str(error)
        if code in _DAMAGED:
            reason, remedy = f"it is damaged, or no file of this program: {reason}", damaged or remedy
    else:
        kind, remedy = _REMEDIES.get(error.errno or 0, (None, ""))
        reason = (error.strerror or "").lower()
        if isinstance(error, ConnectionError):
            kind = None
    if kind is None:
        return None
    named = error.filename if isinstance(error, OSError) else None
    place = _path_of(error) if named is not None or path is None else str(path)
    if place is None and getattr(error, "errno", None) == errno.ENOENT:
        return None
    return kind(f"{place or 'a file'}: {reason}", hint=remedy.format(user=_user()))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole, or leave what was there. Raises OSError with its path."""
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def silence_stdout() -> None:
    """Let nothing more be written to a standard output that takes nothing, so that the exit code stands."""
    with suppress(OSError, ValueError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _path_of(error: OSError | sqlite3.Error) -> str | None:
    """The path that an error names; of a write, which names none, that of the file that was being written."""
    if isinstance(error, OSError) and error.filename is not None:
        named = error.filename2 if error.filename2 is not None else error.filename
        return os.fsdecode(named) if isinstance(named, str | bytes) else None
    for values in _innermost_first(error.__traceback__):
        for value in values:
            if found := _name_of(value):
                return found
    return None


def _innermost_first(trace: TracebackType | None) -> Iterator[list[Any]]:
    """The local values of the frames that an error came through."""
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
        return "the standard output" if value is sys.stdout or name == "<stdout>" else _text(name)
    if isinstance(value, sqlite3.Connection):
        with suppress(sqlite3.Error):
            return str(value.execute("PRAGMA database_list").fetchone()[2]) or "a temporary database"
    return None


def _text(name: object) -> str | None:
    return os.fsdecode(name) if isinstance(name, str | bytes) and name not in ("<stderr>", "<stdin>") else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"
