"""Open SQLite files that several runs share, also when two runs create one at the same moment."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from fleet_iot.operations.storage import exclusive, transaction

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
