"""Envelopes: the topic rule's stamps on a message, and the reasons why a record goes to quarantine."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

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
