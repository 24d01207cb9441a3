"""CPU of the sensor processor a record, including sockets and detection, compared with two peers and a lower bound.

A batch has 4,000 records of 700 devices with four metrics each. Each is the next minute of the same devices, whose
learned state is used and stored again. A stub of AWS runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import Request, urlopen

import boto3
import msgspec
from isal import igzip
from pybase64 import b64decode

from benchmarks import processor_load as load
from benchmarks.aws_stub import running_stub
from benchmarks.processor_peers import READINGS, Powertools, PutItem
from benchmarks.result import Result, peak_memory_mb
from benchmarks.rounds import interleaved
from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.detection import DeviceDetectors
from fleet_iot.sensor_processor.ingest.catalogue import parse_catalogue
from fleet_iot.sensor_processor.ingest.reading import Envelope
from fleet_iot.sensor_processor.planning.items import Device, device_item

LEARNED = 371
"""Minutes that the devices have run before the first batch, which begins an hour."""

MINUTES = 60
"""Batches in an hour. The last measured batch closes it, after an hour's batches in all."""

WARM = 2
"""Unmeasured batches before the first, for one-time work of a process."""

Handler = Callable[[dict[str, Any]], Any]


class _Message(msgspec.Struct):
    time: int
    sequence: int
    metrics: dict[str, float]


def run(rounds: int, *, records: int = load.RECORDS, devices: int = load.DEVICES, learned: int = LEARNED) -> Result:
    """Measure all contestants on the same batches, and check that every reading was stored."""
    with running_stub() as address, environment(address):
        session = boto3.session.Session()
        with open(os.devnull, "w") as sink:  # noqa: PTH123 - logs must be written, but are not read
            contest = _Contest(address, sink, records=records, devices=devices, first=learned)
            ours = contest.contestant(lambda event: handler.handle(event, None))
            _learn(session, minutes=learned, rounds=load.rounds_of(records, devices), devices=devices)
            for _ in range(WARM):
                ours()
            memory = peak_memory_mb()
            times = interleaved(
                {
                    "ours": ours,
                    "limit": contest.contestant(_floor),
                    "put_item": contest.contestant(PutItem(session).handle, table=READINGS),
                    "powertools": contest.contestant(Powertools(session).handle, table=READINGS),
                },
                rounds=rounds,
            )
            while contest.batches % MINUTES:
                ours()
            hour_end = ours()
        contest.check(rounds)
    best = {name: of.best for name, of in times.items()}
    # One batch in an hour also closes the hour before.
    ordinary, best["ours"] = best["ours"], best["ours"] + (hour_end - best["ours"]) / MINUTES
    return Result(
        benchmark="processor",
        unit="records/s of CPU",
        ours=records / best["ours"],
        peers={name: records / best[name] for name in ("put_item", "powertools")},
        limit=records / best["limit"],
        peak_memory_mb=memory,
        details={
            "records": records,
            "devices": devices,
            "metrics": 4,
            "rounds": rounds,
            "cpu_us_a_record": {name: round(seconds / records * 1e6, 1) for name, seconds in best.items()},
            "ordinary_us_a_record": round(ordinary / records * 1e6, 1),
            "hour_end_us_a_record": round(hour_end / records * 1e6, 1),
            "median_us_a_record": {name: round(of.median / records * 1e6, 1) for name, of in times.items()},
            "wall_ms_a_batch": round(min(contest.wall) * 1e3),
            "limit": "base64, typed parse and compression of the same records",
        },
    )


class _Contest:
    """Give every contestant the same batches in turn, and count them."""

    def __init__(self, address: str, sink: Any, *, records: int, devices: int, first: int) -> None:
        self._address, self._sink, self._first = address, sink, first
        self._records, self._devices = records, devices
        self.batches = 0
        self.wall: list[float] = []

    def contestant(self, handle: Handler, *, table: str = "") -> Callable[[], float]:
        """Return a function that handles the next batch and returns its CPU seconds, those of threads included."""
        minutes = count(self._first)

        def seconds() -> float:
            event = load.event(next(minutes), records=self._records, devices=self._devices)
            with redirect_stdout(self._sink):
                wall, start = time.perf_counter(), time.process_time()
                answer = handle(event)
                used = time.process_time() - start
            if not table and answer is not None:
                self.wall.append(time.perf_counter() - wall)
                self.batches += 1
            if answer is not None and answer["batchItemFailures"]:
                raise AssertionError(f"{len(answer['batchItemFailures'])} records failed")
            return used

        return seconds

    def check(self, rounds: int) -> None:
        """Check the tables: an item for each reading, a minute for each device and batch."""
        request = Request(self._address, b"{}", {"X-Amz-Target": "Stub.Count"})  # noqa: S310 - the stub on loopback
        with urlopen(request) as response:  # noqa: S310
            stored = json.load(response)
        expected = {
            READINGS: rounds * self._records,
            "table-devices-dev": self._devices,
            "objects": self.batches,
        }
        found = {name: stored.get(name) for name in expected}
        if found != expected or stored["table-readings-dev"] < self.batches * self._devices:
            raise AssertionError(f"the stub has {stored}, not {expected}")


def _learn(session: boto3.session.Session, *, minutes: int, rounds: int, devices: int) -> None:
    """Store the devices as they are after so many minutes of readings."""
    client = session.client("dynamodb")
    metrics = parse_catalogue(json.dumps(load.CATALOGUE).encode()).device_types["press-monitor"]
    for number in range(devices):
        detectors = DeviceDetectors()
        for sequence in range(minutes * rounds):
            detectors.learn((load.START + sequence, sequence), load.values(sequence, number), metrics=metrics)
        device = Device(
            name=load.thing(number),
            facility="sg-01",
            device_type="press-monitor",
            certificate_id=f"{number + 1:064x}",
            first_contact=load.START,
            last_contact=load.START,
            newest_reading=load.START + minutes * rounds,
            version=minutes,
            messages=minutes * rounds,
            last_sequence=minutes * rounds - 1,
            detectors=detectors.pack(),
        )
        client.put_item(TableName="table-devices-dev", Item=device_item(device))


def _floor(event: dict[str, Any]) -> None:
    """Do the least that reading and archiving these records needs."""
    envelope, message = msgspec.json.Decoder(Envelope).decode, msgspec.json.Decoder(_Message).decode
    lines = []
    for record in event["Records"]:
        data = b64decode(record["kinesis"]["data"])
        message(b64decode(envelope(data).raw))
        lines.append(data)
    igzip.compress(b"\n".join(lines), compresslevel=1)


@contextmanager
def environment(address: str) -> Iterator[None]:
    """Set the function's environment, with the stub as AWS."""
    before = dict(os.environ)
    with TemporaryDirectory(prefix="fleet-benchmark-") as folder:
        catalogue = Path(folder) / "catalogue.json"
        catalogue.write_text(json.dumps(load.CATALOGUE))
        os.environ |= {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "ap-southeast-1",
            "READINGS_TABLE": "table-readings-dev",
            "DEVICES_TABLE": "table-devices-dev",
            "ARCHIVE_BUCKET": "bucket-mfg-raw-archive-dev",
            "ENVIRONMENT_SUFFIX": "dev",
            "CATALOGUE_FILE": str(catalogue),
            "NO_PROXY": "127.0.0.1",
            "POWERTOOLS_DEV": "0",
        }
        handler.runtime.cache_clear()
        try:
            yield
        finally:
            handler.runtime.cache_clear()
            os.environ.clear()
            os.environ |= before
