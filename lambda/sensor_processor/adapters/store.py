"""The DynamoDB tables: consistent reads of devices and minutes, conditional transactions that write chunks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from itertools import chain, islice
from random import Random
from typing import Any, TypeVar

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from ..numbers.minute import Minute, minute_bucket
from ..numbers.period import Part, PeriodKey, part_buckets
from ..planning.items import (
    PART_ATTRIBUTES,
    Device,
    Item,
    device_key,
    minute_key,
    parse_device,
    parse_minute,
    parse_part,
)
from ..planning.planner import Chunk
from . import Again, Retry, Unavailable

T = TypeVar("T")
R = TypeVar("R")

GET_KEYS = 100
"""Keys in one BatchGetItem: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html"""

TRANSACTION_ITEMS = 100
TRANSACTION_BYTES = 3_500_000
"""Limits of a TransactWriteItems; DynamoDB's are 100 items and 4 MB:
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html"""

_CONFLICTS = frozenset({"ConditionalCheckFailed", "TransactionConflict", "DuplicateItem"})
_THROTTLES = frozenset({"ThrottlingError", "ProvisionedThroughputExceeded"})


class Verdict(Enum):
    """Outcome of writing a chunk. CONFLICT: another writer was first; load and plan again."""

    COMMITTED = "committed"
    CONFLICT = "conflict"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Written:
    """A chunk's verdict; `detail` is why it failed."""

    verdict: Verdict
    detail: str = ""


_COMMITTED = Written(Verdict.COMMITTED)


class Store:
    """The two tables, through a low-level client; `random` makes the idempotency tokens.

    Independent calls run on up to `threads` threads; with one they run in order, so that a test can replay them.
    """

    def __init__(
        self, *, client: Any, readings_table: str, devices_table: str, random: Random, threads: int = 1
    ) -> None:
        self._client = client
        self._readings_table = readings_table
        self._devices_table = devices_table
        self._random = random
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store") if threads > 1 else None
        self._has_connected = False

    def load_devices(self, names: Collection[str], *, retry: Retry) -> dict[str, Device]:
        """Load the devices of these names that exist. Raises Unavailable."""
        items = self._load(self._devices_table, [device_key(name) for name in names], retry=retry)
        # An item without a version was not written by a processor, and is replaced.
        devices = [parse_device(item) for item in items if "version" in item]
        return {device.name: device for device in devices}

    def load_minutes(self, keys: Collection[tuple[str, int]], *, retry: Retry) -> dict[tuple[str, int], Minute]:
        """Load the minutes of these devices and starts that exist. Raises Unavailable.

        Load the devices first: a minute read before its device could be older than the version which the write then
        finds unchanged.
        """
        starts = {(name, minute_bucket(start)): start for name, start in keys}
        items = self._load(self._readings_table, [minute_key(name, start) for name, start in keys], retry=retry)
        minutes: dict[tuple[str, int], Minute] = {}
        for item in items:
            name = item["device"]["S"]
            start = starts[name, item["bucket"]["S"]]
            minutes[name, start] = parse_minute(item, start=start)
        return minutes

    def load_parts(self, keys: Collection[PeriodKey], *, retry: Retry) -> dict[PeriodKey, dict[int, Part]]:
        """Load the minutes of these hours and the hours of these days, by start (ms). Raises Unavailable.

        Load the devices first, as for minutes.
        """
        return dict(zip(keys, self._each(lambda key: self._query_parts(key, retry=retry), keys), strict=True))

    def write(self, chunks: Sequence[Chunk], *, retry: Retry) -> dict[str, Written]:
        """Write at most one chunk of each device, several devices to a transaction; return the outcome by device."""
        written = {chunk.device: _COMMITTED for chunk in chunks if chunk.device_item is None}
        groups = list(_packed([chunk for chunk in chunks if chunk.device_item is not None]))
        for group_written in self._each(lambda group: self._write_group(group, retry=retry), groups):
            written |= group_written
        return written

    def _each(self, call: Callable[[T], R], values: Collection[T]) -> Iterable[R]:
        if self._pool is None or len(values) < 2:
            return map(call, values)
        if self._has_connected:
            return self._pool.map(call, values)
        # Two threads that connect first can crash the process: https://github.com/boto/botocore/issues/3164
        first, *others = values
        answer = call(first)
        self._has_connected = True
        return chain([answer], self._pool.map(call, others))

    def _load(self, table: str, keys: list[Item], *, retry: Retry) -> Iterable[Item]:
        pages = [keys[at : at + GET_KEYS] for at in range(0, len(keys), GET_KEYS)]
        return chain.from_iterable(self._each(lambda page: self._load_page(table, page, retry=retry), pages))

    def _load_page(self, table: str, keys: list[Item], *, retry: Retry) -> list[Item]:
        found: list[Item] = []

        def get() -> None:
            nonlocal keys
            answer = self._client.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
            found.extend(answer["Responses"].get(table, ()))
            keys = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
            if keys:
                raise Again(f"{len(keys)} keys of {table} were left unprocessed")

        try:
            retry.run(get)
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(f"reading {table}: {error}") from error
        return found

    def _query_parts(self, key: PeriodKey, *, retry: Retry) -> dict[int, Part]:
        name, level, start = key
        starts = part_buckets(level, start)
        buckets = list(starts)
        request: Item = {
            "TableName": self._readings_table,
            "ConsistentRead": True,
            "KeyConditionExpression": "#device = :device AND #bucket BETWEEN :first AND :last",
            "ProjectionExpression": ", ".join(f"#{attribute}" for attribute in PART_ATTRIBUTES),
            "ExpressionAttributeNames": {f"#{attribute}": attribute for attribute in ("device", *PART_ATTRIBUTES)},
            "ExpressionAttributeValues": {
                ":device": {"S": name},
                ":first": {"S": buckets[0]},
                ":last": {"S": buckets[-1]},
            },
        }
        parts: dict[int, Part] = {}
        try:
            while True:
                answer = retry.run(lambda: self._client.query(**request))
                for item in answer["Items"]:
                    at = starts[item["bucket"]["S"]]
                    parts[at] = parse_part(item, start=at)
                if not answer.get("LastEvaluatedKey"):
                    return parts
                request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(f"reading {self._readings_table}: {error}") from error

    def _write_group(self, group: list[Chunk], *, retry: Retry) -> dict[str, Written]:
        """Write the chunks of several devices; write them again without those that made DynamoDB cancel."""
        try:
            reasons = self._transact(group, retry=retry)
        except (Unavailable, BotoCoreError, ClientError) as error:
            if len(group) == 1 or not _is_invalid(error):
                return _all(group, Written(Verdict.FAILED, f"writing the tables: {error}"))
            # One chunk that DynamoDB rejects must not keep the others from being written.
            return {
                device: written
                for chunk in group
                for device, written in self._write_group([chunk], retry=retry).items()
            }
        written: dict[str, Written] = {}
        for chunk, codes in zip(group, reasons, strict=True):
            if codes:
                verdict = Verdict.CONFLICT if codes <= _CONFLICTS else Verdict.FAILED
                written[chunk.device] = Written(verdict, f"writing the tables: {', '.join(sorted(codes))}")
        innocent = [chunk for chunk in group if chunk.device not in written]
        if not written or not innocent:
            return _all(innocent, _COMMITTED) | written
        return written | self._write_group(innocent, retry=retry)

    def _transact(self, group: list[Chunk], *, retry: Retry) -> list[set[str]]:
        """Write a transaction; return for each chunk why DynamoDB cancelled it, nothing if it committed."""
        items = [operation for chunk in group for operation in self._operations(chunk)]
        # The same token on each attempt: one that committed, and whose answer was lost, is not checked again.
        token = f"{self._random.getrandbits(128):032x}"

        def transact() -> list[set[str]]:
            try:
                self._client.transact_write_items(TransactItems=items, ClientRequestToken=token)
            except ClientError as error:
                codes = [reason.get("Code") or "None" for reason in error.response.get("CancellationReasons", ())]
                if not codes:
                    raise
                if _THROTTLES.intersection(codes):
                    raise Again(f"the transaction was throttled: {error}") from error
                return _by_chunk(group, codes)
            return [set() for _ in group]

        return retry.run(transact)

    def _operations(self, chunk: Chunk) -> Iterator[Item]:
        put: Item = {
            "TableName": self._devices_table,
            "Item": msgspec.Raw(chunk.device_item or b"{}"),
            "ExpressionAttributeNames": {"#version": "version"},
            "ConditionExpression": "attribute_not_exists(#version)",
        }
        if chunk.expected_version is not None:
            put["ConditionExpression"] = "#version = :expected"
            put["ExpressionAttributeValues"] = {":expected": {"N": str(chunk.expected_version)}}
        yield {"Put": put}
        for item in chunk.items:
            yield {"Put": {"TableName": self._readings_table, "Item": msgspec.Raw(item)}}


