"""The handler end to end on in-process AWS: effects, redelivery, poison."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from fleet_iot import sensor_processor
from fleet_iot.sensor_processor.ingest.log import METRICS
from fleet_iot.sensor_processor.numbers import minute
from fleet_iot.sensor_processor.numbers.sketch import Sketch

DEVICE = "sg-01-press-monitor-0001-dev"


@pytest.mark.slow
def test_a_reading_becomes_a_minute_a_device_and_an_archive_line(platform: Any, event: Any, record: Any) -> None:
    """One reading makes its minute item, its device item and one line in the archive, and is acknowledged."""
    failed = platform.handle(event(record(sequence_number="100")))

    assert failed == []
    (item,) = platform.minutes()
    assert item["bucket"]["S"] == "minute#2026-11-23T14:49Z"
    assert item["messages"] == {"N": "1"}
    numbers = dict(item["metrics"]["M"]["temperature"]["M"])
    assert {"S": "celsius"} == numbers.pop("unit")
    assert [1] == list(Sketch.unpack(numbers.pop("sketch")["B"]).bins.values())
    assert {
        name: {"N": "1" if name == "count" else "71.25"} for name in ("count", "sum", "min", "max", "last")
    } == numbers
    (device,) = platform.devices()
    assert (device["device"]["S"], device["messages"]["N"]) == (DEVICE, "1")
    assert device["first_contact"]["S"] == "2026-11-23T14:49:03.250Z"
    assert platform.keys() == ["raw/date=2026-11-23/hour=14/shardId-000000000000-100-100-1.ndjson.gz"]


@pytest.mark.slow
def test_a_redelivered_batch_changes_nothing(platform: Any, event: Any, record: Any, payload: Any) -> None:
    """The second delivery of a batch leaves every item and every key as the first one left it."""
    batch = event(*(record(payload=payload(sequence=number, metrics={"temperature": 99.5})) for number in range(20)))
    platform.handle(batch)
    before = platform.items(), platform.devices(), platform.keys()

    failed = platform.handle(batch)

    assert failed == []
    assert (platform.items(), platform.devices(), platform.keys()) == before


@pytest.mark.slow
def test_poison_is_quarantined_and_does_not_block(platform: Any, event: Any, record: Any) -> None:
    """A poisonous record goes to quarantine with its reason and the good ones beside it are counted."""
    failed = platform.handle(event(record(payload=b"{"), record(), record(data=b"\xff")))

    assert failed == []
    assert [item["messages"]["N"] for item in platform.minutes()] == ["1"]
    assert sorted((line["facility"], line["reason"]) for line in platform.lines("quarantine/")) == [
        ("sg-01", "malformed"),
        ("unknown", "envelope"),
    ]


def emitted(capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str], dict[str, int]]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {
        (line["Facility"], line["DeviceType"]): {name: line[name] for name in METRICS if line[name]}
        for line in lines
        if "_aws" in line
    }


@pytest.mark.slow
def test_what_was_done_is_counted_in_metrics(
    platform: Any, event: Any, record: Any, payload: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each facility and device type has one line with its counts, in CloudWatch's embedded format."""
    old = payload(time=1_795_445_343_250 - 2 * 3_600_000, sequence=1)
    platform.handle(
        event(
            record(),
            record(),
            record(payload=old),
            record(payload=payload(sequence=18, metrics={"vibration": 12.0})),
            record(facility="my-jb-01", number=2),
            record(payload=b"{"),
            record(data=b"junk"),
        )
    )

    assert emitted(capsys) == {
        ("sg-01", "press-monitor"): {
            "ReadingsProcessed": 3,
            "ReadingsQuarantined": 1,
            "ReadingsDuplicate": 1,
            "ReadingsLate": 1,
            "AnomaliesDetected": 1,
        },
        ("my-jb-01", "press-monitor"): {"ReadingsProcessed": 1},
        ("unknown", "unknown"): {"ReadingsQuarantined": 1},
    }


