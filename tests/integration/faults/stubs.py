"""AWS with faults: the tables, buckets and topics in memory, and what strikes each call; SQS and Kinesis as far as
replays need them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any

from botocore.exceptions import ReadTimeoutError

from benchmarks.aws import dynamodb, refused, s3, sns
from benchmarks.function import BUCKETS, TABLES
from fleet_iot.operations.local.event_source import StreamRecord
from tests.integration.faults.chaos import Chaos

PAGE = 25
"""Items in a page of a query; DynamoDB's ends at 1 MB."""


class DynamoDb(dynamodb.DynamoDb):
    """The tables, which fail at times."""

    def __init__(self, chaos: Chaos) -> None:
        super().__init__(TABLES, page_items=PAGE)
        self.before_write: Callable[[], None] | None = None
        self._chaos = chaos

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - the API's word
        """At times some of the keys stay unprocessed."""
        self._fail_at_times("BatchGetItem")
        ((table, request),) = RequestItems.items()
        keys, left = request["Keys"], []
        if len(keys) > 1 and self._chaos.strikes("unprocessed"):
            cut = self._chaos.random.randrange(1, len(keys))
            keys, left = keys[:cut], keys[cut:]
        answer = super().batch_get_item(RequestItems={table: request | {"Keys": keys}})
        return answer | {"UnprocessedKeys": {table: request | {"Keys": left}}} if left else answer

    def query(self, **request: Any) -> dict[str, Any]:
        """At times it is throttled."""
        self._fail_at_times("Query")
        return super().query(**request)

    def transact_write_items(self, **request: Any) -> dict[str, Any]:
        """Another writer may be first, the process may crash before or after it, and the answer may get lost."""
        race, self.before_write = self.before_write, None
        if race is not None:
            race()
        self._chaos.crash_if_due("crash_before_write")
        self._fail_at_times("TransactWriteItems", operations=len(request["TransactItems"]))
        answer = super().transact_write_items(**request)
        self._chaos.crash_if_due("crash_after_write")
        if self._chaos.strikes("answer_lost"):
            raise ReadTimeoutError(endpoint_url="https://dynamodb")
        return answer

    def _fail_at_times(self, operation: str, *, operations: int = 0) -> None:
        if self._chaos.is_down("kms"):
            raise refused("KMSInternalException", operation)
        if self._chaos.strikes("throttled"):
            if operations and self._chaos.random.random() < 0.5:
                reasons = [{"Code": "ThrottlingError"}] + [{"Code": "None"}] * (operations - 1)
                raise refused("TransactionCanceledException", operation, reasons=reasons)
            raise refused("ProvisionedThroughputExceededException", operation)


class S3(s3.S3):
    """The archive's bucket, which fails at times; what is put again under a key must be what is there."""

    def __init__(self, chaos: Chaos) -> None:
        super().__init__(buckets=BUCKETS)
        self.changed: list[str] = []
        self._chaos = chaos

    def put_object(self, **request: Any) -> dict[str, Any]:
        """The answer may get lost."""
        if self._chaos.is_down("kms"):
            raise refused("KMS.KMSInternalException", "PutObject", status=500)
        if self._chaos.strikes("s3_error"):
            raise refused(self._chaos.random.choice(["SlowDown", "InternalError"]), "PutObject", status=503)
        place = request["Bucket"], request["Key"]
        before = self.objects.get(place)
        answer = super().put_object(**request)
        if before is not None and before != self.objects[place]:
            self.changed.append(request["Key"])
        if self._chaos.strikes("s3_timeout_after_commit"):
            raise ReadTimeoutError(endpoint_url="https://s3")
        return answer

    def bodies(self, bucket: str) -> dict[str, bytes]:
        """Return the objects of a bucket by key."""
        return {key: body for (name, key), body in self.objects.items() if name == bucket}


class Sns(sns.Sns):
    """The anomalies' topic: what it took, whether or not its answer arrived."""

    def __init__(self, chaos: Chaos) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.published = self.messages.append
        self._chaos = chaos

    def publish_batch(self, **request: Any) -> dict[str, Any]:
        """Some entries may be refused, and the answer may get lost."""
        self._chaos.crash_if_due("crash_before_publish")
        if self._chaos.is_down("sns") or self._chaos.strikes("sns_error"):
            raise refused("InternalError", "PublishBatch", status=500)
        entries = request["PublishBatchRequestEntries"]
        failed = [entry["Id"] for entry in entries if self._chaos.strikes("sns_refused")]
        taken = [entry for entry in entries if entry["Id"] not in failed]
        answer = {"Successful": []}
        if taken or not entries:
            answer = super().publish_batch(**request | {"PublishBatchRequestEntries": taken})
        self._chaos.crash_if_due("crash_after_publish")
        if self._chaos.strikes("sns_answer_lost"):
            raise ReadTimeoutError(endpoint_url="https://sns")
        return answer | {"Failed": [{"Id": each, "Code": "InternalError", "SenderFault": False} for each in failed]}


class Sqs:
    """The on-failure queue."""

    def __init__(self, chaos: Chaos) -> None:
        self.messages: dict[str, str] = {}
        self._chaos = chaos
        self._numbers = count()

    def send(self, body: str) -> bool:
        """Put a message in the queue and return whether the queue accepted it."""
        if self._chaos.is_down("sqs"):
            return False
        self.messages[str(next(self._numbers))] = body
        return True

    def receive_message(self, **_: Any) -> dict[str, Any]:
        """The first ten messages."""
        first = list(self.messages.items())[:10]
        return {"Messages": [{"MessageId": key, "ReceiptHandle": key, "Body": body} for key, body in first]}

    def delete_message(self, *, QueueUrl: str, ReceiptHandle: str) -> None:  # noqa: N803
        """Takes a message out of the queue."""
        del self.messages[ReceiptHandle]


class Kinesis:
    """Stream as replay reads it: the records that ran out of retries, by shard; those around them are gone."""

    def __init__(self) -> None:
        self.records: dict[str, list[StreamRecord]] = {}

    def get_shard_iterator(self, *, ShardId: str, StartingSequenceNumber: str, **_: Any) -> dict[str, str]:  # noqa: N803
        """An iterator at a record."""
        return {"ShardIterator": f"{ShardId}/{StartingSequenceNumber}"}

    def get_records(self, *, ShardIterator: str, Limit: int, **_: Any) -> dict[str, Any]:  # noqa: N803
        """The next records of a shard, a few at a time, in order."""
        shard, _, start = ShardIterator.partition("/")
        held = [record for record in self.records.get(shard, ()) if int(record.sequence) >= int(start)][: min(Limit, 7)]
        return {
            "Records": [
                {
                    "SequenceNumber": record.sequence,
                    "PartitionKey": record.partition_key,
                    "Data": record.data,
                    "ApproximateArrivalTimestamp": datetime.fromtimestamp(record.arrived, UTC),
                }
                for record in held
            ],
            "NextShardIterator": f"{shard}/{int(held[-1].sequence) + 1}" if held else None,
        }
