"""Builders of envelopes, records and events, and in-process AWS for the handler."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from moto import mock_aws

from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.ingest.catalogue import Catalogue, parse_catalogue
from fleet_iot.sensor_processor.ingest.reading import Envelope, Reading, parse_readings

RECEIVED_AT = 1_795_445_343_250  # 2026-11-23T14:49:03.250Z
CATALOGUE = {
    "application": "mfg",
    "device_types": {
        "press-monitor": {
            "metrics": {
                "temperature": {"unit": "celsius", "min": -10, "max": 95, "detector": "context"},
                "vibration": {"unit": "mm/s", "min": None, "max": 11.2, "detector": "limits"},
            }
        }
    },
}

Builder = Callable[..., Any]
_numbers = count(49_600_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_001)


def make_payload(
    *, time: int = RECEIVED_AT - 250, sequence: int | None = 17, metrics: dict[str, Any] | None = None, **extra: Any
) -> bytes:
    """A device message as its JSON bytes; `sequence=None` leaves it out."""
    message: dict[str, Any] = {"time": time}
    if sequence is not None:
        message["sequence"] = sequence
    message["metrics"] = {"temperature": 71.25, "vibration": 3.1} if metrics is None else metrics
    return json.dumps(message | extra).encode()


def make_envelope(*, payload: bytes | None = None, number: int = 1, **overrides: Any) -> dict[str, Any]:
    """Return the topic rule's envelope of a payload of thing `number`; an override of None leaves the field out."""
    thing = f"sg-01-press-monitor-{number:04d}-dev"
    envelope = {
        "raw": base64.b64encode(make_payload() if payload is None else payload).decode(),
        "facility": "sg-01",
        "device_type": "press-monitor",
        "thing": thing,
        "client_id": thing,
        "principal": f"{number:064x}",
        "received_at": RECEIVED_AT,
        "trace_id": "00000000-0000-0000-0000-000000000000",
    } | overrides
    return {name: value for name, value in envelope.items() if value is not None}


def make_record(
    *,
    data: bytes | None = None,
    sequence_number: str | None = None,
    envelope: dict[str, Any] | None = None,
    arrived_at: int = RECEIVED_AT,
    **more: Any,
) -> dict[str, Any]:
    """A Kinesis record of a Lambda event; `more` goes to `make_envelope`."""
    if data is None:
        data = json.dumps(envelope if envelope is not None else make_envelope(**more)).encode()
    number = sequence_number or str(next(_numbers))
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "sg-01-press-monitor-0001-dev",
            "sequenceNumber": number,
            "data": base64.b64encode(data).decode(),
            "approximateArrivalTimestamp": arrived_at / 1000,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{number}",
        "eventName": "aws:kinesis:record",
        "awsRegion": "ap-southeast-1",
    }


def make_event(*records: dict[str, Any]) -> dict[str, Any]:
    """A Lambda event of these records."""
    return {"Records": list(records)}


def make_reading(**overrides: Any) -> Reading:
    """A valid reading; `time`, `sequence`, `metrics` go to its payload, the rest to its record and envelope."""
    message = {name: overrides.pop(name) for name in ("time", "sequence", "metrics") if name in overrides}
    number = overrides.pop("sequence_number", None) or str(next(_numbers))
    arrival = {name: overrides.pop(name) for name in ("arrived_at", "max_age") if name in overrides}
    (reading,) = parse_readings(
        sequence_number=number,
        envelope=Envelope(**make_envelope(payload=make_payload(**message), **overrides)),
        catalogue=parse_catalogue(json.dumps(CATALOGUE).encode()),
        suffix="dev",
        **arrival,
    )
    return reading


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """The catalogue that the builders' messages keep to."""
    return parse_catalogue(json.dumps(CATALOGUE).encode())


@pytest.fixture(scope="session")
def payload() -> Builder:
    """Builds a message's bytes."""
    return make_payload


@pytest.fixture(scope="session")
def envelope() -> Builder:
    """Builds a rule's envelope."""
    return make_envelope


@pytest.fixture(scope="session")
def record() -> Builder:
    """Builds a Kinesis record."""
    return make_record


@pytest.fixture(scope="session")
def event() -> Builder:
    """Builds a Lambda event."""
    return make_event


@pytest.fixture(scope="session")
def reading() -> Builder:
    """Builds a valid reading."""
    return make_reading


@dataclass(frozen=True, kw_only=True)
class Context:
    """Lambda's context with as much time as a test gives."""

    remaining_ms: int = 60_000
    aws_request_id: str = "request-1"

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


