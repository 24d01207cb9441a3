"""The meter counts what the emulator is asked for in the units that AWS bills."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.exceptions import ClientError
from ministack.services import dynamodb, iot

from benchmarks.aws.dynamodb import DynamoDb
from fleet_iot.operations.local.meter import BROKER, Meter

ROLE = {"authorization": "role-processor"}


def totals(meter: Meter) -> dict[str, float]:
    """The counts by unit, of all operations."""
    found: dict[str, float] = {}
    for count in meter.counts():
        found[count.unit] = found.get(count.unit, 0.0) + count.amount
    return found


def new_meter() -> Meter:
    return Meter(lambda headers: headers.get("authorization"))


class Tables:
    """The emulator's DynamoDB behind a meter, as a client; a refusal raises, as botocore's does."""

    def __init__(self) -> None:
        self.meter = new_meter()
        self.table = f"readings-{uuid.uuid4()}"
        self._handle = self.meter.of_dynamodb(dynamodb.handle_request)
        keys = [("device", "HASH"), ("bucket", "RANGE")]
        self.ask(
            "CreateTable",
            TableName=self.table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name in ("device", "bucket", "open")
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "open",
                    "KeySchema": [{"AttributeName": "open", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
        )

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        headers = {"x-amz-target": f"DynamoDB_20120810.{operation}", **ROLE}
        status, _, body = asyncio.run(self._handle("POST", "/", headers, json.dumps(request).encode(), {}))
        answer: dict[str, Any] = json.loads(body)
        if status != 200:
            code = answer["__type"].rpartition("#")[2]
            raise ClientError({"Error": {"Code": code, "Message": answer.get("message", "")}}, operation)
        return answer


def item(bucket: str, size: int = 0, **more: Any) -> dict[str, Any]:
    return {"device": {"S": "d"}, "bucket": {"S": bucket}, "text": {"S": "x" * size}, **more}


def calls(table: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The kinds of calls that the processor makes, with items around the borders of units."""
    key = {"device": {"S": "d"}, "bucket": {"S": "a"}}
    yield "PutItem", {"Item": item("a", 1_500)}
    yield "PutItem", {"Item": item("a", 10)}
    yield "PutItem", {"Item": item("a"), "ConditionExpression": "attribute_not_exists(device)"}
    yield (
        "UpdateItem",
        {
            "Key": key,
            "UpdateExpression": "SET #n = :n",
            "ExpressionAttributeNames": {"#n": "note"},
            "ExpressionAttributeValues": {":n": {"S": "y" * 3_000}},
        },
    )
    yield "GetItem", {"Key": key, "ConsistentRead": True}
    yield "GetItem", {"Key": {**key, "bucket": {"S": "none"}}}
    puts = [{"PutRequest": {"Item": item(f"b{number}", 900 + 100 * number)}} for number in range(5)]
    yield "BatchWriteItem", {"RequestItems": {table: puts}}
    keys = [{"device": {"S": "d"}, "bucket": {"S": bucket}} for bucket in ("a", "b1", "none")]
    yield "BatchGetItem", {"RequestItems": {table: {"Keys": keys, "ConsistentRead": True}}}
    yield (
        "Query",
        {
            "KeyConditionExpression": "device = :d",
            "ExpressionAttributeValues": {":d": {"S": "d"}},
            "ConsistentRead": True,
        },
    )
    yield "DeleteItem", {"Key": key}


def test_items_cost_what_the_benchmarks_count() -> None:
    """The emulator's meter and the stub of `python -m benchmarks units` agree, call by call."""
    tables = Tables()
    stub = DynamoDb({tables.table: ("device", "bucket")})
    for operation, request in calls(tables.table):
        given = request if "RequestItems" in request else {"TableName": tables.table, **request}
        refused = []
        for call in (
            lambda operation=operation, given=given: tables.ask(operation, **given),
            lambda operation=operation, given=given: getattr(stub, _snake(operation))(**given),
        ):
            try:
                call()
                refused.append("")
            except ClientError as error:
                refused.append(error.response["Error"]["Code"])
        assert refused[0] == refused[1]
        expected = {unit: stub.units[unit] for unit in ("read_units", "write_units") if stub.units[unit]}
        assert expected == totals(tables.meter), operation
    assert [2 + 2 + 1] == [
        count.amount for count in tables.meter.counts() if count.operation == "PutItem device bucket"
    ]


