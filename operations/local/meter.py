"""Counts what programs ask of the emulator, in the units that AWS bills, by caller and operation.

The meter stands around the emulator's own handlers, behind the check of signatures and permissions. Requests of root
are not counted: Terraform, this tool's own commands and the demo's checks work as root, and the platform's programs
under their roles.

DynamoDB: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
S3: https://aws.amazon.com/s3/pricing/
Kinesis: https://aws.amazon.com/kinesis/data-streams/pricing/
SNS: https://aws.amazon.com/sns/pricing/
AWS IoT: https://aws.amazon.com/iot-core/pricing/additional-details/
"""

from __future__ import annotations

import base64
import json
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs

from fleet_iot.generator.manifest.rates import PART_BYTES, RECORD_UNIT
from fleet_iot.operations.local.aws import Count
from fleet_iot.operations.local.dynamodb_units import Item, item_size, read_units, write_units
from fleet_iot.operations.local.overrides import REPUBLISH_TOPIC
from fleet_iot.sensor_processor.planning.plant import INDEX, PLANT

BROKER = "broker"
"""The caller of what devices publish."""

CHUNK_BYTES = 64 * 1024
"""SNS bills a message by 64 kB."""

BASIC_INGEST, RESERVED = "$aws/rules/", "$"

Answer = tuple[int, dict[str, str], bytes]
Handler = Callable[..., Awaitable[Answer]]
Headers = Mapping[str, str]


