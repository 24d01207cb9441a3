"""The tables, buckets and topics in memory refuse what AWS refuses, and count what AWS counts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import boto3
import botocore
import pytest
from boto3.dynamodb.types import TypeDeserializer
from botocore.config import Config
from botocore.exceptions import ClientError

from benchmarks.aws import refused
from benchmarks.aws.dynamodb import DynamoDb
from benchmarks.aws.expressions import Scope, holds, update
from benchmarks.aws.s3 import S3, etag
from benchmarks.aws.server import counted, running_server
from benchmarks.aws.sns import Sns
from fleet_iot.operations.local.dynamodb_units import Invalid, item_size, number_size, read_units, write_units

TABLES = {"readings": ("device", "bucket"), "devices": ("device",), "Music": ("Artist", "SongTitle")}
KB = 1024


@pytest.fixture
def table() -> DynamoDb:
    return DynamoDb(TABLES)


def code_of(call: Any, **request: Any) -> str:
    """The code of the error with which a call is refused."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    return str(caught.value.response["Error"]["Code"])


def device(name: str = "d", **values: Any) -> dict[str, Any]:
    return {"device": {"S": name}, **values}


def of_size(size: int, *, key: str = "d") -> dict[str, Any]:
    """An item of the devices table with so many bytes."""
    return device(key, data={"S": "x" * (size - len("device") - len(key) - len("data"))})


@pytest.mark.parametrize(
    ("item", "size"),
    [
        # Names and values: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
        ({"name": {"S": "Zürich"}}, 4 + 7),
        ({"n": {"N": "0"}}, 1 + 1),
        ({"n": {"N": "27"}}, 1 + 2),
        ({"n": {"N": "00120.500"}}, 1 + 3),
        ({"n": {"N": "1" + "0" * 37}}, 1 + 2),
        ({"n": {"N": "0.000123"}}, 1 + 3),
        ({"b": {"B": "AAECAwQ="}}, 1 + 5),
        ({"b": {"B": "AAECAw=="}}, 1 + 4),
        ({"b": {"B": b"12345"}}, 1 + 5),
        ({"t": {"BOOL": True}, "u": {"NULL": True}}, 2 + 2),
        ({"m": {"M": {}}}, 1 + 3),
        ({"m": {"M": {"ab": {"N": "1"}}}}, 1 + 3 + 1 + 2 + 2),
        ({"l": {"L": [{"S": "ab"}, {"N": "1"}]}}, 1 + 3 + 1 + 2 + 1 + 2),
        ({"s": {"SS": ["ab", "c"]}}, 1 + 3),
    ],
)
def test_sizes_are_those_of_the_documentation(item: Any, size: int) -> None:
    """Names, values, 3 bytes a list or map and 1 for each of their elements."""
    assert item_size(item) == size


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("6.9e-310", "underflow"),
        ("9.9e-131", "underflow"),
        ("1e126", "overflow"),
        ("-1e126", "overflow"),
        ("1" * 39, "38 significant digits"),
        ("NaN", "numeric"),
        ("", "numeric"),
    ],
)
def test_numbers_out_of_range_are_refused(text: str, word: str) -> None:
    """1e-130 to 9.99e125 with 38 digits: HowItWorks.NamingRulesDataTypes.html#HowItWorks.DataTypes.Number."""
    with pytest.raises(Invalid, match=word):
        number_size(text)


@pytest.mark.parametrize("text", ["1e-130", "-1e-130", "9." + "9" * 37 + "e125", "1" * 38 + "0" * 80, "0e500", "0.0"])
def test_numbers_within_the_range_are_taken(text: str) -> None:
    """The ends of the range are in it, and zeros at either end are no digits."""
    assert number_size(text) >= 1


