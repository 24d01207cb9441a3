"""One device message: parses the topic rule's envelope and the payload in it, and refuses poison with a reason code."""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeVar
from zlib import crc32

import msgspec

from sensor_processor.catalogue import Catalogue, Metric

T = TypeVar("T")

MAX_PAYLOAD_BYTES = 128 * 1024
"""AWS IoT Core takes no larger message: https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""

MAX_FUTURE_MS = 5 * 60 * 1000
MAX_AGE_MS = 8 * 24 * 60 * 60 * 1000
LATE_MS = 60 * 60 * 1000
"""How far a device time may be ahead of, and behind, the rule's clock; beyond `LATE_MS` behind, a reading is late."""

MAX_RECEIVED_AT = 4_102_444_800_000
"""2100-01-01 in ms: a rule's stamp beyond it is in another unit."""

MAX_SEQUENCE = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""

MAX_METRICS = 256
"""Names of metrics in one message, known and unknown."""

MAX_READINGS = 1_000
"""Readings in one message of the array form."""

VALUE_BOUND = 1e12
"""Values stay below it, so that sums of a minute fit DynamoDB's 38 digits exactly (see `aggregate`)."""

REASONS = frozenset(
    {
        "base64",
        "device_type",
        "empty",
        "envelope",
        "environment",
        "future",
        "hostile_text",
        "identity",
        "ids",
        "malformed",
        "metric_name",
        "metrics",
        "minute_full",
        "old",
        "readings",
        "sequence",
        "too_deep",
        "too_large",
        "unit",
        "utf8",
        "value",
    }
)
"""Every reason code that quarantine knows; docs/message.md says what each means."""

_NO_SEQUENCE = b"\xff"
"""Begins an identity by hash: beyond the first byte of every place in a minute."""

_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
_THING = re.compile(r"[a-zA-Z0-9:_-]{1,128}", re.ASCII)
_PRINCIPAL = re.compile(r"[0-9a-f]{64}", re.ASCII)
_METRIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)
_HOSTILE = re.compile("[\x00\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_HOSTILE_ESCAPE = re.compile(
    r"(?<!\\)(?:\\\\)*\\u(?:0000|007f|008|009|061c|200[b-f]|202[89a-e]|206[0-9]|feff)", re.IGNORECASE
)


