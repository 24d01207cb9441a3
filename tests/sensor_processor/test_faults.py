"""Faults of AWS and of other writers: nothing lost, nothing counted twice, what could not be done comes again."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
    return {item["device"]["S"]: int(item["messages"]["N"]) for item in platform.devices()}


EXACT = {f"sg-01-press-monitor-{number:04d}-dev": 4 for number in (1, 2, 3)}


@pytest.mark.slow
def test_throttled_writes_are_tried_again(platform: Any, batch: Any) -> None:
    """A write that is throttled twice is done at the third attempt, once."""
    refused = platform.refuse(platform.own_dynamodb, "TransactWriteItems", **THROTTLED, times=2)

    assert platform.handle(batch) == []
    assert (len(refused), messages(platform)) == (2, EXACT)


@pytest.mark.slow
def test_writes_that_stay_throttled_come_again(platform: Any, batch: Any) -> None:
    """Records that could not be written in time are archived and reported."""
    platform.refuse(platform.own_dynamodb, "TransactWriteItems", **THROTTLED)

    failed = platform.handle(batch, remaining_ms=1_500)

    assert failed == [str(number) for number in range(100, 112)]
    assert (platform.items(), len(platform.lines("raw/"))) == ([], 12)


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["BatchGetItem", "TransactWriteItems"])
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
def test_a_write_whose_answer_was_lost_counts_once(platform: Any, batch: Any) -> None:
    """A transaction that committed before the connection broke is recognised, not repeated."""
    lost = platform.lose_answer(platform.own_dynamodb, "TransactWriteItems")

    assert platform.handle(batch) == []
    assert (len(lost), messages(platform)) == (1, EXACT)


@pytest.mark.slow
def test_a_crash_after_the_write_counts_once(platform: Any, batch: Any) -> None:
    """A function that dies between its write and its answer gets the batch again and changes nothing."""
    platform.lose_answer(platform.own_dynamodb, "TransactWriteItems", error=MemoryError("killed"))
    with pytest.raises(MemoryError):
        platform.handle(batch)
    before = platform.items(), platform.devices()

    assert platform.handle(batch) == []
    assert (platform.items(), platform.devices()) == before
    assert messages(platform) == EXACT


@pytest.mark.slow
def test_two_writers_of_one_device_count_each_message_once(
    platform: Any, batch: Any, event: Any, record: Any, payload: Any
) -> None:
    """A writer that was overtaken between its reads and its write loads and plans again."""
    overtaking = event(
        record(payload=payload(sequence=0), sequence_number="90"),
        record(payload=payload(sequence=77), sequence_number="91"),
    )
    platform.before(platform.own_dynamodb, "TransactWriteItems", lambda: platform.handle(overtaking))

    assert platform.handle(batch) == []
    assert messages(platform) == EXACT | {DEVICE: 5}
    minute = platform.minutes()[0]
    assert (minute["messages"]["N"], minute["metrics"]["M"]["temperature"]["M"]["count"]["N"]) == ("5", "5")


@pytest.mark.slow
def test_one_contended_device_does_not_hold_up_the_others(
    platform: Any, batch: Any, event: Any, record: Any, payload: Any
) -> None:
    """Devices whose transaction was cancelled because of another one are written; the contended one comes again."""
    platform.handle(event(record(payload=payload(sequence=0))))

    def meddle() -> None:
        platform.dynamodb.update_item(
            TableName="table-devices-dev",
            Key={"device": {"S": DEVICE}},
            UpdateExpression="ADD version :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )

    platform.before(platform.own_dynamodb, "TransactWriteItems", meddle, times=1_000)

    failed = platform.handle(batch, remaining_ms=3_000)

    assert failed == ["100", "103", "106", "109"]
    assert messages(platform) == EXACT | {DEVICE: 1}


@pytest.mark.slow
def test_a_device_item_of_somebody_else_is_taken_over(platform: Any, batch: Any) -> None:
    """A device item that no processor wrote, and that has no version, does not keep readings from being counted."""
    platform.dynamodb.put_item(TableName="table-devices-dev", Item={"device": {"S": DEVICE}, "note": {"S": "new"}})

    assert platform.handle(batch) == []
    assert messages(platform) == EXACT


@pytest.mark.slow
def test_an_item_that_dynamodb_does_not_take_fails_alone(platform: Any, batch: Any) -> None:
    """When DynamoDB rejects a transaction as invalid, each device is written by itself, and only one is retried."""
    platform.refuse(platform.own_dynamodb, "TransactWriteItems", code="ValidationException", status=400, times=2)

    failed = platform.handle(batch)

    assert failed == ["100", "103", "106", "109"]
    assert messages(platform) == {device: 4 for device in EXACT if device != DEVICE}


@pytest.mark.slow
def test_unprocessed_keys_are_asked_for_again(platform: Any, batch: Any) -> None:
    """Keys that a read left unprocessed are read before anything is planned, so that nothing is counted twice."""
    platform.handle(batch)
    platform.restart()
    client = platform.own_dynamodb
    left: list[int] = []

    def leave_most(parsed: dict[str, Any], **_: Any) -> None:
        for table, items in parsed["Responses"].items():
            if len(items) > 1 and len(left) < 4:
                keep, rest = items[:1], items[1:]
                names = ("device", "bucket") if table == "table-readings-dev" else ("device",)
                parsed["Responses"][table] = keep
                keys = [{name: item[name] for name in names} for item in rest]
                parsed["UnprocessedKeys"] = {table: {"Keys": keys, "ConsistentRead": True}}
                left.append(len(rest))

    client.meta.events.register_last("after-call.dynamodb.BatchGetItem", leave_most)
    before = platform.items(), platform.devices()

    assert platform.handle(batch) == []
    assert left == [2, 1, 2, 1]
    assert (platform.items(), platform.devices()) == before


@pytest.mark.slow
def test_nothing_is_asked_when_no_time_is_left(platform: Any, batch: Any) -> None:
    """An invocation without time reports all of its records instead of being stopped in the middle."""
    assert len(platform.handle(batch, remaining_ms=0)) == 12
    assert (platform.keys(), platform.items()) == ([], [])
