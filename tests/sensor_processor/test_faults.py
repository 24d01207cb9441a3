"""Faults of AWS and of other writers: nothing lost, nothing counted twice, what could not be done comes again."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.detection import DeviceDetectors
from fleet_iot.sensor_processor.planning.lane import lane_of

OLD = Path(__file__).parent / "version_0_3_0.json"
"""The items of a device with twenty readings, as version 0.3.0 wrote them."""


def _from_json(item: dict[str, Any]) -> Any:
    """Decode the binary attributes of an item that was stored as JSON."""
    if isinstance(item, dict):
        if set(item) == {"B"}:
            return {"B": base64.b64decode(item["B"])}
        return {name: _from_json(value) for name, value in item.items()}
    return item


DEVICE = "sg-01-press-monitor-0001-dev"
THROTTLED = {"code": "ThrottlingException", "status": 400}
SLOW_DOWN = {"code": "SlowDown", "status": 503}


@pytest.fixture
def batch(event: Any, record: Any, payload: Any) -> Any:
    """Three devices with four readings each, records 100 to 111."""
    return event(
        *(
            record(number=1 + place % 3, payload=payload(sequence=place), sequence_number=str(100 + place))
            for place in range(12)
        )
    )


def messages(platform: Any) -> dict[str, int]:
    platform.sweep()
    return {item["device"]["S"]: int(item["messages"]["N"]) for item in platform.devices()}


EXACT = {f"sg-01-press-monitor-{number:04d}-dev": 4 for number in (1, 2, 3)}


@pytest.mark.slow
def test_throttled_writes_are_tried_again(platform: Any, batch: Any) -> None:
    """A write that is throttled twice is done at the third attempt, once."""
    refused = platform.refuse(platform.own_dynamodb, "UpdateItem", **THROTTLED, times=2)

    assert platform.handle(batch) == []
    assert (len(refused), messages(platform)) == (2, EXACT)


@pytest.mark.slow
def test_writes_that_stay_throttled_come_again(platform: Any, batch: Any) -> None:
    """Records that could not be written in time are archived and reported."""
    platform.refuse(platform.own_dynamodb, "UpdateItem", **THROTTLED)

    failed = platform.handle(batch, remaining_ms=1_500)

    assert failed == [str(number) for number in range(100, 112)]
    assert (platform.items(), len(platform.lines("raw/"))) == ([], 12)


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["BatchGetItem", "GetItem", "UpdateItem"])
@pytest.mark.parametrize(("code", "status"), [("InternalServerError", 500), ("AccessDeniedException", 400)])
def test_a_table_that_does_not_answer_fails_its_records(
    platform: Any, batch: Any, operation: str, code: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the tables' error, no record is acknowledged that is not written, and the log says why."""
    platform.refuse(platform.own_dynamodb, operation, code=code, status=status)

    failed = platform.handle(batch, remaining_ms=1_200)

    assert len(failed) == 12
    errors = [line["error"] for line in map(json.loads, capsys.readouterr().out.splitlines()) if "error" in line]
    assert any(code in error for error in errors)


@pytest.mark.slow
def test_an_archive_that_fails_keeps_records_out_of_the_tables(platform: Any, batch: Any) -> None:
    """Nothing is written to the tables and nothing acknowledged that is not in the archive."""
    platform.refuse(platform.own_s3, "PutObject", **SLOW_DOWN)

    failed = platform.handle(batch, remaining_ms=1_500)

    assert (len(failed), platform.items(), platform.devices(), platform.keys()) == (12, [], [], [])


@pytest.mark.slow
def test_a_slow_archive_is_tried_again(platform: Any, batch: Any) -> None:
    """An archive that asks to slow down gets the object a little later."""
    refused = platform.refuse(platform.own_s3, "PutObject", **SLOW_DOWN, times=2)

    assert platform.handle(batch) == []
    assert (len(refused), len(platform.lines("raw/"))) == (2, 12)


@pytest.mark.slow
def test_quarantine_that_fails_is_not_acknowledged(platform: Any, event: Any, record: Any) -> None:
    """Poison that could not be put into quarantine comes again."""
    platform.refuse(platform.own_s3, "PutObject", **SLOW_DOWN)

    assert platform.handle(event(record(payload=b"{", sequence_number="7")), remaining_ms=1_200) == ["7"]


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["UpdateItem", "PutObject"])
def test_a_write_whose_answer_was_lost_counts_once(platform: Any, batch: Any, operation: str) -> None:
    """A move that was done before the connection broke is recognised by its nonce, an object by its key."""
    client = platform.own_dynamodb if operation == "UpdateItem" else platform.own_s3
    lost = platform.lose_answer(client, operation, times=2)

    assert platform.handle(batch) == []
    assert (len(lost), messages(platform)) == (2, EXACT)