def test_units_are_those_of_the_documentation(table: DynamoDb) -> None:
    """A batch get of 1.5 kB and 6.5 kB reads 4 + 8 kB, a query of both 8 kB: read-write-operations.html."""
    for name, size in (("a", 1536), ("b", 6656)):
        table.put_item(TableName="devices", Item=of_size(size, key=name))
        item = of_size(size - 7, key=name)
        table.put_item(TableName="readings", Item={**item, "device": {"S": "d"}, "bucket": {"S": name}})
    assert table.units["write_units"] == 2 * (2 + 7)
    table.batch_get_item(RequestItems={"devices": {"Keys": [device("a"), device("b")], "ConsistentRead": True}})
    assert table.units["read_units"] == 3
    query = {"KeyConditionExpression": "device = :d", "ExpressionAttributeValues": {":d": {"S": "d"}}}
    table.query(TableName="readings", ConsistentRead=True, **query)
    assert table.units["read_units"] == 3 + 2
    table.query(TableName="readings", **query)
    assert table.units["read_units"] == 3 + 2 + 1
    table.get_item(TableName="devices", Key=device("nothing"))
    assert table.units["read_units"] == 3 + 2 + 1 + 0.5


@pytest.mark.parametrize(("size", "units"), [(0, 1), (1, 1), (500, 1), (KB, 1), (KB + 1, 2), (3 * KB + 512, 4)])
def test_writes_are_rounded_up(size: int, units: int) -> None:
    """An item of 500 bytes consumes what one of 1 kB does."""
    assert write_units(size) == units


@pytest.mark.parametrize(("size", "units"), [(3_500, 1), (10 * KB, 3), (8 * KB, 2)])
def test_reads_are_rounded_up(size: int, units: float) -> None:
    """An item of 3,500 bytes consumes what one of 4 kB does; eventually consistent reads cost half."""
    assert (read_units(size, consistent=True), read_units(size, consistent=False)) == (units, units / 2)


def test_an_update_costs_the_larger_item(table: DynamoDb) -> None:
    """The whole item counts, before and after: an update of one attribute of 3 kB consumes three units."""
    table.put_item(TableName="devices", Item=of_size(3 * KB))
    before = table.units["write_units"]
    table.update_item(
        TableName="devices", Key=device(), UpdateExpression="REMOVE #d", ExpressionAttributeNames={"#d": "data"}
    )
    assert table.units["write_units"] - before == 3
    table.delete_item(TableName="devices", Key=device())
    assert table.units["write_units"] - before == 4


def test_a_condition_that_fails_costs_too(table: DynamoDb) -> None:
    """A conditional write consumes units of the item's size whether or not it is made."""
    table.put_item(TableName="devices", Item=of_size(2 * KB + 1))
    condition = {"ConditionExpression": "attribute_not_exists(device)"}
    assert code_of(table.put_item, TableName="devices", Item=device(), **condition) == "ConditionalCheckFailedException"
    assert table.units["write_units"] == 3 + 3


def move(table: DynamoDb, *, at: int, **more: Any) -> dict[str, Any]:
    """Move a pointer on, if it is at a version."""
    return table.update_item(
        TableName="devices",
        Key=device("lane"),
        UpdateExpression="SET #v = :next, chain = list_append(if_not_exists(chain, :none), :nonce)",
        ConditionExpression="attribute_not_exists(#v) OR #v = :v",
        ExpressionAttributeNames={"#v": "version"},
        ExpressionAttributeValues={
            ":v": {"N": str(at)},
            ":next": {"N": str(at + 1)},
            ":none": {"L": []},
            ":nonce": {"L": [{"B": b"12345678"}]},
        },
        **more,
    )


def test_a_pointer_moves_once_from_a_version(table: DynamoDb) -> None:
    """An update under `version = :v` is made once; the loser may ask for the item as it is."""
    assert move(table, at=0, ReturnValues="ALL_NEW")["Attributes"]["version"] == {"N": "1"}
    move(table, at=1)
    with pytest.raises(ClientError) as caught:
        move(table, at=1, ReturnValuesOnConditionCheckFailure="ALL_OLD")
    item = caught.value.response["Item"]
    assert item["version"] == {"N": "2"}
    assert item["chain"] == {"L": [{"B": "MTIzNDU2Nzg="}] * 2}
    assert table.get_item(TableName="devices", Key=device("lane"), ConsistentRead=True)["Item"] == item


def put(table: str, item: Any, **more: Any) -> dict[str, Any]:
    return {"Put": {"TableName": table, "Item": item, **more}}


