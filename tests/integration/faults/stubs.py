"""DynamoDB, S3, SNS, SQS and Kinesis in memory: what the API's documentation says of these calls, faults included."""

from __future__ import annotations

import json
import marshal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from itertools import count
from typing import Any

import msgspec
from botocore.exceptions import ReadTimeoutError

from fleet_iot.operations.local.event_source import StreamRecord
from tests.integration.faults.chaos import Chaos, refused

KEYS = {"table-readings": ("device", "bucket"), "table-devices": ("device",), "table-lanes": ("lane",)}
PAGE = 25
"""Items in a page of a query; DynamoDB's ends at 1 MB."""

Item = dict[str, Any]


def _load(data: bytes) -> Any:
    return marshal.loads(data)  # noqa: S302 - what this very process has dumped


class DynamoDb:
    """The tables; items are kept as bytes, so that nobody holds on to what is stored."""

    def __init__(self, chaos: Chaos) -> None:
        self.tables: dict[str, dict[tuple[str, ...], bytes]] = {name: {} for name in KEYS}
        self.changed: list[str] = []
        """Revisions that were written again with other content."""
        self.before_move: Callable[[], None] | None = None
        self._chaos = chaos
        self._buckets: dict[str, set[str]] = {}

    def items(self, table: str) -> list[Item]:
        """Everything in a table."""
        return [_load(data) for data in self.tables[table].values()]

    def get_item(
        self,
        *,
        TableName: str,  # noqa: N803 - the API's word
        Key: Item,  # noqa: N803 - the API's word
        ConsistentRead: bool,  # noqa: N803 - the API's word
    ) -> dict[str, Any]:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_GetItem.html"""
        if not ConsistentRead:
            raise refused("ValidationException", "GetItem")
        with self._chaos.call("GetItem"):
            data = self.tables[TableName].get(self._key(TableName, Key))
        return {} if data is None else {"Item": _load(data)}

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - the API's word
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html"""
        ((table, request),) = RequestItems.items()
        keys = [self._key(table, key) for key in request["Keys"]]
        if not 1 <= len(keys) <= 100 or len(set(keys)) != len(keys) or not request.get("ConsistentRead"):
            raise refused("ValidationException", "BatchGetItem")
        with self._chaos.call("BatchGetItem"):
            cut = self._unprocessed(len(keys))
            held = self.tables[table]
            found = [_load(held[key]) for key in keys[:cut] if key in held]
        left = request["Keys"][cut:]
        unprocessed = {table: {"Keys": left, "ConsistentRead": True}} if left else {}
        return {"Responses": {table: found}, "UnprocessedKeys": unprocessed}

    def query(
        self,
        *,
        TableName: str,  # noqa: N803 - the API's word
        KeyConditionExpression: str,  # noqa: N803 - the API's word
        ExpressionAttributeNames: dict[str, str],  # noqa: N803 - the API's word
        ExpressionAttributeValues: dict[str, Any],  # noqa: N803 - the API's word
        ConsistentRead: bool,  # noqa: N803 - the API's word
        ProjectionExpression: str = "",  # noqa: N803 - the API's word
        ScanIndexForward: bool = True,  # noqa: N803 - the API's word
        Limit: int = PAGE,  # noqa: N803 - the API's word
        ExclusiveStartKey: Item | None = None,  # noqa: N803 - the API's word
    ) -> dict[str, Any]:
        """A page of what is between two range keys: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Query.html"""
        if KeyConditionExpression != "#device = :device AND #bucket BETWEEN :first AND :last" or not ConsistentRead:
            raise refused("ValidationException", "Query")
        device, first, last = (ExpressionAttributeValues[f":{name}"]["S"] for name in ("device", "first", "last"))
        with self._chaos.call("Query"):
            held = self._buckets.get(device, set())
            keys = sorted((device, bucket) for bucket in held if first <= bucket <= last)
            if not ScanIndexForward:
                keys.reverse()
            if ExclusiveStartKey:
                keys = keys[keys.index((device, ExclusiveStartKey["bucket"]["S"])) + 1 :]
            page = keys[: min(Limit, PAGE)]
            items = [_load(self.tables[TableName][key]) for key in page]
        wanted = {ExpressionAttributeNames[name] for name in ProjectionExpression.split(", ") if name}
        answer: dict[str, Any] = {
            "Items": [{name: value for name, value in item.items() if not wanted or name in wanted} for item in items]
        }
        if len(keys) > len(page):
            answer["LastEvaluatedKey"] = {
                name: {"S": part} for name, part in zip(KEYS[TableName], page[-1], strict=True)
            }
        return answer

    def put_item(
        self,
        *,
        TableName: str,  # noqa: N803 - the API's word
        Item: Any,  # noqa: N803 - the API's word
        ConditionExpression: str,  # noqa: N803 - the API's word
        ExpressionAttributeNames: dict[str, str],  # noqa: N803 - the API's word
    ) -> dict[str, Any]:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_PutItem.html"""
        item = _sent(Item)
        _check(item, "PutItem")
        with self._chaos.call("PutItem", is_write=True):
            before = self._held(TableName, item)
            if not _is_true(ConditionExpression, before, ExpressionAttributeNames, {}):
                raise refused("ConditionalCheckFailedException", "PutItem")
            self._put(TableName, item)
        return {}

    def batch_write_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - the API's word
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html"""
        ((table, requests),) = RequestItems.items()
        items = [_sent(request["PutRequest"]["Item"]) for request in requests]
        if not 1 <= len(items) <= 25 or len({self._key(table, item) for item in items}) != len(items):
            raise refused("ValidationException", "BatchWriteItem")
        for item in items:
            _check(item, "BatchWriteItem")
        with self._chaos.call("BatchWriteItem", is_write=True):
            cut = self._unprocessed(len(items))
            for item in items[:cut]:
                self._put(table, item)
        return {"UnprocessedItems": {table: requests[cut:]} if cut < len(items) else {}}

    def update_item(
        self,
        *,
        TableName: str,  # noqa: N803 - the API's word
        Key: Item,  # noqa: N803 - the API's word
        UpdateExpression: str,  # noqa: N803 - the API's word
        ConditionExpression: str,  # noqa: N803 - the API's word
        ExpressionAttributeNames: dict[str, str],  # noqa: N803 - the API's word
        ExpressionAttributeValues: dict[str, Any],  # noqa: N803 - the API's word
    ) -> dict[str, Any]:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateItem.html"""
        names, values = ExpressionAttributeNames, _sent(ExpressionAttributeValues)
        used = f"{UpdateExpression} {ConditionExpression}".replace(",", " ").replace("(", " ").replace(")", " ").split()
        if {each for each in used if each[0] in "#:"} != {*names, *values}:
            raise refused("ValidationException", "UpdateItem")
        is_move = TableName == "table-lanes" and "#chain" in names
        if is_move and self.before_move is not None:
            race, self.before_move = self.before_move, None
            race()
        with self._chaos.call("UpdateItem", is_write=True):
            item = self._held(TableName, Key)
            if not _is_true(ConditionExpression, item, names, values):
                raise refused("ConditionalCheckFailedException", "UpdateItem")
            before = dict(item)
            settings, _, removals = UpdateExpression.removeprefix("SET ").partition(" REMOVE ")
            for setting in settings.split(", "):
                name, value = setting.split(" = ")
                item[names[name]] = values[value] if value[0] == ":" else before[names[value]]
            for name in removals.split(", ") if removals else ():
                item.pop(names[name], None)
            item |= Key
            _check(item, "UpdateItem")
            if TableName == "table-lanes" and _size(item) > 1_024:
                raise refused("ValidationException", "UpdateItem")
            self._put(TableName, item)
        return {}

    def _held(self, table: str, item: Item) -> Item:
        data = self.tables[table].get(self._key(table, item))
        return {} if data is None else _load(data)

    def _put(self, table: str, item: Item) -> None:
        key, data = self._key(table, item), marshal.dumps(item)
        if len(key) == 2:
            self._buckets.setdefault(key[0], set()).add(key[1])
            if self.tables[table].get(key, data) != data:
                self.changed.append("#".join(key))
        self.tables[table][key] = data

    def _unprocessed(self, number: int) -> int:
        """Return how many of a batch's keys or items are processed."""
        return self._chaos.random.randrange(1, number) if number > 1 and self._chaos.strikes("unprocessed") else number

    def _key(self, table: str, item: Item) -> tuple[str, ...]:
        return tuple(item[name]["S"] for name in KEYS[table])


