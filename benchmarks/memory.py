"""Measure the function's peak memory: the real handler in a process of its own, under batches of 6 MB, over midnight.

A stub of AWS runs in a process of its own. The devices of one batch have readings in each hour of the day before; then
a new process handles ordinary batches of all devices of the shard, and the first batch of the new day, which closes
hour and day of each of its devices.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import readings
from benchmarks.aws.server import running_server
from benchmarks.function import REGION, TABLES, environment
from benchmarks.result import Result
from benchmarks.units import SEQUENCE, STREAM, Sender
from fleet_iot.operations.local.event_source import PAYLOAD_BYTES, RECORD_OVERHEAD_BYTES, StreamRecord, kinesis_event

DEVICES = 10_000
"""Of one shard."""

METRICS = 16
MIDNIGHT = 1_795_478_400.0
"""2026-11-24T00:00:00Z."""

HISTORY_HOURS = range(24, 1, -1)
"""Hours before midnight with a reading each, of the devices whose day is closed."""

FUNCTION_MB = 1_024
RETRIES = 5
ROUNDS = 3

CATALOGUE = {
    "application": "mfg",
    "device_types": {
        "press-monitor": {
            "metrics": {
                f"channel_{number:02d}": {"unit": "bar", "min": 0, "max": 400, "detector": "context"}
                for number in range(METRICS)
            }
        }
    },
}

PROCESS = """
import json, resource, sys
from benchmarks.function import Context
from fleet_iot.sensor_processor.handler import handle
for line in sys.stdin:
    with open(line.strip(), "rb") as file:
        event = json.loads(file.read())
    failed = handle(event, Context(remaining_ms=120_000))["batchItemFailures"]
    del event
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(failed), flush=True)
"""
"""A process of the function: handle the events whose files are named, and say what memory was used at most."""


def metrics_of(second: int, device: int) -> dict[str, float]:
    """Return sixteen values: cycles with noise."""
    values = readings.values_of(second // 10, device)
    levels = [values["temperature"], values["vibration"], values["pressure"]]
    return {f"channel_{number:02d}": round(levels[number % 3] + number, 3) for number in range(METRICS)}


def record(device: int, times: Sequence[float], *, arrived: float, number: int) -> StreamRecord:
    """Make the record of a device's readings, an array of them if there are several."""
    sender = Sender(
        number=device,
        thing=f"sg-01-press-monitor-{device + 1:05d}-dev",
        facility="sg-01",
        device_type="press-monitor",
        phase=0.0,
        shard=0,
    )
    messages = [readings.payload_of(round(time * 1000), int(time), metrics_of(int(time), device)) for time in times]
    payload = messages[0] if len(messages) == 1 else b"[" + b",".join(messages) + b"]"
    return sender.record_of(payload, arrived=arrived, number=number)


def batches(records: Iterator[StreamRecord]) -> Iterator[tuple[StreamRecord, ...]]:
    """Group records into batches of 6 MB, as Lambda's payload has them."""
    batch: list[StreamRecord] = []
    size = 0
    for each in records:
        more = len(each.data) * 4 // 3 + len(each.partition_key) + RECORD_OVERHEAD_BYTES
        if batch and size + more > PAYLOAD_BYTES:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(each)
        size += more
    if batch:
        yield tuple(batch)


class Function:
    """A process of the function."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._file = process, folder / "event.json"
        self.peak_mb = 0.0

    def handle(self, records: tuple[StreamRecord, ...]) -> float:
        """Handle a batch, again where records failed; return the peak so far, in MB."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")
        event = kinesis_event(records, shard="shardId-000000000000", stream_arn=STREAM, role_arn="", region=REGION)
        self._file.write_text(json.dumps(event))
        for _ in range(RETRIES):
            print(self._file, file=self._process.stdin, flush=True)
            line = next(line for line in self._process.stdout if line.startswith("peak "))
            _, peak, failed = line.split()
            self.peak_mb = int(peak) / 1_000
            if failed == "0":
                return self.peak_mb
        raise AssertionError(f"{failed} records failed {RETRIES} times")


@contextmanager
def function() -> Iterator[Function]:
    """Start a process of the function."""
    with (
        TemporaryDirectory(prefix="fleet-memory-") as folder,
        subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        yield Function(process, Path(folder))
        if process.stdin is not None:
            process.stdin.close()


def run(rounds: int, *, devices: int = DEVICES) -> Result:
    """Measure a process that handles `rounds` readings of each device before midnight, and the batch after it."""
    numbers = iter(range(SEQUENCE, SEQUENCE + 1_000_000_000))

    def reading(device: int, time: float) -> StreamRecord:
        return record(device, [time + device / devices], arrived=time + 2, number=next(numbers))

    with running_server(TABLES) as address, environment(CATALOGUE, AWS_ENDPOINT_URL=address, LOG_LEVEL="ERROR"):
        closing = next(batches(reading(device, MIDNIGHT + 60) for device in range(devices)))
        hours = [MIDNIGHT - 3600 * hour for hour in HISTORY_HOURS]
        with function() as past:
            for batch in batches(
                record(device, hours, arrived=MIDNIGHT - 3600, number=next(numbers)) for device in range(len(closing))
            ):
                past.handle(batch)
        with function() as process:
            idle = process.handle(closing[:0] or (reading(0, MIDNIGHT - 900),))
            ordinary = idle
            for number in range(rounds):
                for batch in batches(reading(device, MIDNIGHT - 600 + 10 * number) for device in range(devices)):
                    ordinary = process.handle(batch)
            peak = process.handle(closing)
    return Result(
        benchmark="memory",
        unit="MB",
        ours=peak,
        peers={},
        limit=None,
        peak_memory_mb=peak,
        details={
            "peak_mb": {
                "first_reading": round(idle),
                "history_in_arrays": round(past.peak_mb),
                "ordinary": round(ordinary),
                "midnight": round(peak),
            },
            "function_mb": FUNCTION_MB,
            "devices": devices,
            "devices_of_the_batch_at_midnight": len(closing),
            "metrics": METRICS,
            "rounds": rounds,
        },
    )