@pytest.mark.slow
def test_an_anomaly_is_written_with_its_reason(platform: Any, event: Any, record: Any, payload: Any) -> None:
    """A reading over a limit makes an anomaly item in the operator's words, beside its minute."""
    platform.handle(event(record(payload=payload(metrics={"temperature": 97.2}))))

    assert platform.anomalies() == [
        {
            "device": {"S": DEVICE},
            "bucket": {"S": "anomaly#2026-11-23T14:49:03.000Z#temperature#limits"},
            "facility": {"S": "sg-01"},
            "device_type": {"S": "press-monitor"},
            "metric": {"S": "temperature"},
            "value": {"N": "97.2"},
            "detector": {"S": "limits"},
            "severity": {"S": "warning"},
            "score": {"N": "0.021"},
            "reason": {"S": "temperature 97.2 celsius is above its limit of 95, since 2026-11-23 14:49:03 UTC"},
            "time": {"S": "2026-11-23T14:49:03.000Z"},
            "open_facility": {"S": "sg-01"},
            "began": {"S": "2026-11-23T14:49:03.000Z"},
            "expires_at": {"N": str(1_795_445_343 + 400 * 86_400)},
        }
    ]


@pytest.mark.slow
def test_the_end_of_an_anomaly_is_an_item_of_its_own(platform: Any, event: Any, record: Any, payload: Any) -> None:
    """Back within its limits for a minute, an event has an end that names its beginning; the anomaly's item stays."""
    time = 1_795_445_343_000
    platform.handle(event(record(payload=payload(metrics={"temperature": 97.2}))))
    begun = platform.anomalies()
    for sequence, seconds in ((18, -10), (19, 20), (20, 40), (21, 80)):
        later = payload(metrics={"temperature": 90.0}, time=time + seconds * 1_000, sequence=sequence)
        platform.handle(event(record(payload=later, received_at=time + 100_000)))

    (ended,) = [item for item in platform.items() if item["bucket"]["S"].startswith("ended#")]
    assert ended["bucket"]["S"] == "ended#2026-11-23T14:49:03.000Z#temperature#limits"
    assert (ended["began_at"]["S"], ended["ended_at"]["S"]) == ("2026-11-23T14:49:03.000Z", "2026-11-23T14:49:23.000Z")
    assert ended["reason"]["S"] == "temperature 90 celsius is within its limit again, after 20 s"
    assert platform.anomalies() == begun


@pytest.mark.slow
def test_a_replay_after_minutes_expired_changes_no_hour(platform: Any, event: Any, record: Any, payload: Any) -> None:
    """A record that comes again when its minutes are gone is quarantined; the hour stays what it was."""
    time, day = 1_795_445_343_000, 86_400_000
    sent = [payload(time=time - 60_000 * place, sequence=place) for place in range(20)]
    platform.handle(event(*(record(payload=each) for each in sent)))
    later = time + 2 * 3_600_000
    platform.handle(event(record(payload=payload(time=later, sequence=99), received_at=later)))
    minutes = platform.minutes()
    hours = [item for item in platform.items() if item["bucket"]["S"].startswith("hour#")]
    for item in minutes:
        platform.dynamodb.delete_item(
            TableName="table-readings-dev", Key={"device": item["device"], "bucket": item["bucket"]}
        )

    for _ in range(2):
        assert [] == platform.handle(event(record(payload=sent[0], arrived_at=time + 91 * day)))

    assert hours == [item for item in platform.items() if item["bucket"]["S"].startswith("hour#")]
    assert {"old"} == {line["reason"] for line in platform.lines("quarantine/")}