@dataclass(frozen=True, kw_only=True)
class Platform:
    """The tables and the bucket in moto, the handler on them, and ways to look at what it wrote."""

    dynamodb: Any
    s3: Any

    def handle(self, event: dict[str, Any], *, remaining_ms: int = 60_000) -> list[str]:
        """The sequence numbers that the handler wants again."""
        answer = handler.handle(event, Context(remaining_ms=remaining_ms))
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def sweep(self, *, at: int | None = None) -> None:
        """Sweeps the lanes days after the readings, so that every minute, hour and day is over; or at a time (ms)."""
        handler.handle({"sweep": True} | ({} if at is None else {"at": at}), Context())

    def restart(self) -> None:
        """Lets the next batch be handled by a process that remembers nothing."""
        handler.runtime.cache_clear()

    @property
    def own_dynamodb(self) -> Any:
        """The handler's own client, for faults on its event hooks."""
        return handler.runtime().log.store._client

    @property
    def own_s3(self) -> Any:
        """The handler's own client, for faults on its event hooks."""
        return handler.runtime().log.archive._client

    def refuse(self, client: Any, operation: str, *, code: str, status: int, times: int = 1_000_000) -> list[str]:
        """Lets the service answer the next `times` calls with an error; the list grows with each of them."""
        service = client.meta.service_model.service_name
        refused: list[str] = []

        def answer(**_: Any) -> tuple[AWSResponse, dict[str, Any]] | None:
            if len(refused) >= times:
                return None
            refused.append(operation)
            parsed = {"Error": {"Code": code, "Message": "refused"}, "ResponseMetadata": {"HTTPStatusCode": status}}
            return AWSResponse("https://aws", status, {}, None), parsed

        # Not at before-send: there moto has done the call already when another one's answer is taken.
        client.meta.events.register_first(f"before-call.{service}.{operation}", answer)
        return refused

    def lose_answer(self, client: Any, operation: str, *, error: Exception | None = None, times: int = 1) -> list[str]:
        """Lets the service do the next `times` calls and the answers get lost on the way."""
        service = client.meta.service_model.service_name
        lost: list[str] = []

        def lose(**_: Any) -> None:
            if len(lost) < times:
                lost.append(operation)
                raise error or ReadTimeoutError(endpoint_url="https://aws")

        client.meta.events.register_last(f"after-call.{service}.{operation}", lose)
        return lost

    def before(self, client: Any, operation: str, action: Callable[[], Any], *, times: int = 1) -> None:
        """Does something just before each of the next `times` calls goes out."""
        service = client.meta.service_model.service_name
        done: list[str] = []

        def once(**_: Any) -> None:
            if len(done) < times:
                done.append(operation)
                action()

        client.meta.events.register_first(f"before-send.{service}.{operation}", once)

    def items(self, table: str = "table-readings-dev") -> list[dict[str, Any]]:
        """Everything in a table, by key."""
        items = self.dynamodb.scan(TableName=table)["Items"]
        return sorted(items, key=lambda item: (item["device"]["S"], item.get("bucket", {}).get("S", "")))

    def minutes(self) -> list[dict[str, Any]]:
        """The minute items, when every minute is over."""
        self.sweep()
        return [item for item in self.items() if item["bucket"]["S"].startswith("minute#")]

    def anomalies(self) -> list[dict[str, Any]]:
        """The anomaly items."""
        return [item for item in self.items() if item["bucket"]["S"].startswith("anomaly#")]

    def devices(self) -> list[dict[str, Any]]:
        """The device items."""
        return self.items("table-devices-dev")

    def keys(self, prefix: str = "") -> list[str]:
        """The archive's keys."""
        found = self.s3.list_objects_v2(Bucket="bucket-mfg-raw-archive-dev", Prefix=prefix)
        return [entry["Key"] for entry in found.get("Contents", [])]

    def states(self) -> list[str]:
        """The keys of state objects."""
        found = self.s3.list_objects_v2(Bucket="bucket-mfg-lanes-dev")
        return [entry["Key"] for entry in found.get("Contents", [])]

    def lanes(self) -> list[dict[str, Any]]:
        """The lane items."""
        items = self.dynamodb.scan(TableName="table-lanes-dev")["Items"]
        return sorted((item for item in items if "version" in item), key=lambda item: str(item["lane"]["S"]))

    def lines(self, prefix: str) -> list[dict[str, Any]]:
        """The lines of all objects below a prefix."""
        lines: list[dict[str, Any]] = []
        for key in self.keys(prefix):
            body = self.s3.get_object(Bucket="bucket-mfg-raw-archive-dev", Key=key)["Body"].read()
            lines += [json.loads(line) for line in gzip.decompress(body).splitlines()]
        return lines


@contextmanager
def running_platform(folder: Path) -> Iterator[Platform]:
    """Fresh tables and a bucket, and a handler that has not run yet; the catalogue lies in `folder`."""
    file = folder / "catalogue.json"
    file.write_text(json.dumps(CATALOGUE))
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "READINGS_TABLE": "table-readings-dev",
            "DEVICES_TABLE": "table-devices-dev",
            "LANES_TABLE": "table-lanes-dev",
            "STATE_BUCKET": "bucket-mfg-lanes-dev",
            "ARCHIVE_BUCKET": "bucket-mfg-raw-archive-dev",
            "ENVIRONMENT_SUFFIX": "dev",
            "CATALOGUE_FILE": str(file),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "ap-southeast-1",
        }.items():
            patch.setenv(name, value)
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        patch.setattr(handler, "THREADS", 1)  # moto's tables take one call at a time
        handler.runtime.cache_clear()
        dynamodb = boto3.client("dynamodb")
        s3 = boto3.client("s3")
        tables = {
            "table-readings-dev": ["device", "bucket"],
            "table-devices-dev": ["device"],
            "table-lanes-dev": ["lane"],
        }
        for table, keys in tables.items():
            dynamodb.create_table(
                TableName=table,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in keys],
                KeySchema=[
                    {"AttributeName": name, "KeyType": kind}
                    for name, kind in zip(keys, ["HASH", "RANGE"], strict=False)
                ],
            )
        for bucket in ("bucket-mfg-raw-archive-dev", "bucket-mfg-lanes-dev"):
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "ap-southeast-1"})
        s3.put_bucket_versioning(Bucket="bucket-mfg-lanes-dev", VersioningConfiguration={"Status": "Enabled"})
        yield Platform(dynamodb=dynamodb, s3=s3)
        handler.runtime.cache_clear()


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """Fresh tables and a bucket, and a handler that has not run yet."""
    with running_platform(tmp_path) as found:
        yield found