def test_a_transaction_costs_double_and_a_cancelled_one_too(table: DynamoDb) -> None:
    """Two units a kB to prepare and to commit; what one failed condition cancels has been prepared."""
    writes = [put("devices", of_size(KB)), put("readings", device(bucket={"S": "b"}))]
    table.transact_write_items(TransactItems=writes, ClientRequestToken="t")
    assert table.units["write_units"] == 4
    table.transact_write_items(TransactItems=writes, ClientRequestToken="t")
    assert (table.units["write_units"], table.units["read_units"]) == (4, 4)
    assert (
        code_of(table.transact_write_items, TransactItems=writes[:1], ClientRequestToken="t")
        == "IdempotentParameterMismatchException"
    )
    writes[0]["Put"]["ConditionExpression"] = "attribute_not_exists(device)"
    with pytest.raises(ClientError) as caught:
        table.transact_write_items(TransactItems=writes)
    assert [each["Code"] for each in caught.value.response["CancellationReasons"]] == ["ConditionalCheckFailed", "None"]
    assert (table.units["write_units"], table.units["cancelled_write_units"]) == (8, 4)


def test_limits_of_items_and_calls(table: DynamoDb) -> None:
    """400 kB an item, 4 MB and 100 items a transaction, 25 writes or 100 keys a batch, each key once."""
    table.put_item(TableName="devices", Item=of_size(400 * KB))
    invalid = "ValidationException"
    assert code_of(table.put_item, TableName="devices", Item=of_size(400 * KB + 1)) == invalid
    eleven = [put("devices", of_size(399 * KB, key=str(number))) for number in range(11)]
    assert code_of(table.transact_write_items, TransactItems=eleven) == invalid
    table.transact_write_items(TransactItems=eleven[:10])
    many = [put("devices", device(str(number))) for number in range(101)]
    assert code_of(table.transact_write_items, TransactItems=many) == invalid
    assert code_of(table.transact_write_items, TransactItems=many[:1] * 2) == invalid
    requests = [{"PutRequest": {"Item": device(str(number))}} for number in range(26)]
    assert code_of(table.batch_write_item, RequestItems={"devices": requests}) == invalid
    assert code_of(table.batch_write_item, RequestItems={"devices": requests[:1] * 2}) == invalid
    assert table.batch_write_item(RequestItems={"devices": requests[:25]}) == {"UnprocessedItems": {}}
    keys = [device(str(number)) for number in range(101)]
    assert code_of(table.batch_get_item, RequestItems={"devices": {"Keys": keys}}) == invalid
    assert code_of(table.batch_get_item, RequestItems={"devices": {"Keys": keys[:1] * 2}}) == invalid
    found = table.batch_get_item(RequestItems={"devices": {"Keys": keys[:100]}})
    assert (len(found["Responses"]["devices"]), found["UnprocessedKeys"]) == (25, {})


@pytest.mark.parametrize(
    "item",
    [
        {"device": {"S": ""}},
        {"device": {"S": "x" * 2049}},
        {"other": {"S": "d"}},
        {"device": {"S": "d"}, "value": {"N": "6.9e-310"}},
        {"device": {"S": "d"}, "value": {"S": "a", "N": "1"}},
        {"device": {"S": "d"}, "value": {"X": "a"}},
        {"device": {"S": "d"}, "value": {"M": {"deep": {"N": "1e126"}}}},
    ],
)
def test_items_that_no_table_takes(table: DynamoDb, item: Any) -> None:
    """Keys of wrong size, missing keys, numbers beyond the range and unknown types are refused."""
    assert code_of(table.put_item, TableName="devices", Item=item) == "ValidationException"


def test_unknown_tables_and_parameters_are_refused(table: DynamoDb) -> None:
    """A misspelt parameter is no parameter that is ignored."""
    assert code_of(table.put_item, TableName="nothing", Item=device()) == "ResourceNotFoundException"
    assert code_of(table.get_item, TableName="devices", Key=device(), Consistent=True) == "ValidationException"
    assert code_of(table.get_item, TableName="devices", Key=device(more={"S": "x"})) == "ValidationException"


