"""Redrive invokes the function with each message's records, and deletes a message only when all are acknowledged."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from fleet_iot.operations.telemetry.redrive import ATTEMPTS, FunctionError, Outcome, Processor, range_of, redrive


class Queue:
    """An on-failure queue with messages for ranges of records."""

    def __init__(self, *ranges: tuple[int, int]) -> None:
        self.bodies = {str(number): body(*each) for number, each in enumerate(ranges)}

    def receive_message(self, **_: Any) -> dict[str, Any]:
        return {
            "Messages": [{"MessageId": key, "ReceiptHandle": key, "Body": text} for key, text in self.bodies.items()]
        }

    def delete_message(self, *, ReceiptHandle: str, **_: Any) -> None:  # noqa: N803 - the API's word
        del self.bodies[ReceiptHandle]


class Stream:
    """A shard with records of these numbers, three to an answer, and an empty answer before each."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers
        self.asked = 0

    def get_shard_iterator(self, *, StartingSequenceNumber: str, **_: Any) -> dict[str, str]:  # noqa: N803
        return {"ShardIterator": StartingSequenceNumber}

    def get_records(self, *, ShardIterator: str, **_: Any) -> dict[str, Any]:  # noqa: N803 - the API's word
        self.asked += 1
        if self.asked % 2:
            return {"Records": [], "NextShardIterator": ShardIterator}
        found = [number for number in self.numbers if number >= int(ShardIterator)][:3]
        records = [
            {
                "SequenceNumber": str(number),
                "PartitionKey": "p",
                "Data": b"x",
                "ApproximateArrivalTimestamp": datetime(2026, 11, 23, tzinfo=UTC),
            }
            for number in found
        ]
        return {"Records": records, "NextShardIterator": str(found[-1] + 1) if found else ShardIterator}


def body(first: int, last: int) -> str:
    info = {
        "shardId": "shardId-000000000000",
        "startSequenceNumber": str(first),
        "endSequenceNumber": str(last),
        "batchSize": last - first + 1,
        "streamArn": "arn:aws:kinesis:ap-southeast-1:000000000000:stream/stream-telemetry-dev",
    }
    return json.dumps({"KinesisBatchInfo": info})


def run(queue: Queue, stream: Stream, invoke: Any) -> Outcome:
    return redrive(Processor(sqs=queue, kinesis=stream, invoke=invoke, queue_url="q", region="ap-southeast-1"))


def numbers(event: dict[str, Any]) -> list[int]:
    return [int(record["kinesis"]["sequenceNumber"]) for record in event["Records"]]


def test_records_of_every_message_are_given_again() -> None:
    """Each range whole and in order, and nothing beyond it."""
    queue, given = Queue((2, 6), (9, 9)), []

    outcome = run(queue, Stream(*range(1, 20)), lambda event: given.append(numbers(event)))

    assert [[2, 3, 4, 5, 6], [9]] == given
    assert (Outcome(messages=2, replayed=6), {}) == (outcome, queue.bodies)


def test_records_that_are_gone_are_counted() -> None:
    """A stream keeps records for a week: those that it no longer has are counted as gone."""
    queue = Queue((1, 5))

    outcome = run(queue, Stream(4, 5, 6), lambda event: {"batchItemFailures": []})

    assert (Outcome(messages=1, replayed=2, gone=3), {}) == (outcome, queue.bodies)


def test_reported_records_come_again_from_the_first_one() -> None:
    """A partial answer is followed as Lambda follows it: from the lowest reported record on."""
    given: list[list[int]] = []

    def fails_once(event: dict[str, Any]) -> dict[str, Any]:
        given.append(numbers(event))
        failed = ["3", "4"] if len(given) == 1 else []
        return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}

    outcome = run(Queue((1, 4)), Stream(1, 2, 3, 4), fails_once)

    assert [[1, 2, 3, 4], [3, 4]] == given
    assert Outcome(messages=1, replayed=4) == outcome


def test_a_message_that_does_not_get_through_stays() -> None:
    """After some attempts without progress the message is left in the queue, and the others are worked off."""
    queue, attempts = Queue((1, 2), (5, 5)), []

    def raises_at_first_range(event: dict[str, Any]) -> None:
        attempts.append(numbers(event))
        if numbers(event)[0] == 1:
            raise FunctionError("boom")

    outcome = run(queue, Stream(1, 2, 5), raises_at_first_range)

    assert (ATTEMPTS + 1, ["0"]) == (len(attempts), list(queue.bodies))
    assert ["shardId-000000000000, 2 records from 1: boom"] == outcome.left


def test_a_message_of_something_else_stays() -> None:
    """A message that names no records is not deleted: somebody may need it."""
    queue = Queue()
    queue.bodies["0"] = '{"requestContext": {}}'

    assert 1 == len(run(queue, Stream(), lambda event: None).left)
    assert (["0"], None) == (list(queue.bodies), range_of("no json"))


def test_a_sweep_that_failed_is_removed() -> None:
    """The next sweep, a minute later, did its work: nothing is left that would keep the alarm."""
    queue = Queue()
    queue.bodies["0"] = '{"sweep": true}'

    outcome = run(queue, Stream(), lambda event: None)

    assert ([], 1, []) == (outcome.left, outcome.messages, list(queue.bodies))
