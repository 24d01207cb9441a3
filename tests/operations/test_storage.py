"""Full disks, read-only folders and damaged databases are reported with path, cause and remedy, and survived."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.cli import commands as cli
from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.generator.filesystem import fault_of
from fleet_iot.operations.lists.material import read_material
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.pki.ledger import Ledger
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.matching import Pair
from fleet_iot.operations.storage import connect, transaction
from tests.operations.lists.builders import NOW, make_request, pem
from tests.operations.registry.test_steps import RUN, THING
from tests.places import PROJECT

NOBODY = 65534
is_root = os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason="mounts a small disk, or takes another user's part")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", folder], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                return


def pairs(count: int) -> Iterator[Pair]:
    material = read_material(None, pem(make_request()).encode(), now=NOW)
    for number in range(count):
        thing = THING.__class__(name=f"t-{number}", thing_type="t", device_type="d", serial="s", attributes={})
        yield Pair(thing=thing, row=number, place="x" * 100, material=material)


@needs_root
def test_a_journal_on_a_full_disk_says_so_and_goes_on_later(small: Path) -> None:
    """The cause is reported, not the rollback; nothing is half written; with space again, the same journal works."""
    with Journal(small / "journal" / "j.sqlite") as journal:
        journal.write(entries.history("t-1", "first", at=1.0, certificate_id=None, reason=""))
        fill(small)
        long = [entries.history("t-1", "x" * 500, at=1.0, certificate_id=None, reason="") for _ in range(5000)]
        with pytest.raises(EnvironmentFault, match=r"j\.sqlite: (database or disk is full|disk I/O error)") as told:
            journal.write(*long)
        assert "rollback" not in told.value.message and told.value.hint
        with pytest.raises(EnvironmentFault, match=r"j\.sqlite: (database or disk is full|disk I/O error)"):
            journal.start_run(RUN, pairs(500), [], now=1.0)
        assert [(0, 0)] == journal.read("SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM devices)")
        (small / "filler").unlink()
        journal.write(entries.history("t-1", "last", at=1.0, certificate_id=None, reason=""))
        assert 1 == journal.start_run(RUN, pairs(3), [], now=1.0)
    with sqlite3.connect(small / "journal" / "j.sqlite") as database:
        assert ("ok",) == database.execute("PRAGMA integrity_check").fetchone()


@pytest.mark.slow
@needs_root
def test_a_key_store_on_a_full_disk_loses_no_key(small: Path) -> None:
    """Keys that were added before and after the disk was full can be read, and so can each that the store lists."""
    store, key = KeyStore(small / "keys", "words of tests"), ec.generate_private_key(ec.SECP256R1())
    store.add("sg-01", [("first", key)])
    fill(small)
    with pytest.raises(EnvironmentFault, match=r"sg-01\.keys\.jsonl: No space left"):
        store.add("sg-01", [(f"t-{number}", key) for number in range(100)])
    (small / "filler").unlink()
    store.add("sg-01", [("last", key)])
    assert {"first", "last"} <= store.names("sg-01")
    assert len(dict(store.keys("sg-01", store.names("sg-01")))) == len(store.names("sg-01"))


@pytest.mark.slow
@needs_root
def test_a_disk_that_is_full_from_the_start_founds_nothing(small: Path) -> None:
    """Neither a key store nor a journal nor a ledger is left behind in pieces."""
    fill(small)
    for found in (
        lambda: KeyStore(small / "keys", "words of tests"),
        lambda: Journal(small / "journal.sqlite"),
        lambda: Ledger(small / "ledger.sqlite"),
    ):
        with pytest.raises(EnvironmentFault, match=r"No space left|disk is full|disk I/O error|unable to open"):
            found()
    (small / "filler").unlink()
    KeyStore(small / "keys", "words of tests")
    Journal(small / "journal.sqlite").__exit__(None, None, None)
    Ledger(small / "ledger.sqlite").close()


@pytest.mark.slow
def test_a_limit_of_file_sizes_is_told(tmp_path: Path) -> None:
    """As the operating system sets it for a user: the write fails, and nothing of it is there."""
    with Journal(tmp_path / "journal.sqlite") as journal:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, hard))
        try:
            with pytest.raises(EnvironmentFault, match=r"journal\.sqlite: disk I/O error|journal\.sqlite: .*full"):
                journal.start_run(RUN, pairs(2000), [], now=1.0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [(0,)] == journal.read("SELECT count(*) FROM devices")
        assert 1 == journal.start_run(RUN, pairs(2), [], now=1.0)


@needs_root
def test_a_folder_of_another_user_is_told(tmp_path: Path) -> None:
    """As the user `nobody`: exit 7 with folder and remedy, for journal, ledger and key store."""
    code = f"""
