"""Opens the SQLite files that several runs share, so that two of them may begin at the same moment."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Literal

BUSY_S = 30
"""How long one run waits for what another writes."""


def connect(
    path: Path | None, *, synchronous: Literal["FULL", "OFF"], schema: str = "", format_: int = 0
) -> sqlite3.Connection:
    """A connection in WAL mode to the file at `path`, founded with `schema` where it is new; None is one in memory.

    `format_` is held to the file's own and written into a new one. Raises sqlite3.DatabaseError where the file is
    another's. A file is brought into WAL mode under a lock: SQLite does not wait for that
    (https://www.sqlite.org/wal.html), so of two runs that found one together the second would fail.
    """
    if path is None:
        return _opened(":memory:", synchronous=synchronous, schema=schema, format_=format_)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path.with_name(f"{path.name}.founding"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return _opened(path, synchronous=synchronous, schema=schema, format_=format_)
    finally:
        os.close(descriptor)


def _opened(path: Path | str, *, synchronous: str, schema: str, format_: int) -> sqlite3.Connection:
    # Threads take turns by locks of ours.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        if schema:
            connection.executescript(schema)
        if format_:
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, format_):
                raise sqlite3.DatabaseError(f"its format is {found}, not {format_}")
            connection.execute(f"PRAGMA user_version = {format_}")
    except BaseException:
        connection.close()
        raise
    return connection
