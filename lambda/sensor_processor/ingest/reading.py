"""The readings of one device message: parses the payload, and refuses poison with a reason code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from zlib import crc32

import msgspec

from .base64 import decode_base64
from .catalogue import METRIC_NAME, Catalogue, Metric
from .envelope import Envelope, check_identity
from .hostile import check_text
from .poison import PoisonReading
from .shapes import (
    Message,
    decode_loosely,
    json_lines,
    path_of,
    refuse_malformed,
    time_hint,
    unframed,
)

MAX_PAYLOAD_BYTES = 128 * 1024
"""AWS IoT Core takes no larger message: https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""

MAX_FUTURE_MS = 5 * 60 * 1000
MAX_AGE_MS = 8 * 24 * 60 * 60 * 1000
LATE_MS = 60 * 60 * 1000
"""How far a device time may be ahead of, and behind, the rule's clock; beyond `LATE_MS` behind, a reading is late."""

MAX_SEQUENCE = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""

MAX_METRICS = 256
"""Names of metrics in one message, known and unknown."""

_NO_SEQUENCE = b"\xff"
"""Begins an identity by hash: beyond the first byte of every place in a minute."""

MAX_READINGS = 1_000
"""Readings in one message of the array form."""

_NOTHING = "nothing was measured: every metric is null"

VALUE_BOUND = 1e12
"""Values stay below it, so that sums of a minute fit DynamoDB's 38 digits exactly (see `aggregate`)."""


class Reading(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A valid reading, of which a record has one or many.

    A msgspec struct, as a frozen dataclass costs 2 µs to make and there are 4,000 in a batch.

    `time` and the envelope's times are milliseconds since the epoch. `order` is the place among the device's readings.
    `identity` (9 bytes) tells messages of a device's minute apart, `content` (4 bytes, a CRC) two of one identity.
    """

    sequence_number: str
    envelope: Envelope
    time: int
    sequence: int | None
    metrics: Mapping[str, float]
    order: tuple[int, int]
    identity: bytes
    content: bytes

    @property
    def is_late(self) -> bool:
        """Whether the device sent it more than an hour after it was taken."""
        return self.envelope.received_at - self.time > LATE_MS


_decode_message = msgspec.json.Decoder(Message).decode
_decode_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode


def parse_readings(
    sequence_number: str, envelope: Envelope, *, catalogue: Catalogue, suffix: str
) -> tuple[Reading, ...]:
    """The readings in `envelope`: identity proven, payload valid, whole or not at all. Raises PoisonReading."""
    check_identity(envelope, suffix=suffix)
    known = catalogue.device_types.get(envelope.device_type)
    if known is None:
        raise PoisonReading("device_type", f"the device type {envelope.device_type} is not in the catalogue")
    payload = _payload(envelope.raw)
    check_text(payload)
    try:
        if payload.startswith(b"["):
            return _readings(_decode_parts(payload), sequence_number, envelope, known)
        try:
            reading = _reading(payload, sequence_number, envelope, known)
        except msgspec.DecodeError:
            lines = json_lines(payload)
            if not lines:
                raise
            return _readings(lines, sequence_number, envelope, known)
        if reading is None:
            raise PoisonReading("metrics", _NOTHING)
        return (reading,)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        refuse_malformed(payload, error)
    except RecursionError as error:
        raise PoisonReading("too_deep", "the payload is nested too deeply") from error


def _readings(
    parts: Sequence[bytes | msgspec.Raw], sequence_number: str, envelope: Envelope, known: Mapping[str, Metric]
) -> tuple[Reading, ...]:
    """The readings of an array or of lines, each from its own bytes: the same reading as if it had come alone."""
    if not 1 <= len(parts) <= MAX_READINGS:
        raise PoisonReading("readings", f"{len(parts)} readings in one message; 1 to {MAX_READINGS} are allowed")
    readings = []
    for number, part in enumerate(parts, start=1):
        try:
            reading = _reading(bytes(part), sequence_number, envelope, known)
        except PoisonReading as error:
            raise PoisonReading(error.reason, f"reading {number} of {len(parts)}: {error.detail}") from error
        except msgspec.DecodeError as error:
            raise PoisonReading("malformed", f"reading {number} of {len(parts)}: {error}") from error
        if reading is not None:
            readings.append(reading)
    if not readings:
        raise PoisonReading("metrics", _NOTHING)
    return tuple(readings)


def _reading(payload: bytes, sequence_number: str, envelope: Envelope, known: Mapping[str, Metric]) -> Reading | None:
    """The reading in one object; None where it has measured nothing: all its metrics are null."""
    try:
        message = _decode_message(payload)
        named = len(message.metrics)
    except msgspec.ValidationError:
        message, named = decode_loosely(payload)
    time, sequence, metrics = message.time, message.sequence, message.metrics
    if not -MAX_FUTURE_MS <= envelope.received_at - time <= MAX_AGE_MS:
        raise _out_of_time(time, received_at=envelope.received_at)
    if sequence is not None and not 0 <= sequence <= MAX_SEQUENCE:
        raise PoisonReading("sequence", f"sequence {sequence} is not between 0 and {MAX_SEQUENCE}")
    if not 1 <= named <= MAX_METRICS:
        raise PoisonReading("metrics", f"{named} metrics; 1 to {MAX_METRICS} are allowed")
    for name, value in metrics.items():
        if not -VALUE_BOUND < value < VALUE_BOUND:
            raise PoisonReading("value", f"{path_of(name)} is {value!r}, outside ±{VALUE_BOUND:g}")
        if name not in known and not METRIC_NAME.fullmatch(name):
            raise PoisonReading("metric_name", f"{name[:64]!a} is no metric name")
    if message.units is not None:
        _check_units(message.units, known=known)
    if not metrics:
        return None
    return Reading(
        sequence_number=sequence_number,
        envelope=envelope,
        time=time,
        sequence=sequence,
        metrics=metrics,
        order=(time, -1 if sequence is None else sequence),
        # Exact where there is a sequence number: its 7 bytes after the place in the minute, which takes 2.
        identity=_hashed(payload) if sequence is None else (time % 60_000 << 56 | sequence).to_bytes(9),
        content=crc32(payload).to_bytes(4),
    )


def _payload(raw: str) -> bytes:
    try:
        payload = decode_base64(raw)
    except ValueError as error:
        raise PoisonReading("base64", str(error)) from error
    if not payload:
        raise PoisonReading("empty", "the payload is empty")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise PoisonReading("too_large", f"the payload has {len(payload)} bytes; {MAX_PAYLOAD_BYTES} are allowed")
    payload = unframed(payload)
    if not payload:
        raise PoisonReading("empty", "the payload is nothing but white space and NULs")
    return payload


def _check_units(units: Mapping[str, str], *, known: Mapping[str, Metric]) -> None:
    for name, unit in units.items():
        metric = known.get(name)
        if metric is not None and unit != metric.unit:
            raise PoisonReading("unit", f"{name} is sent in {unit[:32]!a}, not in {metric.unit}")


def _out_of_time(time: int, *, received_at: int) -> PoisonReading:
    reason, side, most = ("future", "after", MAX_FUTURE_MS) if time > received_at else ("old", "before", MAX_AGE_MS)
    detail = f"the device time {time} is {side} {received_at} by more than {most} ms"
    return PoisonReading(reason, detail[:200] + time_hint(time))


def _hashed(payload: bytes) -> bytes:
    """The identity of a message without a sequence number."""
    return _NO_SEQUENCE + hashlib.sha256(payload).digest()[:8]