@pytest.mark.slow
def test_a_conflicting_message_is_flagged_and_the_first_kept(
    platform: Any, event: Any, record: Any, payload: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another content under a known id changes no number, is counted once however often it comes, and is logged."""
    other = event(record(payload=payload(metrics={"temperature": 1.0}), sequence_number="101"))
    platform.handle(event(record(sequence_number="100")))
    platform.handle(other)
    platform.handle(other)

    (item,) = platform.minutes()
    assert (item["conflicts"]["N"], item["messages"]["N"]) == ("1", "1")
    assert item["metrics"]["M"]["temperature"]["M"]["sum"] == {"N": "71.25"}
    assert f"{DEVICE} sent 1 messages with the id of an earlier one" in capsys.readouterr().out
    assert len(platform.lines("raw/")) == 2


@pytest.mark.slow
def test_messages_beyond_a_full_minute_are_quarantined(
    platform: Any, event: Any, record: Any, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that floods one minute neither blocks the shard nor grows its item without end."""
    monkeypatch.setattr(minute, "MINUTE_CAPACITY", 1)
    platform.handle(event(record()))

    failed = platform.handle(event(record(payload=payload(sequence=18), sequence_number="200")))

    assert failed == []
    assert [(line["sequence_number"], line["reason"]) for line in platform.lines("quarantine/")] == [
        ("200", "minute_full")
    ]


@pytest.mark.slow
def test_many_readings_in_one_message_count_each_and_are_one_line(
    platform: Any, event: Any, record: Any, payload: Any
) -> None:
    """An array becomes a reading for each element, one archive line, and nothing more when it is redelivered."""
    times = [1_795_445_343_000 + 20_000 * place for place in range(-8, 1)]
    messages = [payload(time=time, sequence=place) for place, time in enumerate(times)]
    batch = event(record(payload=b"[" + b",".join(messages) + b"]", sequence_number="100"), record(payload=messages[0]))

    assert platform.handle(batch) == []
    assert platform.handle(batch) == []
    assert sum(int(item["messages"]["N"]) for item in platform.minutes()) == 9
    assert len(platform.minutes()) > 2
    assert [line["sequence_number"] for line in platform.lines("raw/")].count("100") == 1


def test_unknown_metrics_are_kept_raw_and_counted(
    platform: Any, event: Any, record: Any, payload: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A metric outside the catalogue is in the archive and in the log's count, not in the minute."""
    platform.handle(event(record(payload=payload(metrics={"temperature": 70.0, "humidity": 40.0}))))

    assert json.loads(capsys.readouterr().out.splitlines()[-1])["unknown_metrics"] == 1
    assert list(platform.minutes()[0]["metrics"]["M"]) == ["temperature"]


@pytest.mark.slow
def test_detectors_go_on_from_batch_to_batch(platform: Any, event: Any, record: Any, payload: Any) -> None:
    """A detector judges a reading by what it learned of the device in earlier invocations."""
    start = 1_795_445_343_250 - 400_000
    steady = [
        record(
            payload=payload(time=start + place * 1_000, sequence=place, metrics={"temperature": 70 + place % 7 / 10})
        )
        for place in range(200)
    ]
    for at in range(0, 200, 25):
        platform.handle(event(*steady[at : at + 25]))
    strange = payload(time=start + 200_000, sequence=200, metrics={"temperature": 90.0})

    platform.handle(event(record(payload=strange)))

    assert [(item["detector"]["S"], item["value"]["N"]) for item in platform.anomalies()] == [("context", "90")]


@pytest.mark.slow
def test_a_batch_of_nothing_is_acknowledged(platform: Any, event: Any) -> None:
    """An empty batch is no error."""
    assert platform.handle(event()) == []


@pytest.mark.slow
def test_a_batch_moves_each_of_its_lanes_once(platform: Any, event: Any, record: Any) -> None:
    """A hundred and twenty devices are one state object and one move of each lane, and of no minute yet."""
    platform.handle(event(*(record(number=number) for number in range(1, 121))))

    assert [len(item["chain"]["S"].split()) for item in platform.lanes()] == [1, 1, 1, 1]
    assert (len(platform.states()), len(platform.devices()), platform.items()) == (4, 120, [])


def test_a_device_item_of_somebody_else_stops_nothing(platform: Any, event: Any, record: Any) -> None:
    """An item that no processor wrote is replaced; neither its device nor any other fails."""
    thing = "sg-01-press-monitor-0001-dev"
    platform.own_dynamodb.put_item(
        TableName="table-devices-dev", Item={"device": {"S": thing}, "version": {"N": "3"}, "facility": {"S": "sg-01"}}
    )

    assert platform.handle(event(record(number=1), record(number=2))) == []
    platform.sweep()
    assert {item["device"]["S"]: "messages" in item for item in platform.devices()}[thing]


@pytest.mark.slow
def test_a_silent_device_has_its_minute_an_interval_later(platform: Any, event: Any, record: Any) -> None:
    """A sweep closes what is over by the clock; a second one has nothing to do."""
    platform.handle(event(record()))
    platform.sweep()
    before = platform.items(), platform.lanes(), platform.states()
    platform.sweep()

    assert [item["bucket"]["S"] for item in platform.items()] == [
        "day#2026-11-23",
        "hour#2026-11-23T14Z",
        "minute#2026-11-23T14:49Z",
    ]
    assert (platform.items(), platform.lanes(), platform.states()) == before


def test_boto3_stays_at_the_rim() -> None:
    """Only the adapters and the handler know AWS's client, so the core runs anywhere."""
    package = Path(sensor_processor.__file__).parent
    users = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in {"boto3", "botocore"} for name in names):
                users.add(file.stem)

    assert users == {"archive", "conditional", "handler", "lanes", "notifier", "store"}
