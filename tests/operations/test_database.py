"""The SQLite files that runs share are founded by whoever comes first, and by all at once."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from fleet_iot.operations.storage import connect

TOGETHER = 8
ROUNDS = 25


def test_runs_that_begin_at_one_moment_found_one_file(tmp_path: Path) -> None:
    """None of them fails because another is just making the file."""
    barrier = Barrier(TOGETHER, timeout=20)

    def found(number: int) -> list[str]:
        modes = []
        for turn in range(ROUNDS):
            barrier.wait()
            path = tmp_path / f"{turn}" / "shared.sqlite"
            connection = connect(path, synchronous="OFF", schema="CREATE TABLE IF NOT EXISTS a (b);", format_=3)
            connection.execute("INSERT INTO a VALUES (?)", (number,))
            modes += [mode for (mode,) in connection.execute("PRAGMA journal_mode")]
            connection.close()
        return modes

    with ThreadPoolExecutor(TOGETHER) as pool:
        assert [["wal"] * ROUNDS] * TOGETHER == list(pool.map(found, range(TOGETHER)))
    for turn in range(ROUNDS):
        with sqlite3.connect(tmp_path / f"{turn}" / "shared.sqlite") as connection:
            assert TOGETHER == connection.execute("SELECT count(*) FROM a").fetchone()[0]


def test_another_format_is_refused(tmp_path: Path) -> None:
    """A file of an older or newer version, and what is no SQLite file at all."""
    path = tmp_path / "shared.sqlite"
    connect(path, synchronous="FULL", format_=2).close()
    with pytest.raises(sqlite3.DatabaseError, match="format is 2, not 3"):
        connect(path, synchronous="FULL", format_=3)
    path.write_bytes(b"no database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        connect(path, synchronous="FULL")