import os, sys
from pathlib import Path
from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.pki.ledger import Ledger
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.registry.journal import Journal
folder = Path(sys.argv[1])
os.setgid({NOBODY}); os.setuid({NOBODY})
for found in (
    lambda: KeyStore(folder / "keys", "words of tests"),
    lambda: KeyStore(folder, "words of tests"),
    lambda: Journal(folder / "journal.sqlite"),
    lambda: Ledger(folder / "ledger.sqlite"),
):
    try:
        found()
    except EnvironmentFault as fault:
        print(fault.message, "|", fault.hint)
"""
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    try:
        folder.chmod(0o755)
        run = subprocess.run(
            [sys.executable, "-c", code, str(folder)], cwd=PROJECT, capture_output=True, text=True, check=True
        )
    finally:
        folder.rmdir()
    told = run.stdout.splitlines()
    assert 4 == len(told), run.stdout + run.stderr
    assert all(str(folder) in line and line.partition("|")[2].strip() for line in told)
    assert 3 == sum("Permission denied" in line for line in told)


def read_all(path: Path) -> None:
    with Journal(path) as journal:
        list(journal.devices(1, "planned"))
        journal.write(entries.done("t-299"))


def test_a_damaged_page_is_told_where_it_is_read(tmp_path: Path) -> None:
    """A journal that opens and is damaged inside: path, cause and what it is for."""
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.start_run(RUN, pairs(300), [], now=1.0)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[len(content) // 4 :] = b"\xa5" * (len(content) - len(content) // 4)
    path.write_bytes(content)
    with pytest.raises(EnvironmentFault, match="is no journal that can be read: database disk image") as told:
        read_all(path)
    assert "backup" in str(told.value.hint)


def test_a_journal_of_a_newer_fleet_is_not_touched(tmp_path: Path) -> None:
    """Its format is named."""
    path = tmp_path / "journal.sqlite"
    Journal(path).__exit__(None, None, None)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(EnvironmentFault, match="its format is 99") as told:
        Journal(path)
    assert "use the fleet that made it" in str(told.value.hint)


def test_a_failing_rollback_hides_nothing() -> None:
    """SQLite may have rolled back by itself: the first error is raised, and the next transaction works."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("CREATE TABLE t (a PRIMARY KEY)")
    with pytest.raises(sqlite3.IntegrityError), transaction(database):
        database.executemany("INSERT OR ROLLBACK INTO t VALUES (?)", [(1,), (1,)])
    with transaction(database):
        database.execute("INSERT INTO t VALUES (2)")
    assert [(2,)] == database.execute("SELECT a FROM t").fetchall()


def test_a_bug_keeps_its_traceback() -> None:
    """An error that is a statement's, not the storage's, is no fault of the user's."""
    database = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError) as bug:
        database.execute("SELECT * FROM nowhere")
    assert fault_of(bug.value, None) is None
    assert fault_of(FileNotFoundError(2, "No such file"), None) is None


def test_every_command_tells_what_storage_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 7 with path and remedy, wherever in a command it fails; a bug passes."""
    raised: list[Exception] = [OSError(28, "No space left on device", "/plant/list.new"), KeyError("bug")]

    def failing(*_: object, **__: object) -> None:
        raise raised.pop(0)

    monkeypatch.setattr(cli.main.commands["validate"], "callback", failing)
    told = CliRunner().invoke(cli.main, ["validate"])
    assert 7 == told.exit_code and "/plant/list.new: No space left on device" in told.output
    assert isinstance(CliRunner().invoke(cli.main, ["validate"]).exception, KeyError)


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
