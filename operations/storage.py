"""Errors of disks and databases with the path that they are about, and transactions that stay whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from generator.filesystem import fault_of


@contextmanager
def located(path: Path | None, *, damaged: str | None = None) -> Iterator[None]:
    """Raise a FleetError with path, cause and remedy for what fails inside because of the disk or its rights.

    Args:
        path: What is read or written inside, for errors that name no path.
        damaged: What to do where it is a database that is damaged.

    Raises:
        FleetError: A WriteError or EnvironmentFault; other errors pass as they are.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        fault = fault_of(error, path=path, damaged=damaged)
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
