"""Convert devices, minutes, periods and events to DynamoDB items and back, and make the notification of an event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Any

import msgspec

from ..detection import BEGIN, END, ESCALATED, Finding
from ..ingest.codec import decode_base64
from ..ingest.reading import MAX_METRICS
from ..numbers.exact import decimal_text, number_text, steps_of
from ..numbers.minute import MetricAggregate, Minute, Totals, minute_bucket, pack_ids, unpack_conflicts, unpack_ids
from ..numbers.period import DAY_MS, HOUR_MS, Level, Part, Period, period_bucket
from ..numbers.sketch import ITEM_BINS, MINUTE_BINS, Sketch

Item = dict[str, Any]
"""Attribute name to typed value, in the form of DynamoDB's low-level client."""

QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99}
"""Rank of each quantile in the items of hours and days, by attribute; others can be had from the sketch."""

PART_ATTRIBUTES = ("bucket", "facility", "device_type", "messages", "late", "metrics")
"""Attributes that `parse_part` reads."""

TAKEN = "taken"
"""Attribute with the detectors of version 0.3.0 from when a lane takes the device over until it has described it."""

_DAY_S = 24 * 60 * 60

REDELIVERY_DAYS = 8
"""The stream's retention of 7 days, in which a record may come again, and one to spare."""

_PREFIXES = {BEGIN: "anomaly", ESCALATED: "escalated", END: "ended"}
_PARTS = {Level.HOUR: "minutes", Level.DAY: "hours"}

_NUMBER = Context(prec=38, rounding=ROUND_HALF_EVEN)
"""DynamoDB's numbers have 38 digits; sums of minutes always fit, those of a day beyond 1e12 may have more."""

_MEAN = Context(prec=17)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Days until each kind of item in the readings table expires, from the time it is about."""

    minutes: int
    hours: int
    days: int
    anomalies: int

    @property
    def max_age(self) -> int:
        """Return how old (ms) a reading may be when the stream accepts it.

        Its minute and hour must still be there, and outlive the last redelivery of the record: their ids recognise it,
        and their sums are added to.
        """
        return (min(self.minutes, self.hours) - REDELIVERY_DAYS) * _DAY_S * 1000


class Device(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A thing in the devices table, described for people and programs; times are in ms.

    Contacts are arrival times. `newest_reading` is device time: no minute begins after it. `version` is that of the
    lane whose state it is from. `detectors` and `outbox` are of items that version 0.3.0 wrote.
    """

    name: str
    facility: str
    device_type: str
    certificate_id: str
    first_contact: int
    last_contact: int
    newest_reading: int | None = None
    version: int
    messages: int
    last_sequence: int | None
    detectors: bytes | None = None
    outbox: tuple[str, ...] = ()


class DeviceEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A finding in a reading of `time` (ms) of a device: becomes an item and a notification."""

    finding: Finding
    device: str
    facility: str
    device_type: str
    time: int

    @property
    def at(self) -> int:
        """Return the time (ms) of the reading that it was found in."""
        return self.time if self.finding.time is None else self.finding.time

    @property
    def began_at(self) -> str:
        """Beginning of the event."""
        return iso(self.at if self.finding.began is None else self.finding.began)

    @property
    def id(self) -> str:
        """Identify the event among those of its device; its begin, escalation and end have the same."""
        finding = self.finding
        return f"{self.began_at}#{finding.of or finding.metric}#{finding.detector}{finding.mark}"

    @property
    def bucket(self) -> str:
        """Range key of its item. An event that comes to include other metrics escalates once for each of them."""
        bucket = f"{_PREFIXES[self.finding.kind]}#{self.id}"
        return f"{bucket}#{self.finding.metric}" if self.finding.of else bucket

    @property
    def reason(self) -> str:
        """Reason and time for operators."""
        finding = self.finding
        if finding.kind == END:
            return f"{finding.reason}, after {_duration((finding.ended or self.at) - (finding.began or self.at))}"
        began = self.began_at
        return f"{finding.reason}, since {began[:10]} {began[11:19]} UTC"


def device_key(name: str) -> Item:
    """Make the key of a device item."""
    return {"device": {"S": name}}


def revision_bucket(bucket: str, revision: int) -> str:
    """Return the range key of a later revision of a minute, hour or day; the first one has none.

    Revisions sort by number after the first one, and before the next minute, hour or day.
    """
    return f"{bucket}#{revision:015d}" if revision else bucket


def base_bucket(bucket: str) -> str:
    """Return the range key of the first revision of a minute, hour or day."""
    return "#".join(bucket.split("#", 2)[:2])


def last_bucket(bucket: str) -> str:
    """Return the end of the range of a minute's, hour's or day's revisions."""
    return f"{bucket}#~"


