"""Measure the sensor processor: CPU a record in large batches, and the time from a process's start to its first batch.

A batch has 4,000 records of 700 devices with four metrics each, as the topic rules of one device type put them into a
stream. Each is the next minute of the same devices, whose learned state is used and stored again. A stub of AWS runs in
a process of its own.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from decimal import Decimal
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3
import msgspec
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.parser.models import KinesisDataStreamRecord, KinesisDataStreamRecordPayload
from isal import igzip
from pybase64 import b64decode
from pydantic import BaseModel, Json

from benchmarks.aws.server import counted, running_server
from benchmarks.function import BUCKET, TABLES, environment
from benchmarks.function import DEVICES as DEVICES_TABLE
from benchmarks.function import READINGS as READINGS_TABLE
from benchmarks.readings import CATALOGUE, DEVICES, RECORDS, START, make_event, rounds_of, thing_name, values_of
from benchmarks.result import Result, interleaved, peak_memory_mb
from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.detection import DeviceDetectors
from fleet_iot.sensor_processor.ingest.catalogue import parse_catalogue
from fleet_iot.sensor_processor.ingest.reading import Envelope
from fleet_iot.sensor_processor.planning.items import Device, device_item, device_key

# Peers of the processor: the code of typical samples, and Powertools. Both store every reading, neither detects. They
# are written as their documentation shows, with cheap improvements: one client, kept connections, models made once.
# They store the whole reading, as they archive nothing.

PEER_TABLE = "table-of-a-peer"
STAMPS = ("facility", "device_type", "client_id", "principal", "received_at", "trace_id")
"""Fields of the topic rule that a peer stores with a reading."""


class PutItem:
    """`json`, `Decimal` and a `put_item` for each record, as the samples of IoT pipelines do it."""

    def __init__(self, session: boto3.session.Session) -> None:
        self._table = session.resource("dynamodb").Table(PEER_TABLE)

    def handle(self, event: dict[str, Any]) -> dict[str, Any]:
        """Store each reading as one item."""
        failures = []
        for record in event["Records"]:
            try:
                envelope = json.loads(base64.b64decode(record["kinesis"]["data"]))
                message = json.loads(base64.b64decode(envelope["raw"]), parse_float=Decimal)
                stamps = {name: envelope[name] for name in STAMPS}
                key = {"device": envelope["thing"], "bucket": f"{message['time']}#{message['sequence']}"}
                self._table.put_item(Item=key | stamps | message)
            except Exception:
                failures.append({"itemIdentifier": record["kinesis"]["sequenceNumber"]})
        return {"batchItemFailures": failures}


class State(BaseModel):
    """State of the machine."""

    program: int
    mode: str


class Message(BaseModel):
    """Message of a device."""

    time: int
    sequence: int
    metrics: dict[str, Decimal]
    firmware: str
    state: State


class PeerEnvelope(BaseModel):
    """Envelope of the topic rule."""

    raw: bytes
    facility: str
    device_type: str
    thing: str
    client_id: str
    principal: str
    received_at: int
    trace_id: str


class Payload(KinesisDataStreamRecordPayload):
    """Data of a record as a custom model, as the parser's documentation shows."""

    data: Json[PeerEnvelope]


class Record(KinesisDataStreamRecord):
    """Record with such data."""

    kinesis: Payload


class Powertools:
    """Powertools' batch processor with pydantic models; `batch_writer` puts the items in batches of 25.

    https://docs.powertools.aws.dev/lambda/python/latest/utilities/batch/#pydantic-integration
    """

    def __init__(self, session: boto3.session.Session) -> None:
        self._table = session.resource("dynamodb").Table(PEER_TABLE)
        self._processor = BatchProcessor(event_type=EventType.KinesisDataStreams, model=Record)

    def handle(self, event: dict[str, Any]) -> Any:
        """Store each reading as one item."""
        with self._table.batch_writer() as writer:

            def store(record: Record) -> None:
                envelope = record.kinesis.data
                message = Message.model_validate_json(base64.b64decode(envelope.raw))
                stamps = envelope.model_dump(include=set(STAMPS))
                key = {"device": envelope.thing, "bucket": f"{message.time}#{message.sequence}"}
                writer.put_item(Item=key | stamps | message.model_dump())

            return process_partial_response(
                event=event,
                record_handler=store,
                processor=self._processor,
                context=None,
            )


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


