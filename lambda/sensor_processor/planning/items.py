"""DynamoDB's typed items of devices, minutes and events, to and from the core's values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..detection import BEGIN, END, ESCALATED, Finding
from ..ingest.base64 import encode_base64
from ..numbers.exact import decimal_text, steps_of
from ..numbers.minute import (
    MetricAggregate,
    Minute,
    minute_bucket,
    pack_ids,
    unpack_conflicts,
    unpack_ids,
)
from ..numbers.sketch import MINUTE_BINS, Sketch
from .attributes import (
    Item,
    Text,
    binary_of,
    expiry_of,
    iso,
    milliseconds,
    more_of,
    number_text,
    plain,
    template,
)

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
