"""Read anomalies from the readings table, and acknowledge them there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleet_iot.lib.names import OPEN_ANOMALIES

PREFIX = "anomaly#"
ENDED = "ended#"
ESCALATED = "escalated#"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One anomaly; `id` is its range key, times are ISO 8601 in UTC.

    `severity` is the highest so far, `escalated_at` when it rose to that after the start. `ended_at` is None while the
    anomaly lasts, `acknowledged_by` until somebody acknowledges it. `shelved_until` is set while it is not notified.
    """

    thing: str
    id: str
    facility: str
    metric: str
    value: float
    detector: str
    severity: str
    score: float
    reason: str
    time: str
    escalated_at: str | None
    ended_at: str | None
    acknowledged_by: str | None
    acknowledged_at: str | None
    note: str | None
    shelved_until: str | None = None


def read_open(client: Any, table: str, *, facilities: Iterable[str]) -> Iterator[Anomaly]:
    """Read the unacknowledged anomalies of plants by their index, with their escalations and ends."""
    for facility in facilities:
        pages = client.get_paginator("query").paginate(
            TableName=table,
            IndexName=OPEN_ANOMALIES,
            KeyConditionExpression="open_facility = :facility",
            ExpressionAttributeValues={":facility": {"S": facility}},
        )
        for page in pages:
            items = page["Items"]
            followed = _followed(client, table, items)
            for item in items:
                place = item["device"]["S"], item["bucket"]["S"].removeprefix(PREFIX)
                yield _anomaly(item, ended=followed.get((ENDED, *place)), escalated=followed.get((ESCALATED, *place)))


def _followed(client: Any, table: str, items: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], Any]:
    """Read the escalations and ends of anomalies, by prefix, thing and the rest of their range keys."""
    keys = [
        {"device": item["device"], "bucket": {"S": prefix + item["bucket"]["S"].removeprefix(PREFIX)}}
        for item in items
        for prefix in (ENDED, ESCALATED)
    ]
    found = {}
    while keys:
        answer = client.batch_get_item(RequestItems={table: {"Keys": keys[:100]}})
        for item in answer["Responses"].get(table, ()):
            prefix, hash_, rest = item["bucket"]["S"].partition("#")
            found[prefix + hash_, item["device"]["S"], rest] = item
        keys = [*answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", ()), *keys[100:]]
    return found


def read_anomalies(
    client: Any, table: str, *, thing: str | None = None, facility: str | None = None
) -> Iterator[Anomaly]:
    """Read the anomalies of a thing (by queries), or of all things (by a scan of the whole table).

    `read_open` reads the unacknowledged ones without a scan.
    """
    found: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {prefix: {} for prefix in (PREFIX, ESCALATED, ENDED)}
    for item in _items(client, table, thing=thing):
        prefix, separator, key = item["bucket"]["S"].partition("#")
        found[prefix + separator][item["device"]["S"], key] = item
    for place, item in found[PREFIX].items():
        if facility in (None, item["facility"]["S"]):
            yield _anomaly(item, ended=found[ENDED].get(place), escalated=found[ESCALATED].get(place))


def _items(client: Any, table: str, *, thing: str | None) -> Iterator[Mapping[str, Any]]:
    prefixes = {f":{prefix[:-1]}": {"S": prefix} for prefix in (PREFIX, ESCALATED, ENDED)}
    names = {"#bucket": "bucket"}
    if thing is None:
        pages = client.get_paginator("scan").paginate(
            TableName=table,
            FilterExpression=" OR ".join(f"begins_with(#bucket, {name})" for name in prefixes),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=prefixes,
        )
        yield from (item for page in pages for item in page["Items"])
        return
    for name, prefix in prefixes.items():
        pages = client.get_paginator("query").paginate(
            TableName=table,
            KeyConditionExpression=f"#device = :device AND begins_with(#bucket, {name})",
            ExpressionAttributeNames=names | {"#device": "device"},
            ExpressionAttributeValues={name: prefix, ":device": {"S": thing}},
        )
        yield from (item for page in pages for item in page["Items"])


def acknowledge(
    client: Any, table: str, *, thing: str, anomaly_id: str, by: str, note: str | None, now: datetime
) -> bool:
    """Store who acknowledged an anomaly, in place of an earlier acknowledgement. Return False where there is none."""
    changes = "SET acknowledged_by = :by, acknowledged_at = :at"
    values: dict[str, Any] = {":by": {"S": by}, ":at": {"S": now.strftime("%Y-%m-%dT%H:%M:%SZ")}}
    if note:
        changes += ", note = :note"
        values[":note"] = {"S": note}
    try:
        client.update_item(
            TableName=table,
            Key={"device": {"S": thing}, "bucket": {"S": anomaly_id}},
            UpdateExpression=f"{changes} REMOVE open_facility, began",  # out of the index of open ones
            # Without it, a mistyped id would create an item.
            ConditionExpression="attribute_exists(detector)",
            ExpressionAttributeValues=values,
        )
    except client.exceptions.ConditionalCheckFailedException:
        return False
    return True


def _anomaly(
    item: Mapping[str, Any], *, ended: Mapping[str, Any] | None, escalated: Mapping[str, Any] | None
) -> Anomaly:
    def text(name: str) -> str | None:
        return item[name]["S"] if name in item else None

    return Anomaly(
        thing=item["device"]["S"],
        id=item["bucket"]["S"],
        facility=item["facility"]["S"],
        metric=item["metric"]["S"],
        value=float(item["value"]["N"]),
        detector=item["detector"]["S"],
        severity=text("severity") or "warning" if escalated is None else escalated["severity"]["S"],
        score=float(item["score"]["N"]),
        reason=item["reason"]["S"],
        time=item["time"]["S"],
        escalated_at=None if escalated is None else escalated["time"]["S"],
        # An anomaly in late readings had ended before it was published, so its own item has the end.
        ended_at=text("ended_at") if ended is None else ended["ended_at"]["S"],
        acknowledged_by=text("acknowledged_by"),
        acknowledged_at=text("acknowledged_at"),
        note=text("note"),
    )