class Meter:
    """Counts of units, by caller.

    Args:
        caller_of: The role by whose keys a request is signed; None for root.
    """

    def __init__(self, caller_of: Callable[[Headers], str | None]) -> None:
        self._caller_of = caller_of
        self._counts: defaultdict[tuple[str, str, str], float] = defaultdict(float)
        self._tables: dict[str, tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]] = {}

    def counts(self) -> list[Count]:
        """Return the counts so far."""
        return [Count(*key, count) for key, count in sorted(self._counts.items())]

    def _add(self, caller: str, unit: str, operation: str, count: float) -> None:
        self._counts[caller, unit, operation] += count

    # DynamoDB: an answer does not say how large the items were, so the handler is asked for them.

    def of_dynamodb(self, handler: Handler) -> Handler:
        """Return a handler of DynamoDB that counts `write_units` and `read_units` by true sizes of items.

        The operation of a write is its name and the table's keys; that of an item of a plant in the table of lanes is
        its name and `plant`.
        """

        async def ask(operation: str, **request: Any) -> dict[str, Any]:
            headers = {"x-amz-target": f"DynamoDB_20120810.{operation}"}
            _, _, body = await handler("POST", "/", headers, json.dumps(request).encode(), {})
            found: dict[str, Any] = json.loads(body)
            return found

        async def keys_of(table: str) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
            if table not in self._tables:
                described = (await ask("DescribeTable", TableName=table))["Table"]
                indexes = described.get("GlobalSecondaryIndexes") or ()
                self._tables[table] = _names(described), tuple(map(_names, indexes))
            return self._tables[table]

        async def stored(table: str, item: Item) -> Item:
            keys, _ = await keys_of(table)
            key = {name: item[name] for name in keys if name in item}
            found: Item = (await ask("GetItem", TableName=table, Key=key, ConsistentRead=True)).get("Item", {})
            return found

        async def writes(operation: str, request: Mapping[str, Any]) -> list[tuple[str, Item, Item]]:
            """Return table, key and item before, of each item that is written."""
            if operation == "BatchWriteItem":
                single = [(table, each) for table, some in request["RequestItems"].items() for each in some]
                items = [
                    (table, next(iter(each.values())).get("Item") or next(iter(each.values()))["Key"])
                    for table, each in single
                ]
            elif operation == "TransactWriteItems":
                parts = [next(iter(each.values())) for each in request["TransactItems"]]
                items = [(part["TableName"], part.get("Item") or part["Key"]) for part in parts]
            else:
                items = [(request["TableName"], request.get("Item") or request["Key"])]
            return [(table, item, await stored(table, item)) for table, item in items]

        async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
            caller = self._caller_of(headers)
            operation = headers.get("x-amz-target", "").rpartition(".")[2]
            if caller is None or operation not in DYNAMODB_WRITES | DYNAMODB_READS:
                return await handler(method, path, headers, body, query)
            request = json.loads(body)
            before = await writes(operation, request) if operation in DYNAMODB_WRITES else []
            answer = await handler(method, path, headers, body, query)
            status, _, said = answer
            is_failed = status == 400 and json.loads(said).get("__type", "").endswith("ConditionalCheckFailedException")
            if status != 200 and not is_failed:
                return answer
            if operation in DYNAMODB_READS:
                name = f"{operation} plant" if _is_plant(request.get("Key", {})) else operation
                self._add(caller, "read_units", name, _read(operation, request, json.loads(said)))
                return answer
            factor = 2 if operation == "TransactWriteItems" else 1
            for table, item, old in before:
                new = old if is_failed else await stored(table, item)
                units = write_units(max(map(item_size, (old, new))))
                keys, indexes = await keys_of(table)
                for index in indexes if not is_failed else ():
                    units += _indexed(old, new, index)
                name = "plant" if _is_plant(item) else " ".join(keys)
                self._add(caller, "write_units", f"{operation} {name}", factor * units)
            return answer

        return handle

    def of_s3(self, handler: Handler) -> Handler:
        """Return a handler of S3 that counts `s3_puts` (PUT, COPY, POST and LIST) and `s3_gets` (all others).

        The operation is the method, and the first folder of the object's key.
        """

        async def handle(
            method: str, path: str, headers: dict[str, str], body: bytes, query: Any, **more: Any
        ) -> Answer:
            if (caller := self._caller_of(headers)) and not more.get("internal"):
                has_key = bool(path.strip("/").partition("/")[2])
                is_free = method == "DELETE" or (method == "POST" and "delete" in query)
                is_put = method in ("PUT", "POST") or not has_key
                if not is_free:
                    operation = f"{method} {path.strip('/').partition('/')[2].partition('/')[0]}".strip()
                    self._add(caller, "s3_puts" if is_put else "s3_gets", operation, 1)
            return await handler(method, path, headers, body, query, **more)

        return handle

    def of_kinesis(self, handler: Handler) -> Handler:
        """Return a handler of Kinesis that counts `ingested_bytes` and `retrieved_bytes`, each record up to the kB."""

        async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
            answer = await handler(method, path, headers, body, query)
            operation, caller = headers.get("x-amz-target", "").rpartition(".")[2], self._caller_of(headers)
            if caller is None or answer[0] != 200:
                return answer
            if operation in ("PutRecord", "PutRecords"):
                request = json.loads(body)
                self._add(caller, "ingested_bytes", operation, _metered(request.get("Records", [request])))
            elif operation == "GetRecords":
                self._add(caller, "retrieved_bytes", operation, _metered(json.loads(answer[2])["Records"]))
            return answer

        return handle

    def of_sns(self, handler: Handler) -> Handler:
        """Return a handler of SNS that counts `notifications`: messages published, by 64 kB."""

        async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
            answer = await handler(method, path, headers, body, query)
            caller = self._caller_of(headers)
            if caller and answer[0] == 200:
                form = parse_qs(body.decode("utf-8", "replace"))
                sent = [text for name, (text, *_) in form.items() if name.rpartition(".")[2] == "Message"]
                operation = "".join(form.get("Action", ()))
                self._add(
                    caller,
                    "notifications",
                    operation,
                    sum(math.ceil(len(text.encode()) / CHUNK_BYTES) for text in sent),
                )
            return answer

        return handle

    def of_kms(self, handler: Handler) -> Handler:
        """Return a handler of KMS that counts `kms_requests`; what services ask of it within AWS passes no door."""

        async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
            if caller := self._caller_of(headers):
                self._add(caller, "kms_requests", headers.get("x-amz-target", "").rpartition(".")[2], 1)
            return await handler(method, path, headers, body, query)

        return handle

    # AWS IoT: messages, rules that match them and their actions, each by 5 kB of payload and topic.

    def of_broker(self, iot: Any) -> None:
        """Count `messages`, `rules` and `actions` of the broker.

        Messages through Basic Ingest are no messages, and the republish action that the local rules engine lives on,
        which AWS does not have, is neither action nor message.

        Args:
            iot: The module `ministack.services.iot`.
        """
        publish, run, act = iot.broker_publish, iot._run_rule_actions, iot._dispatch_rule_action
        size: dict[str, int] = {}

        async def broker_publish(
            account: str, region: str, topic: str, payload: bytes, *more: Any, **named: Any
        ) -> None:
            if named.get("principal") and not topic.startswith((RESERVED, REPUBLISH_TOPIC)):
                self._add(BROKER, "messages", "Publish", _parts(topic, payload))
            await publish(account, region, topic, payload, *more, **named)

        async def run_rule_actions(
            account: str, region: str, rule: Any, payload: bytes, topic: str = "", *more: Any, **named: Any
        ) -> None:
            if rule and not rule.get("ruleDisabled"):
                size[rule["ruleName"]] = _parts(topic, payload or b"")
                self._add(BROKER, "rules", rule["ruleName"], size[rule["ruleName"]])
            await run(account, region, rule, payload, topic, *more, **named)

        async def dispatch_rule_action(account: str, region: str, name: str, action: Any, *more: Any) -> Any:
            if "republish" not in action:
                self._add(BROKER, "actions", next(iter(action)), size.get(name, 1))
            return await act(account, region, name, action, *more)

        iot.broker_publish, iot._run_rule_actions = broker_publish, run_rule_actions
        iot._dispatch_rule_action = dispatch_rule_action


