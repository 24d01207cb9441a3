"""DynamoDB, S3, SNS, SQS and Kinesis in memory: what the API's documentation says of these calls, faults included."""

from __future__ import annotations

import json
import marshal
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any

import msgspec
from botocore.exceptions import ClientError, ReadTimeoutError

from fleet_iot.operations.local.event_source import StreamRecord
from tests.integration.faults.chaos import Chaos

KEYS = {"table-readings": ("device", "bucket"), "table-devices": ("device",)}
TOKENS = 1_000
PAGE = 25
"""Items in a page of a query; DynamoDB's ends at 1 MB."""

Item = dict[str, Any]


def _load(data: bytes) -> Any:
    return marshal.loads(data)  # noqa: S302 - what this very process has dumped


def refused(
    code: str, operation: str, *, status: int = 400, reasons: list[dict[str, str]] | None = None
) -> ClientError:
    """An error as botocore raises it."""
    answer: dict[str, Any] = {
        "Error": {"Code": code, "Message": "refused"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    if reasons is not None:
        answer["CancellationReasons"] = reasons
    return ClientError(answer, operation)


class DynamoDb:
    """Both tables; items are kept as bytes, so that nobody holds on to what is stored."""

    def __init__(self, chaos: Chaos) -> None:
        self.tables: dict[str, dict[tuple[str, ...], bytes]] = {name: {} for name in KEYS}
        self.before_write: Callable[[], None] | None = None
        self._chaos = chaos
        self._tokens: dict[str, int] = {}
        self._buckets: dict[str, set[str]] = {}

    def items(self, table: str) -> list[Item]:
        """Everything in a table."""
        return [_load(data) for data in self.tables[table].values()]

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - the API's word
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html"""
        ((table, request),) = RequestItems.items()
        keys = [self._key(table, key) for key in request["Keys"]]
        if not 1 <= len(keys) <= 100 or len(set(keys)) != len(keys) or not request.get("ConsistentRead"):
            raise refused("ValidationException", "BatchGetItem")
        self._fail_at_times("BatchGetItem")
        left: list[Any] = []
        if len(keys) > 1 and self._chaos.strikes("unprocessed"):
            cut = self._chaos.random.randrange(1, len(keys))
            left, keys = request["Keys"][cut:], keys[:cut]
        held = self.tables[table]
        found = [_load(held[key]) for key in keys if key in held]
        unprocessed = {table: {"Keys": left, "ConsistentRead": True}} if left else {}
        return {"Responses": {table: found}, "UnprocessedKeys": unprocessed}

    def query(
        self,
        *,
        TableName: str,  # noqa: N803 - the API's word
        KeyConditionExpression: str,  # noqa: N803 - the API's word
        ProjectionExpression: str,  # noqa: N803 - the API's word
        ExpressionAttributeNames: dict[str, str],  # noqa: N803 - the API's word
        ExpressionAttributeValues: dict[str, Any],  # noqa: N803 - the API's word
        ConsistentRead: bool,  # noqa: N803 - the API's word
        ExclusiveStartKey: Item | None = None,  # noqa: N803 - the API's word
    ) -> dict[str, Any]:
        """A page of what is between two range keys: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Query.html"""
        if KeyConditionExpression != "#device = :device AND #bucket BETWEEN :first AND :last" or not ConsistentRead:
            raise refused("ValidationException", "Query")
        self._fail_at_times("Query")
        device, first, last = (ExpressionAttributeValues[f":{name}"]["S"] for name in ("device", "first", "last"))
        after = self._key(TableName, ExclusiveStartKey) if ExclusiveStartKey else ("", "")
        held = self._buckets.get(device, set())
        keys = sorted((device, bucket) for bucket in held if first <= bucket <= last and (device, bucket) > after)
        wanted = {ExpressionAttributeNames[name] for name in ProjectionExpression.split(", ")}
        page = keys[:PAGE]
        items = [_load(self.tables[TableName][key]) for key in page]
        answer: dict[str, Any] = {
            "Items": [{name: value for name, value in item.items() if name in wanted} for item in items]
        }
        if len(keys) > PAGE:
            answer["LastEvaluatedKey"] = {
                name: {"S": part} for name, part in zip(KEYS[TableName], page[-1], strict=True)
            }
        return answer

    def transact_write_items(
        self,
        *,
        TransactItems: list[dict[str, Any]],  # noqa: N803 - the API's word
        ClientRequestToken: str,  # noqa: N803 - the API's word
    ) -> dict[str, Any]:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html"""
        race, self.before_write = self.before_write, None
        if race is not None:
            race()
        self._chaos.crash_if_due("crash_before_write")
        # As it would be sent: the items are JSON already.
        puts = [entry["Put"] for entry in json.loads(msgspec.json.encode(TransactItems))]
        written = {(put["TableName"], self._key(put["TableName"], put["Item"])): put for put in puts}
        stored = {place: marshal.dumps(put["Item"]) for place, put in written.items()}
        sizes = [len(data) for data in stored.values()]
        if not 1 <= len(puts) <= 100 or len(written) != len(puts) or max(sizes) > 400_000 or sum(sizes) > 4_000_000:
            raise refused("ValidationException", "TransactWriteItems")
        self._fail_at_times("TransactWriteItems", operations=len(puts))
        content = hash(tuple(stored.items()))
        if ClientRequestToken in self._tokens:
            if self._tokens[ClientRequestToken] != content:
                raise refused("IdempotentParameterMismatchException", "TransactWriteItems")
            return {}
        codes = ["None" if self._holds(put) else "ConditionalCheckFailed" for put in puts]
        if any(code != "None" for code in codes):
            raise refused(
                "TransactionCanceledException", "TransactWriteItems", reasons=[{"Code": code} for code in codes]
            )
        for (table, key), data in stored.items():
            self.tables[table][key] = data
            if len(key) == 2:
                self._buckets.setdefault(key[0], set()).add(key[1])
        self._tokens[ClientRequestToken] = content
        if len(self._tokens) > TOKENS:
            del self._tokens[next(iter(self._tokens))]
        self._chaos.crash_if_due("crash_after_write")
        if self._chaos.strikes("answer_lost"):
            raise ReadTimeoutError(endpoint_url="https://dynamodb")
        return {}

    def _fail_at_times(self, operation: str, *, operations: int = 0) -> None:
        if self._chaos.is_down("kms"):
            raise refused("KMSInternalException", operation)
        if self._chaos.strikes("throttled"):
            if operations and self._chaos.random.random() < 0.5:
                reasons = [{"Code": "ThrottlingError"}] + [{"Code": "None"}] * (operations - 1)
                raise refused("TransactionCanceledException", operation, reasons=reasons)
            raise refused("ProvisionedThroughputExceededException", operation)

    def _holds(self, put: dict[str, Any]) -> bool:
        condition = put.get("ConditionExpression")
        if condition is None:
            return True
        data = self.tables[put["TableName"]].get(self._key(put["TableName"], put["Item"]))
        item = {} if data is None else _load(data)
        for name, attribute in put.get("ExpressionAttributeNames", {}).items():
            condition = condition.replace(name, attribute)
        if condition == "attribute_not_exists(version)":
            return "version" not in item
        if condition == "version = :expected":
            return bool(item.get("version") == put["ExpressionAttributeValues"][":expected"])
        raise refused("ValidationException", "TransactWriteItems")

    def _key(self, table: str, item: Item) -> tuple[str, ...]:
        return tuple(item[name]["S"] for name in KEYS[table])


class S3:
    """The archive's bucket; what is put again under a key must be what is there."""

    def __init__(self, chaos: Chaos) -> None:
        self.objects: dict[str, bytes] = {}
        self.changed: list[str] = []
        self._chaos = chaos

    def put_object(
        self,
        *,
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        Body: bytes,  # noqa: N803
        ContentType: str,  # noqa: N803
        ChecksumAlgorithm: str,  # noqa: N803
    ) -> dict[str, Any]:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html"""
        if self._chaos.is_down("kms"):
            raise refused("KMS.KMSInternalException", "PutObject", status=500)
        if self._chaos.strikes("s3_error"):
            raise refused(self._chaos.random.choice(["SlowDown", "InternalError"]), "PutObject", status=503)
        if self.objects.get(Key, Body) != Body:
            self.changed.append(Key)
        self.objects[Key] = Body
        if self._chaos.strikes("s3_timeout_after_commit"):
            raise ReadTimeoutError(endpoint_url="https://s3")
        return {}


class Sns:
    """The anomalies' topic: what it took, whether or not its answer arrived."""

    def __init__(self, chaos: Chaos) -> None:
        self.messages: list[str] = []
        self._chaos = chaos

    def publish_batch(
        self,
        *,
        TopicArn: str,  # noqa: N803 - the API's word
        PublishBatchRequestEntries: list[dict[str, Any]],  # noqa: N803 - the API's word
    ) -> dict[str, Any]:
        """https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html"""
        self._chaos.crash_if_due("crash_before_publish")
        if self._chaos.is_down("sns") or self._chaos.strikes("sns_error"):
            raise refused("InternalError", "PublishBatch", status=500)
        entries = PublishBatchRequestEntries
        size = sum(len(json.dumps(entry)) for entry in entries)
        if not 1 <= len(entries) <= 10 or size > 262_144 or len({entry["Id"] for entry in entries}) != len(entries):
            raise refused("InvalidParameter", "PublishBatch")
        failed = [entry["Id"] for entry in entries if self._chaos.strikes("sns_refused")]
        self.messages += [entry["Message"] for entry in entries if entry["Id"] not in failed]
        self._chaos.crash_if_due("crash_after_publish")
        if self._chaos.strikes("sns_answer_lost"):
            raise ReadTimeoutError(endpoint_url="https://sns")
        return {
            "Successful": [{"Id": entry["Id"]} for entry in entries if entry["Id"] not in failed],
            "Failed": [{"Id": number, "Code": "InternalError", "SenderFault": False} for number in failed],
        }


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
