"""DynamoDB's tables: true item sizes, ranges and limits, conditions, throttled keys, and the units of each call.

Limits: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
"""

from __future__ import annotations

import marshal
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from benchmarks.aws import Units, new_units, refused
from benchmarks.aws.expressions import (
    InvalidExpression,
    Item,
    Scope,
    Value,
    holds,
    key_condition,
    order,
    project,
    update,
)
from fleet_iot.operations.local.dynamodb_units import Invalid, item_size, read_units, value_size, write_units

ITEM_BYTES = 400 * 1024
KEY_BYTES = (2048, 1024)
"""Of a partition key and of a sort key."""

PAGE_BYTES = 1024 * 1024
"""A Query reads at most so much: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Query.html"""

BATCH_WRITES, BATCH_KEYS, BATCH_BYTES = 25, 100, 16 * 1024 * 1024
"""https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html"""

TRANSACTION_ITEMS, TRANSACTION_BYTES = 100, 4 * 1024 * 1024
"""https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html"""

TOKENS = 1_000
"""Idempotency tokens that are remembered; DynamoDB remembers them for ten minutes."""

Key = tuple[Any, ...]
"""Key of an item: its partition key and, where the table has one, its range key."""

_EXPRESSIONS = frozenset({"ExpressionAttributeNames", "ExpressionAttributeValues"})
_CONDITION = _EXPRESSIONS | {"TableName", "ConditionExpression", "ReturnValuesOnConditionCheckFailure"}
_COUNTED = frozenset({"ReturnConsumedCapacity", "ReturnItemCollectionMetrics"})
_PARAMETERS: dict[str, frozenset[str]] = {
    "Put": _CONDITION | {"Item"},
    "Update": _CONDITION | {"Key", "UpdateExpression"},
    "Delete": _CONDITION | {"Key"},
    "ConditionCheck": _CONDITION | {"Key"},
    "PutItem": _CONDITION | _COUNTED | {"Item", "ReturnValues"},
    "UpdateItem": _CONDITION | _COUNTED | {"Key", "UpdateExpression", "ReturnValues"},
    "DeleteItem": _CONDITION | _COUNTED | {"Key", "ReturnValues"},
    "GetItem": frozenset(
        {"TableName", "Key", "ConsistentRead", "ProjectionExpression", "ExpressionAttributeNames"} | _COUNTED
    ),
    "Query": _EXPRESSIONS
    | _COUNTED
    | {"TableName", "KeyConditionExpression", "FilterExpression", "ProjectionExpression", "ConsistentRead"}
    | {"ScanIndexForward", "Limit", "ExclusiveStartKey"},
    "BatchGetItem": _COUNTED | {"RequestItems"},
    "BatchWriteItem": _COUNTED | {"RequestItems"},
    "TransactWriteItems": _COUNTED | {"TransactItems", "ClientRequestToken"},
}


@dataclass(frozen=True, slots=True)
class _Stored:
    """An item as bytes, so that no caller shares it, and its size."""

    data: bytes
    size: int

    def item(self) -> Item:
        return marshal.loads(self.data)  # type: ignore[no-any-return]  # noqa: S302 - dumped by this very process


@dataclass(slots=True)
class Table:
    """The items of one table by key, and the range keys of each partition in order."""

    keys: tuple[str, ...]
    stored: dict[Key, _Stored] = field(default_factory=dict)
    ranges: dict[Any, list[Any]] = field(default_factory=dict)

    def key(self, item: Item, *, exact: bool) -> Key:
        """Return the key of an item; `exact` where nothing but the key may be there."""
        if exact and len(item) != len(self.keys):
            raise Invalid("The provided key element does not match the schema")
        return tuple(self._part(item.get(name), limit) for name, limit in zip(self.keys, KEY_BYTES, strict=False))

    @staticmethod
    def _part(value: Value | None, limit: int) -> Any:
        if value is None or not {"S", "N", "B"} & value.keys():
            raise Invalid("The provided key element does not match the schema")
        size = value_size(value)
        if not 1 <= size <= limit:
            raise Invalid(f"One or more parameter values are not valid: a key attribute of {size} bytes")
        return order(value)

    def put(self, key: Key, stored: _Stored) -> None:
        """Store an item under its key."""
        if len(key) == 2 and key not in self.stored:
            insort(self.ranges.setdefault(key[0], []), key[1])
        self.stored[key] = stored

    def remove(self, key: Key) -> None:
        """Remove an item, if it is there."""
        if self.stored.pop(key, None) is not None and len(key) == 2:
            self.ranges[key[0]].remove(key[1])


