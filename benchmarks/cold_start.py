"""Time from the start of a process to its first acknowledged batch, compared with boto3 making one call a client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import processor_load as load
from benchmarks.aws_stub import running_stub
from benchmarks.processor import environment
from benchmarks.result import Result, peak_memory_mb
from benchmarks.rounds import interleaved

RECORDS = 100
"""A first batch is small."""

OURS = """
import json, sys
from fleet_iot.sensor_processor.handler import handle
answer = handle(json.load(open(sys.argv[1])), None)
sys.exit(bool(answer["batchItemFailures"]))
"""

BOTO3 = """
import boto3
session = boto3.session.Session()
dynamodb, s3 = session.client("dynamodb"), session.client("s3")
key = {"device": {"S": "nobody"}}
dynamodb.batch_get_item(RequestItems={"table-devices-dev": {"Keys": [key]}})
s3.put_object(Bucket="bucket-mfg-raw-archive-dev", Key="key", Body=b"")
"""


def run(rounds: int, *, records: int = RECORDS) -> Result:
    """Measure whole processes, from the interpreter's start on."""
    with running_stub() as address, environment(address), TemporaryDirectory(prefix="fleet-benchmark-") as folder:
        event = Path(folder) / "event.json"
        event.write_text(json.dumps(load.event(0, records=records)))
        cpu: dict[str, list[float]] = {"ours": [], "boto3": []}
        times = interleaved(
            {"ours": _process(OURS, str(event), cpu=cpu["ours"]), "boto3": _process(BOTO3, cpu=cpu["boto3"])},
            rounds=rounds,
        )
    best = {name: of.best for name, of in times.items()}
    return Result(
        benchmark="cold_start",
        unit="starts/s",
        ours=1 / best["ours"],
        peers={},
        limit=1 / best["boto3"],
        peak_memory_mb=peak_memory_mb(),
        details={
            "records": records,
            "rounds": rounds,
            "best_s": {name: round(seconds, 3) for name, seconds in best.items()},
            "cpu_s": {name: round(min(seconds), 3) for name, seconds in cpu.items()},
            "times_boto3": round(best["ours"] / best["boto3"], 2),
            "limit": "boto3 with the same clients doing one call each",
        },
    )


def _process(code: str, *arguments: str, cpu: list[float]) -> Callable[[], float]:
    """Return a function that runs such a process and returns its seconds; its CPU seconds go into `cpu`."""

    def seconds() -> float:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"the process ended with {process.returncode}")
        cpu.append(used.ru_utime + used.ru_stime)
        return time.perf_counter() - start

    return seconds
