"""Quarantined records are read as the processor wrote them, and can be put into the stream again."""

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

from fleet_iot.generator.cli.commands import main
from fleet_iot.operations.telemetry.quarantine import Entry, Quarantine, counts, entries, put_again
from fleet_iot.sensor_processor.adapters.archive import quarantine_objects
from fleet_iot.sensor_processor.ingest.batch import parse_batch
from fleet_iot.sensor_processor.ingest.catalogue import parse_catalogue
from tests.operations.aws_stub import stub_local_aws

BUCKET = "bucket-mfg-raw-archive-dev"
THING = "sg-01-press-monitor-0001-dev"
CATALOGUE = parse_catalogue(b'{"application":"mfg","device_types":{"press-monitor":{"metrics":{"t":{"unit":"C"}}}}}')


def envelope(payload: bytes, **changes: str) -> dict[str, Any]:
    """Return the envelope that the topic rule makes of a payload."""
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


class Deployed:
    """Lambda's answers for a deployed processor."""

    def get_function_configuration(self, **_: Any) -> dict[str, Any]:
        return {"Environment": {"Variables": {"ARCHIVE_BUCKET": BUCKET}}}

    def list_event_source_mappings(self, **_: Any) -> dict[str, Any]:
        return {"EventSourceMappings": [{"EventSourceArn": "arn:aws:kinesis:r:1:stream/s"}]}


def held(s3: Any, stream: Stream | None = None) -> Quarantine:
    return Quarantine(s3=s3, kinesis=stream or Stream(), bucket=BUCKET, stream_arn="s")


def test_records_are_listed_once_with_reason_and_origin(s3: Any) -> None:
    """Each record once, though it was delivered twice; chosen by facility, day and reason."""
    found = list(entries(held(s3)))

    assert ["100", "101", "102", "103"] == sorted(entry.sequence_number for entry in found)
    assert 1 == counts(found)["sg-01", THING, "malformed"]
    assert ["103"] == [entry.sequence_number for entry in entries(held(s3), facility="my-jb-01")]
    assert ["101"] == [entry.sequence_number for entry in entries(held(s3), reason="base64")]
    assert [] == list(entries(held(s3), date="2026-11-22"))


@pytest.mark.slow
def test_records_go_back_as_they_came(s3: Any) -> None:
    """The stream gets for each record a document that is the same, or the same bytes where it was none."""
    stream, pauses = Stream(refusals=2), []

    assert (4, 0) == put_again(entries(held(s3)), held(s3, stream), sleep=pauses.append)
    assert 2 == len(pauses)
    given = [data for _, data in stream.records]
    assert RECORDS["102"] in given
    documents = [json.loads(data) for data in given if data != RECORDS["102"]]
    for number in ("100", "101", "103"):
        assert json.loads(RECORDS[number]) in documents


def test_a_stream_that_takes_nothing_is_an_error(s3: Any) -> None:
    """After several attempts without progress the replay fails."""
    with pytest.raises(TimeoutError):
        put_again(entries(held(s3), reason="base64"), held(s3, Stream(refusals=100)), sleep=lambda _: None)


@pytest.mark.slow
def test_what_the_stream_accepted_before_a_replay_failed_is_not_sent_again(s3: Any) -> None:
    """Of a call that accepts some records and then none, the accepted ones are marked; the next replay has the rest."""
    stream = Stream(refusals=100)
    with pytest.raises(TimeoutError):
        put_again(entries(held(s3)), held(s3, stream), sleep=lambda _: None)
    first = [data for _, data in stream.records]
    stream.refusals = 0
    assert (1, 0) == put_again(entries(held(s3)), held(s3, stream), sleep=lambda _: None)
    assert (3, 4, 4) == (len(first), len(stream.records), len({data for _, data in stream.records}))
    assert [] == entries(held(s3))


def test_broken_encoding_stays() -> None:
    """A record whose own base64 was broken cannot go back."""
    entry = Entry(
        sequence_number="1", shard="s", reason="base64", detail="", facility="unknown", received_at=0,
        envelope=None, raw_of="record_text", raw=base64.b64encode(b"???").decode(),
    )  # fmt: skip

    assert (0, 1) == put_again([entry], held(None))


