"""Report errors of disks and databases with path, cause and remedy."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.generator.filesystem import fault_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The name of a database for people, and what to do where it is damaged."""

    name: str = "database"
    restore: str = "restore it from a backup"


DATABASE = Kept()


def storage_fault(
    error: OSError | sqlite3.Error, path: Path | None, *, kept: Kept = DATABASE
) -> EnvironmentFault | None:
    """Turn an error of a disk or database into a fault; None for any other."""
    return fault_of(error, path, name=kept.name, restore=kept.restore)


@contextmanager
def located(path: Path | None, *, kept: Kept = DATABASE) -> Iterator[None]:
    """Raise EnvironmentFault for errors of disk or database inside; others are raised unchanged."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        fault = storage_fault(error, path, kept=kept)
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
