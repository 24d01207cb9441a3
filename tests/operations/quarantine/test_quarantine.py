"""What the processor put into quarantine comes out as it went in, and can be given to it again."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from moto import mock_aws

from generator.cli import main
from operations.quarantine import cli
from operations.quarantine.quarantine import Entry, counts, entries, put_again
from sensor_processor.archive import quarantine_objects
from sensor_processor.batch import parse_batch
from sensor_processor.catalogue import parse_catalogue

ROOT = Path(__file__).parents[3]
BUCKET = "bucket-mfg-raw-archive-dev"
THING = "sg-01-press-monitor-0001-dev"
CATALOGUE = parse_catalogue(b'{"application":"mfg","device_types":{"press-monitor":{"metrics":{"t":{"unit":"C"}}}}}')


def envelope(payload: bytes, **changes: str) -> dict[str, Any]:
    """What the topic rule makes of a payload."""
    return {
        "raw": base64.b64encode(payload).decode(),
        "facility": "sg-01",
        "device_type": "press-monitor",
        "thing": THING,
        "client_id": THING,
        "principal": "0" * 64,
        "received_at": 1_795_445_343_250,
        "trace_id": "t",
    } | changes


RECORDS: dict[str, bytes] = {
    "100": json.dumps(envelope(b"{")).encode(),
    "101": json.dumps(envelope(b"{}", raw="!!!")).encode(),
    "102": b"no envelope \xff",
    "103": json.dumps(
        envelope(b'{"time":1795445343000,"metrics":{"t":1}}', facility="my-jb-01", device_type="x")
    ).encode(),
}


@pytest.fixture
def s3() -> Iterator[Any]:
    """A bucket with what the processor writes of these records, and of one delivered twice."""
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        for numbers in (list(RECORDS), ["100"]):
            batch = parse_batch({"Records": [_record(n) for n in numbers]}, catalogue=CATALOGUE, suffix="dev")
            for entry in quarantine_objects(batch.poison, shard="shardId-000000000000"):
                client.put_object(Bucket=BUCKET, Key=entry.key, Body=entry.body)
        yield client


def _record(number: str) -> dict[str, Any]:
    data = base64.b64encode(RECORDS[number]).decode()
    return {"kinesis": {"sequenceNumber": number, "data": data}, "eventID": f"shardId-000000000000:{number}"}


class Stream:
    """A stream that refuses the first of each batch `refusals` times."""

    def __init__(self, refusals: int = 0) -> None:
        self.records: list[tuple[str, bytes]] = []
        self.refusals = refusals

    def put_records(self, *, Records: list[dict[str, Any]], **_: Any) -> dict[str, Any]:  # noqa: N803 - the API's word
        answers: list[dict[str, str]] = []
        for place, record in enumerate(Records):
            if place == 0 and self.refusals:
                self.refusals -= 1
                answers.append({"ErrorCode": "ProvisionedThroughputExceededException"})
            else:
                self.records.append((record["PartitionKey"], record["Data"]))
                answers.append({})
        return {"Records": answers}


def test_records_are_told_once_with_reason_and_origin(s3: Any) -> None:
    """Each record once, though it was delivered twice; chosen by facility, day and reason."""
    found = list(entries(s3, BUCKET))

    assert ["100", "101", "102", "103"] == sorted(entry.sequence_number for entry in found)
    assert 1 == counts(found)["sg-01", THING, "malformed"]
    assert ["103"] == [entry.sequence_number for entry in entries(s3, BUCKET, facility="my-jb-01")]
    assert ["101"] == [entry.sequence_number for entry in entries(s3, BUCKET, reason="base64")]
    assert [] == list(entries(s3, BUCKET, date="2026-11-22"))


def test_records_go_back_as_they_came(s3: Any) -> None:
    """The stream gets for each record a document that is the same, or the same bytes where it was none."""
    stream, pauses = Stream(refusals=2), []

    assert (4, 0) == put_again(entries(s3, BUCKET), stream, stream_arn="s", sleep=pauses.append)
    assert 2 == len(pauses)
    given = [data for _, data in stream.records]
    assert RECORDS["102"] in given
    documents = [json.loads(data) for data in given if data != RECORDS["102"]]
    for number in ("100", "101", "103"):
        assert json.loads(RECORDS[number]) in documents


def test_a_stream_that_takes_nothing_is_an_error(s3: Any) -> None:
    """After some attempts in vain nobody waits any longer."""
    with pytest.raises(TimeoutError):
        put_again(entries(s3, BUCKET, reason="base64"), Stream(refusals=100), stream_arn="s", sleep=lambda _: None)


def test_broken_encoding_stays() -> None:
    """A record whose own base64 was broken cannot go back."""
    entry = Entry(
        sequence_number="1", shard="s", reason="base64", detail="", facility="unknown", received_at=0,
        envelope=None, raw_of="record_text", raw=base64.b64encode(b"???").decode(),
    )  # fmt: skip

    assert (0, 1) == put_again([entry], Stream(), stream_arn="s")


def test_the_command_lists_shows_and_replays(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table, a record in words a terminal can take, and back into the stream."""
    stream = Stream()
    place = cli.Place(s3=s3, kinesis=stream, bucket=BUCKET, stream_arn="s")
    monkeypatch.setattr(cli, "_place_of", lambda folder, aws: place)

    listed = CliRunner().invoke(main, ["quarantine", "list"])
    shown = CliRunner().invoke(main, ["quarantine", "show", "102"])
    replayed = CliRunner().invoke(main, ["quarantine", "replay", "--reason", "malformed", "--yes"])
    missing = CliRunner().invoke(main, ["quarantine", "show", "7"])

    assert "4 records in quarantine" in listed.output and f"sg-01         {THING}" in listed.output
    assert shown.output.startswith("envelope: ") and "no envelope \\xff" in shown.output
    assert "1 records put into the stream again, 0 left" in replayed.output and [THING] == [
        k for k, _ in stream.records
    ]
    assert (7, True) == (missing.exit_code, "no record 7 is in quarantine" in missing.output)


def test_lines_are_those_of_the_processor(s3: Any) -> None:
    """The reader knows every field that it needs under the processor's name."""
    key = s3.list_objects_v2(Bucket=BUCKET)["Contents"][0]["Key"]
    line = json.loads(gzip.decompress(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()).splitlines()[0])

    assert Entry.__dataclass_fields__.keys() <= line.keys()