def highest_revisions(items: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Keep the highest revision of each minute, hour and day of a device's items, which are in order of their keys."""
    return list({base_bucket(item["bucket"]["S"]): item for item in items}.values())


def device_item(device: Device) -> Item:
    """Make the attributes of a device item, without its key."""
    item: Item = {
        "facility": {"S": device.facility},
        "device_type": {"S": device.device_type},
        "certificate_id": {"S": device.certificate_id},
        "first_contact": {"S": iso(device.first_contact)},
        "last_contact": {"S": iso(device.last_contact)},
        "version": {"N": str(device.version)},
        "messages": {"N": str(device.messages)},
    }
    if device.newest_reading is not None:
        item["newest_reading"] = {"S": iso(device.newest_reading)}
    if device.last_sequence is not None:
        item["last_sequence"] = {"N": str(device.last_sequence)}
    return item


def parse_device(item: Mapping[str, Any]) -> Device:
    """Parse a device item; detectors of version 0.3.0 are under another name once a lane has taken the device over."""
    detectors = item.get("detectors") or item.get(TAKEN)
    return Device(
        name=item["device"]["S"],
        facility=item["facility"]["S"],
        device_type=item["device_type"]["S"],
        certificate_id=item["certificate_id"]["S"],
        first_contact=_milliseconds(item["first_contact"]["S"]),
        last_contact=_milliseconds(item["last_contact"]["S"]),
        newest_reading=_milliseconds(item["newest_reading"]["S"]) if "newest_reading" in item else None,
        version=int(item["version"]["N"]),
        messages=int(item["messages"]["N"]),
        last_sequence=int(item["last_sequence"]["N"]) if "last_sequence" in item else None,
        detectors=binary(detectors) if detectors else None,
        outbox=tuple(message["S"] for message in item["outbox"]["L"]) if "outbox" in item else (),
    )


def minute_item(minute: Minute, *, revision: int, retention_days: int) -> Item:
    """Make the item of a minute's revision; 0 for the first one.

    `newest` is the rank of the reading that most `last` values came from, `orders` has the rank of the others: needed
    to decide later whether another reading is newer.
    """
    metrics = minute.metrics
    newest = max([metric.last_order for metric in metrics.values()], default=0)
    orders = {name: {"N": str(each.last_order)} for name, each in sorted(metrics.items()) if each.last_order != newest}
    item: Item = {
        "device": {"S": minute.device},
        "bucket": {"S": revision_bucket(minute_bucket(minute.start), revision)},
        "facility": {"S": minute.facility},
        "device_type": {"S": minute.device_type},
        "messages": {"N": str(len(minute.entries))},
        "ids": {"B": pack_ids(minute.entries)},
        "metrics": {"M": {name: {"M": _minute_numbers(metrics[name])} for name in sorted(metrics)}},
        "newest": {"N": str(newest)},
        "conflicts": {"N": str(len(minute.conflicts))},
        "late": {"N": str(minute.late)},
        "expires_at": {"N": _expiry(minute.start, retention_days)},
    }
    if orders:
        item["orders"] = {"M": orders}
    if minute.conflicts:
        item["conflict_ids"] = {"B": b"".join(sorted(minute.conflicts))}
    return item


def _minute_numbers(metric: MetricAggregate) -> Item:
    return {
        "count": {"N": str(metric.count)},
        "sum": {"N": decimal_text(metric.sum)},
        "min": {"N": number_text(metric.min)},
        "max": {"N": number_text(metric.max)},
        "last": {"N": number_text(metric.last)},
        "sketch": {"B": metric.sketch.pack()},
    } | _unit_attribute(metric)


def _unit_attribute(totals: Totals) -> Item:
    return {"unit": {"S": totals.unit}} if totals.unit else {}


def _unit_of(numbers: Mapping[str, Any]) -> str:
    """Return the unit of a metric's numbers; empty in items that were written before they had one."""
    return str(numbers["unit"]["S"]) if "unit" in numbers else ""


def parse_minute(item: Mapping[str, Any], *, start: int) -> Minute:
    """Parse a minute item."""
    newest = item["newest"]
    orders = item["orders"]["M"] if "orders" in item else {}
    return Minute(
        device=item["device"]["S"],
        start=start,
        is_stored=True,
        facility=item["facility"]["S"],
        device_type=item["device_type"]["S"],
        late=int(item["late"]["N"]),
        entries=unpack_ids(binary(item["ids"])),
        conflicts=unpack_conflicts(binary(item["conflict_ids"])) if "conflict_ids" in item else set(),
        metrics={
            name: MetricAggregate(
                count=int(numbers["M"]["count"]["N"]),
                sum=steps_of(numbers["M"]["sum"]["N"]),
                min=float(numbers["M"]["min"]["N"]),
                max=float(numbers["M"]["max"]["N"]),
                sketch=Sketch.unpack(binary(numbers["M"]["sketch"]), most=MINUTE_BINS),
                last=float(numbers["M"]["last"]["N"]),
                last_order=int(orders.get(name, newest)["N"]),
                unit=_unit_of(numbers["M"]),
            )
            for name, numbers in item["metrics"]["M"].items()
        },
    )


def event_item(event: DeviceEvent, *, retention_days: int) -> Item:
    """Make the item of an event's begin, escalation or end.

    Each is an item of its own, so that the anomaly's is written once and acknowledgements and notes in it stay.
    """
    finding = event.finding
    item: Item = {
        "device": {"S": event.device},
        "bucket": {"S": event.bucket},
        "facility": {"S": event.facility},
        "device_type": {"S": event.device_type},
        "metric": {"S": finding.metric},
        "value": {"N": number_text(finding.value)},
        "detector": {"S": finding.detector},
        "severity": {"S": finding.severity},
    }
    if finding.ended is not None:
        item["ended_at"] = {"S": iso(finding.ended)}
    if finding.kind != END:
        item["score"] = {"N": number_text(round(finding.score, 3))}
        item["time"] = {"S": iso(event.at)}
    if finding.regime:
        item["regime"] = {"M": {name: {"N": number_text(value)} for name, value in finding.regime}}
    if finding.kind != BEGIN:
        item["began_at"] = {"S": event.began_at}
    else:
        # The keys of the index of unacknowledged anomalies; acknowledging removes them.
        item["open_facility"] = {"S": event.facility}
        item["began"] = {"S": event.began_at}
    item["reason"] = {"S": event.reason}
    item["expires_at"] = {"N": _expiry(event.at, retention_days)}
    return item


def period_item(period: Period, *, revision: int, retention_days: int) -> Item:
    """Make the item of an hour's or a day's revision; 0 for the first one."""
    # Fewer where the items of two units or device types have more metrics than a message may.
    bins = (ITEM_BINS - 80 * max(len(period.metrics) - MAX_METRICS, 0)) // max(len(period.metrics), 1)
    return {
        "device": {"S": period.device},
        "bucket": {"S": revision_bucket(period_bucket(period.level, period.start), revision)},
        "facility": {"S": period.facility},
        "device_type": {"S": period.device_type},
        _PARTS[period.level]: {"N": str(period.parts)},
        "messages": {"N": str(period.messages)},
        "late": {"N": str(period.late)},
        "metrics": {
            "M": {name: {"M": _period_numbers(period.metrics[name], bins=bins)} for name in sorted(period.metrics)}
        },
        "expires_at": {"N": _expiry(period.start, retention_days)},
    }


def _period_numbers(totals: Totals, *, bins: int) -> Item:
    totals.sketch.fit(bins)
    total = Decimal(decimal_text(totals.sum))
    numbers: Item = {
        "count": {"N": str(totals.count)},
        "sum": {"N": format(_NUMBER.plus(total), "f")},
        "min": {"N": number_text(totals.min)},
        "max": {"N": number_text(totals.max)},
        "mean": {"N": format(_MEAN.divide(total, totals.count).normalize(_MEAN), "f")},
        "sketch": {"B": totals.sketch.pack()},
    } | _unit_attribute(totals)
    for name, value in zip(QUANTILES, totals.sketch.quantiles(list(QUANTILES.values())), strict=True):
        # The middle of a bin may lie outside of what was measured.
        numbers[name] = {"N": number_text(min(max(float(f"{value:.6g}"), totals.min), totals.max))}
    return numbers


def parse_period(item: Mapping[str, Any], *, level: Level, start: int) -> Period:
    """Parse the item of an hour or a day."""
    part = parse_part(item, start=start)
    return Period(
        level=level,
        device=item["device"]["S"],
        start=start,
        facility=part.facility,
        device_type=part.device_type,
        parts=int(item[_PARTS[level]]["N"]),
        messages=part.messages,
        late=part.late,
        metrics=dict(part.metrics),
        # Which of its parts is the newest is not in the item: what is added later does not change what the device was.
        newest_part=start + (HOUR_MS if level is Level.HOUR else DAY_MS),
        is_stored=True,
    )


def parse_part(item: Mapping[str, Any], *, start: int) -> Part:
    """Parse what a period needs of a minute's or an hour's item."""
    return Part(
        start=start,
        facility=item["facility"]["S"],
        device_type=item["device_type"]["S"],
        messages=int(item["messages"]["N"]),
        late=int(item["late"]["N"]),
        metrics={
            name: Totals(
                count=int(numbers["M"]["count"]["N"]),
                sum=steps_of(numbers["M"]["sum"]["N"]),
                min=float(numbers["M"]["min"]["N"]),
                max=float(numbers["M"]["max"]["N"]),
                sketch=Sketch.unpack(binary(numbers["M"]["sketch"])),
                unit=_unit_of(numbers["M"]),
            )
            for name, numbers in item["metrics"]["M"].items()
        },
    )


def iso(time: int) -> str:
    """Format `time` (ms) as `2026-11-23T14:49:03.250Z`."""
    return f"{_second(time // 1000)}.{time % 1000:03d}Z"


@lru_cache(maxsize=4_096)
def _second(time: int) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%S}"


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def binary(value: Mapping[str, Any]) -> bytes:
    """Return the bytes of a binary attribute: base64 from a client with the store's JSON codec, else bytes."""
    content = value["B"]
    return decode_base64(content) if isinstance(content, str) else bytes(content)


