"""Redrive records from the on-failure queue: fetch them from the stream and invoke the function with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.config import Config

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.aws import Aws
from fleet_iot.operations.local.aws import LocalAws, RoleSession
from fleet_iot.operations.local.event_source import StreamRecord, kinesis_event
from fleet_iot.operations.local.function_host import (
    FunctionFailedError,
    FunctionHost,
    deployed_function,
    unpack_function,
)

# A message of the queue names records and does not contain them:
# https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
# It is deleted only when the function has acknowledged every record of it; what was processed before counts once.

BATCH = 1_000
"""Records in an invocation: far below Lambda's 6 MB."""

LONGEST_RUN_S = 920
"""Lambda's longest timeout, and a little more."""

ATTEMPTS = 3
"""Invocations in a row without progress before a message is left in the queue."""

EMPTY_READS = 20
"""Answers without a record, in a row, after which a shard is assumed to have no more records of a range."""

Invoke = Callable[[dict[str, Any]], Mapping[str, Any] | None]
"""Invoke the function with an event and return its answer. Raises FunctionError where it raised or timed out."""


class FunctionError(Exception):
    """The function raised or timed out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """The deployed processor: its failure queue, its stream, and a way to invoke it."""

    sqs: Any
    kinesis: Any
    invoke: Invoke
    queue_url: str
    region: str


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
    """Messages read, records redriven, records gone from the stream, and why messages are left in the queue."""

    messages: int = 0
    replayed: int = 0
    gone: int = 0
    left: list[str] = field(default_factory=list)


def range_of(body: str) -> Range | None:
    """Parse the records that a message names; None where it is not of a Kinesis mapping."""
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


def is_sweep(body: str) -> bool:
    """Return whether a message is a sweep that failed: the next one, a minute later, did its work."""
    try:
        return bool(json.loads(body).get("sweep") is True)
    except (ValueError, AttributeError):
        return False


def redrive(processor: Processor, *, on_message: Callable[[int, int], object] = lambda done, total: None) -> Outcome:
    """Redrive the queue's messages once each; those whose records the function does not acknowledge stay in it."""
    sqs, queue_url = processor.sqs, processor.queue_url
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
            if _redrive_message(message["Body"], processor, outcome):
                sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])


def _redrive_message(body: str, processor: Processor, outcome: Outcome) -> bool:
    """Return whether the function acknowledged every record of the message that the stream still has."""
    wanted = range_of(body)
    if wanted is None and is_sweep(body):
        return True
    if wanted is None:
        outcome.left.append("a message that names no records of a stream")
        return False
    batch: list[StreamRecord] = []
    count = 0
    for record in records_of(processor.kinesis, wanted):
        batch.append(record)
        if len(batch) == BATCH:
            if not _give(tuple(batch), wanted, processor, outcome):
                return False
            count += len(batch)
            batch.clear()
    if batch and not _give(tuple(batch), wanted, processor, outcome):
        return False
    count += len(batch)
    outcome.replayed += count
    outcome.gone += max(wanted.size - count, 0)
    return True


def records_of(kinesis: Any, wanted: Range) -> Iterator[StreamRecord]:
    """Read the records of a range, in order, as far as the stream still has them."""
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


def _give(records: tuple[StreamRecord, ...], wanted: Range, processor: Processor, outcome: Outcome) -> bool:
    """Invoke the function until it has acknowledged all of these records, in order, or makes no progress."""
    attempts = 0
    why = ""
    while records and attempts < ATTEMPTS:
        event = kinesis_event(
            records, shard=wanted.shard, stream_arn=wanted.stream_arn, role_arn="", region=processor.region
        )
        try:
            failures = {
                failure["itemIdentifier"] for failure in (processor.invoke(event) or {}).get("batchItemFailures", ())
            }
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


@contextmanager
def deployed_processor(aws: Aws, function: str) -> Iterator[Processor]:
    """Find the deployed function with its stream and failure queue; a local one runs in a process of its own."""
    with deployed(aws, function) as invoke:
        yield _processor(aws, function, invoke=invoke)


@contextmanager
def deployed(aws: Aws, function: str) -> Iterator[Invoke]:
    """Find a deployed function; a local one runs in a process of its own, as AWS would run it."""
    if aws.local is None:
        yield _invoke_in_account(aws, function)
        return
    host = _local_host(aws.local, function)

    def invoke(event: dict[str, Any]) -> Any:
        try:
            return host.invoke(event)
        except FunctionFailedError as error:
            raise FunctionError(str(error)) from error

    try:
        yield invoke
    finally:
        host.close()


def _invoke_in_account(aws: Aws, function: str) -> Invoke:
    # A function may run until its timeout, which is longer than botocore waits by default.
    client = aws.client("lambda", config=Config(read_timeout=LONGEST_RUN_S, retries={"total_max_attempts": 1}))

    def invoke(event: dict[str, Any]) -> Any:
        answer = client.invoke(FunctionName=function, Payload=json.dumps(event).encode())
        document = json.loads(answer["Payload"].read() or b"null")
        if answer.get("FunctionError"):
            raise FunctionError(f"{answer['FunctionError']}: {document}")
        return document

    return invoke


def _local_host(local: LocalAws, name: str) -> FunctionHost:
    """Start a host for the function, with its role: the event source's own host keeps to its batches."""
    client = local.client("lambda")
    function = deployed_function(client, name)
    code = local.folder / f"{name}-called"
    unpack_function(local.fetch(client.get_function(FunctionName=function.name)["Code"]["Location"]), code)
    environment = {k: v for k, v in local.environment().items() if k.startswith("AWS_") or k.upper() == "NO_PROXY"}
    return FunctionHost(
        function,
        code=code,
        base_environment=environment | {"TMPDIR": str(local.folder / "tmp")},
        credentials=RoleSession(local, function.role_arn, session_name=f"{function.name}-called").environment,
        log=local.logs / f"{name}-called.log",
    )


def _processor(aws: Aws, function: str, *, invoke: Invoke) -> Processor:
    mappings = aws.client("lambda").list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
    queues = [arn for mapping in mappings if ":sqs:" in (arn := _failure_destination(mapping))]
    if not queues:
        raise EnvironmentFault(
            f"{function} has no event source mapping with a queue for its failures", hint="apply the platform first"
        )
    sqs = aws.client("sqs")
    queue_url = sqs.get_queue_url(QueueName=queues[0].rpartition(":")[2])["QueueUrl"]
    return Processor(sqs=sqs, kinesis=aws.client("kinesis"), invoke=invoke, queue_url=queue_url, region=aws.region)


def _failure_destination(mapping: Mapping[str, Any]) -> str:
    return str(mapping.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination", ""))
