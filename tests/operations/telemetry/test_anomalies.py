"""Anomalies are read as the processor wrote them, and acknowledged in their items."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from moto import mock_aws

from fleet_iot.generator.cli.commands import main
from fleet_iot.lib.names import OPEN_ANOMALIES
from fleet_iot.operations.telemetry.anomalies import FALSE, Anomaly, acknowledge, beside, read_anomalies, read_open
from fleet_iot.sensor_processor.detection import END, ESCALATED, Finding, limits_finding
from fleet_iot.sensor_processor.ingest.catalogue import Metric
from fleet_iot.sensor_processor.numbers.minute import Minute, aggregate_of, minute_of
from fleet_iot.sensor_processor.planning.items import DeviceEvent, event_item, minute_item
from tests.operations.aws_stub import stub_local_aws

TABLE = "table-readings-dev"
TIME = 1_795_445_343_250
THING = "sg-01-press-monitor-0001-dev"
METRIC = Metric(name="t", unit="C", minimum=0.0, maximum=95.0, detector="limits")


@pytest.fixture
def client() -> Iterator[Any]:
    """A table with three anomalies, of two plants, one of which became worse and ended, and a minute."""
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        client = boto3.client("dynamodb", region_name="ap-southeast-1")
        client.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name in ("device", "bucket", "open_facility", "began")
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": OPEN_ANOMALIES,
                    "KeySchema": [
                        {"AttributeName": "open_facility", "KeyType": "HASH"},
                        {"AttributeName": "began", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            KeySchema=[{"AttributeName": "device", "KeyType": "HASH"}, {"AttributeName": "bucket", "KeyType": "RANGE"}],
        )
        begun = limits_finding(METRIC, 97.2)
        worse = replace(limits_finding(METRIC, 120.0), kind=ESCALATED, began=TIME)
        over = replace(begun, kind=END, reason="t 90 C is within its limit again", began=TIME, ended=TIME + 60_000)
        for finding, thing, facility, time in (
            (begun, THING, "sg-01", TIME),
            (worse, THING, "sg-01", TIME + 30_000),
            (over, THING, "sg-01", TIME + 120_000),
            (begun, "other", "my-jb-01", TIME + 1),
            (limits_finding(METRIC, 97.2, late_at=TIME - 1), "late", "my-jb-01", TIME - 1),
        ):
            event = DeviceEvent(finding=finding, device=thing, facility=facility, device_type="p", time=time)
            item = event_item(event, retention_days=90)
            client.put_item(TableName=TABLE, Item=item)
        client.put_item(TableName=TABLE, Item={"device": {"S": THING}, "bucket": {"S": "minute#2026-11-23T14:49Z"}})
        yield client


def test_anomalies_are_read_by_thing_and_facility(client: Any) -> None:
    """As the processor wrote them; minutes are none."""
    (own,) = read_anomalies(client, TABLE, thing=THING)

    assert ("critical", "2026-11-23T14:49:03.250Z", None) == (own.severity, own.time, own.acknowledged_by)
    assert "2026-11-23T14:49:33.250Z" == own.escalated_at
    assert [
        ("late", "2026-11-23T14:49:03.249Z"),
        (THING, "2026-11-23T14:50:03.250Z"),
        ("other", None),
    ] == [(each.thing, each.ended_at) for each in sorted(read_anomalies(client, TABLE), key=_time)]
    assert ["late", "other"] == sorted(each.thing for each in read_anomalies(client, TABLE, facility="my-jb-01"))


def test_open_anomalies_are_read_by_plant_without_a_scan(client: Any) -> None:
    """With what became of each; acknowledging takes one out of the index."""
    scans: list[Any] = []
    client.meta.events.register("before-call.dynamodb.Scan", lambda **_: scans.append(1))

    assert [(THING, "critical", "2026-11-23T14:50:03.250Z")] == [
        (each.thing, each.severity, each.ended_at) for each in read_open(client, TABLE, facilities=["sg-01"])
    ]
    both = list(read_open(client, TABLE, facilities=["my-jb-01", "sg-01"]))
    assert ["late", "other", THING] == [each.thing for each in both]
    acknowledge(
        client, TABLE, thing="late", anomaly_id=both[0].id, by="mei", note=None, now=datetime(2026, 11, 24, tzinfo=UTC)
    )
    assert ["other"] == [each.thing for each in read_open(client, TABLE, facilities=["my-jb-01"])]
    assert [] == scans


def _time(anomaly: Anomaly) -> str:
    return anomaly.time


@pytest.mark.slow
def test_an_acknowledgement_stays_with_the_anomaly(client: Any) -> None:
    """Who, when and what was done; of an anomaly that there is not, nothing is made."""
    (own,) = read_anomalies(client, TABLE, thing=THING)
    now = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)

    assert acknowledge(client, TABLE, thing=THING, anomaly_id=own.id, by="mei", note="oil changed", now=now)
    absent = acknowledge(client, TABLE, thing=THING, anomaly_id=own.id + "x", by="mei", note=None, now=now, label=FALSE)
    assert absent is None
    (seen,) = read_anomalies(client, TABLE, thing=THING)
    assert ("mei", "2026-11-24T08:00:00Z", "oil changed") == (seen.acknowledged_by, seen.acknowledged_at, seen.note)


def test_the_command_lists_unacknowledged_anomalies(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newest first; what was acknowledged only with `--all`."""
    stub_local_aws(monkeypatch, dynamodb=client)

    def run(*arguments: str) -> list[str]:
        return CliRunner().invoke(main, ["anomalies", *arguments]).output.splitlines()

    assert ["other", THING, "late"] == [json.loads(line)["thing"] for line in run("list", "--json")]
    anomaly_id = json.loads(run("list", "--json", "--thing", THING)[0])["id"]
    assert ["acknowledged by mei"] == run("ack", THING, anomaly_id, "--by", "mei")
    assert "2 unacknowledged anomalies" == run("list")[-2]
    listed = run("list", "--all")
    assert listed[0].endswith("t 97.2 C is above its limit of 95, since 2026-11-23 14:49:03 UTC, still on")
    assert listed[1].endswith(
        "t 97.2 C is above its limit of 95, since 2026-11-23 14:49:03 UTC, critical since 2026-11-23T14:49:33.250Z,"
        " ended 2026-11-23T14:50:03.250Z  [acknowledged by mei]"
    )
    assert "has no anomaly" in run("ack", THING, "anomaly#x", "--by", "mei")[0]
    assert "no thing 'sg-01-nope-dev'" in run("ack", "sg-01-nope-dev", anomaly_id, "--by", "mei")[0]


