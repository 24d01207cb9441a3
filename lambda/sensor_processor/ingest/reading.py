"""Parse a message, the topic rule's envelope and the readings in its payload, or reject it with a reason.

Every payload is checked for hostile text. Then strict decoding accepts a message as docs/message.md describes it. What
it refuses is decoded loosely: a message that can mean one thing only is accepted, anything else is explained in detail.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn
from zlib import crc32

import msgspec

from .catalogue import METRIC_NAME, Catalogue, Metric
from .codec import decode_base64

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
        "processing",
        "readings",
        "refused",
        "sequence",
        "too_deep",
        "too_large",
        "unit",
        "unpublished",
        "utf8",
        "value",
    }
)
"""Reason codes of quarantine; docs/message.md explains each."""


class PoisonReading(Exception):  # noqa: N818 - the domain's word
    """A record that can never be processed; `reason` is one of REASONS, `detail` is for the operator."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


MAX_RECEIVED_AT = 4_102_444_800_000
"""2100-01-01 in ms: a larger stamp is in another unit."""

_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
_THING = re.compile(r"[a-zA-Z0-9:_-]{1,128}", re.ASCII)
_PRINCIPAL = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A message with the topic rule's stamps.

    `raw` is the payload as base64; nothing else comes from the payload. `received_at` is in ms.
    """

    raw: str
    facility: str
    device_type: str
    thing: str
    client_id: str
    principal: str
    received_at: int
    trace_id: str = ""


_decode_envelope = msgspec.json.Decoder(Envelope).decode


def parse_envelope(data: bytes) -> Envelope:
    """Parse the data of a Kinesis record. Raises PoisonReading."""
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
    """Return whether facility and device type can be parts of an S3 key and the thing part of a table key."""
    return bool(
        _ID.fullmatch(envelope.facility) and _ID.fullmatch(envelope.device_type) and _THING.fullmatch(envelope.thing)
    )


def check_identity(envelope: Envelope, *, suffix: str) -> None:
    """Raise PoisonReading unless a certificate of the thing itself, in this environment, sent the message."""
    fault = _identity_fault(
        envelope.facility, envelope.device_type, envelope.thing, envelope.client_id, envelope.principal, suffix
    )
    if fault is not None:
        raise PoisonReading(*fault)


@lru_cache(maxsize=16_384)
def _identity_fault(
    facility: str, device_type: str, thing: str, client_id: str, principal: str, suffix: str
) -> tuple[str, str] | None:
    """Return why these stamps are rejected, or None. Cached: a device's are the same in all of its messages."""
    if not (_ID.fullmatch(facility) and _ID.fullmatch(device_type) and _THING.fullmatch(thing)):
        return "ids", "facility, device type or thing is no valid id"
    if not _PRINCIPAL.fullmatch(principal):
        return "identity", "the principal is not a certificate id"
    if client_id != thing:
        return "identity", "the client id is not the thing of the topic"
    if not thing.endswith(f"-{suffix}"):
        return "environment", f"the thing is not of the environment {suffix}"
    return None


# Text that no device has a reason to send: control, invisible and bidirectional characters, raw or escaped.

