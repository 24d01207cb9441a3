"""DynamoDB items."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Any

import msgspec

from ..detection import BEGIN, END, ESCALATED, Finding
from ..ingest.codec import decode_base64, encode_base64
from ..numbers.exact import decimal_text, steps_of
from ..numbers.minute import MetricAggregate, Minute, Totals, minute_bucket, pack_ids, unpack_conflicts, unpack_ids
from ..numbers.period import Level, Part, Period, period_bucket
from ..numbers.sketch import ITEM_BINS, MINUTE_BINS, Sketch

# @@ DynamoDB's typed attributes, to and from the core's values.
# @@
# @@ The items that every batch writes by the hundred are made as JSON text: in dicts, they would be half of all
# @@ the objects that a batch makes, and a tenth of its time. Texts go into templates as they are, so ids that come
# @@ from a table pass `plain` first; those of readings were checked when they were parsed.

Item = dict[str, Any]
"""Attribute name to typed value, as DynamoDB's low-level client takes it."""

Text = str
"""An item as JSON: `{"device": {"S": "…"}, …}`."""

DAY_S = 24 * 60 * 60

_encode = msgspec.json.Encoder().encode

_SPECIAL = re.compile(r"[^A-Za-z0-9:_.-]")


def template(**kinds: str) -> str:
    """JSON of attributes of these kinds (S, N, B, M), for `%`: a place for the text of each value, in this order."""
    places = {"S": '"%s"', "N": '"%s"', "B": '"%s"', "M": "%s"}
    return ",".join([f'"{name}":{{"{kind}":{places[kind]}}}' for name, kind in kinds.items()])


def text_of(item: Item) -> Text:
    """The item as JSON."""
    return _encode(item).decode()


def more_of(item: Item) -> str:
    """Attributes as JSON that follow those of a template."""
    return f",{text_of(item)[1:-1]}"


def plain(text: str) -> str:
    """An id as a template takes it: whatever no id of ours has in it becomes a hyphen."""
    return _SPECIAL.sub("-", text)


def iso(time: int) -> str:
    """`time` (ms) as `2026-11-23T14:49:03.250Z`."""
    return f"{_second(time // 1000)}.{time % 1000:03d}Z"


@lru_cache(maxsize=4_096)
def _second(time: int) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%S}"


def milliseconds(text: str) -> int:
    """The time (ms) that `iso` wrote."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def binary_of(value: Mapping[str, Any]) -> bytes:
    """A binary attribute's bytes; from the wire (see `wire`) they come as base64."""
    content = value["B"]
    return decode_base64(content) if isinstance(content, str) else bytes(content)


def number_text(value: float) -> str:
    """A number as DynamoDB takes it."""
    text = repr(value)
    return format(Decimal(text), "f") if "e" in text else text.removesuffix(".0")


def expiry_of(time: int, retention_days: int) -> int:
    """When an item of `time` (ms) expires, in seconds."""
    return time // 1000 + retention_days * DAY_S


# @@ DynamoDB's typed items of devices, minutes and events, to and from the core's values.

_DEVICE = template(
    device="S",
    facility="S",
    device_type="S",
    certificate_id="S",
    first_contact="S",
    last_contact="S",
    version="N",
    messages="N",
    detectors="B",
)
_NEWEST_READING = f",{template(newest_reading='S')}"
_LAST_SEQUENCE = f",{template(last_sequence='N')}"
_MINUTE = template(
    device="S",
    bucket="S",
    facility="S",
    device_type="S",
    messages="N",
    ids="B",
    metrics="M",
    newest="N",
    conflicts="N",
    late="N",
    expires_at="N",
)
_METRIC = f'"%s":{{"M":{{{template(count="N", sum="N", min="N", max="N", last="N", sketch="B")}}}}}'

_PREFIXES = {BEGIN: "anomaly", ESCALATED: "escalated", END: "ended"}


