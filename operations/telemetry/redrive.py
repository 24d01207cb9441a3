"""Reads the on-failure queue, fetches the records that its messages name from the stream, and invokes the function.

A message says where records lie, not what they hold:
https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
It is deleted only when the function has acknowledged every record of it; what was processed before counts once anyway.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet_iot.operations.local.event_source import StreamRecord, kinesis_event

BATCH = 1_000
"""Records an invocation: far below Lambda's 6 MB."""

ATTEMPTS = 3
"""Invocations in a row that may get no further before a message is left in the queue."""

EMPTY_READS = 20
"""Answers without a record, in a row, after which a shard is taken to hold nothing more of a range."""

Invoke = Callable[[dict[str, Any]], Mapping[str, Any] | None]
"""Gives an event to the function; its answer. Raises FunctionError where it raised or timed out."""


class FunctionError(Exception):
    """The function did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Consecutive records of one shard, as a message of the queue names them."""

    stream_arn: str
    shard: str
    first: str
    last: str
    size: int


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of the queue's messages; `gone` are records that the stream no longer holds."""

    messages: int = 0
    replayed: int = 0
    gone: int = 0
    left: list[str] = field(default_factory=list)


def range_of(body: str) -> Range | None:
    """The records that a message names; None where it is not of a Kinesis mapping."""
    try:
        info = json.loads(body)["KinesisBatchInfo"]
        return Range(
            stream_arn=info["streamArn"],
            shard=info["shardId"],
            first=info["startSequenceNumber"],
            last=info["endSequenceNumber"],
            size=int(info["batchSize"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def replay(
    *,
    sqs: Any,
    kinesis: Any,
    invoke: Invoke,
    queue_url: str,
    region: str,
    on_message: Callable[[int, int], object] = lambda done, total: None,
) -> Outcome:
    """Works the queue off once; messages whose records do not get through stay in it."""
    outcome = Outcome()
    seen: set[str] = set()
    while True:
        answer = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, VisibilityTimeout=900)
        fresh = [message for message in answer.get("Messages", ()) if message["MessageId"] not in seen]
        if not fresh:
            return outcome
        for message in fresh:
            seen.add(message["MessageId"])
            outcome.messages += 1
            on_message(outcome.messages, len(seen))
            if _work_off(message["Body"], kinesis=kinesis, invoke=invoke, region=region, outcome=outcome):
                sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])


def _work_off(body: str, *, kinesis: Any, invoke: Invoke, region: str, outcome: Outcome) -> bool:
    """Whether every record of the message that the stream still holds was acknowledged."""
    wanted = range_of(body)
    if wanted is None:
        outcome.left.append("a message that names no records of a stream")
        return False
    batch: list[StreamRecord] = []
    count = 0
    for record in records_of(kinesis, wanted):
        batch.append(record)
        if len(batch) == BATCH:
            if not _give(tuple(batch), wanted, invoke=invoke, region=region, outcome=outcome):
                return False
            count += len(batch)
            batch.clear()
    if batch and not _give(tuple(batch), wanted, invoke=invoke, region=region, outcome=outcome):
        return False
    count += len(batch)
    outcome.replayed += count
    outcome.gone += max(wanted.size - count, 0)
    return True


def records_of(kinesis: Any, wanted: Range) -> Iterator[StreamRecord]:
    """The records of a range, in order, as far as the stream still holds them."""
    iterator = kinesis.get_shard_iterator(
        StreamARN=wanted.stream_arn,
        ShardId=wanted.shard,
        ShardIteratorType="AT_SEQUENCE_NUMBER",
        StartingSequenceNumber=wanted.first,
    )["ShardIterator"]
    empty = 0
    while iterator and empty < EMPTY_READS:
        answer = kinesis.get_records(ShardIterator=iterator, StreamARN=wanted.stream_arn, Limit=BATCH)
        empty = 0 if answer["Records"] else empty + 1
        for record in answer["Records"]:
            if int(record["SequenceNumber"]) > int(wanted.last):
                return
            yield StreamRecord(
                sequence=record["SequenceNumber"],
                partition_key=record["PartitionKey"],
                data=record["Data"],
                arrived=record["ApproximateArrivalTimestamp"].timestamp(),
            )
            if record["SequenceNumber"] == wanted.last:
                return
        iterator = answer.get("NextShardIterator")


def _give(records: tuple[StreamRecord, ...], wanted: Range, *, invoke: Invoke, region: str, outcome: Outcome) -> bool:
    """Invokes the function until it has acknowledged all of these records, in order, or gets no further."""
    attempts = 0
    why = ""
    while records and attempts < ATTEMPTS:
        event = kinesis_event(records, shard=wanted.shard, stream_arn=wanted.stream_arn, role_arn="", region=region)
        try:
            failures = {failure["itemIdentifier"] for failure in (invoke(event) or {}).get("batchItemFailures", ())}
        except FunctionError as error:
            attempts, why = attempts + 1, str(error)
            continue
        first = next((at for at, record in enumerate(records) if record.sequence in failures), len(records))
        attempts = 0 if first else attempts + 1
        why = "the function wants them again"
        records = records[first:]
    if records:
        outcome.left.append(f"{wanted.shard}, {wanted.size} records from {wanted.first}: {why}")
    return not records