def test_the_command_lists_shows_and_replays(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table, a record without control characters, and records put into the stream again."""
    stream = Stream()
    stub_local_aws(monkeypatch, **{"lambda": Deployed(), "s3": s3, "kinesis": stream})

    listed = CliRunner().invoke(main, ["quarantine", "list"])
    shown = CliRunner().invoke(main, ["quarantine", "show", "102"])
    replayed = CliRunner().invoke(main, ["quarantine", "replay", "--reason", "malformed", "--yes"])
    missing = CliRunner().invoke(main, ["quarantine", "show", "7"])

    assert "4 records in quarantine" in listed.output and f"sg-01     {THING}" in listed.output
    assert shown.output.startswith("envelope: ") and "no envelope \\xff" in shown.output
    assert "1 record put into the stream again" in replayed.output and [THING] == [k for k, _ in stream.records]
    assert (1, True) == (missing.exit_code, "no record 7 is in quarantine" in missing.output)
    assert 2 == CliRunner().invoke(main, ["quarantine", "show", "X"]).exit_code


def test_a_listed_number_is_what_show_takes(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each group the last; a thing's records by its serial, also of one that is not in the record."""
    stub_local_aws(monkeypatch, **{"lambda": Deployed(), "s3": s3, "kinesis": Stream()})

    def run(*arguments: str, code: int = 0) -> list[str]:
        done = CliRunner().invoke(main, ["quarantine", *arguments])
        assert code == done.exit_code, done.output
        return done.output.splitlines()

    rows = run("list", "--thing", "SG01-PRESS-MONITOR-0001")
    assert ["see one: fleet quarantine show NUMBER; all: --json"] == rows[-1:]
    for row in rows[:-2]:
        assert f"number {row.split()[-1]}" in run("show", row.split()[-1])[1]
    assert f"from {THING} in " in run("show", "--thing", "sg-01-press-monitor-0001")[1]
    run("show", "--thing", "sg-01-press-monitor-0002", code=1)
    run("list", "--thing", "sg-01-press-monitor-0900-dev", code=2)
    run("show", code=2)
    run("show", "1", "--thing", THING, code=2)


@pytest.mark.slow
def test_lines_are_those_of_the_processor(s3: Any) -> None:
    """The reader finds every field that it needs under the processor's name,."""
    key = s3.list_objects_v2(Bucket=BUCKET)["Contents"][0]["Key"]
    line = json.loads(gzip.decompress(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()).splitlines()[0])

    assert Entry.__dataclass_fields__.keys() - {"repeats"} <= line.keys()


def process(s3: Any, stream: Stream, *, first: int) -> list[Any]:
    """Return the processor's readings of the stream's records, and put what it quarantines into the bucket."""
    numbered = enumerate(stream.records, start=first)
    records = [
        {"kinesis": {"sequenceNumber": str(n), "data": base64.b64encode(data).decode()}, "eventID": f"shardId-0:{n}"}
        for n, (_, data) in numbered
    ]
    stream.records.clear()
    batch = parse_batch({"Records": records}, catalogue=CATALOGUE, suffix="dev")
    for entry in quarantine_objects(batch.poison, shard="shardId-000000000000"):
        s3.put_object(Bucket=BUCKET, Key=entry.key, Body=entry.body)
    return list(batch.readings)


@pytest.fixture
def run(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command of quarantine on the bucket and on a stream, `run.stream`."""
    stream = Stream()
    stub_local_aws(monkeypatch, **{"lambda": Deployed(), "s3": s3, "kinesis": stream})

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["quarantine", *arguments])

    invoke.stream = stream  # type: ignore[attr-defined]
    return invoke


@pytest.mark.slow
def test_what_is_still_poison_is_in_quarantine_once(s3: Any, run: Any) -> None:
    """However often it is replayed, a record that is refused again is there once, under its latest number."""
    for turn in range(1, 4):
        assert 0 == run("replay", "--yes").exit_code
        assert [] == entries(held(s3))  # put into the stream, and not yet refused again
        assert 4 == len(run.stream.records)
        assert [] == process(s3, run.stream, first=turn * 1_000)
        assert 4 == len(entries(held(s3)))
    assert {3_000, 3_001, 3_002, 3_003} == {int(entry.sequence_number) for entry in entries(held(s3))}


@pytest.mark.slow
def test_records_that_an_earlier_replay_doubled_are_one(s3: Any, run: Any) -> None:
    """The same message under several sequence numbers is one record, and one replay settles them all."""
    run.stream.records += [(THING, data) for data in RECORDS.values()] * 3
    process(s3, run.stream, first=500)

    assert 4 == len(entries(held(s3)))
    assert 3 == len(entries(held(s3), reason="envelope")[0].repeats)
    assert 0 == run("show", "102").exit_code
    assert (0, 4) == (run("replay", "--yes").exit_code, len(run.stream.records))
    assert [] == entries(held(s3))


READING = '{"time":%s,"sequence":%d,"metrics":{"t":20.50},"note":"°"}'


@pytest.mark.slow
def test_times_in_another_unit_can_be_had_back(s3: Any, run: Any) -> None:
    """Readings in seconds, single, in an array and on lines, count once their times are converted to milliseconds."""
    run.stream.records.clear()
    assert 0 == run("replay", "--yes").exit_code  # what the fixture put there is not what this is about
    run.stream.records.clear()
    seconds = [
        READING % ("1795445340", 1),
        "[" + READING % ("1795445341.5", 2) + "," + READING % ("1795445342", 3) + "]",
    ]
    seconds += [READING % ("1795445343", 4) + "\n" + READING % ('"1795445344"', 5)]
    others = [READING % ("1795", 6), READING % ("1795445343000000", 7), "{"]
    for payload in seconds + others:
        run.stream.records.append((THING, json.dumps(envelope(payload.encode())).encode()))
    assert [] == process(s3, run.stream, first=700)

    replayed = run("replay", "--time-unit", "s", "--yes")
    assert (0, "3 records put into the stream again, 3 not chosen") == (
        replayed.exit_code,
        replayed.output.splitlines()[0],
    )
    readings = process(s3, run.stream, first=200)
    assert [1_795_445_340_000 + at for at in (0, 1_500, 2_000, 3_000, 4_000)] == [each.time for each in readings]
    assert {20.5} == {each.metrics["t"] for each in readings}
    assert ["future", "malformed", "old"] == sorted(entry.reason for entry in entries(held(s3)))
    assert 0 == run("replay", "--time-unit", "us", "--yes").exit_code
    assert [7] == [each.sequence for each in process(s3, run.stream, first=300)]
    assert 1 == run("replay", "--time-unit", "us", "--yes").exit_code


@pytest.mark.slow
def test_payloads_that_were_edited_go_back_with_the_stamps_of_the_rule(s3: Any, run: Any, tmp_path: Path) -> None:
    """Only the payload is read from the file: the sender stays what the rule stamped."""
    line = json.loads(run("list", "--json", "--reason", "malformed").output)
    line["raw"] = base64.b64encode((READING % ("1795445343000", 1)).encode()).decode()
    line["envelope"] = line["envelope"] | {"thing": "sg-01-press-monitor-0002-dev"}
    edited = tmp_path / "edited.jsonl"
    edited.write_text(json.dumps(line) + "\n")

    assert 0 == run("replay", "--with", str(edited), "--yes").exit_code
    (reading,) = process(s3, run.stream, first=200)
    assert (THING, 1) == (reading.envelope.thing, reading.sequence)
    assert 3 == len(entries(held(s3)))

    refused = run("replay", "--with", str(edited), "--yes")
    assert (2, True) == (refused.exit_code, f"{edited}:1: not a record that is in quarantine" in refused.output)


def test_nothing_chosen_is_no_success(s3: Any, run: Any) -> None:
    """A choice that finds nothing exits 1, an unknown name 2, and an empty quarantine 0."""
    assert 1 == run("replay", "--yes", "--reason", "unit").exit_code
    assert 1 == run("replay", "--yes", "--date", "2026-11-22").exit_code
    assert (2, 2) == (
        run("replay", "--yes", "--facility", "nowhere").exit_code,
        run("list", "--facility", "x").exit_code,
    )
    assert (2, 2) == (run("list", "--reason", "malformd").exit_code, run("list", "--date", "yesterday").exit_code)
    assert 0 == run("replay", "--yes").exit_code
    assert (0, "nothing is in quarantine") == (run("replay", "--yes").exit_code, run("replay").output.strip())


class Registry:
    """AWS IoT's answers for the certificates of things."""

    class exceptions:  # noqa: N801 - boto3's name
        ResourceNotFoundException = KeyError

    certificates = {THING: ("b" * 64, "a" * 64), "sg-01-press-monitor-0002-dev": ("c" * 64,)}  # noqa: RUF012
    active = frozenset({"b" * 64})

    def list_thing_principals(self, *, thingName: str) -> Any:  # noqa: N803 - the API's word
        return {"principals": [f"arn:aws:iot:r:1:cert/{each}" for each in self.certificates[thingName]]}

    def describe_certificate(self, *, certificateId: str) -> Any:  # noqa: N803 - the API's word
        status = "ACTIVE" if certificateId in self.active else "REVOKED"
        return {"certificateDescription": {"certificateId": certificateId, "status": status}}


def put_rule_error(s3: Any, name: str, *, body: bytes | None = None, **changes: Any) -> None:
    """Write what a rule's error action writes where the stream did not accept a message."""
    payload = (READING % ("1795445343000", 9)).encode()
    document = {
        "ruleName": "rule_telemetry_sg_01_dev",
        "topic": f"dt/mfg/sg-01/press-monitor/{THING}/telemetry",
        "cloudwatchTraceId": "t-1",
        "clientId": THING,
        "base64OriginalPayload": base64.b64encode(payload).decode(),
        "failures": [{"failedAction": "KinesisAction", "failedResource": "stream", "errorMessage": "throttled"}],
    }
    key = f"iot-rule-errors/facility=sg-01/1795445343250-{name}.json"
    s3.put_object(Bucket=BUCKET, Key=key, Body=body or json.dumps(document | changes).encode())


@pytest.mark.slow
def test_messages_that_the_stream_did_not_accept_go_there_once(
    s3: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the stamps of the rule's error and an active certificate of the thing; what is not trusted stays."""
    stub_local_aws(monkeypatch, **{"lambda": Deployed(), "s3": s3, "kinesis": run.stream, "iot": Registry()})
    other = "sg-01-press-monitor-0002-dev"
    put_rule_error(s3, "1")
    put_rule_error(s3, "2", topic=f"$aws/rules/r/dt/mfg/sg-01/press-monitor/{THING}/telemetry", cloudwatchTraceId=None)
    put_rule_error(s3, "revoked", topic=f"dt/mfg/sg-01/press-monitor/{other}/telemetry", clientId=other)
    put_rule_error(s3, "unknown", topic="dt/mfg/sg-01/press-monitor/gone-dev/telemetry")
    put_rule_error(s3, "damaged", body=b"{")
    put_rule_error(s3, "elsewhere", topic="other/topic")

    listed = run("list", "--undelivered")
    assert "6 records not delivered by topic rules" in listed.output
    replayed = run("replay", "--undelivered", "--yes")
    assert (0, "2 records put into the stream again, 4 not chosen") == (
        replayed.exit_code,
        next(line for line in replayed.output.splitlines() if "put into" in line),
    )
    assert "4 messages left: damaged, or their things have no active certificate" in replayed.output
    readings = process(s3, run.stream, first=900)
    assert {(THING, "b" * 64, 1_795_445_343_250, 9)} == {
        (each.envelope.thing, each.envelope.principal, each.envelope.received_at, each.sequence) for each in readings
    }
    assert "4 records not delivered" in run("list", "--undelivered").output
    assert 1 == run("replay", "--undelivered", "--yes").exit_code
    assert [] == run.stream.records
    assert 4 == len(entries(held(s3)))


@pytest.mark.slow
def test_an_undelivered_message_of_another_client_is_refused(
    s3: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is not the thing of the topic is no thing, with whatever certificate."""
    stub_local_aws(monkeypatch, **{"lambda": Deployed(), "s3": s3, "kinesis": run.stream, "iot": Registry()})
    put_rule_error(s3, "1", clientId="someone-else")

    assert 0 == run("replay", "--undelivered", "--yes").exit_code
    assert [] == process(s3, run.stream, first=900)
    assert 1 == len(entries(held(s3), reason="identity"))
