"""AWS with faults: the tables, buckets and topics in memory, and what strikes each call; SQS and Kinesis as far as
replays need them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any

from botocore.exceptions import ReadTimeoutError

from benchmarks.aws import dynamodb, refused, s3, sns
from benchmarks.function import BUCKETS, LANES, STATES, TABLES
from fleet_iot.operations.local.dynamodb_units import WRITE_BYTES
from fleet_iot.operations.local.event_source import StreamRecord
from tests.integration.faults.chaos import Chaos
from tests.integration.faults.events import Floods

PAGE = 25
"""Items in a page of a query; DynamoDB's ends at 1 MB."""

WRITES = frozenset({"PutItem", "UpdateItem", "BatchWriteItem"})


class DynamoDb(dynamodb.DynamoDb):
    """The tables, which fail at times; `before_move` is called once, before the next move of a lane."""

    def __init__(self, chaos: Chaos) -> None:
        super().__init__(TABLES, page_items=PAGE)
        self.before_move: Callable[[], object] | None = None
        self.floods = Floods()
        self.changed: list[str] = []
        """Items of the readings table that were written again with other content."""
        self._chaos = chaos

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - the API's word
        """At times some of the keys stay unprocessed."""
        ((table, request),) = RequestItems.items()
        keys, left = self._cut(request["Keys"])
        answer = super().batch_get_item(RequestItems={table: request | {"Keys": keys}})
        return answer | {"UnprocessedKeys": {table: request | {"Keys": left}}} if left else answer

    def batch_write_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - the API's word
        """At times some of the items stay unprocessed."""
        ((table, requests),) = RequestItems.items()
        done, left = self._cut(requests)
        answer = super().batch_write_item(RequestItems={table: done})
        return answer | {"UnprocessedItems": {table: left}} if left else answer

    def _cut(self, requests: list[Any]) -> tuple[list[Any], list[Any]]:
        cut = len(requests)
        if cut > 1 and self._chaos.strikes("unprocessed"):
            cut = self._chaos.random.randrange(1, cut)
        return requests[:cut], requests[cut:]

    def _answer(self, operation: str, request: dict[str, Any], work: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Another process may be first, this one may crash, the call may fail, and its answer may get lost."""
        if operation == "UpdateItem" and request["TableName"] == LANES and ":chain" in request["UpdateExpression"]:
            race, self.before_move = self.before_move, None
            if race is not None:
                race()
        with self._chaos.call(operation, is_write=operation in WRITES):
            return super()._answer(operation, request, work)

    def _apply(self, write: dynamodb.Write) -> None:
        before, after = write.before, write.after
        if len(write.key) == 2 and before and after and before.item() != after.item():
            self.changed.append(b"#".join(write.key).decode())
        if write.name == LANES and after:
            item = after.item()
            if "chain" in item and after.size > WRITE_BYTES:
                raise dynamodb.Invalid("a lane's item costs more than one unit")
            if "state" in item:
                self.floods.write(item)
        super()._apply(write)


class S3(s3.S3):
    """The buckets, which fail at times; what is put again under a key must be what is there."""

    def __init__(self, chaos: Chaos) -> None:
        super().__init__(buckets=BUCKETS, versioned={STATES})
        self.changed: list[str] = []
        self._chaos = chaos

    def put_object(self, **request: Any) -> dict[str, Any]:
        """It may fail, and the answer may get lost."""
        place = request["Bucket"], request["Key"]
        with self._chaos.object_call("PutObject"):
            before = self.objects.get(place)
            answer = super().put_object(**request)
            if before is not None and before != self.objects[place]:
                self.changed.append(request["Key"])
        return answer

    def get_object(self, **request: Any) -> dict[str, Any]:
        """It may fail, and the answer may get lost."""
        with self._chaos.object_call("GetObject"):
            return super().get_object(**request)

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