@dataclass(frozen=True, slots=True)
class Write:
    """A write that is ready: its key, the item before and after it, and whether its condition is true."""

    table: Table
    name: str
    key: Key
    before: _Stored | None
    after: _Stored | None
    passes: bool
    touched: frozenset[str] = frozenset()
    returns_item: bool = False

    @property
    def units(self) -> int:
        """Return the write units: of the larger of the two items, as after a condition that is not true."""
        return write_units(max(each.size if each else 0 for each in (self.before, self.after)))


class DynamoDb:
    """A client of tables in memory; answers are as the JSON codec decodes them, with binary values as base64 text.

    Args:
        tables: Key attributes of each table, partition key first.
        units: Where to count; by default anew.
        page_items: Most items in a page of a Query, whose real limit is 1 MB.

    `throttles` says of a table and key whether it is throttled now; `written` sees each item that was written.
    """

    def __init__(
        self, tables: Mapping[str, tuple[str, ...]], *, units: Units | None = None, page_items: int | None = None
    ) -> None:
        self.tables = {name: Table(keys) for name, keys in tables.items()}
        self.units = new_units() if units is None else units
        self.throttles: Callable[[str, Key], bool] = lambda table, key: False
        self.written: Callable[[str, Item], None] = lambda table, item: None
        self._page_items = page_items
        self._tokens: dict[str, int] = {}
        self._lock = threading.RLock()

    def items(self, table: str) -> list[Item]:
        """Return everything in a table."""
        return [stored.item() for stored in self.tables[table].stored.values()]

    def get_item(self, **request: Any) -> dict[str, Any]:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_GetItem.html"""
        return self._answer("GetItem", request, self._get_item)

    def put_item(self, **request: Any) -> dict[str, Any]:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_PutItem.html"""
        return self._answer("PutItem", request, lambda given: self._write("PutItem", given))

    def update_item(self, **request: Any) -> dict[str, Any]:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateItem.html"""
        return self._answer("UpdateItem", request, lambda given: self._write("UpdateItem", given))

    def delete_item(self, **request: Any) -> dict[str, Any]:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_DeleteItem.html"""
        return self._answer("DeleteItem", request, lambda given: self._write("DeleteItem", given))

    def query(self, **request: Any) -> dict[str, Any]:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Query.html"""
        return self._answer("Query", request, self._query)

    def batch_get_item(self, **request: Any) -> dict[str, Any]:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html"""
        return self._answer("BatchGetItem", request, self._batch_get_item)

    def batch_write_item(self, **request: Any) -> dict[str, Any]:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html"""
        return self._answer("BatchWriteItem", request, self._batch_write_item)

    def transact_write_items(self, **request: Any) -> dict[str, Any]:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html"""
        return self._answer("TransactWriteItems", request, self._transact_write_items)

    def _answer(
        self, operation: str, request: dict[str, Any], work: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, Any]:
        """Do one call, alone; refuse what DynamoDB refuses."""
        with self._lock:
            self.units[operation] += 1
            try:
                _check_parameters(operation, request)
                # As it is sent: bytes become base64, and raw JSON becomes what it says.
                return work(msgspec.json.decode(msgspec.json.encode(request)))
            except (Invalid, InvalidExpression) as error:
                raise refused("ValidationException", operation, str(error)) from error

    def _table(self, name: str) -> Table:
        table = self.tables.get(name)
        if table is None:
            raise refused("ResourceNotFoundException", "DynamoDB", f"Requested resource not found: {name}")
        return table

    def _throttle(self, table: str, key: Key, operation: str) -> None:
        if self.throttles(table, key):
            raise refused(
                "ProvisionedThroughputExceededException", operation, "Throughput exceeds the current capacity"
            )

    def _get_item(self, request: dict[str, Any]) -> dict[str, Any]:
        scope = _scope(request, "ProjectionExpression")
        table, key = self._keyed(request)
        self._throttle(request["TableName"], key, "GetItem")
        stored = table.stored.get(key)
        self.units["read_units"] += read_units(
            0 if stored is None else stored.size, consistent=bool(request.get("ConsistentRead"))
        )
        return {} if stored is None else {"Item": _projected(stored.item(), request, scope)}

    def _keyed(self, request: dict[str, Any]) -> tuple[Table, Key]:
        table = self._table(request["TableName"])
        return table, table.key(request["Key"], exact=True)

    def _write(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        write = self._ready(operation.removesuffix("Item"), request)
        self._throttle(write.name, write.key, operation)
        self.units["write_units"] += write.units
        if not write.passes:
            self.units["failed_conditions"] += 1
            raise refused(
                "ConditionalCheckFailedException",
                operation,
                "The conditional request failed",
                item=write.before.item() if write.returns_item and write.before else None,
            )
        self._apply(write)
        return _returned(write, request.get("ReturnValues", "NONE"))

    def _ready(self, kind: str, request: dict[str, Any]) -> Write:
        """Check a write, and say what it would do."""
        scope = _scope(request, "ConditionExpression", "UpdateExpression")
        table = self._table(request["TableName"])
        touched: set[str] = set()
        if kind == "Put":
            after: Item | None = request["Item"]
            key = table.key(request["Item"], exact=False)
            before = table.stored.get(key)
        else:
            key = table.key(request["Key"], exact=True)
            before = table.stored.get(key)
            after = None if kind == "Delete" else before.item() if before else None
            if kind == "Update":
                after = after or request["Key"]
                if request.get("UpdateExpression"):
                    after, touched = update(request["UpdateExpression"], after, scope)
                if touched & set(table.keys):
                    raise Invalid("Cannot update attribute. This attribute is part of the key")
        condition = request.get("ConditionExpression")
        passes = condition is None or holds(condition, before.item() if before else {}, scope)
        return Write(
            table=table,
            name=request["TableName"],
            key=key,
            before=before,
            after=None if after is None else _stored(after),
            passes=passes,
            touched=frozenset(touched),
            returns_item=request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD",
        )

    def _apply(self, write: Write) -> None:
        if write.after is None:
            write.table.remove(write.key)
        else:
            write.table.put(write.key, write.after)
            self.written(write.name, write.after.item())

    def _query(self, request: dict[str, Any]) -> dict[str, Any]:
        scope = _scope(request, "KeyConditionExpression", "FilterExpression", "ProjectionExpression")
        table = self._table(request["TableName"])
        condition = key_condition(request["KeyConditionExpression"], scope, keys=table.keys)
        partition = order(condition.partition[1])
        self._throttle(request["TableName"], (partition,), "Query")
        keys = _between(table.ranges.get(partition, []), condition.sort)
        keys = keys if request.get("ScanIndexForward", True) else keys[::-1]
        if request.get("ExclusiveStartKey"):
            start = table.key(request["ExclusiveStartKey"], exact=True)[1]
            is_forward = request.get("ScanIndexForward", True)
            keys = [each for each in keys if (each > start if is_forward else each < start)]
        most = min(each for each in (request.get("Limit"), self._page_items, len(keys)) if each is not None)
        if request.get("Limit", 1) < 1:
            raise Invalid("Limit must be at least 1")
        page: list[Item] = []
        size = 0
        for each in keys[:most]:
            stored = table.stored[partition, each]
            page.append(stored.item())
            size += stored.size
            if size >= PAGE_BYTES:
                break
        self.units["read_units"] += read_units(size, consistent=bool(request.get("ConsistentRead")))
        kept = [
            each
            for each in page
            if not request.get("FilterExpression") or holds(request["FilterExpression"], each, scope)
        ]
        answer: dict[str, Any] = {
            "Items": [_projected(each, request, scope) for each in kept],
            "Count": len(kept),
            "ScannedCount": len(page),
        }
        if len(page) < len(keys) or (page and len(page) == request.get("Limit")):
            answer["LastEvaluatedKey"] = {name: page[-1][name] for name in table.keys}
        return answer

    def _batch_get_item(self, request: dict[str, Any]) -> dict[str, Any]:
        wanted = [(name, each, key) for name, each in request["RequestItems"].items() for key in each["Keys"]]
        places = {(name, self._table(name).key(key, exact=True)) for name, _, key in wanted}
        if not 1 <= len(wanted) <= BATCH_KEYS or len(places) != len(wanted):
            raise Invalid("BatchGetItem takes 1 to 100 keys, each of them once")
        answer: dict[str, Any] = {"Responses": {name: [] for name in request["RequestItems"]}, "UnprocessedKeys": {}}
        size = throttled = 0
        for name, each, given in wanted:
            table = self._table(name)
            key = table.key(given, exact=True)
            stored = table.stored.get(key)
            size += 0 if stored is None else stored.size
            is_throttled = self.throttles(name, key)
            throttled += is_throttled
            if is_throttled or size > BATCH_BYTES:
                left = answer["UnprocessedKeys"].setdefault(name, each | {"Keys": []})
                left["Keys"].append(given)
                continue
            self.units["read_units"] += read_units(
                0 if stored is None else stored.size, consistent=bool(each.get("ConsistentRead"))
            )
            if stored is not None:
                scope = _scope(each, "ProjectionExpression")
                answer["Responses"][name].append(_projected(stored.item(), each, scope))
        if throttled == len(wanted):
            raise refused("ProvisionedThroughputExceededException", "BatchGetItem")
        return answer

    def _batch_write_item(self, request: dict[str, Any]) -> dict[str, Any]:
        writes = [
            (each, self._ready(*_batched(name, each)))
            for name, requests in request["RequestItems"].items()
            for each in requests
        ]
        if not 1 <= len(writes) <= BATCH_WRITES:
            raise Invalid("BatchWriteItem takes 1 to 25 requests")
        if len({(write.name, write.key) for _, write in writes}) != len(writes):
            raise Invalid("Provided list of item keys contains duplicates")
        if sum(write.after.size for _, write in writes if write.after) > BATCH_BYTES:
            raise Invalid("BatchWriteItem takes at most 16 MB")
        left: dict[str, list[Any]] = {}
        for each, write in writes:
            if self.throttles(write.name, write.key):
                left.setdefault(write.name, []).append(each)
                continue
            self.units["write_units"] += write.units
            self._apply(write)
        if sum(map(len, left.values())) == len(writes):
            raise refused("ProvisionedThroughputExceededException", "BatchWriteItem")
        return {"UnprocessedItems": left}

    def _transact_write_items(self, request: dict[str, Any]) -> dict[str, Any]:
        writes = list(self._transacted(request["TransactItems"]))
        if not 1 <= len(writes) <= TRANSACTION_ITEMS:
            raise Invalid("TransactWriteItems takes 1 to 100 operations")
        if len({(write.name, write.key) for write in writes}) != len(writes):
            raise Invalid("Transaction request cannot include multiple operations on one item")
        if sum(write.after.size for write in writes if write.after) > TRANSACTION_BYTES:
            raise Invalid("TransactWriteItems takes at most 4 MB")
        token, content = request.get("ClientRequestToken"), hash(msgspec.json.encode(request["TransactItems"]))
        if token in self._tokens:
            if self._tokens[token] != content:
                raise refused("IdempotentParameterMismatchException", "TransactWriteItems")
            self.units["read_units"] += sum(
                2 * read_units(each.before.size, consistent=True) for each in writes if each.before
            )
            return {}
        codes = [self._code(write) for write in writes]
        # Each item is written twice, to prepare and to commit; one that is cancelled consumes what it prepared.
        units = 2 * sum(write.units for write, code in zip(writes, codes, strict=True) if code != "ThrottlingError")
        self.units["write_units"] += units
        if any(code != "None" for code in codes):
            self.units["cancelled_transactions"] += 1
            self.units["cancelled_write_units"] += units
            raise refused(
                "TransactionCanceledException", "TransactWriteItems", reasons=list(map(_reason, writes, codes))
            )
        for write in writes:
            self._apply(write)
        if token:
            self._tokens[token] = content
            if len(self._tokens) > TOKENS:
                del self._tokens[next(iter(self._tokens))]
        return {}

    def _transacted(self, operations: list[dict[str, Any]]) -> Iterator[Write]:
        for operation in operations:
            if len(operation) != 1:
                raise Invalid("TransactItems can only contain one of Check, Put, Update or Delete")
            ((kind, given),) = operation.items()
            _check_parameters(kind, given)
            yield self._ready(kind, given)

    def _code(self, write: Write) -> str:
        if self.throttles(write.name, write.key):
            return "ThrottlingError"
        return "None" if write.passes else "ConditionalCheckFailed"


def _check_parameters(operation: str, request: Mapping[str, Any]) -> None:
    unknown = request.keys() - _PARAMETERS[operation]
    if unknown:
        raise Invalid(f"Unknown parameter of {operation}: {', '.join(sorted(unknown))}")


def _scope(request: Mapping[str, Any], *expressions: str) -> Scope:
    scope = Scope(
        names=request.get("ExpressionAttributeNames", {}), values=request.get("ExpressionAttributeValues", {})
    )
    scope.check_used(*(request.get(each) for each in expressions))
    return scope


def _stored(item: Item) -> _Stored:
    size = item_size(item)
    if size > ITEM_BYTES:
        raise Invalid("Item size has exceeded the maximum allowed size")
    return _Stored(marshal.dumps(item), size)


def _projected(item: Item, request: Mapping[str, Any], scope: Scope) -> Item:
    text = request.get("ProjectionExpression")
    return project(text, item, scope) if text else item


def _batched(table: str, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if len(request) != 1 or not request.keys() <= {"PutRequest", "DeleteRequest"}:
        raise Invalid("BatchWriteItem takes PutRequest or DeleteRequest")
    ((kind, given),) = request.items()
    return kind.removesuffix("Request"), {"TableName": table, **given}


def _between(ranges: list[Any], sort: tuple[str, str, tuple[Value, ...]] | None) -> list[Any]:
    """Return the range keys, in order, of which a condition is true."""
    if sort is None:
        return list(ranges)
    _, operator, values = sort
    first, *others = map(order, values)
    if operator == "between":
        if others[0] < first:
            raise Invalid("The BETWEEN operator requires upper bound to be greater than or equal to lower bound")
        return ranges[bisect_left(ranges, first) : bisect_right(ranges, others[0])]
    if operator == "begins_with":
        found = []
        for each in ranges[bisect_left(ranges, first) :]:
            if not each.startswith(first):
                break
            found.append(each)
        return found
    low, high = bisect_left(ranges, first), bisect_right(ranges, first)
    return {
        "=": ranges[low:high],
        "<": ranges[:low],
        "<=": ranges[:high],
        ">": ranges[high:],
        ">=": ranges[low:],
    }[operator]


def _returned(write: Write, what: str) -> dict[str, Any]:
    old, new = (each.item() if each else {} for each in (write.before, write.after))
    found = {
        "NONE": {},
        "ALL_OLD": old,
        "ALL_NEW": new,
        "UPDATED_OLD": {name: value for name, value in old.items() if name in write.touched},
        "UPDATED_NEW": {name: value for name, value in new.items() if name in write.touched},
    }.get(what)
    if found is None:
        raise Invalid(f"ReturnValues is {what}")
    return {"Attributes": found} if found else {}


def _reason(write: Write, code: str) -> dict[str, Any]:
    reason: dict[str, Any] = {"Code": code}
    if code == "ConditionalCheckFailed" and write.returns_item and write.before:
        reason["Item"] = write.before.item()
    return reason