@pytest.mark.slow
def test_a_crash_after_the_write_counts_once(platform: Any, batch: Any, event: Any, record: Any, payload: Any) -> None:
    """A function that dies between its commit and its answer gets the batch again and changes nothing."""
    platform.handle(event(record(payload=payload(sequence=0))))
    platform.lose_answer(platform.own_dynamodb, "UpdateItem", error=MemoryError("killed"))
    with pytest.raises(MemoryError):
        platform.handle(batch)
    platform.restart()

    assert platform.handle(batch) == []
    assert messages(platform) == EXACT


@pytest.mark.slow
def test_two_writers_of_one_lane_count_each_message_once(
    platform: Any, batch: Any, event: Any, record: Any, payload: Any
) -> None:
    """A process that was overtaken before it moved the lane reads what the other one wrote, and folds again."""
    overtaking = event(
        record(payload=payload(sequence=0), sequence_number="90"),
        record(payload=payload(sequence=77), sequence_number="91"),
    )
    platform.handle(event(record(payload=payload(sequence=0), sequence_number="89")))
    platform.before(platform.own_dynamodb, "UpdateItem", lambda: platform.handle(overtaking))

    assert platform.handle(batch) == []
    assert messages(platform) == EXACT | {DEVICE: 5}
    minute = platform.minutes()[0]
    assert (minute["messages"]["N"], minute["metrics"]["M"]["temperature"]["M"]["count"]["N"]) == ("5", "5")