def test_throttled_keys_are_refused_one_by_one(table: DynamoDb) -> None:
    """A batch leaves a throttled key unprocessed, or fails if it has no other; a transaction says which one it was."""
    table.throttles = lambda name, key: key[0] == b"hot"
    requests = [{"PutRequest": {"Item": device(name)}} for name in ("hot", "cold")]
    left = table.batch_write_item(RequestItems={"devices": requests})
    assert left == {"UnprocessedItems": {"devices": requests[:1]}}
    throttled = "ProvisionedThroughputExceededException"
    assert code_of(table.batch_write_item, RequestItems={"devices": requests[:1]}) == throttled
    assert code_of(table.put_item, TableName="devices", Item=device("hot")) == throttled
    keys = {"devices": {"Keys": [device("cold"), device("hot")], "ConsistentRead": True}}
    answer = table.batch_get_item(RequestItems=keys)
    assert answer["UnprocessedKeys"] == {"devices": {"Keys": [device("hot")], "ConsistentRead": True}}
    with pytest.raises(ClientError) as caught:
        table.transact_write_items(TransactItems=[put("devices", device(name)) for name in ("cold", "hot")])
    assert [each["Code"] for each in caught.value.response["CancellationReasons"]] == ["None", "ThrottlingError"]


def buckets(table: DynamoDb, condition: str, **more: Any) -> list[str]:
    values = {":d": {"S": "d"}, ":a": {"S": "minute#1"}, ":b": {"S": "minute#3"}}
    answer = table.query(
        TableName="readings",
        KeyConditionExpression=f"device = :d AND #b {condition}" if condition[0] != "(" else condition[1:-1],
        ExpressionAttributeNames={"#b": "bucket"},
        ExpressionAttributeValues={name: value for name, value in values.items() if name in f":d {condition}"},
        **more,
    )
    return [item["bucket"]["S"] for item in answer["Items"]]


def test_queries_in_both_orders_with_limits(table: DynamoDb) -> None:
    """BETWEEN, begins_with and comparisons of the range key, from either end, and pages by key."""
    for bucket in ("hour#1", "minute#1", "minute#1#2", "minute#2", "minute#3", "minute#30"):
        table.put_item(TableName="readings", Item=device(bucket={"S": bucket}))
    assert buckets(table, "BETWEEN :a AND :b") == ["minute#1", "minute#1#2", "minute#2", "minute#3"]
    assert buckets(table, "(device = :d AND begins_with(#b, :a))") == ["minute#1", "minute#1#2"]
    assert buckets(table, "(begins_with(#b, :a) AND device = :d)", ScanIndexForward=False, Limit=1) == ["minute#1#2"]
    assert buckets(table, "> :b") == ["minute#30"]
    assert buckets(table, "<= :a", ScanIndexForward=False) == ["minute#1", "hour#1"]
    start = {"device": {"S": "d"}, "bucket": {"S": "minute#3"}}
    assert buckets(table, ">= :a", ScanIndexForward=False, ExclusiveStartKey=start, Limit=2) == [
        "minute#2",
        "minute#1#2",
    ]
    for refused_condition in ("<> :a", "(#b = :a)", "(device = :d OR #b = :a)"):
        with pytest.raises(ClientError, match="ValidationException"):
            buckets(table, refused_condition)


def test_pages_end_at_a_megabyte(table: DynamoDb) -> None:
    """A query reads 1 MB at most and says where to go on."""
    for number in range(4):
        item = of_size(399 * KB)
        table.put_item(TableName="readings", Item={**item, "bucket": {"S": str(number)}})
    request: dict[str, Any] = {
        "TableName": "readings",
        "KeyConditionExpression": "device = :d",
        "ExpressionAttributeValues": {":d": {"S": "d"}},
        "ProjectionExpression": "device",
    }
    first = table.query(**request)
    assert (first["Count"], first["Items"]) == (3, [device()] * 3)
    second = table.query(**request, ExclusiveStartKey=first["LastEvaluatedKey"])
    assert (second["Count"], second.get("LastEvaluatedKey")) == (1, None)


