"""What the anomalies' topic is told of an event: made with the event's item, kept in the device's outbox until told."""

from __future__ import annotations

from typing import Any

import msgspec

from .items import Item

OUTBOX = 100
"""Notifications that a device item keeps, the newest: as many as one transaction writes, about 600 bytes each."""

SUBJECT_MAX = 99
"""Characters: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html"""

ATTRIBUTES = ("facility", "device_type", "metric", "severity", "kind")
"""What subscriptions may filter by."""

UNKNOWN = "unknown"


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One notification; its JSON is the message. Times are ISO 8601 in UTC.

    It may come more than once, each time the same: `event_id` tells them. `anomaly_id` is the one that
    `fleet anomalies ack` takes; escalation and end of an event have it from their beginning.
    """

    event_id: str
    kind: str
    severity: str
    text: str
    facility: str
    device_type: str
    thing: str
    metric: str
    detector: str
    value: float
    unit: str
    anomaly_id: str
    began_at: str
    ended_at: str | None = None
    score: float | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def notice_of(item: Item, *, kind: str, unit: str) -> str:
    """The notification of an event's item, as JSON."""
    thing, bucket = item["device"]["S"], item["bucket"]["S"]
    severity = item["severity"]["S"]
    notice = Notice(
        event_id=f"{thing}#{bucket}",
        kind=kind,
        severity=severity,
        text=f"{thing}: {item['reason']['S']}",
        facility=item["facility"]["S"],
        device_type=item["device_type"]["S"],
        thing=thing,
        metric=item["metric"]["S"],
        detector=item["detector"]["S"],
        value=float(item["value"]["N"]),
        unit=unit,
        anomaly_id=f"anomaly#{bucket.partition('#')[2]}",
        began_at=item["began_at" if "began_at" in item else "time"]["S"],
        ended_at=item["ended_at"]["S"] if "ended_at" in item else None,
        score=float(item["score"]["N"]) if "score" in item else None,
    )
    return _encode(notice).decode()


def entry_of(message: str, *, number: int) -> dict[str, Any]:
    """A notification as an entry of PublishBatch, whichever version of this program put it into the outbox."""
    try:
        said = _decode(message)
    except msgspec.DecodeError:
        said = {}
    known = {name: str(said.get(name) or UNKNOWN) for name in (*ATTRIBUTES, "thing")}
    subject = f"{known['severity']} {known['kind']}: {known['metric']} of {known['thing']}"
    return {
        "Id": str(number),
        "Message": message,
        "Subject": subject[:SUBJECT_MAX],
        "MessageAttributes": {name: {"DataType": "String", "StringValue": known[name]} for name in ATTRIBUTES},
    }
