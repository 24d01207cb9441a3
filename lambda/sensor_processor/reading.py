"""The readings of one device message: parses the payload, and refuses poison with a reason code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from zlib import crc32

import msgspec

from sensor_processor.base64 import decode_base64
from sensor_processor.catalogue import METRIC_NAME, Catalogue, Metric
from sensor_processor.envelope import Envelope, check_identity
from sensor_processor.hostile import check_text
from sensor_processor.poison import PoisonReading

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


class _Message(msgspec.Struct, gc=False):
    time: int
    metrics: dict[str, float]
    sequence: int | None = None
    units: dict[str, str] | None = None


_decode_message = msgspec.json.Decoder(_Message).decode
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
        if not payload.startswith(b"["):
            return (_reading(payload, sequence_number, envelope, known),)
        return tuple([_reading(part, sequence_number, envelope, known) for part in _parts(payload)])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PoisonReading("malformed", str(error)) from error
    except RecursionError as error:
        raise PoisonReading("too_deep", "the payload is nested too deeply") from error


def _reading(payload: bytes, sequence_number: str, envelope: Envelope, known: Mapping[str, Metric]) -> Reading:
    message = _decode_message(payload)
    time, sequence, metrics = message.time, message.sequence, message.metrics
    if not -MAX_FUTURE_MS <= envelope.received_at - time <= MAX_AGE_MS:
        raise _out_of_time(time, received_at=envelope.received_at)
    if sequence is not None and not 0 <= sequence <= MAX_SEQUENCE:
        raise PoisonReading("sequence", f"sequence {sequence} is not between 0 and {MAX_SEQUENCE}")
    if not 1 <= len(metrics) <= MAX_METRICS:
        raise PoisonReading("metrics", f"{len(metrics)} metrics; 1 to {MAX_METRICS} are allowed")
    for name, value in metrics.items():
        if not -VALUE_BOUND < value < VALUE_BOUND:
            raise PoisonReading("value", f"{name[:64]!a} is {value!r}, outside ±{VALUE_BOUND:g}")
        if name not in known and not METRIC_NAME.fullmatch(name):
            raise PoisonReading("metric_name", f"{name[:64]!a} is no metric name")
    if message.units is not None:
        _check_units(message.units, known=known)
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
    return payload


def _parts(payload: bytes) -> list[bytes]:
    """The messages of an array, each as its own bytes: so that it is the same message as if it had come alone."""
    parts = [bytes(part) for part in _decode_parts(payload)]
    if not 1 <= len(parts) <= MAX_READINGS:
        raise PoisonReading("readings", f"{len(parts)} readings in one message; 1 to {MAX_READINGS} are allowed")
    return parts


def _check_units(units: Mapping[str, str], *, known: Mapping[str, Metric]) -> None:
    for name, unit in units.items():
        metric = known.get(name)
        if metric is not None and unit != metric.unit:
            raise PoisonReading("unit", f"{name} is sent in {unit[:32]!a}, not in {metric.unit}")


def _out_of_time(time: int, *, received_at: int) -> PoisonReading:
    if time > received_at:
        return PoisonReading("future", f"the device time {time} is after {received_at} by more than {MAX_FUTURE_MS} ms")
    return PoisonReading("old", f"the device time {time} is before {received_at} by more than {MAX_AGE_MS} ms")


def _hashed(payload: bytes) -> bytes:
    """The identity of a message without a sequence number."""
    return _NO_SEQUENCE + hashlib.sha256(payload).digest()[:8]
