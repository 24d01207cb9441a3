"""What an entry says of its device even where it cannot be onboarded: no other device may get what it names."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from fleet_iot.operations.lists.headings import is_name
from fleet_iot.operations.lists.record import Record, Row

_LONGEST = 160
"""Characters of a value that can be an identity: a thing's name has 128 at most, and may be spelt with blanks."""
_PARTS = re.compile(r"[^,;|\t\r\n\"'{}\[\]]+")
_ENDINGS = re.compile(r"(?:[-_.](?:certificate|cert|crt|csr|pem|req|der|cer))+$", re.IGNORECASE)
_BASE64 = re.compile(rb"(?:MI|LS0tLS1CRUdJTi)[A-Za-z0-9+/\s]{40,}")
"""DER, or PEM, in base64."""
_COMMON_NAME = re.compile(rb"\x06\x03\x55\x04\x03[\x0c\x13\x14\x16]([\x01-\x7f])", re.DOTALL)
"""The object identifier 2.5.4.3, a string type, and the length of what follows (X.520, X.690)."""


def said_of(entry: Record | Row) -> tuple[str, ...]:
    """Every identity of an entry that was read, the common name of its certificate or CSR too."""
    if isinstance(entry, Row):
        names = [entry.material.common_name]
    else:
        names = [entry.common_name, *common_names(entry.certificate or b""), *common_names(entry.request or b"")]
    values = (entry.name, entry.serial, *names, *(value for _, value in (*entry.also, *entry.unknown)))
    return tuple(value for value in values if value)


def is_named(entry: Record | Row) -> bool:
    """Whether an entry says a name or serial that is meant to be a planned thing's."""
    return entry.must_match or any(is_name(heading) for heading, _ in entry.also)


def said_in(raw: bytes, place: str) -> tuple[tuple[str, ...], bool]:
    """What may be an identity in the bytes of an entry that nobody could read, and whether a key of it is a name's."""
    parts = [part.strip() for part in _PARTS.findall(raw.decode(errors="replace"))]
    if place.startswith("file "):
        parts.append(_ENDINGS.sub("", place.removeprefix("file ")))
    values = [part for part in parts if part and len(part) <= _LONGEST]
    return (*values, *common_names(raw)), any(map(is_name, values))


def common_names(given: bytes) -> Iterator[str]:
    """The common names in certificates and CSRs, however damaged: DER, PEM, or base64 of either."""
    yield from _common_names_of(given)
    for found in _BASE64.finditer(given.replace(b"\\r", b"").replace(b"\\n", b"\n")):
        text = b"".join(found[0].split())
        content = base64.b64decode(text[: len(text) // 4 * 4])
        yield from common_names(content) if content.startswith(b"-----BEGIN") else _common_names_of(content)


def _common_names_of(der: bytes) -> Iterator[str]:
    for found in _COMMON_NAME.finditer(der):
        yield der[found.end() : found.end() + found[1][0]].decode(errors="replace")