@pytest.mark.parametrize(
    ("text", "is_true"),
    [
        ("attribute_exists(a)", True),
        ("attribute_not_exists(a)", False),
        ("attribute_not_exists(gone) AND a = :one", True),
        ("NOT a = :one OR contains(s, :x)", True),
        ("a BETWEEN :one AND :two", True),
        ("a IN (:two, :x)", False),
        ("size(s) > :two", True),
        ("m.deep[1] = :two", True),
        ("a < :x", False),
        ("gone <> :one", True),
        ("gone = :one", False),
        ("(a = :two OR a = :one) AND begins_with(s, :x)", True),
    ],
)
def test_conditions(text: str, is_true: bool) -> None:
    """Functions, comparisons, precedence and paths as in Expressions.OperatorsAndFunctions.html."""
    item = {"a": {"N": "1.0"}, "s": {"S": "xyz"}, "m": {"M": {"deep": {"L": [{"N": "1"}, {"N": "2"}]}}}}
    scope = Scope(names={}, values={":one": {"N": "1"}, ":two": {"N": "2"}, ":x": {"S": "x"}})
    assert holds(text, item, scope) is is_true


@pytest.mark.parametrize(
    "expression",
    [
        "SET state = :v",
        "SET #n = :v, #n = :v",
        "SET device = :v",
        "a = :v",
        "SET #n :v",
        "DELETE #n :v",
        "SET #n = gone",
    ],
)
def test_updates_that_are_refused(table: DynamoDb, expression: str) -> None:
    """Reserved words, an attribute twice, keys and bad syntax are refused, and unused values too."""
    request: dict[str, Any] = {"TableName": "devices", "Key": device(), "UpdateExpression": expression}
    if "#n" in expression:
        request["ExpressionAttributeNames"] = {"#n": "note"}
    if ":v" in expression:
        request["ExpressionAttributeValues"] = {":v": {"S": "x"}}
    assert code_of(table.update_item, **request) == "ValidationException"
    unused = {":v": {"N": "1"}, ":w": {"N": "1"}}
    assert (
        code_of(
            table.update_item,
            TableName="devices",
            Key=device(),
            UpdateExpression="SET note = :v",
            ExpressionAttributeValues=unused,
        )
        == "ValidationException"
    )


def test_updates_read_the_item_before_them() -> None:
    """Operands are those before the update; numbers are added exactly."""
    item = {"a": {"N": "0.1"}, "b": {"N": "0.2"}}
    after, touched = update(
        "SET a = a + b, b = a REMOVE gone ADD n :one", item, Scope(names={}, values={":one": {"N": "1"}})
    )
    assert (after, touched) == (
        {"a": {"N": "0.3"}, "b": {"N": "0.1"}, "n": {"N": "1"}},
        {"a", "b", "gone", "n"},
    )


def documented() -> dict[str, list[Any]]:
    """The examples of the API reference, as botocore has them."""
    file = Path(botocore.__file__).parent / "data/dynamodb/2012-08-10/examples-1.json"
    text = file.read_bytes() if file.exists() else gzip.decompress(file.with_suffix(".json.gz").read_bytes())
    examples: dict[str, list[Any]] = json.loads(text)["examples"]
    return examples


@pytest.mark.parametrize("operation", ["PutItem", "GetItem", "UpdateItem", "DeleteItem", "Query", "BatchWriteItem"])
def test_examples_of_the_api_reference(table: DynamoDb, operation: str) -> None:
    """Each example is taken, and its answer is that of the reference where its items are stored before."""
    song = {"Artist": {"S": "No One You Know"}, "SongTitle": {"S": "Call Me Today"}}
    for item in (
        {**song, "AlbumTitle": {"S": "Somewhat Famous"}},
        {"Artist": {"S": "Acme Band"}, "SongTitle": {"S": "Happy Day"}, "AlbumTitle": {"S": "Songs About Life"}},
        {"Artist": {"S": "No One You Know"}, "SongTitle": {"S": "Scared of My Shadow"}},
    ):
        table.put_item(TableName="Music", Item=item)
    call = {"BatchWriteItem": "batch_write_item", "Query": "query"}.get(operation, f"{operation[:-4].lower()}_item")
    for example in documented()[operation]:
        answer = getattr(table, call)(**example["input"])
        assert answer.keys() >= example["output"].keys() - {"ConsumedCapacity"}
    assert table.units[operation] == len(documented()[operation]) + 3 * (operation == "PutItem")


