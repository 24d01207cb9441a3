"""Open files and databases that several runs share or that only their owner can access, and report their errors."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import sqlite3
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.generator.filesystem import fault_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The name of a database for people, and what to do where it is damaged."""

    name: str = "database"
    restore: str = "restore it from a backup"


DATABASE = Kept()


@contextmanager
def located(path: Path | None, *, kept: Kept = DATABASE) -> Iterator[None]:
    """Raise EnvironmentFault for errors of disk or database inside; others are raised unchanged."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        fault = fault_of(error, path, name=kept.name, restore=kept.restore)
        if fault is None:
            raise
        raise fault from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit all writes inside, or none. Raises the error that ended it, whatever the rollback raises."""
    if connection.in_transaction:  # an earlier rollback failed: the disk may work again
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


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


@contextmanager
def exclusive(path: Path, *, waits: bool = True, opens: Callable[[Path, int], int] = _open) -> Iterator[None]:
    """Lock a file, made 0600 where it is new, until the context ends; the lock ends with its process too.

    Raises BlockingIOError where another process has the lock and `waits` is false.
    """
    descriptor = opens(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def whole(path: Path, *, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Write a temporary file, with this mode under the umask; move it to `path` when the context ends without an error.

    A killed process leaves the old file or the new one. A device or pipe is written to: nothing may take its place.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.part")
    staged.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


BUSY_S = 30
"""Seconds that one run waits for another's write."""

TakeOver = Callable[[sqlite3.Connection], None]
"""Migrate a file of an older format, in one transaction with the change of the format's number."""


class FormatError(sqlite3.DatabaseError):
    """The file has an unknown format."""


def connect(
    path: Path | None,
    *,
    synchronous: Literal["FULL", "OFF"],
    schema: str = "",
    format_: int = 0,
    older: Mapping[int, TakeOver] | None = None,
) -> sqlite3.Connection:
    """Open a connection in WAL mode.

    Args:
        path: The file, created where there is none; None is a database in memory.
        synchronous: SQLite's setting of that name.
        schema: Statements that create the tables of a new file.
        format_: The file's format (`user_version`), written into a new one.
        older: Migrations of older formats.

    Raises:
        sqlite3.DatabaseError: The file has another format, or is no database.
    """
    # WAL mode is set under a lock: SQLite does not wait for that (https://www.sqlite.org/wal.html), so of two runs
    # that create a file together the second would fail.
    if path is None:
        return _opened(":memory:", synchronous=synchronous, schema=schema, format_=format_, older={})
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(path.with_name(f"{path.name}.founding")):
        with suppress(FileExistsError):  # SQLite would create it readable by others; its own files get the same mode
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        return _opened(path, synchronous=synchronous, schema=schema, format_=format_, older=older or {})


def temporary(schema: str) -> sqlite3.Connection:
    """Open a database in a temporary file that SQLite deletes by itself: rows by the million in constant memory."""
    connection = sqlite3.connect("", isolation_level=None)
    connection.execute("PRAGMA cache_size = -16384")
    connection.executescript(schema)
    return connection


def _opened(
    path: Path | str, *, synchronous: str, schema: str, format_: int, older: Mapping[int, TakeOver]
) -> sqlite3.Connection:
    # Our own locks serialise the threads.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        found = connection.execute("PRAGMA user_version").fetchone()[0] if format_ else 0
        if found not in (0, format_, *older):
            raise FormatError(f"its format is {found}, not {format_}")
        if schema:
            connection.executescript(schema)
        if found != format_:
            with transaction(connection):
                if found in older:
                    older[found](connection)
                connection.execute(f"PRAGMA user_version = {format_}")
    except BaseException:
        connection.close()
        raise
    return connection


# Files that only their owner can access, from their creation on, and never through a link.

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC


def inside(folder: Path, name: str) -> Path:
    """Return the path of this name in the folder. Raises EnvironmentFault for a name that leads out of it."""
    if not _NAME.fullmatch(name):
        raise EnvironmentFault(
            f"{name!r} is no name of a file in {folder}",
            hint="ids and environment suffixes are letters, digits and hyphens",
        )
    return folder / name


def make_private_folder(folder: Path) -> None:
    """Create the folder with mode 0700, or check that it has it. Raises EnvironmentFault where others have access."""
    with located(folder):
        with suppress(FileExistsError):
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
        found, above = folder.stat(), folder.parent.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise EnvironmentFault(f"{folder} is no folder", hint="move it away")
    _refuse_others(folder, found)
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        raise EnvironmentFault(
            f"everybody may write to {folder.parent}, and put another folder in the place of {folder}",
            hint=f"chmod o-w {folder.parent}",
        )


def open_private(path: Path, flags: int) -> int:
    """Open the file and return its descriptor; one that `flags` create has mode 0600.

    Raises EnvironmentFault for a link, for anything but a regular file, and for a file that others own or may read.
    """
    with located(path):
        # Without O_NONBLOCK, opening a pipe would wait; for a regular file it changes nothing.
        descriptor = os.open(path, flags | _SAFE | os.O_NONBLOCK, 0o600)
    found = os.fstat(descriptor)
    try:
        if not stat.S_ISREG(found.st_mode):
            raise EnvironmentFault(f"{path} is no regular file", hint="move it away")
        _refuse_others(path, found)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_private(path: Path) -> bytes | None:
    """Read the whole file; None where there is none. Raises EnvironmentFault as `open_private` does."""
    if not os.path.lexists(path):
        return None
    with located(path), os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
        return file.read()


def write_private(path: Path, content: str | bytes) -> None:
    """Replace the file, whole or not at all; the temporary name cannot be guessed."""
    staged = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with located(path):
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            staged.replace(path)
            _sync_folder(path.parent)
        finally:
            staged.unlink(missing_ok=True)


def _refuse_others(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise EnvironmentFault(f"{path} belongs to another user ({found.st_uid})", hint="make one of your own")
    if found.st_mode & 0o077:
        mode = "700" if stat.S_ISDIR(found.st_mode) else "600"
        raise EnvironmentFault(
            f"other users can access {path} (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"chmod {mode} {path}; if somebody may have, rotate the devices",
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that cannot: https://man7.org/linux/man-pages/man2/fsync.2.html
            raise
    finally:
        os.close(descriptor)
