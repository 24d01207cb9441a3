"""Many files are made by several processes: what they find does not depend on which of them is faster."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from fleet_iot.generator.diagnostics import GateError, WriteError
from fleet_iot.generator.output import workers, writer
from fleet_iot.generator.output.artefact import Artefact
from fleet_iot.generator.output.writer import hash_all

ROOT = Path(__file__).parents[2]
PATHS = [f"plant_{number:02d}/{name}" for number in range(40) for name in ("a", "b")]


@pytest.fixture(autouse=True)
def _two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WORKERS", 2)


def artefact(path: str, *, fails: bool = False, kills: int | None = None) -> Artefact:
    def chunks() -> Iterable[bytes]:
        if kills is not None and os.getpid() != kills:
            os.kill(os.getpid(), 9)
        if fails:
            raise GateError(f"{path} fails")
        yield f"{path} in {'one' if kills else 'some'} process".encode()

    return Artefact(path=path, chunks=chunks)


def expected(text: str) -> dict[str, str]:
    return {path: hashlib.sha256(f"{path} in {text} process".encode()).hexdigest() for path in PATHS}


def test_every_file_is_hashed() -> None:
    """The hashes are those of the bytes, by path, whichever process made them."""
    assert expected("some") == hash_all(artefact(path) for path in PATHS)


def test_processes_share_the_work() -> None:
    """Where there are many folders, more than one process makes them."""
    pids = workers.merged(range(16), lambda number: {str(number): str(os.getpid())})
    assert 16 == len(pids)
    assert 2 == len(set(pids.values()))


@pytest.mark.parametrize("failing", [{7}, {8, 61}, {9, 60, 62}, set(range(20, 80))])
def test_the_first_fault_in_order_is_told(failing: set[int]) -> None:
    """A fault in a file that comes earlier is the one that people see, whoever found it."""
    with pytest.raises(GateError, match=f"{PATHS[min(failing)]} fails"):
        hash_all(artefact(path, fails=number in failing) for number, path in enumerate(PATHS))


def test_work_of_a_process_that_was_killed_is_done_again() -> None:
    """A worker may be lost, and no file with it."""
    own = os.getpid()
    assert expected("one") == hash_all(artefact(path, kills=own) for path in PATHS)


def test_where_no_process_can_be_had_all_is_done_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on processes makes it slower, and nothing else."""

    def refuse() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", refuse)
    assert expected("one") == hash_all(artefact(path, kills=os.getpid()) for path in PATHS)


def test_staged_files_are_those_of_all_processes(tmp_path: Path) -> None:
    """The tree holds what every process staged; a second run finds nothing to write."""
    for written in (tuple(sorted(PATHS)), ()):
        with writer.opened(tmp_path), writer.staging(tmp_path) as stage:
            assert expected("some") == stage.add_all(artefact(path) for path in PATHS)
            assert written == stage.commit(removing=()).written
    assert sorted(PATHS) == sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("?"))


def test_lock_that_is_let_go_soon_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of a run that was killed holds the tree until it notices; a run that goes on is not waited for."""
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_WAIT_S", 0.0)
        with pytest.raises(WriteError, match="another"), writer.opened(tmp_path):
            pass
    timer = threading.Timer(0.1, os.close, (handle,))
    timer.start()
    start = time.monotonic()
    with writer.opened(tmp_path):
        assert 0.05 < time.monotonic() - start


KILLED = """
import os, sys, time
from pathlib import Path
from fleet_iot.generator.output import workers
first, workers.WORKERS = os.getpid(), 2
def work(number):
    time.sleep(0.05)
    if os.getpid() == first and number >= 4:
        os.kill(first, 9)
    Path(sys.argv[1], str(number)).touch()
    return {}
workers.merged(range(100), work)
"""


def test_worker_ends_when_its_run_was_killed(tmp_path: Path) -> None:
    """It finishes what it is at, and then nothing more."""
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert -9 == ended.returncode
    time.sleep(0.3)
    assert 2 <= len(list(tmp_path.iterdir())) < 20