def test_objects_are_put_once_under_a_condition() -> None:
    """`If-None-Match: *` is refused with 412 where an object is, and counts as a put: conditional-writes.html."""
    s3 = S3(buckets=("b",))
    tag = s3.put_object(Bucket="b", Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="b", Key="k", Body=b"2", IfNoneMatch="*")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    s3.put_object(Bucket="b", Key="k", Body=b"2", IfMatch=tag)
    assert code_of(s3.put_object, Bucket="b", Key="k", Body=b"3", IfMatch=tag) == "PreconditionFailed"
    assert s3.get_object(Bucket="b", Key="k")["Body"].read() == b"2"
    assert code_of(s3.get_object, Bucket="b", Key="k", IfNoneMatch=etag(b"2")) == "304"
    assert code_of(s3.get_object, Bucket="b", Key="none") == "NoSuchKey"
    assert code_of(s3.get_object, Bucket="other", Key="k") == "NoSuchBucket"
    assert (s3.units["s3_puts"], s3.units["s3_gets"]) == (4, 4)


def test_batches_of_messages_have_limits() -> None:
    """Ten entries with ids of their own and 256 kB together: API_PublishBatch.html."""
    sns, seen = Sns(), []
    sns.published = seen.append
    entries = [{"Id": str(number), "Message": "m"} for number in range(11)]
    arguments = {"TopicArn": "t"}
    assert code_of(sns.publish_batch, **arguments, PublishBatchRequestEntries=entries) == "TooManyEntriesInBatchRequest"
    assert (
        code_of(sns.publish_batch, **arguments, PublishBatchRequestEntries=entries[:1] * 2)
        == "BatchEntryIdsNotDistinct"
    )
    large = [{"Id": "1", "Message": "m" * 262_145}]
    assert code_of(sns.publish_batch, **arguments, PublishBatchRequestEntries=large) == "BatchRequestTooLong"
    assert len(sns.publish_batch(**arguments, PublishBatchRequestEntries=entries[:10])["Successful"]) == 10
    assert (len(seen), sns.units["messages"]) == (10, 10)


@pytest.mark.slow
def test_the_server_answers_real_clients() -> None:
    """boto3 gets items, refusals, reasons and objects over a socket as from AWS, and the units are counted."""
    with running_server(TABLES) as address:
        common = {
            "endpoint_url": address,
            "region_name": "ap-southeast-1",
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
            "config": Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        }
        dynamodb, s3 = boto3.client("dynamodb", **common), boto3.client("s3", **common)
        dynamodb.put_item(TableName="devices", Item=device(data={"B": b"\x00\x01"}))
        item = dynamodb.get_item(TableName="devices", Key=device())["Item"]
        assert TypeDeserializer().deserialize(item["data"]).value == b"\x00\x01"
        condition = {"ConditionExpression": "attribute_not_exists(device)"}
        with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException):
            dynamodb.put_item(TableName="devices", Item=device(), **condition)
        with pytest.raises(dynamodb.exceptions.TransactionCanceledException) as caught:
            dynamodb.transact_write_items(TransactItems=[put("devices", device(), **condition)])
        assert caught.value.response["CancellationReasons"][0]["Code"] == "ConditionalCheckFailed"
        s3.put_object(Bucket="b", Key="a/b c", Body=b"body", IfNoneMatch="*", ChecksumAlgorithm="CRC32")
        assert code_of(s3.put_object, Bucket="b", Key="a/b c", Body=b"", IfNoneMatch="*") == "PreconditionFailed"
        assert s3.get_object(Bucket="b", Key="a/b c")["Body"].read() == b"body"
        with pytest.raises(s3.exceptions.NoSuchKey):
            s3.get_object(Bucket="b", Key="none")
        counts = counted(address)
    assert (counts["devices"], counts["b"]) == (1, 1)
    assert counts["units"]["write_units"] == 1 + 1 + 2
    assert (counts["units"]["s3_puts"], counts["units"]["s3_gets"]) == (2, 2)


def test_errors_are_those_of_botocore() -> None:
    """An error has code, status and, of a transaction, its reasons."""
    error = refused("TransactionCanceledException", "TransactWriteItems", reasons=[{"Code": "None"}])
    assert error.response["CancellationReasons"] == [{"Code": "None"}]
