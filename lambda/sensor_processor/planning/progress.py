"""How a device moves on by readings: its item one version on, and static limits for those that come out of order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..detection import DeviceDetectors, Finding, excursion_of, limits_finding
from ..ingest.catalogue import Metric
from ..ingest.reading import Reading
from ..numbers.minute import Minute
from .items import Device


def advanced(
    before: Device | None,
    readings: Sequence[Reading],
    *,
    messages: int,
    detectors: DeviceDetectors,
    outbox: tuple[str, ...] = (),
) -> Device:
    """The device after `readings`, which are in order, one version on."""
    contacts = [reading.envelope.received_at for reading in readings]
    last_contact = max(contacts)
    # Of messages that arrived in one millisecond, the last one: readings come in order.
    who = readings[len(contacts) - 1 - contacts[::-1].index(last_contact)].envelope
    last_sequence = detectors.newest[1]
    # Who it is follows the message that arrived last.
    is_overtaken = before is not None and last_contact < before.last_contact
    return Device(
        name=who.thing,
        facility=before.facility if before and is_overtaken else who.facility,
        device_type=before.device_type if before and is_overtaken else who.device_type,
        certificate_id=before.certificate_id if before and is_overtaken else who.principal,
        first_contact=min(contacts) if before is None else min(before.first_contact, *contacts),
        last_contact=last_contact if before is None else max(before.last_contact, last_contact),
        newest_reading=_newest_reading(before, readings),
        version=1 if before is None else before.version + 1,
        messages=messages if before is None else before.messages + messages,
        last_sequence=last_sequence if last_sequence >= 0 else None if before is None else before.last_sequence,
        detectors=detectors.pack(),
        outbox=outbox,
    )


def _newest_reading(before: Device | None, readings: Sequence[Reading]) -> int | None:
    """The newest device time (ms); None where the device was there before anybody noted it."""
    newest = readings[-1].time
    if before is None:
        return newest
    return None if before.newest_reading is None else max(before.newest_reading, newest)


def straggler_findings(reading: Reading, *, metrics: Mapping[str, Metric], minute: Minute) -> list[Finding]:
    """Static limits for a reading older than the newest: one anomaly a minute, metric and side."""
    findings = []
    for name, value in reading.metrics.items():
        metric = metrics.get(name)
        side = excursion_of(metric, value) if metric is not None else 0
        if metric is None or not side:
            continue
        seen = minute.metrics.get(name)
        if seen is not None and excursion_of(metric, seen.max if side > 0 else seen.min) == side:
            continue
        findings.append(limits_finding(metric, value, late_at=reading.time))
    return findings
