"""Notifications of anomaly events: made with the event's item, kept in the device's outbox until published."""

from __future__ import annotations

from typing import Any

import msgspec

from ..detection import BEGIN, END, ESCALATED
from .items import DeviceEvent, iso

OUTBOX = 100
"""Notifications that a device item keeps, the newest: as many as one transaction writes, about 600 bytes each."""

SUBJECT_MAX = 99
"""Characters of a subject: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html"""

ATTRIBUTES = ("facility", "device_type", "metric", "severity", "kind")
"""Message attributes, for filter policies of subscriptions."""

UNKNOWN = "unknown"

_VERBS = {BEGIN: "started", ESCALATED: "escalated", END: "ended"}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One notification; its JSON is the message. Times are ISO 8601 in UTC.

    It may be delivered more than once, with the same `event_id`. `anomaly_id` is the argument of `fleet anomalies ack`;
    escalation and end of an event have that of its begin.
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


def notice_of(event: DeviceEvent, *, unit: str) -> str:
    """Make the notification of an event, as JSON."""
    finding = event.finding
    notice = Notice(
        event_id=f"{event.device}#{event.bucket}",
        kind=finding.kind,
        severity=finding.severity,
        text=f"{event.device}: {event.reason}",
        facility=event.facility,
        device_type=event.device_type,
        thing=event.device,
        metric=finding.metric,
        detector=finding.detector,
        value=float(finding.value),
        unit=unit,
        anomaly_id=f"anomaly#{event.id}",
        began_at=event.began_at,
        ended_at=None if finding.ended is None else iso(finding.ended),
        score=None if finding.kind == END else round(finding.score, 3),
    )
    return _encode(notice).decode()


def entry_of(message: str, *, number: int) -> dict[str, Any]:
    """Make the PublishBatch entry of a notification in an outbox, whichever version of this program wrote it."""
    try:
        content = _decode(message)
    except msgspec.DecodeError:
        content = {}
    known = {name: str(content.get(name) or UNKNOWN) for name in (*ATTRIBUTES, "thing")}
    return {
        "Id": str(number),
        "Message": message,
        "Subject": _subject(known),
        "MessageAttributes": {name: {"DataType": "String", "StringValue": known[name]} for name in ATTRIBUTES},
    }


def _subject(known: dict[str, str]) -> str:
    """Format `[WARNING] sg-01-press-monitor-0001-dev: temperature anomaly started`; a long thing name is cut."""
    before, thing = f"[{known['severity'].upper()}] ", known["thing"]
    after = f": {known['metric']} anomaly {_VERBS.get(known['kind'], known['kind'])}"
    room = SUBJECT_MAX - len(before) - len(after)
    if len(thing) > room:
        thing = f"{thing[: max(room - 3, 0)]}..."
    return f"{before}{thing}{after}".encode("ascii", "replace").decode()[:SUBJECT_MAX]