@pytest.mark.slow
def test_a_contended_lane_does_not_hold_up_the_others(
    platform: Any, batch: Any, event: Any, record: Any, payload: Any
) -> None:
    """The records of a lane that others keep moving come again; those of other lanes are committed."""
    platform.handle(event(record(payload=payload(sequence=0))))
    (lane,) = platform.lanes()
    name = lane["lane"]["S"]

    def meddle() -> None:
        platform.dynamodb.update_item(
            TableName="table-lanes-dev",
            Key={"lane": {"S": name}},
            UpdateExpression="ADD version :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )

    platform.before(platform.own_s3, "PutObject", meddle, times=1_000)

    failed = platform.handle(batch, remaining_ms=8_000)

    ours = [number for number in (1, 2, 3) if lane_of(f"sg-01-press-monitor-{number:04d}-dev", 4) == name]
    assert failed == [str(100 + place) for place in range(12) if 1 + place % 3 in ours]
    assert len(failed) < 12


@pytest.mark.slow
def test_a_device_item_of_somebody_else_is_taken_over(platform: Any, batch: Any) -> None:
    """A device item that no processor wrote, and that has no version, does not keep readings from being counted."""
    platform.dynamodb.put_item(TableName="table-devices-dev", Item={"device": {"S": DEVICE}, "note": {"S": "new"}})

    assert platform.handle(batch) == []
    assert messages(platform) == EXACT


@pytest.mark.slow
def test_an_item_that_dynamodb_refuses_for_ever_goes_to_quarantine(
    platform: Any, batch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """When DynamoDB rejects items as invalid, each is written by itself, and what is refused does not stop its lane."""
    platform.handle(batch)
    refused = platform.refuse(
        platform.own_dynamodb, "BatchWriteItem", code="ValidationException", status=400, times=1_000_000
    )
    platform.sweep()

    assert len(refused) > 3
    lines = [line for line in platform.lines("quarantine/") if line["reason"] == "refused"]
    assert {(line["raw_of"], line["facility"], line["device_type"]) for line in lines} == {
        ("item", "sg-01", "press-monitor")
    }
    assert "DynamoDB refuses an item for ever" in capsys.readouterr().out
    assert all(item["acked"] == item["version"] for item in platform.lanes())


@pytest.mark.slow
def test_a_reading_whose_processing_raises_goes_to_quarantine(
    platform: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One device's fault costs its own reading only; the others of the batch, and of the device, are counted."""
    learn = DeviceDetectors.learn

    def faulty(self: DeviceDetectors, order: Any, *args: Any, **more: Any) -> Any:
        if order[1] == 3:
            raise KeyError("pressure")
        return learn(self, order, *args, **more)

    monkeypatch.setattr(DeviceDetectors, "learn", faulty)

    assert platform.handle(batch) == []
    assert messages(platform) == EXACT | {DEVICE: 3}
    (line,) = platform.lines("quarantine/")
    assert (line["sequence_number"], line["reason"], line["detail"]) == ("103", "processing", "KeyError('pressure')")


@pytest.mark.slow
def test_tables_that_take_nothing_stop_a_lane_after_a_minute(
    platform: Any, event: Any, record: Any, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emission that fails fails no record; once what waits is a minute old the batch fails, until it is emitted."""
    now = [1_795_445_400.0]
    process = handler.runtime()
    aged = replace(process, now=lambda: now[0], sleep=lambda _: None)
    monkeypatch.setattr(handler, "runtime", lambda: aged)
    refused = platform.refuse(process.log.store._client, "BatchWriteItem", **THROTTLED)
    times = [1_795_445_343_000 + 70_000 * place for place in range(4)]
    sent = [
        record(payload=payload(time=time, sequence=place), received_at=time, sequence_number=str(place + 1))
        for place, time in enumerate(times)
    ]

    assert [handler.respond(aged, event(each), None)["batchItemFailures"] for each in sent[:3]] == [[], [], []]
    assert refused
    now[0] += 61
    assert handler.respond(aged, event(sent[3]), None)["batchItemFailures"] == [{"itemIdentifier": "4"}]
    refused.extend(["enough"] * 1_000_000)
    assert handler.respond(aged, event(sent[3]), None)["batchItemFailures"] == []
    now[0] += 1_000
    assert sum(int(item["messages"]["N"]) for item in platform.minutes()) == 4


@pytest.mark.slow
def test_a_late_reading_finds_its_minute_in_the_outbox(
    platform: Any, event: Any, record: Any, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has left the state and not reached the table is looked up where it waits."""
    process = replace(handler.runtime(), sleep=lambda _: None)
    monkeypatch.setattr(handler, "runtime", lambda: process)
    refused = platform.refuse(process.log.store._client, "BatchWriteItem", **THROTTLED)
    start = 1_795_445_340_000
    times = [start + 60_000 * place for place in range(6)]
    handler.respond(
        process,
        event(*(record(payload=payload(time=time, sequence=1), received_at=times[-1]) for time in times)),
        None,
    )
    late = event(record(payload=payload(time=start, sequence=2), received_at=times[-1]))
    again = event(record(payload=payload(time=start, sequence=1), received_at=times[-1]))
    assert handler.respond(process, late, None)["batchItemFailures"] == []
    assert handler.respond(process, again, None)["batchItemFailures"] == []
    refused.extend(["enough"] * 1_000_000)
    platform.sweep()

    items = [item for item in platform.items() if item["bucket"]["S"].startswith("minute#2026-11-23T14:49Z")]
    assert [item["messages"]["N"] for item in items] == ["1", "2"]


@pytest.mark.slow
def test_a_state_of_a_newer_format_is_not_touched(
    platform: Any, batch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A version that cannot read a lane's format leaves it to the one that wrote it: its records come again."""
    platform.handle(batch)
    for lane in platform.lanes():
        platform.dynamodb.put_item(TableName="table-lanes-dev", Item=lane | {"format": {"N": "2"}})
    before = platform.lanes(), platform.states()

    assert len(platform.handle(batch)) == 12
    assert (platform.lanes(), platform.states()) == before
    assert "has format 2, of a newer version" in capsys.readouterr().out


@pytest.mark.slow
def test_the_number_of_lanes_is_that_of_the_first_commit(
    platform: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In other lanes devices would lack their state; a sweep before the first reading fixes nothing."""
    monkeypatch.setenv("LANES", "16")
    platform.sweep()
    monkeypatch.setenv("LANES", "8")
    platform.restart()
    platform.handle(batch)
    monkeypatch.setenv("LANES", "4")
    platform.restart()

    assert platform.handle(batch) == []
    assert messages(platform) == EXACT
    assert {lane["lane"]["S"][-8:] for lane in platform.lanes()} == {"-of-0008"}


@pytest.mark.slow
def test_a_device_of_version_0_3_0_is_taken_over(
    platform: Any, event: Any, record: Any, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Detectors, counts, minutes, hour and day go on; the old processor finds its version gone, and its records come
    again."""
    old = json.loads(OLD.read_text())
    for table, items in old.items():
        for item in items:
            platform.dynamodb.put_item(TableName=table, Item=_from_json(item))
    time = 1_795_445_343_000
    known, more = payload(time=time, sequence=19), payload(time=time, sequence=20)
    batch = event(record(payload=known), record(payload=more, received_at=time + 1_000))

    assert platform.handle(batch) == []
    (device,) = platform.devices()
    assert (device["messages"]["N"], "detectors" in device, "taken" in device) == ("21", False, False)
    items = {item["bucket"]["S"]: item for item in platform.minutes()}
    first, second = sorted(items)[-2:]
    assert (items[first]["messages"]["N"], items[second]["messages"]["N"]) == ("20", "21")
    (hour,) = [item for item in platform.items() if item["bucket"]["S"].startswith("hour#2026-11-23T14Z")]
    assert (hour["messages"]["N"], hour["minutes"]["N"]) == ("21", "1")


@pytest.mark.slow
def test_nothing_is_asked_when_no_time_is_left(platform: Any, batch: Any) -> None:
    """An invocation without time reports all of its records instead of being stopped in the middle."""
    assert len(platform.handle(batch, remaining_ms=0)) == 12
    assert (platform.keys(), platform.items()) == ([], [])
