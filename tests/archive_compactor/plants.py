"""Simulated plants, whose batches the real processor archives, and an S3 bucket in memory that can kill its writer."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from fleet_iot.archive_compactor.bucket import Bucket
from fleet_iot.archive_compactor.compaction import Compactor
from fleet_iot.sensor_processor.adapters.archive import readings_objects
from fleet_iot.sensor_processor.ingest.batch import Batch, parse_batch
from fleet_iot.sensor_processor.ingest.catalogue import parse_catalogue

METRICS = {
    "press-monitor": ("temperature", "vibration", "pressure", "motor_current"),
    "compressor": ("flow", "Temp.Out"),
}
CATALOGUE = parse_catalogue(
    json.dumps(
        {
            "application": "mfg",
            "device_types": {
                type_: {"metrics": {name: {"unit": "1"} for name in names}} for type_, names in METRICS.items()
            },
        }
    ).encode()
)
PLANTS = ("sg-01", "my-jb-01", "th-ry-01")
START = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1000)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


class Killed(BaseException):
    """The process ended here."""


def _error(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "S3")


@dataclass(slots=True)
class MemoryS3:
    """The calls that the compactor makes, as S3 answers them.

    `kill_at` is the number of the call at which the process ends, before the call or after it.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    calls: int = 0
    kill_at: int | None = None
    is_killed_after: bool = False
    before: Callable[[str, str], None] | None = None
    written: list[str] = field(default_factory=list)

    def bucket(self) -> Bucket:
        return Bucket(client=self, name="archive")

    def get_paginator(self, operation: str) -> Any:
        assert operation == "list_objects_v2"
        return self

    def paginate(self, *, Bucket: str, Prefix: str, Delimiter: str = "") -> Iterator[dict[str, Any]]:  # noqa: N803
        with self._call("list", Prefix):
            keys = sorted(key for key in self.objects if key.startswith(Prefix))
        if Delimiter:
            folders = sorted({Prefix + key.removeprefix(Prefix).partition("/")[0] + "/" for key in keys})
            yield {"CommonPrefixes": [{"Prefix": folder} for folder in folders]}
        else:
            for start in range(0, len(keys), 1000):
                page = keys[start : start + 1000]
                yield {"Contents": [{"Key": key, "Size": len(self.objects[key])} for key in page]}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        with self._call("get", Key):
            if Key not in self.objects:
                raise _error("NoSuchKey", 404)
            body = self.objects[Key]
        return {"Body": BytesIO(body), "ETag": _etag(body)}

    def put_object(
        self,
        *,
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        Body: bytes,  # noqa: N803
        ChecksumAlgorithm: str,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
        IfMatch: str | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        with self._call("put", Key):
            found = self.objects.get(Key)
            if IfNoneMatch == "*" and found is not None:
                raise _error("PreconditionFailed", 412)
            if IfMatch is not None and (found is None or _etag(found) != IfMatch):
                raise _error(*(("NoSuchKey", 404) if found is None else ("PreconditionFailed", 412)))
            self.objects[Key] = Body
            self.written.append(Key)
        return {}

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        with self._call("delete", ""):
            assert len(Delete["Objects"]) <= 1000
            for each in Delete["Objects"]:
                self.objects.pop(each["Key"], None)
        return {}

    def _call(self, operation: str, key: str) -> _Call:
        return _Call(self, operation, key)


@dataclass(slots=True)
class _Call:
    s3: MemoryS3
    operation: str
    key: str

    def __enter__(self) -> None:
        if self.s3.before:
            self.s3.before(self.operation, self.key)
        self.s3.calls += 1
        if self.s3.calls == self.s3.kill_at and not self.s3.is_killed_after:
            raise Killed

    def __exit__(self, *_: object) -> None:
        if self.s3.calls == self.s3.kill_at:
            raise Killed


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


@dataclass(slots=True, kw_only=True)
class Simulation:
    """Devices of three plants, `interval_s` apart, whose batches are `window_s` long; adds what was sent up."""

    s3: MemoryS3
    devices: int = 2
    interval_s: int = 10
    window_s: int = 5
    share_redelivered: float = 0.01
    seed: int = 1
    readings: int = 0
    raw_objects: int = 0
    sums: defaultdict[tuple[str, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    sequence: int = 49_600_000_000_000_000_000
    last_hour: list[dict[str, Any]] = field(default_factory=list)

    def run(self, start: int, end: int) -> None:
        """Archive all batches that arrive from `start` to `end` (ms)."""
        random_ = random.Random(self.seed + start)
        before: list[dict[str, Any]] = []
        self.last_hour = []
        for window in range(start, end, self.window_s * 1000):
            records = list(self._records(window, random_))
            if not records:
                continue
            if before and random_.random() < self.share_redelivered:
                # Once more, with other borders.
                self.archive([*before[len(before) // 2 :], *records])
            self.archive(records)
            before = records
            self.last_hour = [*self.last_hour, *records][-720:]

    def archive(self, records: list[dict[str, Any]], *, shard: str = "shardId-000000000000") -> None:
        """Archive a batch as the processor does."""
        for entry in readings_objects(batch_of(records).readings, shard=shard):
            self.s3.objects[entry.key] = entry.body
            self.raw_objects += 1

    def _records(self, window: int, random_: random.Random) -> Iterator[dict[str, Any]]:
        number = 0
        for plant in PLANTS:
            for type_ in METRICS:
                for device in range(self.devices):
                    number += 1
                    offset = number * 1000 * self.interval_s // (len(PLANTS) * len(METRICS) * self.devices)
                    ago = (window - offset) % (self.interval_s * 1000)
                    at = window + (-ago) % (self.interval_s * 1000)
                    if at < window + self.window_s * 1000:
                        yield self._record(plant, type_, device, at, random_)

    def _record(self, plant: str, type_: str, device: int, at: int, random_: random.Random) -> dict[str, Any]:
        metrics = {name: round(70 + device + random_.gauss(0, 3), 2) for name in METRICS[type_]}
        self.readings += 1
        for name, value in metrics.items():
            self.sums[f"{plant}/{type_}", name] += Decimal(repr(value))
        self.sequence += 1
        payload = msgspec.json.encode({"time": at - 200, "sequence": at // 1000, "metrics": metrics})
        return record_of(payload, plant=plant, type_=type_, device=device, at=at, number=self.sequence)


def record_of(payload: bytes, *, plant: str, type_: str, device: int, at: int, number: int) -> dict[str, Any]:
    """A record of a Lambda event."""
    thing = f"{plant}-{type_}-{device:04d}-dev"
    envelope = {
        "raw": base64.b64encode(payload).decode(),
        "facility": plant,
        "device_type": type_,
        "thing": thing,
        "client_id": thing,
        "principal": hashlib.sha256(thing.encode()).hexdigest(),
        "received_at": at,
        "trace_id": hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest(),
    }
    return {
        "eventID": f"shardId-000000000000:{number}",
        "kinesis": {
            "sequenceNumber": f"{number}{number:036d}",
            "data": base64.b64encode(msgspec.json.encode(envelope)).decode(),
            "approximateArrivalTimestamp": (at + 50) / 1000,
        },
    }


def batch_of(records: list[dict[str, Any]]) -> Batch:
    """The records as the processor parses them, of which none may be quarantined."""
    batch = parse_batch({"Records": records}, catalogue=CATALOGUE, suffix="dev")
    assert not batch.poison
    return batch


def compactor(s3: MemoryS3, *, now: int, expires: bool = True, **more: Any) -> Compactor:
    """A compactor at a moment (ms)."""
    return Compactor(
        bucket=s3.bucket(),
        catalogue=CATALOGUE.device_types,
        now=datetime.fromtimestamp(now / 1000, UTC),
        expires=expires,
        **more,
    )