def _packed(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """Group the chunks into transactions."""
    group: list[Chunk] = []
    items = size = 0
    for chunk in chunks:
        more = 1 + len(chunk.items)
        if group and (items + more > TRANSACTION_ITEMS or size + chunk.size > TRANSACTION_BYTES):
            yield group
            group, items, size = [], 0, 0
        group.append(chunk)
        items += more
        size += chunk.size
    if group:
        yield group


def _by_chunk(group: Sequence[Chunk], codes: Sequence[str]) -> list[set[str]]:
    """Split the codes by chunk, without `None`."""
    remaining = iter(codes)
    return [set(islice(remaining, 1 + len(chunk.items))) - {"None"} for chunk in group]


def _all(chunks: Sequence[Chunk], written: Written) -> dict[str, Written]:
    return {chunk.device: written for chunk in chunks}


def _is_invalid(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"] == "ValidationException"


_BODY = "sensor_processor_body"
_OPERATIONS = ("BatchGetItem", "Query", "TransactWriteItems")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def install_json_codec(client: Any) -> Any:
    """Make a DynamoDB client encode requests and decode answers with msgspec; return the client.

    botocore walks its model of an operation attribute by attribute, three times a call: to encode the request, to find
    the account id in it, and to decode the answer. The processor's items are DynamoDB JSON already, so three of
    botocore's event hooks replace that; endpoints, signing, connections and errors stay botocore's. Without this the
    processor needs twice as much CPU (docs/benchmarks.md).

    Binary attributes of answers are base64 text then, not bytes; `planning.items` accepts both. A botocore without
    `before-parse` decodes by itself.

    https://boto3.amazonaws.com/v1/documentation/api/latest/guide/events.html
    """
    events = client.meta.events
    for operation in _OPERATIONS:
        events.register(f"provide-client-params.dynamodb.{operation}", _encode_params)
        events.register_first(f"before-call.dynamodb.{operation}", _replace_body)
        events.register(f"before-parse.dynamodb.{operation}", _decode_body)
    return client


def _encode_params(*, params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Encode the parameters, and hand botocore the same ones empty, so that it has nothing to walk."""
    context[_BODY] = _encode(params)
    return {name: type(value)() for name, value in params.items() if isinstance(value, dict | list)}


def _replace_body(*, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    params["body"] = context.pop(_BODY)


def _decode_body(*, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    # Errors are left to botocore: their codes come in headers and in several spellings.
    if response_dict["status_code"] == 200:
        customized_response_dict.update(_decode(response_dict["body"]))
        response_dict["body"] = b"{}"
