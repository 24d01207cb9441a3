"""Measure the CPU of a record where each batch meets one of four processes by chance, of this tree and of another.

The same batches go to both in turn, in processes that differ only in the `fleet_iot` that they import, so that what
else the machine does meets both alike.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from benchmarks.aws.server import running_server
from benchmarks.function import TABLES
from benchmarks.readings import DEVICES, RECORDS
from benchmarks.result import Result, interleaved, peak_memory_mb

ROOT = Path(__file__).parents[1]
PROCESSES = 4
WARM = 8
"""Unmeasured batches: by then, most processes have had one."""

PROCESS = """
import os, sys, time
tree, here, address, records, devices = sys.argv[1:]
sys.path[:0] = [tree, here]
from contextlib import redirect_stdout
from benchmarks import readings
from benchmarks.function import environment, handler
with environment(readings.CATALOGUE, AWS_ENDPOINT_URL=address), open(os.devnull, "w") as sink:
    processes = []
    for minute, line in enumerate(sys.stdin):
        place = int(line)
        while place >= len(processes):
            processes.append(handler.runtime.__wrapped__())
        event = readings.make_event(minute, records=int(records), devices=int(devices))
        with redirect_stdout(sink):
            start = time.process_time()
            answer = handler.respond(processes[place], event, None)
            used = time.process_time() - start
        if answer["batchItemFailures"]:
            sys.exit("records failed")
        print(used, flush=True)
"""
"""Handle the next batch in the process that each line names; print the seconds of CPU, those of threads included."""


@contextmanager
def _processes(tree: Path, *, records: int, devices: int) -> Iterator[subprocess.Popen[str]]:
    """Start the processes of a tree, on tables of their own."""
    with running_server(TABLES) as address, TemporaryDirectory(prefix="fleet-tree-") as folder:
        (Path(folder) / "fleet_iot").symlink_to(tree.resolve() / "fleet_iot", target_is_directory=True)
        command = [sys.executable, "-c", PROCESS, folder, str(ROOT), address, str(records), str(devices)]
        with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            yield process
            if process.stdin is not None:
                process.stdin.close()


def _seconds(process: subprocess.Popen[str], dice: Random) -> float:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    print(dice.randrange(PROCESSES), file=process.stdin, flush=True)
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the process ended with {process.wait()}")
    return float(line)


def run(rounds: int, *, against: Path | None = None, records: int = RECORDS, devices: int = DEVICES) -> Result:
    """Measure this tree, and `against`, a checkout of another version of it, with the same batches in the same turn."""
    trees = {"ours": ROOT} | ({} if against is None else {"other": against})
    with ExitStack() as stack:
        contestants = {}
        for name, tree in trees.items():
            process = stack.enter_context(_processes(tree, records=records, devices=devices))
            dice = Random(1)  # noqa: S311 - the same turns for all
            contestants[name] = lambda process=process, dice=dice: _seconds(process, dice)
        interleaved(contestants, rounds=WARM)
        times = interleaved(contestants, rounds=rounds)
    # All rounds count: which of them are fast depends on who had the batch before.
    mean = {name: sum(each.rounds) / rounds / records for name, each in times.items()}
    return Result(
        benchmark="hops",
        unit="records/s of CPU",
        ours=1 / mean["ours"],
        peers={name: 1 / seconds for name, seconds in mean.items() if name != "ours"},
        limit=None,
        peak_memory_mb=peak_memory_mb(),
        details={
            "records": records,
            "devices": devices,
            "processes": PROCESSES,
            "rounds": rounds,
            "cpu_us_a_record": {name: round(seconds * 1e6, 1) for name, seconds in mean.items()},
            "median_us_a_record": {name: round(each.median / records * 1e6, 1) for name, each in times.items()},
            "times_other": None if against is None else round(mean["ours"] / mean["other"], 3),
            "against": None if against is None else os.fspath(against),
        },
    )
