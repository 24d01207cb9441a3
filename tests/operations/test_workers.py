"""Work in other processes: in order, with its faults, and never longer than who asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.operations.workers import batches_of, in_order
from tests.places import PROJECT


def squares(batch: list[int]) -> tuple[int, list[int]]:
    time.sleep(0.01 if batch[0] % 2 else 0)  # the later batch is often done first
    return os.getpid(), [number * number for number in batch]


def test_results_come_in_the_batches_order() -> None:
    """From several processes, none of them this one."""
    found = list(in_order(batches_of(range(1_000), 7), squares, workers=3))
    assert [number * number for number in range(1_000)] == [value for _, values in found for value in values]
    assert (3, False) == (len({process for process, _ in found}), os.getpid() in {process for process, _ in found})


def test_few_batches_start_no_process() -> None:
    """A process needs longer to start than they need."""
    assert {os.getpid()} == {process for process, _ in in_order(batches_of(range(20), 10), squares)}


def test_what_the_work_raises_is_raised_at_its_batch() -> None:
    """Results before it are yielded first; message and hint are kept."""

    def work(batch: list[int]) -> int:
        if batch == [5]:
            raise RequestError("five", hint="leave it out")
        return batch[0]

    results = in_order(batches_of(range(10), 1), work, workers=2)
    assert [0, 1, 2, 3, 4] == [next(results) for _ in range(5)]
    with pytest.raises(RequestError) as caught:
        next(results)
    assert ("five", "leave it out") == (caught.value.message, caught.value.hint)


def test_a_bug_keeps_its_traceback() -> None:
    """Of any kind: an error that cannot go from one process to another becomes one that can."""

    class HereOnlyError(Exception):
        """A class that cannot be imported."""

    def work(batch: list[int]) -> int:
        raise (HereOnlyError if batch == [0] else ZeroDivisionError)("in the depths")

    for first, kind in ((0, RuntimeError), (1, ZeroDivisionError)):
        with pytest.raises(kind, match="in the depths") as caught:
            list(in_order(batches_of(range(first, 9), 1), work, workers=2))
        assert "test_workers.py" in "".join(caught.value.__notes__)


def test_a_killed_worker_is_told() -> None:
    """It is no end of the work."""

    def work(batch: list[int]) -> int:
        if batch == [5]:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch[0]

    with pytest.raises(EnvironmentFault, match="worker process was killed"):
        list(in_order(batches_of(range(10), 1), work, workers=2))


def test_workers_are_gone_with_who_asked_for_them() -> None:
    """However it ends: a killed command leaves no worker behind, which would keep its locks."""
    code = """
import os, time
from fleet_iot.operations.workers import batches_of, in_order
for pid in in_order(batches_of(range(10_000), 1), lambda batch: time.sleep(0.01) or os.getpid(), workers=2):
    print(pid, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = {int(parent.stdout.readline()) for _ in range(8)}
        parent.kill()
    assert 2 == len(workers)
    end = time.monotonic() + 10
    while any(is_running(pid) for pid in workers) and time.monotonic() < end:
        time.sleep(0.02)
    assert [] == [pid for pid in workers if is_running(pid)]


def is_running(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
