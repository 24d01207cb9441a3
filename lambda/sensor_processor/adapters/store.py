"""The DynamoDB tables of readings and devices: consistent reads of what a lane's state lacks, writes of its outbox."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from ..ingest.codec import encode_base64
from ..numbers.minute import MINUTE_MS, minute_bucket
from ..numbers.period import DAY_MS, HOUR_MS, Level, Period, day_of, hour_of, period_bucket, sum_parts
from ..planning.items import (
    PART_ATTRIBUTES,
    TAKEN,
    Device,
    Item,
    base_bucket,
    device_key,
    highest_revisions,
    last_bucket,
    parse_device,
    parse_minute,
    parse_part,
    parse_period,
)
from ..planning.lane import Outbox
from ..planning.planner import Stored, Wanted, described_newest, newest_of
from . import Again, Retry, Threads, Unavailable
from .conditional import code_of, update_if

GET_KEYS = 100
"""Keys in one BatchGetItem: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html"""

WRITE_ITEMS = 25
"""Items in one BatchWriteItem: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html"""

Refused = Callable[[bytes, str], None]
"""Takes an item that DynamoDB refuses for ever, and why; raises Unavailable if it cannot keep it."""


def _is_device(item: Item, strange: Callable[[str], None]) -> bool:
    try:
        parse_device(item)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        strange(f"the item of {item['device']['S']} cannot be read and is replaced: {error!r}")
        return False
    return True


class Store:
    """The two tables, through a low-level client."""

    def __init__(self, *, client: Any, readings_table: str, devices_table: str, threads: int = 1) -> None:
        self._client = client
        self._readings_table = readings_table
        self._devices_table = devices_table
        self._threads = Threads(threads)

    # Reads.

    def load_devices(
        self, names: Collection[str], *, strange: Callable[[str], None], retry: Retry
    ) -> dict[str, Device]:
        """Load the devices of these names that exist. Raises Unavailable.

        `strange` gets a note for each item that no processor can have written; it counts as none, and is replaced. A
        device that version 0.3.0 wrote is taken over: its detectors move to another attribute and its version goes up
        by one, so a process of that version which is still running fails, and its records come again.
        """
        keys = [device_key(name) for name in names]
        pages = [keys[at : at + GET_KEYS] for at in range(0, len(keys), GET_KEYS)]
        items = chain.from_iterable(self._threads.map(lambda page: self._load_page(page, retry=retry), pages))
        found = [item for item in items if _is_device(item, strange)]
        fenced = list(self._threads.map(lambda item: self._fenced(item, retry=retry), found))
        return {device.name: device for device in map(parse_device, fenced)}

    def _load_page(self, keys: list[Item], *, retry: Retry) -> list[Item]:
        table = self._devices_table
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

    def _fenced(self, item: Item, *, retry: Retry) -> Item:
        """Take an item of version 0.3.0 over; return it as it is then."""
        while "detectors" in item:
            is_taken = self._update_device(
                item["device"]["S"],
                changes="SET #version = :next, #taken = :detectors REMOVE #detectors",
                condition="#version = :version AND attribute_exists(#detectors)",
                names={"#version": "version", "#taken": TAKEN, "#detectors": "detectors"},
                values={
                    ":version": item["version"],
                    ":next": {"N": str(int(item["version"]["N"]) + 1)},
                    ":detectors": _wire(item["detectors"]),
                },
                retry=retry,
            )
            if is_taken:
                return item
            found = self._load_page([device_key(item["device"]["S"])], retry=retry)
            if not found:
                break
            item = found[0]
        return item

    def load_open(self, devices: Sequence[Device], *, retry: Retry) -> list[tuple[list[Period], list[Period]]]:
        """Sum each device's hours and days from its newest reading on, which may have no item. Raises Unavailable."""

        def load(device: Device) -> tuple[list[Period], list[Period]]:
            first, last = described_newest(device), newest_of(device)
            hours = [self._sum(device, Level.HOUR, start, retry) for start in sorted({hour_of(first), hour_of(last)})]
            days = [self._sum(device, Level.DAY, start, retry) for start in sorted({day_of(first), day_of(last)})]
            return [each for each in hours if each], [each for each in days if each]

        return list(self._threads.map(load, devices))

    def _sum(self, device: Device, level: Level, start: int, retry: Retry) -> Period | None:
        """Sum the stored minutes of an hour, or the stored hours of a day; None where there are none."""
        if level is Level.HOUR:
            starts = {minute_bucket(at): at for at in range(start, start + HOUR_MS, MINUTE_MS)}
        else:
            starts = {period_bucket(Level.HOUR, at): at for at in range(start, start + DAY_MS, HOUR_MS)}
        first, *_, last = starts
        items = self._query(device.name, first, last, attributes=PART_ATTRIBUTES, retry=retry)
        parts = [parse_part(item, start=starts[base_bucket(item["bucket"]["S"])]) for item in items]
        return sum_parts(level, parts, device=device.name, start=start) if parts else None

    def load_stored(self, wanted: Mapping[str, Wanted], outbox: Outbox, *, retry: Retry) -> dict[str, Stored]:
        """Load the highest revision of what each device wants, from `outbox` or else the table. Raises Unavailable.

        The outbox is of the lane's committed state, read before: what has left the state is in it, or in the table.
        """
        waiting = _latest(outbox) if outbox.items and wanted else {}
        keys: list[tuple[str, str, int]] = []
        for name, each in wanted.items():
            keys += [(name, minute_bucket(start), start) for start in each.minutes]
            keys += [(name, period_bucket(Level.HOUR, start), start) for start in each.hours]
            keys += [(name, period_bucket(Level.DAY, start), start) for start in each.days]
        missing = [key for key in keys if key[:2] not in waiting]
        runs = self._threads.map(lambda key: self._query(key[0], key[1], key[1], retry=retry), missing)
        found = waiting | {key[:2]: items[0] for key, items in zip(missing, runs, strict=True) if items}
        stored = {name: Stored() for name in wanted}
        for name, bucket, start in keys:
            item = found.get((name, bucket))
            if item is None:
                continue
            kind = bucket.partition("#")[0]
            if kind == "minute":
                stored[name].minutes[start] = parse_minute(item, start=start)
            elif kind == "hour":
                stored[name].hours[start] = parse_period(item, level=Level.HOUR, start=start)
            else:
                stored[name].days[start] = parse_period(item, level=Level.DAY, start=start)
        return stored

    def _query(
        self, device: str, first: str, last: str, *, attributes: Sequence[str] = (), retry: Retry
    ) -> list[Mapping[str, Any]]:
        """Read the highest revision of each item from one range key to another."""
        request: Item = {
            "TableName": self._readings_table,
            "ConsistentRead": True,
            "KeyConditionExpression": "#device = :device AND #bucket BETWEEN :first AND :last",
            "ExpressionAttributeNames": {f"#{name}": name for name in {"device", "bucket", *attributes}},
            "ExpressionAttributeValues": {
                ":device": {"S": device},
                ":first": {"S": first},
                ":last": {"S": last_bucket(last)},
            },
        }
        if attributes:
            request["ProjectionExpression"] = ", ".join(f"#{attribute}" for attribute in attributes)
        if first == last:
            request |= {"ScanIndexForward": False, "Limit": 1}
        items: list[Mapping[str, Any]] = []
        try:
            while True:
                answer = retry.run(lambda: self._client.query(**request))
                items += answer["Items"]
                if first == last or not answer.get("LastEvaluatedKey"):
                    return highest_revisions(items)
                request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(f"reading {self._readings_table}: {error}") from error

    # Writes.

    def put_events(self, begins: Sequence[bytes], *, refused: Refused, retry: Retry) -> tuple[list[bytes], set[str]]:
        """Write items of begun events where there are none yet; return those left, and why."""
        return _left(begins, self._threads.map(lambda item: self._put_event(item, refused, retry=retry), begins))

    def _put_event(self, item: bytes, refused: Refused, *, retry: Retry) -> str | None:
        def put() -> None:
            try:
                self._client.put_item(
                    TableName=self._readings_table,
                    Item=msgspec.Raw(item),
                    ConditionExpression="attribute_not_exists(#bucket)",
                    ExpressionAttributeNames={"#bucket": "bucket"},
                )
            except ClientError as error:
                # It is there, perhaps with an acknowledgement.
                if code_of(error) != "ConditionalCheckFailedException":
                    raise

        return _attempt(lambda: retry.run(put), item, refused)

    def put_items(self, items: Sequence[bytes], *, refused: Refused, retry: Retry) -> tuple[list[bytes], set[str]]:
        """Write items that have their content for ever; return those left, and why."""
        pages = [items[at : at + WRITE_ITEMS] for at in range(0, len(items), WRITE_ITEMS)]
        left: list[bytes] = []
        faults: set[str] = set()
        for rest, fault in self._threads.map(lambda page: self._put_page(page, refused, retry=retry), pages):
            left += rest
            faults |= fault
        return left, faults

    def _put_page(self, items: Sequence[bytes], refused: Refused, *, retry: Retry) -> tuple[list[bytes], set[str]]:
        table = self._readings_table
        requests: list[Any] = [{"PutRequest": {"Item": msgspec.Raw(item)}} for item in items]

        def put() -> None:
            nonlocal requests
            answer = self._client.batch_write_item(RequestItems={table: requests})
            requests = answer.get("UnprocessedItems", {}).get(table, [])
            if requests:
                raise Again(f"{len(requests)} items of {table} were left unprocessed")

        try:
            retry.run(put)
        except (Unavailable, BotoCoreError, ClientError) as error:
            if not _is_invalid(error):
                # Which of them are written is not known: all of them are written again, with the same bytes.
                return list(items), {f"writing {table}: {error}"}
            if len(items) == 1:
                return _left(items, [_attempt(_raising(error), items[0], refused)])
            halves = [self._put_page(part, refused, retry=retry) for part in _halves(items)]
            return halves[0][0] + halves[1][0], halves[0][1] | halves[1][1]
        return [], set()

    def put_devices(
        self, devices: Sequence[tuple[str, bytes]], *, refused: Refused, retry: Retry
    ) -> tuple[list[tuple[str, bytes]], set[str]]:
        """Describe devices, unless a later version has; return those left, and why."""
        return _left(devices, self._threads.map(lambda each: self._put_device(*each, refused, retry=retry), devices))

    def _put_device(self, name: str, encoded: bytes, refused: Refused, *, retry: Retry) -> str | None:
        attributes = _decode(encoded)
        changes = ", ".join(f"#{each} = :{each}" for each in attributes)

        def put() -> None:
            self._update_device(
                name,
                changes=f"SET {changes} REMOVE #detectors, #outbox, #taken",
                condition="attribute_not_exists(#version) OR #version < :version",
                names={f"#{each}": each for each in attributes}
                | {"#detectors": "detectors", "#outbox": "outbox", "#taken": TAKEN},
                values={f":{each}": value for each, value in attributes.items()},
                retry=retry,
            )

        return _attempt(put, encoded, refused)

    def _update_device(
        self, name: str, *, changes: str, condition: str, names: Item, values: Item, retry: Retry
    ) -> bool:
        try:
            return update_if(
                self._client,
                retry=retry,
                TableName=self._devices_table,
                Key=device_key(name),
                UpdateExpression=changes,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
            )
        except (BotoCoreError, ClientError) as error:
            if _is_invalid(error):
                raise
            raise Unavailable(f"writing {self._devices_table}: {error}") from error