def _expiry(time: int, retention_days: int) -> str:
    """Return when an item of `time` (ms) expires, in seconds since the epoch."""
    return str(time // 1000 + retention_days * _DAY_S)


def _duration(span: int) -> str:
    """Format `span` (ms) for people: `3 min 10 s`."""
    seconds = max(round(span / 1000), 1)
    minutes, hours = seconds // 60, seconds // 3600
    if hours >= 1:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


# Notifications of anomaly events: made with the event's item, kept in the lane's outbox until published.

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
    escalation and end of an event have that of its begin. Of several machines at once, `machines` is how many, `thing`
    their plant, and `metric` the one that most have in common.
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
    machines: int | None = None


def notice_of(event: DeviceEvent) -> str:
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
        value=float(number_text(finding.value)),
        unit=finding.unit,
        anomaly_id=f"anomaly#{event.id}",
        began_at=event.began_at,
        ended_at=None if finding.ended is None else iso(finding.ended),
        score=None if finding.kind == END else float(number_text(round(finding.score, 3))),
    )
    return _encode(notice).decode()


def entry_of(message: str, *, number: int) -> dict[str, Any]:
    """Make the PublishBatch entry of a notification in an outbox, whichever version of this program wrote it."""
    try:
        content = _decode(message)
    except msgspec.DecodeError:
        content = {}
    known = {name: str(content.get(name) or UNKNOWN) for name in (*ATTRIBUTES, "thing", "machines")}
    return {
        "Id": str(number),
        "Message": message,
        "Subject": _subject(known),
        "MessageAttributes": {name: {"DataType": "String", "StringValue": known[name]} for name in ATTRIBUTES},
    }


def _subject(known: dict[str, str]) -> str:
    """Format `[WARNING] sg-01-press-monitor-0001-dev: temperature anomaly started`; a long thing name is cut."""
    before, thing = f"[{known['severity'].upper()}] ", known["thing"]
    several = "" if known["machines"] == UNKNOWN else f" on {known['machines']} machines"
    after = f": {known['metric']} anomaly {_VERBS.get(known['kind'], known['kind'])}{several}"
    room = SUBJECT_MAX - len(before) - len(after)
    if len(thing) > room:
        thing = f"{thing[: max(room - 3, 0)]}..."
    return f"{before}{thing}{after}".encode("ascii", "replace").decode()[:SUBJECT_MAX]