class PoisonReading(Exception):  # noqa: N818 - the domain's word
    """A record that can never be processed; `reason` is one of REASONS, `detail` is for the person who looks at it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """What the topic rule stamped on a message; nothing of it comes from the payload. `received_at` is in ms."""

    raw: str
    facility: str
    device_type: str
    thing: str
    client_id: str
    principal: str
    received_at: int
    trace_id: str = ""


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


_decode_envelope = msgspec.json.Decoder(Envelope).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode


def parse_envelope(data: bytes) -> Envelope:
    """The envelope in a Kinesis record's data. Raises PoisonReading."""
    try:
        envelope = _decode_envelope(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PoisonReading("envelope", str(error)) from error
    except RecursionError as error:
        raise PoisonReading("too_deep", "the envelope is nested too deeply") from error
    if not 0 < envelope.received_at < MAX_RECEIVED_AT:
        raise PoisonReading("envelope", f"received_at {envelope.received_at} is no time in milliseconds")
    return envelope


def has_safe_ids(envelope: Envelope) -> bool:
    """Whether facility and device type can be parts of an S3 key and the thing part of a table key."""
    return bool(
        _ID.fullmatch(envelope.facility) and _ID.fullmatch(envelope.device_type) and _THING.fullmatch(envelope.thing)
    )


def parse_readings(
    *, sequence_number: str, envelope: Envelope, catalogue: Catalogue, suffix: str
) -> tuple[Reading, ...]:
    """The readings in `envelope`: identity proven, payload valid, whole or not at all. Raises PoisonReading."""
    _check_identity(envelope, suffix=suffix)
    known = catalogue.device_types.get(envelope.device_type)
    if known is None:
        raise PoisonReading("device_type", f"the device type {envelope.device_type} is not in the catalogue")
    payload = _payload(envelope.raw)
    _check_text(payload)
    parts = _parts(payload) if payload[:1] == b"[" else (payload,)
    return tuple([_reading(part, sequence_number=sequence_number, envelope=envelope, known=known) for part in parts])


def _reading(payload: bytes, *, sequence_number: str, envelope: Envelope, known: Mapping[str, Metric]) -> Reading:
    message = _message(payload)
    _check_time(message.time, received_at=envelope.received_at)
    if message.sequence is not None and not 0 <= message.sequence <= MAX_SEQUENCE:
        raise PoisonReading("sequence", f"sequence {message.sequence} is not between 0 and {MAX_SEQUENCE}")
    if not message.metrics or len(message.metrics) > MAX_METRICS:
        raise PoisonReading("metrics", f"{len(message.metrics)} metrics; 1 to {MAX_METRICS} are allowed")
    for name, value in message.metrics.items():
        if not -VALUE_BOUND < value < VALUE_BOUND:
            raise PoisonReading("value", f"{name[:64]!a} is {value!r}, outside ±{VALUE_BOUND:g}")
        if name not in known and not _METRIC_NAME.fullmatch(name):
            raise PoisonReading("metric_name", f"{name[:64]!a} is no metric name")
    if message.units is not None:
        _check_units(message.units, known=known)
    return Reading(
        sequence_number=sequence_number,
        envelope=envelope,
        time=message.time,
        sequence=message.sequence,
        metrics=message.metrics,
        order=(message.time, -1 if message.sequence is None else message.sequence),
        identity=_identity(message, payload),
        content=crc32(payload).to_bytes(4),
    )


def _check_identity(envelope: Envelope, *, suffix: str) -> None:
    fault = _identity_fault(
        envelope.facility, envelope.device_type, envelope.thing, envelope.client_id, envelope.principal, suffix
    )
    if fault is not None:
        raise PoisonReading(*fault)


@lru_cache(maxsize=16_384)
def _identity_fault(
    facility: str, device_type: str, thing: str, client_id: str, principal: str, suffix: str
) -> tuple[str, str] | None:
    """Why these stamps are not to be believed; a device's are the same in each of its messages."""
    if not (_ID.fullmatch(facility) and _ID.fullmatch(device_type) and _THING.fullmatch(thing)):
        return "ids", "facility, device type or thing is no valid id"
    if not _PRINCIPAL.fullmatch(principal):
        return "identity", "the principal is not a certificate id"
    if client_id != thing:
        return "identity", "the client id is not the thing of the topic"
    if not thing.endswith(f"-{suffix}"):
        return "environment", f"the thing is not of the environment {suffix}"
    return None


def _payload(raw: str) -> bytes:
    try:
        payload = binascii.a2b_base64(raw, strict_mode=True)
    except ValueError as error:
        raise PoisonReading("base64", str(error)) from error
    if not payload:
        raise PoisonReading("empty", "the payload is empty")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise PoisonReading("too_large", f"the payload has {len(payload)} bytes; {MAX_PAYLOAD_BYTES} are allowed")
    return payload


def _check_text(payload: bytes) -> None:
    # msgspec skips over fields it does not know without looking at their encoding, so text is checked first.
    if payload.isascii() and b"\\u" not in payload and b"\x7f" not in payload:
        return
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise PoisonReading("utf8", str(error)) from error
    if _HOSTILE.search(text) or _HOSTILE_ESCAPE.search(text):
        raise PoisonReading("hostile_text", "the payload holds NUL, control or bidirectional characters")


def _parts(payload: bytes) -> list[bytes]:
    """The messages of an array, each as its own bytes: so that it is the same message as if it had come alone."""
    parts = [bytes(part) for part in _decoded(payload, _decode_parts)]
    if not 1 <= len(parts) <= MAX_READINGS:
        raise PoisonReading("readings", f"{len(parts)} readings in one message; 1 to {MAX_READINGS} are allowed")
    return parts


def _message(payload: bytes) -> _Message:
    return _decoded(payload, _decode_message)


def _decoded(payload: bytes, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PoisonReading("malformed", str(error)) from error
    except RecursionError as error:
        raise PoisonReading("too_deep", "the payload is nested too deeply") from error


def _check_units(units: Mapping[str, str], *, known: Mapping[str, Metric]) -> None:
    for name, unit in units.items():
        metric = known.get(name)
        if metric is not None and unit != metric.unit:
            raise PoisonReading("unit", f"{name} is sent in {unit[:32]!a}, not in {metric.unit}")


def _check_time(time: int, *, received_at: int) -> None:
    if time - received_at > MAX_FUTURE_MS:
        raise PoisonReading("future", f"the device time {time} is after {received_at} by more than {MAX_FUTURE_MS} ms")
    if received_at - time > MAX_AGE_MS:
        raise PoisonReading("old", f"the device time {time} is before {received_at} by more than {MAX_AGE_MS} ms")


def _identity(message: _Message, payload: bytes) -> bytes:
    """Exact where there is a sequence number: its 7 bytes after the place in the minute, which takes 2."""
    if message.sequence is None:
        return _NO_SEQUENCE + hashlib.sha256(payload).digest()[:8]
    return (message.time % 60_000 << 56 | message.sequence).to_bytes(9)