def _latest(outbox: Outbox) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return the highest revision of each minute, hour and day in an outbox, by device and first range key."""
    items = sorted(map(_decode, outbox.items), key=lambda item: str(item["bucket"]["S"]))
    return {(item["device"]["S"], base_bucket(item["bucket"]["S"])): item for item in items}


def _attempt(put: Callable[[], object], item: bytes, refused: Refused) -> str | None:
    """Write an item; return why it is left, or None if it is written or was refused for ever and kept elsewhere."""
    try:
        put()
    except (Unavailable, BotoCoreError, ClientError) as error:
        if not _is_invalid(error):
            return str(error)
        try:
            refused(item, str(error))
        except Unavailable as fault:
            return str(fault)
    return None


T = Any


def _left(values: Sequence[T], faults: Iterable[str | None]) -> tuple[list[T], set[str]]:
    """Return the values that have a fault, and the faults."""
    pairs = [(value, fault) for value, fault in zip(values, faults, strict=True) if fault is not None]
    return [value for value, _ in pairs], {fault for _, fault in pairs}


def _halves(items: Sequence[bytes]) -> tuple[Sequence[bytes], Sequence[bytes]]:
    return items[: len(items) // 2], items[len(items) // 2 :]


def _raising(error: Exception) -> Callable[[], None]:
    def put() -> None:
        raise error

    return put


def _wire(value: Mapping[str, Any]) -> Item:
    """Return a binary attribute as it is sent: base64 text."""
    content = value["B"]
    return {"B": content if isinstance(content, str) else encode_base64(content)}


def _is_invalid(error: Exception) -> bool:
    return code_of(error) == "ValidationException"


_BODY = "sensor_processor_body"
_OPERATIONS = ("BatchGetItem", "BatchWriteItem", "GetItem", "PutItem", "Query", "UpdateItem")

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