_INVISIBLE = (
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Unicode's Default_Ignorable_Code_Point, the separators of lines and paragraphs, and interlinear annotation.
https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt"""

_HOSTILE = re.compile(f"[\x00\x7f-\x9f{_INVISIBLE}]")
_HOSTILE_ESCAPE = re.compile(
    r"(?<!\\)(?:\\\\)*(\\(?:[bf]|u(?:000[0-8bcef]|001[0-9a-f]|007f|00[89][0-9a-f]|00ad|034f|061c|115f|1160|17b[45]"
    r"|180[b-f]|200[b-f]|202[89a-e]|206[0-9a-f]|3164|fe0[0-9a-f]|feff|ffa0|fff[0-9ab]"
    r"|d82f\\udca[0-3]|d834\\udd7[3-9a]|db4[0-3]\\ud[c-f][0-9a-f]{2})))",
    re.IGNORECASE,
)
"""Escaped tabs and line ends are text; raw control characters below U+0020 are no JSON: see `_refuse_control`."""


def check_text(payload: bytes) -> None:
    """Raise PoisonReading unless the payload is UTF-8 without hostile characters."""
    # msgspec skips unknown fields without checking their encoding, so text is checked first.
    if b"\\" not in payload and payload.isascii() and b"\x7f" not in payload:
        return
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        is_utf16 = payload[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise PoisonReading("utf8", f"{error}{'; this looks like UTF-16: send UTF-8' if is_utf16 else ''}") from error
    if found := _HOSTILE.search(text):
        what, at = f"U+{ord(found[0]):04X}", found.start()
    elif found := _HOSTILE_ESCAPE.search(text):
        what, at = found[1], found.start(1)
    else:
        return
    detail = f"the payload holds the control, invisible or bidirectional character {what}"
    raise PoisonReading("hostile_text", f"{detail} (byte {len(text[:at].encode())})")


# Loose decoding. It does not run for a message that strict decoding accepts, so it may be thorough.

FRAME = b" \t\r\n"
"""JSON's white space."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_CONTROL = re.compile(b"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_AT_BYTE = re.compile(r"\(byte (\d+)\)")
_NO_NUMBER = re.compile(rb'(?<![\w".])[+-]?(?:nan|inf(?:inity)?)\b', re.IGNORECASE)
_LAST_NAME = re.compile(rb'"([^"\\]{1,64})"\s*:[^:]*\Z')

_KINDS = {str: "a text", bool: "a truth value", type(None): "null", dict: "an object", list: "an array"}
_RESERVED = frozenset({"time", "sequence"})
_SHOWN = 32
"""Characters of a number that a refusal shows."""
_CLOCK_FIELDS = frozenset({"ts", "timestamp", "date", "datetime", "t"})

_SECONDS = range(500_000_000, 100_000_000_000)
_MICROSECONDS = range(500_000_000_000_000, 100_000_000_000_000_000)
_NANOSECONDS = range(500_000_000_000_000_000, 100_000_000_000_000_000_000)
"""Moments from 1985 on in these units; read as milliseconds they lie before 1974, or after the year 17,000."""


class Message(msgspec.Struct, gc=False):
    """A message as docs/message.md describes it."""

    time: int
    metrics: dict[str, float]
    sequence: int | None = None
    units: dict[str, str] | None = None


class _Loose(msgspec.Struct, gc=False):
    """A message whose whole numbers may be written as floats, and whose metrics may be null (not measured)."""

    time: int | float
    metrics: dict[str, float | None]
    sequence: int | float | None = None
    units: dict[str, str] | None = None


class _Written(msgspec.Struct, gc=False):
    """The whole numbers of a message as text: a float keeps only 53 bits of them."""

    time: msgspec.Raw
    sequence: msgspec.Raw = msgspec.Raw(b"null")


class _Metrics(msgspec.Struct, gc=False):
    metrics: dict[str, msgspec.Raw]


_decode_loose = msgspec.json.Decoder(_Loose).decode
_decode_written = msgspec.json.Decoder(_Written).decode
_decode_metrics = msgspec.json.Decoder(_Metrics).decode


def unframed(payload: bytes) -> bytes:
    """Strip what surrounds a message: white space, a leading byte order mark, and the NULs that end a C string."""
    payload = payload.strip(FRAME)
    if payload[:1] == b"\xef":
        payload = payload.removeprefix(BYTE_ORDER_MARK).lstrip(FRAME)
    return payload.rstrip(FRAME + b"\0") if payload[-1:] == b"\0" else payload


def canonical(payload: bytes) -> bytes:
    """Return a JSON document without the white space between its tokens, which a gateway may write otherwise."""
    return msgspec.json.format(payload, indent=-1)


def json_lines(payload: bytes) -> list[bytes]:
    """Split a message of several objects, one a line (NDJSON); empty where it is something else."""
    lines = [line for part in payload.split(b"\n") if (line := part.strip(FRAME))]
    is_ndjson = len(lines) > 1 and all(line[:1] == b"{" and line[-1:] == b"}" for line in lines)
    return lines if is_ndjson else []


def decode_loosely(payload: bytes) -> tuple[Message, int]:
    """Decode what strict decoding refused. Whole numbers may have a fraction of zero, metrics may be null.

    Returns:
        The message, and how many metrics it names, with those that are null.

    Raises:
        PoisonReading: names the field that is wrong.
    """
    try:
        loose = _decode_loose(payload)
    except msgspec.ValidationError as error:
        raise _wrong_shape(payload, error) from error
    for name, value in loose.metrics.items():
        if value is None and not METRIC_NAME.fullmatch(name):
            raise PoisonReading("metric_name", f"{name[:64]!a} is no metric name")
    written = _decode_written(payload)
    message = Message(
        time=_whole("time", loose.time, bytes(written.time), of="milliseconds since 1970"),
        metrics={name: value for name, value in loose.metrics.items() if value is not None},
        sequence=None
        if loose.sequence is None
        else _whole("sequence", loose.sequence, bytes(written.sequence), of="a counter"),
        units=loose.units,
    )
    return message, len(loose.metrics)


def path_of(metric: str) -> str:
    """Format the path of a metric in its message, for people."""
    return f"metrics.{metric}" if METRIC_NAME.fullmatch(metric) else f"metrics[{metric[:64]!a}]"


def time_hint(time: int) -> str:
    """Guess what an impossible device time is instead, to be appended to a refusal."""
    for unit, moments in (("seconds", _SECONDS), ("microseconds", _MICROSECONDS), ("nanoseconds", _NANOSECONDS)):
        if time in moments:
            return f": these look like {unit}; send milliseconds"
    if 0 <= time < _SECONDS.start:
        return ": this looks like the time since the device started; set its clock before it sends"
    return ""


def refuse_malformed(payload: bytes, error: Exception) -> NoReturn:
    """Raise the PoisonReading that says why `payload` is no JSON."""
    if found := _CONTROL.search(payload):
        _refuse_control(payload, found.start())
    text = str(error)
    place = _AT_BYTE.search(text)
    if place and (number := _no_number(payload, int(place[1]))):
        text = f"{number}, which is no JSON: send null, or leave the metric out"
    elif "truncated" in text and payload[-1:] in (b"}", b"]") and b"\\u" in payload:
        text = "JSON is malformed: an escaped surrogate stands alone"
    elif "truncated" in text:
        text = f"the JSON is cut off after {len(payload)} bytes: is the device's buffer large enough?"
    elif "trailing characters" in text:
        text += "; several values in one message are an array, or an object a line"
    elif place and b"'" in payload[int(place[1]) - 1 : int(place[1]) + 1]:
        text += '; JSON quotes with " alone'
    raise PoisonReading("malformed", text) from error


def _no_number(payload: bytes, at: int) -> str:
    """Name the NaN or infinity that the parser rejected; `at` is up to four bytes into it."""
    for start in range(max(0, at - 4), at + 1):
        found = _NO_NUMBER.match(payload, start)
        if found and found.end() + 1 >= at:
            name = _LAST_NAME.search(payload[:start])
            field = name[1].decode() if name else ""
            where = f"{field if field in _RESERVED else path_of(field)} is " if field else ""
            return where + found[0].decode()
    return ""


def _refuse_control(payload: bytes, at: int) -> NoReturn:
    zeros = payload.count(b"\0")
    if zeros >= len(payload) // 3:
        raise PoisonReading("utf8", "the payload looks like UTF-16 or UTF-32: send UTF-8")
    if payload[at] != 0:
        raise PoisonReading("hostile_text", f"the payload holds the control character U+{payload[at]:04X} (byte {at})")
    if at == 0:
        raise PoisonReading("hostile_text", "the payload begins with NUL (byte 0)")
    detail = f"the payload holds NUL (byte {at}) and {len(payload) - at - 1} bytes after it"
    if payload[at - 1 : at] in (b"}", b"]"):
        detail += ": send the message at its own length, not its whole buffer"
    raise PoisonReading("hostile_text", detail)


def _whole(field: str, value: float, written: bytes, *, of: str) -> int:
    """Return a whole number; raise PoisonReading if `written`, its text, is none, even if the nearest float is."""
    if isinstance(value, float) and not _is_whole(written):
        shown = written.decode("ascii")
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        raise PoisonReading("malformed", f"{field} is {shown}: send {of} as a whole number")
    return int(value)


def _is_whole(number: bytes) -> bool:
    """Return whether a JSON number has nothing but zeros after the decimal point, once its exponent has moved that."""
    mantissa, _, exponent = number.lower().lstrip(b"-").partition(b"e")
    whole, _, fraction = mantissa.partition(b".")
    digits = (whole + fraction).rstrip(b"0")
    if not digits:
        return True
    places = exponent.lstrip(b"+-0")
    if len(places) > _SHOWN:
        return not exponent.startswith(b"-")
    return len(digits) <= len(whole) + int(places or b"0") * (-1 if exponent.startswith(b"-") else 1)


def _wrong_shape(payload: bytes, error: msgspec.ValidationError) -> PoisonReading:
    """Name the field that is not what it has to be, in a message that is JSON."""
    try:
        message = msgspec.json.decode(payload)
    except msgspec.ValidationError:
        return PoisonReading("malformed", _out_of_range(payload) or str(error))
    return PoisonReading("malformed", _fault_of(message) or str(error))


def _out_of_range(payload: bytes) -> str:
    try:
        metrics = _decode_metrics(payload).metrics
    except msgspec.ValidationError:
        return ""
    for name, value in metrics.items():
        try:
            msgspec.json.decode(value, type=float | None)
        except msgspec.ValidationError:
            return (
                f"{path_of(name)} is {bytes(value)[:32].decode('ascii', 'replace')}: send a number that a double takes"
            )
    return ""


def _fault_of(message: Any) -> str:
    if not isinstance(message, dict):
        return f"a reading is an object, not {_kind(message)}"
    for field in ("time", "metrics"):
        if field not in message:
            return f"there is no {field}{_misspelt(field, message)}"
    for field, of in (("time", "milliseconds since 1970"), ("sequence", "a counter")):
        value = message.get(field, 0)
        if (value is not None or field == "time") and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f"{field} is {_kind(value)}: send {of} as a whole number"
    metrics = message["metrics"]
    if not isinstance(metrics, dict):
        return f"metrics is {_kind(metrics)}: send an object of names and numbers"
    for name, value in metrics.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f"{path_of(name)} is {_kind(value)}: send a number, or null where nothing was measured"
    units = message.get("units")
    if units is not None and not isinstance(units, dict):
        return f"units is {_kind(units)}: send an object of names and units"
    for name, unit in (units or {}).items():
        if not isinstance(unit, str):
            return f"{path_of(name).replace('metrics', 'units', 1)} is {_kind(unit)}: send the unit as text"
    return ""


def _misspelt(field: str, message: dict[str, Any]) -> str:
    for other in message:
        if other.lower() == field:
            return f", but {other[:64]!a}: names are in lower case"
        if field == "time" and other.lower() in _CLOCK_FIELDS:
            return f", but {other[:64]!a}: send it as time, in milliseconds since 1970"
    numbers = [name for name, value in message.items() if isinstance(value, float | int) and name not in _RESERVED]
    if field == "metrics" and numbers:
        return f", but {numbers[0][:64]!a} beside the other fields: values stand within metrics"
    return ""


def _kind(value: Any) -> str:
    kind = _KINDS.get(type(value), "a number")
    if isinstance(value, str):
        return f"{kind} ({value[:32]!a})"
    return f"{kind} ({str(value).lower()})" if isinstance(value, bool) else kind


# Readings.

MAX_PAYLOAD_BYTES = 128 * 1024
"""AWS IoT Core's limit: https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""

MAX_FUTURE_MS = 5 * 60 * 1000
MAX_AGE_MS = 8 * 24 * 60 * 60 * 1000
LATE_MS = 60 * 60 * 1000
"""Limits of a device time: ahead of the rule's clock, behind it, and behind it before a reading counts as late."""

MAX_SEQUENCE = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""

MAX_METRICS = 256
"""Names of metrics in one message, known and unknown."""

_NO_SEQUENCE = b"\xff"
"""Prefix of an identity by hash: larger than the first byte of every offset in a minute."""

MAX_READINGS = 1_000
"""Readings in one message of the array form."""

_NOTHING = "nothing was measured: every metric is null"

VALUE_BOUND = 1e12
"""Bound of a value, so that sums of a minute fit DynamoDB's 38 digits exactly (see `numbers.exact`)."""


class Reading(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A valid reading; a record has one or many.

    Times are milliseconds since the epoch. `order` sorts the readings of a device. `identity` (9 bytes) is the message
    id within a device's minute, `content` (4 bytes, a CRC) distinguishes two messages of one identity. `arrived_at` is
    when the stream accepted the record: of one that was put there again, later than the rule's `received_at`.
    """

    sequence_number: str
    envelope: Envelope
    arrived_at: int
    time: int
    sequence: int | None
    metrics: Mapping[str, float]
    order: tuple[int, int]
    identity: bytes
    content: bytes

    @property
    def ahead(self) -> int:
        """Return how far (ms) the device's clock is ahead of the rule's; negative for a message that came later."""
        return self.time - self.envelope.received_at

    @property
    def is_late(self) -> bool:
        """Return whether the message arrived more than an hour after its time."""
        return self.envelope.received_at - self.time > LATE_MS


_decode_message = msgspec.json.Decoder(Message).decode
_decode_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A record's number in the stream, when it came there (ms), and how old (ms) a reading may be by then."""

    sequence_number: str
    time: int
    max_age: int = MAX_AGE_MS


def parse_readings(
    sequence_number: str,
    envelope: Envelope,
    *,
    catalogue: Catalogue,
    suffix: str,
    arrived_at: int = 0,
    max_age: int = MAX_AGE_MS,
) -> tuple[Reading, ...]:
    """Parse the readings of a message: all of them, or none and PoisonReading is raised.

    Args:
        sequence_number: of the record.
        envelope: the message with the rule's stamps.
        catalogue: must have the device type; metrics that it lacks are accepted.
        suffix: of this environment; things of another one are rejected.
        arrived_at: when the stream accepted the record (ms); the rule's clock where that is later.
        max_age: of a reading when it arrived in the stream (ms).
    """
    arrival = Arrival(sequence_number, max(arrived_at, envelope.received_at), max_age)
    check_identity(envelope, suffix=suffix)
    known = catalogue.device_types.get(envelope.device_type)
    if known is None:
        raise PoisonReading("device_type", f"the device type {envelope.device_type} is not in the catalogue")
    payload = _payload(envelope.raw)
    check_text(payload)
    try:
        if payload.startswith(b"["):
            return _readings(_decode_parts(payload), arrival, envelope, known)
        try:
            reading = _reading(payload, arrival, envelope, known)
        except msgspec.DecodeError:
            lines = json_lines(payload)
            if not lines:
                raise
            return _readings(lines, arrival, envelope, known)
        if reading is None:
            raise PoisonReading("metrics", _NOTHING)
        return (reading,)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        refuse_malformed(payload, error)
    except RecursionError as error:
        raise PoisonReading("too_deep", "the payload is nested too deeply") from error


def _readings(
    parts: Sequence[bytes | msgspec.Raw], arrival: Arrival, envelope: Envelope, known: Mapping[str, Metric]
) -> tuple[Reading, ...]:
    """Parse each object of an array or of lines from its own bytes, as if it had been sent by itself."""
    if not 1 <= len(parts) <= MAX_READINGS:
        raise PoisonReading("readings", f"{len(parts)} readings in one message; 1 to {MAX_READINGS} are allowed")
    readings = []
    for number, part in enumerate(parts, start=1):
        try:
            reading = _reading(bytes(part), arrival, envelope, known)
        except PoisonReading as error:
            raise PoisonReading(error.reason, f"reading {number} of {len(parts)}: {error.detail}") from error
        except msgspec.DecodeError as error:
            raise PoisonReading("malformed", f"reading {number} of {len(parts)}: {error}") from error
        if reading is not None:
            readings.append(reading)
    if not readings:
        raise PoisonReading("metrics", _NOTHING)
    return tuple(readings)


def _reading(payload: bytes, arrival: Arrival, envelope: Envelope, known: Mapping[str, Metric]) -> Reading | None:
    """Parse the reading in one object; None if all its metrics are null."""
    try:
        message = _decode_message(payload)
        named = len(message.metrics)
    except msgspec.ValidationError:
        message, named = decode_loosely(payload)
    time, sequence, metrics = message.time, message.sequence, message.metrics
    if not -MAX_FUTURE_MS <= envelope.received_at - time <= MAX_AGE_MS:
        raise _out_of_time(time, received_at=envelope.received_at)
    if arrival.time - time > arrival.max_age:
        raise _expired(time, arrival)
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
    payload = canonical(payload)
    return Reading(
        sequence_number=arrival.sequence_number,
        envelope=envelope,
        arrived_at=arrival.time,
        time=time,
        sequence=sequence,
        metrics=metrics,
        order=(time, -1 if sequence is None else sequence),
        # With a sequence number: 2 bytes of offset in the minute and 7 bytes of sequence, so it is exact.
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


def _expired(time: int, arrival: Arrival) -> PoisonReading:
    """Refuse a record that came into the stream again too late: its minute, and so its hour, may have expired."""
    days = arrival.max_age // 86_400_000
    return PoisonReading(
        "old",
        f"the device time {time} is more than {days} days before {arrival.time}, when the stream accepted the record",
    )


def _hashed(payload: bytes) -> bytes:
    """Make the identity of a message without a sequence number."""
    return _NO_SEQUENCE + hashlib.sha256(payload).digest()[:8]