def run(rounds: int, *, records: int = RECORDS, devices: int = DEVICES, learned: int = LEARNED) -> Result:
    """Measure all contestants on the same batches, sockets included, and check that every reading was stored."""
    tables = TABLES | {PEER_TABLE: ("device", "bucket")}
    with running_server(tables) as address, environment(CATALOGUE, AWS_ENDPOINT_URL=address):
        session = boto3.session.Session()
        with open(os.devnull, "w") as sink:  # noqa: PTH123 - logs must be written, but are not read
            contest = _Contest(address, sink, records=records, devices=devices, first=learned)
            ours = contest.contestant(lambda event: handler.handle(event, None))
            _learn(session, minutes=learned, rounds=rounds_of(records, devices), devices=devices)
            for _ in range(WARM):
                ours()
            memory = peak_memory_mb()
            times = interleaved(
                {
                    "ours": ours,
                    "limit": contest.contestant(_floor),
                    "put_item": contest.contestant(PutItem(session).handle, table=PEER_TABLE),
                    "powertools": contest.contestant(Powertools(session).handle, table=PEER_TABLE),
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
            event = make_event(next(minutes), records=self._records, devices=self._devices)
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
        """Check the tables: an item for each reading, a minute for each device and batch but the last one."""
        stored = counted(self._address)
        expected = {
            PEER_TABLE: rounds * self._records,
            DEVICES_TABLE: self._devices,
            BUCKET: self.batches,
        }
        found = {name: stored.get(name) for name in expected}
        if found != expected or stored[READINGS_TABLE] < (self.batches - 1) * self._devices:
            raise AssertionError(f"the stub has {stored}, not {expected}")


def _learn(session: boto3.session.Session, *, minutes: int, rounds: int, devices: int) -> None:
    """Store the devices as they are after so many minutes of readings."""
    client = session.client("dynamodb")
    metrics = parse_catalogue(json.dumps(CATALOGUE).encode()).device_types["press-monitor"]
    for number in range(devices):
        detectors = DeviceDetectors()
        for sequence in range(minutes * rounds):
            detectors.learn((START + sequence, sequence), values_of(sequence, number), metrics=metrics)
        device = Device(
            name=thing_name(number),
            facility="sg-01",
            device_type="press-monitor",
            certificate_id=f"{number + 1:064x}",
            first_contact=START,
            last_contact=START,
            newest_reading=START + minutes * rounds,
            version=minutes,
            messages=minutes * rounds,
            last_sequence=minutes * rounds - 1,
        )
        # As version 0.3.0 had it: the lane takes it over.
        item = {**device_key(device.name), **device_item(device), "detectors": {"B": detectors.pack()}}
        client.put_item(TableName=DEVICES_TABLE, Item=item)


def _floor(event: dict[str, Any]) -> None:
    """Do the least that reading and archiving these records needs."""
    envelope, message = msgspec.json.Decoder(Envelope).decode, msgspec.json.Decoder(_Message).decode
    lines = []
    for record in event["Records"]:
        data = b64decode(record["kinesis"]["data"])
        message(b64decode(envelope(data).raw))
        lines.append(data)
    igzip.compress(b"\n".join(lines), compresslevel=1)


FIRST_RECORDS = 100
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


def run_cold_start(rounds: int, *, records: int = FIRST_RECORDS) -> Result:
    """Measure whole processes, from the interpreter's start on, compared with boto3 making one call a client."""
    with (
        running_server(TABLES) as address,
        environment(CATALOGUE, AWS_ENDPOINT_URL=address),
        TemporaryDirectory(prefix="fleet-benchmark-") as folder,
    ):
        event = Path(folder) / "event.json"
        event.write_text(json.dumps(make_event(0, records=records)))
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
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"the process ended with {process.returncode}")
        cpu.append(used.ru_utime + used.ru_stime)
        return time.perf_counter() - start

    return seconds