DYNAMODB_WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"})
DYNAMODB_READS = frozenset({"GetItem", "BatchGetItem", "Query", "Scan"})


def _is_plant(item: Item) -> bool:
    """Return whether an item, or its key, is that of a plant or the list of plants."""
    return str(item.get("lane", {}).get("S", "")).startswith((PLANT, INDEX))


def _names(described: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(key["AttributeName"] for key in described["KeySchema"])


def _indexed(old: Item, new: Item, keys: tuple[str, ...]) -> int:
    """Return the write units of an index of whole items: nothing changes for those that do not have its keys."""
    versions = [item for item in (old, new) if all(key in item for key in keys)]
    if not versions or old == new:
        return 0
    is_moved = len(versions) == 2 and any(old[key] != new[key] for key in keys)
    sizes = [write_units(item_size(item)) for item in versions]
    return sum(sizes) if is_moved else max(sizes)


def _read(operation: str, request: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Return the read units of a call; a projection is counted by what it returns."""
    if operation == "BatchGetItem":
        total = 0.0
        for table, asked in request["RequestItems"].items():
            found = answer["Responses"].get(table, [])
            left = len(answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", []))
            is_consistent = bool(asked.get("ConsistentRead"))
            total += sum(read_units(item_size(item), consistent=is_consistent) for item in found)
            total += (len(asked["Keys"]) - left - len(found)) * read_units(0, consistent=is_consistent)
        return total
    items = answer.get("Items", [answer.get("Item", {})])
    size = sum(item_size(item) for item in items if item)
    return read_units(size, consistent=bool(request.get("ConsistentRead")))


def _metered(records: Iterable[Mapping[str, Any]]) -> int:
    """Return the bytes of records as Kinesis bills them: data and partition key, up to the next kB."""
    sizes = (len(base64.b64decode(each["Data"])) + len(each["PartitionKey"].encode()) for each in records)
    return sum(math.ceil(size / RECORD_UNIT) * RECORD_UNIT for size in sizes)


def _parts(topic: str, payload: bytes) -> int:
    return math.ceil((len(topic.encode()) + len(payload)) / PART_BYTES)
