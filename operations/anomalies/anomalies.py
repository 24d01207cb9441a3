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
    """Those of a thing (a query, cheap), or of all things (a scan, which reads the whole table)."""
    ends, worse = (
        {
            (item["device"]["S"], item["bucket"]["S"].removeprefix(prefix)): item
            for item in _items(client, table, prefix, thing=thing)
        }
        for prefix in (ENDED, ESCALATED)
    )
    for item in _items(client, table, PREFIX, thing=thing):
        if facility in (None, item["facility"]["S"]):
            key = item["device"]["S"], item["bucket"]["S"].removeprefix(PREFIX)
            yield _anomaly(item, ended=ends.get(key), escalated=worse.get(key))


def _items(client: Any, table: str, prefix: str, *, thing: str | None) -> Iterator[Mapping[str, Any]]:
    names = {"#bucket": "bucket"}
    values: dict[str, Any] = {":prefix": {"S": prefix}}
    arguments: dict[str, Any] = {"TableName": table, "ExpressionAttributeNames": names}
    if thing is None:
        operation, condition = "scan", "FilterExpression"
        arguments[condition] = "begins_with(#bucket, :prefix)"
    else:
        operation, condition = "query", "KeyConditionExpression"
        arguments[condition] = "#device = :device AND begins_with(#bucket, :prefix)"
        names["#device"] = "device"
        values[":device"] = {"S": thing}
    for page in client.get_paginator(operation).paginate(**arguments, ExpressionAttributeValues=values):
        yield from page["Items"]


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