def _sent(value: Any) -> Any:
    """As it would be sent: items are JSON already."""
    return json.loads(msgspec.json.encode(value))


def _is_true(condition: str, item: Item, names: dict[str, str], values: dict[str, Any]) -> bool:
    """Evaluate a condition of the forms that the processor uses."""
    if " OR " in condition:
        return any(_is_true(part, item, names, values) for part in condition.split(" OR "))
    if " AND " in condition:
        return all(_is_true(part, item, names, values) for part in condition.split(" AND "))
    if condition.startswith("attribute_"):
        function, _, name = condition.removesuffix(")").partition("(")
        return (names[name] in item) == (function == "attribute_exists")
    name, operator, value = condition.split(" ")
    held, asked = item.get(names[name]), values[value]
    if operator == "=":
        return bool(held == asked)
    if operator == "<":
        return held is not None and float(held["N"]) < float(asked["N"])
    raise refused("ValidationException", "UpdateItem")


def _check(item: Any, operation: str) -> None:
    """Refuse numbers beyond DynamoDB's digits and range, and items beyond its size."""
    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
    if _size(item) > 409_600 or not all(_is_number(text) for text in _numbers(item)):
        raise refused("ValidationException", operation)


def _numbers(value: Any) -> Iterator[str]:
    for kind, content in value.items():
        if kind == "N" and isinstance(content, str):
            yield content
        elif isinstance(content, dict):
            yield from _numbers(content)