def test_a_shelf_is_set_listed_and_ended(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who, until when and why; the list marks the shelved thing's anomalies, or those of one metric, in any words."""
    stub_local_aws(monkeypatch, dynamodb=client)
    lanes = "table-lanes-dev"
    client.create_table(
        TableName=lanes,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "lane", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "lane", "KeyType": "HASH"}],
    )

    def run(*arguments: str, code: int = 0) -> list[str]:
        result = CliRunner().invoke(main, ["anomalies", *arguments])
        assert code == result.exit_code, result.output
        return result.output.splitlines()

    said = run("shelve", "SG01-PRESS-MONITOR-0001", "--for", "8h", "--note", "Lager wird getauscht", "--by", "mei")
    assert said[0].startswith(f"shelved {THING} until 20")
    assert said[0].endswith("Z by mei: Lager wird getauscht")
    run("shelve", THING, "--metric", "temperature", "--for", "90m", "--note", "thay cảm biến", "--by", "Nguyễn")
    shelved = {line["thing"]: line["shelved_until"] for line in map(json.loads, run("list", "--json"))}
    assert (True, None) == (shelved[THING] is not None, shelved["other"])
    listed = run("list")
    assert 1 == sum("  [shelved until 20" in line for line in listed)
    assert any(line.startswith(f"shelved {THING} temperature until ") for line in listed)
    assert "more than 7 days" in run("shelve", THING, "--for", "8d", "--note", "x", code=2)[-1]
    assert "no metric" in " ".join(run("shelve", THING, "--metric", "nope", "--for", "1h", "--note", "x", code=2))

    assert [f"unshelved {THING} temperature"] == run("unshelve", THING, "--metric", "temperature")
    assert [f"unshelved {THING}"] == run("unshelve", THING)
    assert f"{THING} is not shelved" in run("unshelve", THING, code=1)[0]
    assert not any("shelved" in line for line in run("list"))
    plant = client.get_item(TableName=lanes, Key={"lane": {"S": "plant#sg-01"}})["Item"]
    assert {"lane": {"S": "plant#sg-01"}, "revision": {"N": "4"}} == plant
    assert {"lane": {"S": "plants"}, "plant sg-01": {"BOOL": True}} == client.get_item(
        TableName=lanes, Key={"lane": {"S": "plants"}}
    )["Item"]


