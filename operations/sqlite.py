"""Opens the SQLite files that several runs share, so that two of them may begin at the same moment."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from fleet_iot.operations.storage import exclusive, transaction

BUSY_S = 30
"""How long one run waits for what another writes."""

TakeOver = Callable[[sqlite3.Connection], None]
"""Brings a file of an older format to the present one, in one transaction with the format's number."""


class FormatError(sqlite3.DatabaseError):
    """The file has a format that this program does not know."""


def connect(
    path: Path | None,
    *,
    synchronous: Literal["FULL", "OFF"],
    schema: str = "",
    format_: int = 0,
    older: Mapping[int, TakeOver] | None = None,
) -> sqlite3.Connection:
    """A connection in WAL mode to the file at `path`, founded with `schema` where it is new; None is one in memory.

    `format_` is held to the file's own and written into a new one; files of the formats in `older` are taken over.
    Raises sqlite3.DatabaseError where the file is another's. A file is brought into WAL mode under a lock: SQLite does
    not wait for that (https://www.sqlite.org/wal.html), so of two runs that found one together the second would fail.
    """
    if path is None:
        return _opened(":memory:", synchronous=synchronous, schema=schema, format_=format_, older={})
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(path.with_name(f"{path.name}.founding")):
        with suppress(FileExistsError):  # SQLite would let others read it; its own files take over this one's mode
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
    # Threads take turns by locks of ours.
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
