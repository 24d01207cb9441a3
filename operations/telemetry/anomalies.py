"""Anomalies as the readings table holds them: read by thing or all, and acknowledged where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

PREFIX = "anomaly#"
ENDED = "ended#"
ESCALATED = "escalated#"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One anomaly; `id` is its range key, times are ISO 8601 in UTC. Who has acknowledged it, or nobody yet.

    `severity` is the worst of it, `escalated_at` when it came to that after its beginning. `ended_at` is when all was
    as usual again, None as long as it runs.
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


def anomalies(client: Any, table: str, *, thing: str | None = None, facility: str | None = None) -> Iterator[Anomaly]:
    """Those of a thing (queries, cheap), or of all things (a scan, which reads the whole table once)."""
    held: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {prefix: {} for prefix in (PREFIX, ESCALATED, ENDED)}
    for item in _items(client, table, thing=thing):
        prefix, separator, key = item["bucket"]["S"].partition("#")
        held[prefix + separator][item["device"]["S"], key] = item
    for place, item in held[PREFIX].items():
        if facility in (None, item["facility"]["S"]):
            yield _anomaly(item, ended=held[ENDED].get(place), escalated=held[ESCALATED].get(place))


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
    """Notes who has seen an anomaly; whether there is one. Done again, the last one stands."""
    changes = "SET acknowledged_by = :by, acknowledged_at = :at"
    values: dict[str, Any] = {":by": {"S": by}, ":at": {"S": now.strftime("%Y-%m-%dT%H:%M:%SZ")}}
    if note:
        changes += ", note = :note"
        values[":note"] = {"S": note}
    try:
        client.update_item(
            TableName=table,
            Key={"device": {"S": thing}, "bucket": {"S": anomaly_id}},
            UpdateExpression=changes,
            # Without it, an id with a slip in it would become an item of its own.
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
        # What came late had ended when it was told, and its own item says so.
        ended_at=text("ended_at") if ended is None else ended["ended_at"]["S"],
        acknowledged_by=text("acknowledged_by"),
        acknowledged_at=text("acknowledged_at"),
        note=text("note"),
    )