def test_a_listed_id_is_what_the_next_command_takes(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied from the table; also of a thing that left the record, whose full name is still read."""
    stub_local_aws(monkeypatch, dynamodb=client)
    gone = "sg-01-press-monitor-0900-dev"
    event = DeviceEvent(
        finding=limits_finding(METRIC, 97.2), device=gone, facility="sg-01", device_type="p", time=TIME + 2
    )
    client.put_item(TableName=TABLE, Item=event_item(event, retention_days=90))

    def run(*arguments: str, code: int = 0) -> list[str]:
        done = CliRunner().invoke(main, ["anomalies", *arguments])
        assert code == done.exit_code, done.output
        return done.output.splitlines()

    for name in (gone, THING.removesuffix("-dev").upper()):
        (row, count, _) = run("list", "--thing", name)
        assert "1 unacknowledged anomaly" == count
        run("ack", row.split()[1], "--note", "oil changed")
        assert ["0 unacknowledged anomalies"] == run("list", "--thing", name)
    assert "did you mean sg-01-press-monitor-00" in run("ack", f"{gone[:-4]}#anomaly#x", code=2)[1]
    assert "is no anomaly's id" in run("ack", THING, code=2)[-1]


def run(*arguments: str, code: int = 0) -> list[str]:
    """The lines that `fleet anomalies` prints."""
    done = CliRunner().invoke(main, ["anomalies", *arguments])
    assert code == done.exit_code, done.output
    return done.output.splitlines()


def test_a_label_replaces_the_former_one_which_is_kept(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With who and when; an acknowledgement without a label leaves it."""
    stub_local_aws(monkeypatch, dynamodb=client)
    own = f"{THING}#{json.loads(run('list', '--json', '--thing', THING)[0])['id']}"

    assert ["labelled false by mei"] == run("ack", own, "--false", "--by", "mei", "--note", "door was open")
    (changed,) = run("ack", own, "--true", "--by", "bob")
    assert changed.startswith("labelled true by bob; it was labelled false by mei at 20")
    (seen,) = run("ack", own, "--by", "ann")
    assert seen.startswith("acknowledged by ann; labelled true by bob at 20")
    (listed,) = (json.loads(line) for line in run("list", "--all", "--json", "--thing", THING))
    assert ("true", "ann", "door was open") == (listed["label"], listed["acknowledged_by"], listed["note"])
    assert [("false", "mei"), ("true", "bob")] == [(each["label"], each["by"]) for each in listed["labels"]]
    assert run("list", "--all", "--thing", THING)[0].endswith("[acknowledged by ann, true]")


def test_an_anomaly_is_explained_beside_its_neighbours(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`show` prints the regime, the metrics that moved too, the neighbours, and the next command."""
    stub_local_aws(monkeypatch, dynamodb=client)
    found = Finding(
        metric="temperature",
        detector="machine",
        value=71.2,
        score=1.31,
        reason="temperature 71.2 celsius instead of about 63 celsius with pressure 140",
        regime=(("pressure", 140.0),),
    )
    joins = replace(found, kind=ESCALATED, metric="vibration", of="temperature", began=TIME, reason="vibration 4 mm/s")
    for finding, time in ((found, TIME), (joins, TIME + 300_000)):
        event = DeviceEvent(finding=finding, device=THING, facility="sg-01", device_type="press-monitor", time=time)
        client.put_item(TableName=TABLE, Item=event_item(event, retention_days=90))
    for number, value, revision, start in (
        (2, 60.0, 0, TIME - 120_000),
        (2, 61.5, 0, TIME - 60_000),
        (2, 62.5, 1, TIME - 60_000),  # a later revision
        (3, 64.0, 0, TIME - 60_000),
        (4, 99.0, 0, TIME - 3_600_000),  # too old
    ):
        minute = Minute(device=f"sg-01-press-monitor-{number:04}-dev", start=minute_of(start), facility="sg-01")
        minute.metrics = {"temperature": aggregate_of((value, value + 1.0), last=value, order=0, unit="celsius")}
        client.put_item(TableName=TABLE, Item=minute_item(minute, revision=revision, retention_days=90))

    lines = dict(
        line.split("  ", 1) for line in run("show", f"{THING}#anomaly#2026-11-23T14:49:03.250Z#temperature#machine")
    )
    lines = {name: text.strip() for name, text in lines.items()}
    assert "of 2 other press-monitor at sg-01: 63 to 64.5 celsius, median 63.75" == lines["neighbours"]
    assert "pressure 140" == lines["with"]
    assert (
        "vibration at 2026-11-23T14:54:03.250Z: vibration 4 mm/s, since 2026-11-23 14:49:03 UTC" == lines["joined by"]
    )
    assert "warning at sg-01-press-monitor-0001-dev, press-monitor of sg-01" == lines["what"]
    assert f"fleet history {THING} --level minute --metric temperature --since 2026-11-23T14:00Z" == lines["next"]
    assert ["error: sg-01-press-monitor-0001-dev has no anomaly x"] == run("show", THING, "x", code=1)[:1]


@pytest.mark.parametrize(
    ("own", "names"),
    [(0, [1, 2, 3, 4]), (1, [0, 2, 3, 4]), (5, [3, 4, 6, 7]), (8, [5, 6, 7, 9]), (9, [5, 6, 7, 8]), (50, [6, 7, 8, 9])],
)
def test_neighbours_are_those_beside_it_in_the_record(own: int, names: list[int]) -> None:
    """Half of them on each side where there are so many; of a thing that left the record, the last ones."""
    assert [str(name) for name in names] == beside(map(str, range(10)), str(own), most=4)
    assert [] == beside([str(own)], str(own), most=4)
