"""Read anomalies from the readings table, and acknowledge and label them there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fleet_iot.lib.names import OPEN_ANOMALIES
from fleet_iot.sensor_processor.numbers.minute import minute_bucket
from fleet_iot.sensor_processor.planning.items import last_bucket

PREFIX = "anomaly#"
ENDED = "ended#"
ESCALATED = "escalated#"


TRUE, FALSE = "true", "false"
"""Labels: whether there was something that people had to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A person's verdict on an anomaly: TRUE or FALSE, and when (ISO 8601 in UTC)."""

    label: str
    by: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One anomaly; `id` is its range key, times are ISO 8601 in UTC.

    `severity` is the highest so far, `escalated_at` when it rose to that after the start. `ended_at` is None while the
    anomaly lasts, `acknowledged_by` until somebody acknowledges it. `label` is the last of `labels`, None where there
    is none. `regime` has the values of the other metrics that its value was expected from. `shelved_until` is set while
    it is not notified.
    """

    thing: str
    id: str
    facility: str
    device_type: str
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
    label: str | None
    labels: tuple[Label, ...]
    regime: Mapping[str, float]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """An anomaly was acknowledged; `before` are the labels that it had."""

    before: tuple[Label, ...]


def acknowledge(
    client: Any,
    table: str,
    *,
    thing: str,
    anomaly_id: str,
    by: str,
    note: str | None,
    now: datetime,
    label: str | None = None,
) -> Acknowledged | None:
    """Store who acknowledged an anomaly, in place of an earlier acknowledgement.

    A label, TRUE or FALSE, becomes the last one of its item; without one, a former label stays.

    Returns:
        What it had before, None where there is no such anomaly.
    """
    at = {"S": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
    changes = "SET acknowledged_by = :by, acknowledged_at = :at"
    names: dict[str, str] = {}
    values: dict[str, Any] = {":by": {"S": by}, ":at": at}
    if note:
        changes += ", note = :note"
        values[":note"] = {"S": note}
    if label:
        changes += ", #label = :label, #labels = list_append(if_not_exists(#labels, :none), :entry)"
        names = {"#label": "label", "#labels": "labels"}
        entry = {"label": {"S": label}, "by": {"S": by}, "at": at}
        values |= {":label": {"S": label}, ":none": {"L": []}, ":entry": {"L": [{"M": entry}]}}
    try:
        answer = client.update_item(
            TableName=table,
            Key={"device": {"S": thing}, "bucket": {"S": anomaly_id}},
            UpdateExpression=f"{changes} REMOVE open_facility, began",  # out of the index of open ones
            # Without it, a mistyped id would create an item.
            ConditionExpression="attribute_exists(detector)",
            ExpressionAttributeValues=values,
            ReturnValues="ALL_OLD",
            **({"ExpressionAttributeNames": names} if names else {}),
        )
    except client.exceptions.ConditionalCheckFailedException:
        return None
    return Acknowledged(before=_labels(answer["Attributes"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """An anomaly, the metrics that joined it, each with since when and why, and how others of its type were then.

    `neighbours` are the means of its metric in the newest minute of other things up to its begin.
    """

    anomaly: Anomaly
    joined: tuple[tuple[str, str, str], ...]
    neighbours: Mapping[str, float]


NEIGHBOURS = 20
"""Things that an anomaly is compared with at most, those beside its own in the record: one query each."""

NEAR = timedelta(minutes=15)
"""How old a neighbour's minute may be."""