class Device(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the device table keeps of a thing; times are in ms. `version` is the lock on all of its items.

    Contacts are when messages arrived, `newest_reading` is the device's own time: no minute begins after it. `outbox`
    are the newest notifications of its events that nobody knows to be published yet.
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
    detectors: bytes
    outbox: tuple[str, ...] = ()


def device_key(name: str) -> Item:
    """The key of a device item."""
    return {"device": {"S": name}}


def minute_key(name: str, start: int) -> Item:
    """The key of a minute item."""
    return {"device": {"S": name}, "bucket": {"S": minute_bucket(start)}}


def device_item(device: Device) -> Text:
    """The device item."""
    text = _DEVICE % (
        device.name,
        device.facility,
        device.device_type,
        device.certificate_id,
        iso(device.first_contact),
        iso(device.last_contact),
        device.version,
        device.messages,
        encode_base64(device.detectors),
    )
    if device.newest_reading is not None:
        text += _NEWEST_READING % iso(device.newest_reading)
    if device.last_sequence is not None:
        text += _LAST_SEQUENCE % device.last_sequence
    if device.outbox:
        text += more_of({"outbox": {"L": [{"S": message} for message in device.outbox]}})
    return f"{{{text}}}"


def parse_device(item: Mapping[str, Any]) -> Device:
    """The device that `device_item` wrote."""
    return Device(
        name=item["device"]["S"],
        facility=plain(item["facility"]["S"]),
        device_type=plain(item["device_type"]["S"]),
        certificate_id=plain(item["certificate_id"]["S"]),
        first_contact=milliseconds(item["first_contact"]["S"]),
        last_contact=milliseconds(item["last_contact"]["S"]),
        newest_reading=milliseconds(item["newest_reading"]["S"]) if "newest_reading" in item else None,
        version=int(item["version"]["N"]),
        messages=int(item["messages"]["N"]),
        last_sequence=int(item["last_sequence"]["N"]) if "last_sequence" in item else None,
        detectors=binary_of(item["detectors"]),
        outbox=tuple(message["S"] for message in item["outbox"]["L"]) if "outbox" in item else (),
    )


def minute_item(minute: Minute, *, retention_days: int) -> Text:
    """The minute item.

    For readings yet to come, `newest` ranks the reading that each `last` came from; `orders` those of the metrics
    that have another one.
    """
    metrics = minute.metrics
    newest = max([metric.last_order for metric in metrics.values()], default=0)
    text = _MINUTE % (
        minute.device,
        minute_bucket(minute.start),
        minute.facility,
        minute.device_type,
        len(minute.entries),
        encode_base64(pack_ids(minute.entries)),
        _metrics_text(metrics),
        newest,
        len(minute.conflicts),
        minute.late,
        expiry_of(minute.start, retention_days),
    )
    orders = [(name, metric.last_order) for name, metric in metrics.items() if metric.last_order != newest]
    if orders:
        text += more_of({"orders": {"M": {name: {"N": str(order)} for name, order in sorted(orders)}}})
    if minute.conflicts:
        text += more_of({"conflict_ids": {"B": b"".join(sorted(minute.conflicts))}})
    return f"{{{text}}}"


def parse_minute(item: Mapping[str, Any], *, start: int) -> Minute:
    """The minute that `minute_item` wrote."""
    newest = item["newest"]
    orders = item["orders"]["M"] if "orders" in item else {}
    return Minute(
        device=item["device"]["S"],
        start=start,
        facility=plain(item["facility"]["S"]),
        device_type=plain(item["device_type"]["S"]),
        late=int(item["late"]["N"]),
        entries=unpack_ids(binary_of(item["ids"])),
        conflicts=unpack_conflicts(binary_of(item["conflict_ids"])) if "conflict_ids" in item else set(),
        metrics={
            plain(name): MetricAggregate(
                count=int(numbers["M"]["count"]["N"]),
                sum=steps_of(numbers["M"]["sum"]["N"]),
                min=float(numbers["M"]["min"]["N"]),
                max=float(numbers["M"]["max"]["N"]),
                sketch=Sketch.unpack(binary_of(numbers["M"]["sketch"]), most=MINUTE_BINS),
                last=float(numbers["M"]["last"]["N"]),
                last_order=int(orders.get(name, newest)["N"]),
            )
            for name, numbers in item["metrics"]["M"].items()
        },
    )


def event_item(
    finding: Finding, *, device: str, facility: str, device_type: str, time: int, retention_days: int
) -> Item:
    """The item of what a reading of `time` (ms) tells of an event: its beginning, its escalation or its end.

    Each is an item of its own, so that the anomaly's is written once and what people note in it stays.
    """
    began = iso(time if finding.began is None else finding.began)
    words = f", since {began[:10]} {began[11:19]} UTC"
    item: Item = {
        "device": {"S": device},
        "bucket": {"S": f"{_PREFIXES[finding.kind]}#{began}#{finding.metric}#{finding.detector}{finding.mark}"},
        "facility": {"S": facility},
        "device_type": {"S": device_type},
        "metric": {"S": finding.metric},
        "value": {"N": number_text(finding.value)},
        "detector": {"S": finding.detector},
        "severity": {"S": finding.severity},
    }
    if finding.ended is not None:
        item["ended_at"] = {"S": iso(finding.ended)}
    if finding.kind == END:
        words = f", after {_duration((finding.ended or time) - (finding.began or time))}"
    else:
        item["score"] = {"N": number_text(round(finding.score, 3))}
        item["time"] = {"S": iso(time)}
    if finding.kind != BEGIN:
        item["began_at"] = {"S": began}
    item["reason"] = {"S": finding.reason + words}
    item["expires_at"] = {"N": str(expiry_of(time, retention_days))}
    return item


def _metrics_text(metrics: Mapping[str, MetricAggregate]) -> str:
    return f"{{{','.join([_metric_text(name, metrics[name]) for name in sorted(metrics)])}}}"


def _metric_text(name: str, metric: MetricAggregate) -> str:
    return _METRIC % (
        name,
        metric.count,
        decimal_text(metric.sum),
        number_text(metric.min),
        number_text(metric.max),
        number_text(metric.last),
        encode_base64(metric.sketch.pack()),
    )


def _duration(span: int) -> str:
    """`span` (ms) for people: `3 min 10 s`."""
    seconds = max(round(span / 1000), 1)
    minutes, hours = seconds // 60, seconds // 3600
    if hours >= 1:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


# @@ DynamoDB's typed items of hours and days, from and to the core's values, and what hours need of minutes'
# @@ items.

QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99}
"""By the attribute that holds it, the rank of each quantile that an item tells; others are in its sketch."""

