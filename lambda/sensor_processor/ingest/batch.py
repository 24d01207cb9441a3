"""Parses a Kinesis batch: each record becomes readings or a quarantined record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .catalogue import Catalogue
from .codec import decode_base64, encode_base64
from .reading import MAX_AGE_MS, Envelope, PoisonReading, Reading, has_safe_ids, parse_envelope, parse_readings

UNKNOWN = "unknown"
"""Replaces a facility or a device type that cannot be trusted."""


class BatchError(Exception):
    """The event is not a batch of Kinesis records; nothing in it can be acknowledged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """A record that goes to quarantine; `raw` is base64 of what `raw_of` names.

    `raw_of` is `payload`, or `record` if there is no envelope; with the suffix `_text` where that should have been
    base64 and is not, so that `raw` encodes the characters that arrived.
    """

    sequence_number: str
    facility: str
    device_type: str
    reason: str
    detail: str
    raw: str
    raw_of: str
    received_at: int
    envelope: Envelope | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The records of one invocation, in the stream's order."""

    shard: str
    readings: tuple[Reading, ...]
    poison: tuple[Poison, ...]


def parse_batch(event: Mapping[str, Any], *, catalogue: Catalogue, suffix: str, max_age: int = MAX_AGE_MS) -> Batch:
    """Parse a Lambda event. Raises BatchError if it is not one of Kinesis.

    Args:
        event: the event.
        catalogue: device types and metrics.
        suffix: of this environment.
        max_age: of a reading when the stream accepted its record (ms).
    """
    readings: list[Reading] = []
    poison: list[Poison] = []
    shard = UNKNOWN
    try:
        for record in event["Records"]:
            kinesis = record["kinesis"]
            sequence_number = kinesis["sequenceNumber"]
            if not sequence_number.isdecimal():
                raise BatchError(f"the record's sequence number is not a number: {sequence_number[:80]!a}")
            if shard == UNKNOWN:
                shard = record.get("eventID", "").partition(":")[0] or UNKNOWN
            envelope = None
            arrived_at = int(float(kinesis.get("approximateArrivalTimestamp") or 0) * 1000)
            try:
                envelope = parse_envelope(_data(kinesis["data"]))
                readings += parse_readings(
                    sequence_number,
                    envelope,
                    catalogue=catalogue,
                    suffix=suffix,
                    arrived_at=arrived_at,
                    max_age=max_age,
                )
            except PoisonReading as error:
                poison.append(
                    _make_poison(
                        sequence_number=sequence_number,
                        envelope=envelope,
                        encoded=kinesis["data"],
                        arrived_at=arrived_at,
                        error=error,
                        catalogue=catalogue,
                    )
                )
    except (KeyError, TypeError, AttributeError) as error:
        raise BatchError(f"the event is no batch of Kinesis records: {error!r} where a record should be") from error
    return Batch(shard=_safe_shard(shard), readings=tuple(readings), poison=tuple(poison))


def _data(encoded: str) -> bytes:
    try:
        return decode_base64(encoded)
    except ValueError as error:
        raise PoisonReading("base64", f"the record's data: {error}") from error


def _make_poison(
    *,
    sequence_number: str,
    envelope: Envelope | None,
    encoded: str,
    arrived_at: int,
    error: PoisonReading,
    catalogue: Catalogue,
) -> Poison:
    """Make the quarantine record of a rejected record; ids that are not safe in a key become `unknown`."""
    is_placed = envelope is not None and has_safe_ids(envelope)
    origin = "record" if envelope is None else "payload"
    text = encoded if envelope is None else envelope.raw
    is_base64 = _is_base64(text)
    return Poison(
        sequence_number=sequence_number,
        facility=envelope.facility if envelope is not None and is_placed else UNKNOWN,
        device_type=envelope.device_type
        if envelope is not None and is_placed and envelope.device_type in catalogue.device_types
        else UNKNOWN,
        reason=error.reason,
        detail=error.detail[:500],
        raw=text if is_base64 else encode_base64(text.encode("utf-8", "surrogatepass")),
        raw_of=origin if is_base64 else f"{origin}_text",
        received_at=arrived_at if envelope is None else envelope.received_at,
        envelope=envelope,
    )


def poison_of(reading: Reading, reason: str, detail: str) -> Poison:
    """Make the quarantine record of a valid reading that was rejected after parsing."""
    envelope = reading.envelope
    return Poison(
        sequence_number=reading.sequence_number,
        facility=envelope.facility,
        device_type=envelope.device_type,
        reason=reason,
        detail=detail,
        raw=envelope.raw,
        raw_of="payload",
        received_at=envelope.received_at,
        envelope=envelope,
    )


def _is_base64(text: str) -> bool:
    try:
        decode_base64(text)
    except ValueError:
        return False
    return True


def _safe_shard(shard: str) -> str:
    name, _, number = shard.partition("-")
    return shard if name == "shardId" and number.isdecimal() and len(shard) <= 64 else UNKNOWN