def _snake(operation: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()


def test_an_index_is_written_with_its_item() -> None:
    """An item with the index's key costs twice, one that leaves the index again, and one without it once."""
    tables = Tables()
    seen = []
    for content in (item("e", open={"S": "sg-01"}), item("e"), item("e", 10)):
        tables.ask("PutItem", TableName=tables.table, Item=content)
        seen.append(totals(tables.meter)["write_units"])
    assert [2, 4, 5] == seen


async def _ok(*given: Any, **named: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, b'{"Records": []}'


def run(handler: Any, method: str, path: str, *, body: bytes = b"", query: Any = None, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    asyncio.run(handler(method, path, {**ROLE, **named}, body, query or {}))


def test_requests_of_s3_are_of_two_prices() -> None:
    """PUT, POST and lists are the dear ones, GET and HEAD the cheap ones, and deletions are free."""
    meter = new_meter()
    s3 = meter.of_s3(_ok)
    for method, path in (
        ("PUT", "/archive/raw/a"),
        ("POST", "/archive/raw/a"),
        ("GET", "/archive"),
        ("GET", "/archive/"),
    ):
        run(s3, method, path)
    for method in ("GET", "HEAD", "DELETE"):
        run(s3, method, "/archive/raw/a")
    run(s3, "POST", "/archive", query={"delete": [""]})
    assert {"s3_puts": 4, "s3_gets": 2} == totals(meter)
    assert {"PUT raw", "POST raw", "GET", "GET raw", "HEAD raw"} == {count.operation for count in meter.counts()}


def test_records_are_metered_by_the_kilobyte() -> None:
    """Data and partition key of each record, up to the next kB, as they are put and as they are read."""
    meter = new_meter()
    records = [{"Data": base64.b64encode(b"x" * size).decode(), "PartitionKey": "k" * 24} for size in (1_000, 1_001)]

    async def answer(*given: Any) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, json.dumps({"Records": records}).encode()

    kinesis = meter.of_kinesis(answer)
    run(kinesis, "POST", "/", body=json.dumps(records[0]).encode(), x_amz_target="Kinesis_20131202.PutRecord")
    put_records = json.dumps({"Records": records}).encode()
    run(kinesis, "POST", "/", body=put_records, x_amz_target="Kinesis_20131202.PutRecords")
    run(kinesis, "POST", "/", body=b"{}", x_amz_target="Kinesis_20131202.GetRecords")
    assert {"ingested_bytes": 4 * 1024, "retrieved_bytes": 3 * 1024} == totals(meter)


def test_notifications_are_counted_one_by_one() -> None:
    """A batch is as many requests as it has messages, and one of more than 64 kB is two."""
    meter = new_meter()
    entry = "PublishBatchRequestEntries.member"
    form = {
        "Action": "PublishBatch",
        f"{entry}.1.Message": "a",
        f"{entry}.2.Message": "b" * 65_537,
        f"{entry}.2.Id": "2",
    }
    run(meter.of_sns(_ok), "POST", "/", body=urlencode(form).encode())
    assert {"notifications": 3} == totals(meter)


def test_root_is_not_counted() -> None:
    """Requests of Terraform and of this tool's own commands are not the platform's."""
    meter = new_meter()
    handlers = (meter.of_s3(_ok), meter.of_kinesis(_ok), meter.of_sns(_ok), meter.of_kms(_ok), meter.of_dynamodb(_ok))
    for handler in handlers:
        asyncio.run(handler("PUT", "/archive/a", {"x-amz-target": "DynamoDB_20120810.GetItem"}, b"{}", {}))
    assert [] == meter.counts()


def test_messages_rules_and_actions_are_counted_by_5_kb() -> None:
    """Basic Ingest is no message; the local republish action is neither action nor message."""
    meter = new_meter()

    async def publish(account: str, region: str, topic: str, payload: bytes, **named: Any) -> None:
        if not topic.startswith("local/"):
            await broker._run_rule_actions(account, region, rule, payload, topic, None)

    async def run_rule(account: str, region: str, rule: Mapping[str, Any], *more: Any) -> None:
        for action in rule["actions"]:
            await broker._dispatch_rule_action(account, region, rule["ruleName"], action, {})

    async def act(account: str, region: str, name: str, action: Mapping[str, Any], event: Any) -> None:
        if "republish" in action:
            await broker.broker_publish(account, region, f"local/rules/{name}", b"{}", principal="f" * 64)

    rule = {"ruleName": "telemetry", "actions": [{"kinesis": {}}, {"republish": {}}]}
    broker: Any = SimpleNamespace(broker_publish=publish, _run_rule_actions=run_rule, _dispatch_rule_action=act)
    meter.of_broker(broker)
    for topic, size in (("dt/a", 10), ("dt/a", 5_117), ("$aws/rules/telemetry/dt/a", 10)):
        asyncio.run(broker.broker_publish("0", "r", topic, b"x" * size, principal="f" * 64))
    assert {"messages": 3, "rules": 4, "actions": 4} == totals(meter)
    assert {BROKER} == {count.caller for count in meter.counts()}


@pytest.mark.parametrize("name", ["broker_publish", "_run_rule_actions", "_dispatch_rule_action"])
def test_the_emulator_has_the_seams_that_are_metered(name: str) -> None:
    """The pinned emulator has the functions of the broker that the meter wraps."""
    assert asyncio.iscoroutinefunction(getattr(iot, name))