def explain(
    client: Any, table: str, *, thing: str, anomaly_id: str, others: Callable[[Anomaly], Iterable[str]]
) -> Explained | None:
    """Read an anomaly with what belongs to it, None where there is none.

    Args:
        client: Of DynamoDB.
        table: Of readings.
        thing: Its thing.
        anomaly_id: Its range key.
        others: Finds the things of its type and plant, in the order of the record.
    """
    item = client.get_item(TableName=table, Key={"device": {"S": thing}, "bucket": {"S": anomaly_id}}).get("Item")
    if item is None or "detector" not in item:
        return None
    rest = anomaly_id.removeprefix(PREFIX)
    followed = _followed(client, table, [item])
    found = _anomaly(item, ended=followed.get((ENDED, thing, rest)), escalated=followed.get((ESCALATED, thing, rest)))
    joined = client.query(
        TableName=table,
        KeyConditionExpression="#device = :device AND begins_with(#bucket, :prefix)",
        ExpressionAttributeNames={"#device": "device", "#bucket": "bucket"},
        ExpressionAttributeValues={":device": item["device"], ":prefix": {"S": f"{ESCALATED}{rest}#"}},
    )["Items"]
    near = {name: _near(client, table, name, found) for name in beside(others(found), thing, most=NEIGHBOURS)}
    return Explained(
        anomaly=found,
        joined=tuple((each["metric"]["S"], each["time"]["S"], each["reason"]["S"]) for each in joined),
        neighbours={name: value for name, value in near.items() if value is not None},
    )


def beside(names: Iterable[str], name: str, *, most: int) -> list[str]:
    """Return up to `most` names around one, half of them before it where there are so many on both sides."""
    before: deque[str] = deque(maxlen=most)
    after: list[str] = []
    is_past = False
    for each in names:
        if each == name:
            is_past = True
        elif not is_past:
            before.append(each)
        else:
            after.append(each)
            if len(after) == most:
                break
    after = after[: max(most // 2, most - len(before))]
    return [*before, *after][-most:]


def _near(client: Any, table: str, thing: str, anomaly: Anomaly) -> float | None:
    """Read the mean of an anomaly's metric at another thing, in the newest minute up to its begin."""
    until = datetime.fromisoformat(anomaly.time)
    first, last = (minute_bucket(round(each.timestamp() * 1000)) for each in (until - NEAR, until))
    items = client.query(
        TableName=table,
        KeyConditionExpression="#device = :device AND #bucket BETWEEN :first AND :last",
        ExpressionAttributeNames={"#device": "device", "#bucket": "bucket"},
        ExpressionAttributeValues={":device": {"S": thing}, ":first": {"S": first}, ":last": {"S": last_bucket(last)}},
        ScanIndexForward=False,
        Limit=1,  # the highest revision sorts last
    )["Items"]
    numbers = items[0]["metrics"]["M"].get(anomaly.metric, {}).get("M") if items else None
    return float(numbers["sum"]["N"]) / int(numbers["count"]["N"]) if numbers else None


def read_begins(client: Any, table: str, *, thing: str, since: datetime) -> tuple[list[Mapping[str, Any]], float]:
    """Read the items of a thing's anomalies that began since, by a query; return them and the read units it cost."""
    items: list[Mapping[str, Any]] = []
    units = 0.0
    pages = client.get_paginator("query").paginate(
        TableName=table,
        KeyConditionExpression="#device = :device AND #bucket BETWEEN :first AND :last",
        ProjectionExpression="facility, device_type, detector, #bucket, acknowledged_by, #label",
        ExpressionAttributeNames={"#device": "device", "#bucket": "bucket", "#label": "label"},
        ExpressionAttributeValues={
            ":device": {"S": thing},
            ":first": {"S": f"{PREFIX}{since:%Y-%m-%dT%H:%M:%S}"},
            ":last": {"S": f"{PREFIX}~"},
        },
        ReturnConsumedCapacity="TOTAL",
    )
    for page in pages:
        items += page["Items"]
        units += page.get("ConsumedCapacity", {}).get("CapacityUnits", 0.0)
    return items, units


def _anomaly(
    item: Mapping[str, Any], *, ended: Mapping[str, Any] | None, escalated: Mapping[str, Any] | None
) -> Anomaly:
    def text(name: str) -> str | None:
        return item[name]["S"] if name in item else None

    return Anomaly(
        thing=item["device"]["S"],
        id=item["bucket"]["S"],
        facility=item["facility"]["S"],
        device_type=item["device_type"]["S"],
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
        label=text("label"),
        labels=_labels(item),
        regime={name: float(value["N"]) for name, value in item.get("regime", {"M": {}})["M"].items()},
    )


def _labels(item: Mapping[str, Any]) -> tuple[Label, ...]:
    entries = (entry["M"] for entry in item.get("labels", {"L": []})["L"])
    return tuple(Label(label=each["label"]["S"], by=each["by"]["S"], at=each["at"]["S"]) for each in entries)