def _is_number(text: str) -> bool:
    if len(text) < 30:
        return True
    number = Decimal(text)
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    return len(digits) <= 38 and (not number or Decimal("1e-130") <= abs(number) <= Decimal("9.99e125"))


def _size(item: Any) -> int:
    """Return at least what DynamoDB counts of an item."""
    return len(json.dumps(item, separators=(",", ":")))


class S3:
    """Both buckets. What is put again under a key of the archive must be what is there; a state is put once."""

    def __init__(self, chaos: Chaos) -> None:
        self.objects: dict[str, bytes] = {}
        self.states: dict[str, bytes] = {}
        self.deleted: dict[str, bytes] = {}
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
        IfNoneMatch: str = "",  # noqa: N803
    ) -> dict[str, Any]:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html"""
        bucket = self._bucket(Bucket)
        with self._chaos.object_call("PutObject"):
            if IfNoneMatch and Key in bucket:
                raise refused("PreconditionFailed", "PutObject", status=412)
            if bucket.get(Key, Body) != Body:
                self.changed.append(Key)
            bucket[Key] = Body
        return {}

    def get_object(self, *, Bucket: str, Key: str, VersionId: str = "") -> dict[str, Any]:  # noqa: N803
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html"""
        with self._chaos.object_call("GetObject"):
            body = self.deleted[Key] if VersionId else self._bucket(Bucket).get(Key)
            if body is None:
                raise refused("NoSuchKey", "GetObject", status=404)
        return {"Body": BytesIO(body)}

    def list_object_versions(self, *, Bucket: str, Prefix: str, MaxKeys: int) -> dict[str, Any]:  # noqa: N803
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html"""
        found = [key for key in self.deleted if key.startswith(Prefix)][:MaxKeys]
        return {"Versions": [{"Key": key, "VersionId": "1"} for key in found]}

    def delete(self, key: str) -> None:
        """Delete a state object; its version stays."""
        self.deleted[key] = self.states.pop(key)

    def _bucket(self, name: str) -> dict[str, bytes]:
        return self.states if name == "bucket-lanes" else self.objects


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