PART_ATTRIBUTES = ("bucket", "facility", "device_type", "messages", "late", "metrics")
"""What `parse_part` reads of an item."""

_PARTS = {Level.HOUR: "minutes", Level.DAY: "hours"}

_NUMBER = Context(prec=38, rounding=ROUND_HALF_EVEN)
"""DynamoDB's numbers have 38 digits; sums of minutes always fit, those of a day beyond 1e12 may have more."""

_MEAN = Context(prec=17)


def period_item(period: Period, *, retention_days: int) -> Item:
    """The item of an hour or a day."""
    bins = ITEM_BINS // max(len(period.metrics), 1)
    return {
        "device": {"S": period.device},
        "bucket": {"S": period_bucket(period.level, period.start)},
        "facility": {"S": period.facility},
        "device_type": {"S": period.device_type},
        _PARTS[period.level]: {"N": str(period.parts)},
        "messages": {"N": str(period.messages)},
        "late": {"N": str(period.late)},
        "metrics": {"M": {name: {"M": _numbers(period.metrics[name], bins=bins)} for name in sorted(period.metrics)}},
        "expires_at": {"N": str(expiry_of(period.start, retention_days))},
    }


def parse_part(item: Mapping[str, Any], *, start: int) -> Part:
    """What a period needs of the item of a minute or an hour that lies in it."""
    return Part(
        start=start,
        facility=item["facility"]["S"],
        device_type=item["device_type"]["S"],
        messages=int(item["messages"]["N"]),
        late=int(item["late"]["N"]),
        metrics={name: _totals(numbers["M"]) for name, numbers in item["metrics"]["M"].items()},
    )


def _totals(numbers: Mapping[str, Any]) -> Totals:
    return Totals(
        count=int(numbers["count"]["N"]),
        sum=steps_of(numbers["sum"]["N"]),
        min=float(numbers["min"]["N"]),
        max=float(numbers["max"]["N"]),
        sketch=Sketch.unpack(binary_of(numbers["sketch"])),
    )


def _numbers(totals: Totals, *, bins: int) -> Item:
    totals.sketch.fit(bins)
    total = Decimal(decimal_text(totals.sum))
    numbers: Item = {
        "count": {"N": str(totals.count)},
        "sum": {"N": format(_NUMBER.plus(total), "f")},
        "min": {"N": number_text(totals.min)},
        "max": {"N": number_text(totals.max)},
        "mean": {"N": format(_MEAN.divide(total, totals.count).normalize(_MEAN), "f")},
        "sketch": {"B": totals.sketch.pack()},
    }
    for name, value in zip(QUANTILES, totals.sketch.quantiles(list(QUANTILES.values())), strict=True):
        # A bin's middle may lie outside of what was measured.
        numbers[name] = {"N": number_text(min(max(float(f"{value:.6g}"), totals.min), totals.max))}
    return numbers


# @@ How many days each kind of item stays in the readings table.


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Days from the time that an item tells of."""

    minutes: int
    hours: int
    days: int
    anomalies: int
