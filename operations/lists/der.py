"""Reads single parts of certificates and CSRs from their DER, where a library refuses the whole for one odd part.

Makers put strings into names that X.690 does not allow there: Microchip's certificates have `eui48_…` as a
PrintableString, whose alphabet has no `_`, in an extension that says nothing about what the certificate may do.
"""

from __future__ import annotations

from collections.abc import Iterator

SEQUENCE, BOOLEAN, OCTET_STRING, OID = 0x30, 0x01, 0x04, 0x06
_EXTENSIONS = 0xA3
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element. Raises ValueError where the bytes are no DER."""
    at = 0
    while at < len(data):
        tag = data[at]
        if tag & 0x1F == 0x1F or at + 2 > len(data):
            raise ValueError("an element without length, or with a tag of many bytes")
        length, at = data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4 or at + size > len(data):
                raise ValueError("a length that is none")
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            raise ValueError("an element that ends after its holder")
        yield tag, data[at : at + length]
        at += length


def is_one_element(data: bytes) -> bool:
    """Whether the bytes are one SEQUENCE of whole elements and nothing more. Raises ValueError where they end early."""
    found = list(elements(data))
    return len(found) == 1 and found[0][0] == SEQUENCE and all(list(elements(found[0][1])))


def is_authority(tbs_certificate: bytes) -> bool:
    """The `cA` of BasicConstraints, false without it; no other extension is read.

    Args: tbs_certificate: the DER of a TBSCertificate (RFC 5280, 4.1). Raises ValueError for what is none, and where
    an extension stands twice.
    """
    fields = list(elements(_only(tbs_certificate, SEQUENCE)))
    extensions = next((content for tag, content in fields if tag == _EXTENSIONS), None)
    if extensions is None:
        return False
    seen: dict[bytes, bytes] = {}
    for tag, content in elements(_only(extensions, SEQUENCE)):
        parts = list(elements(content))
        if tag != SEQUENCE or len(parts) < 2 or parts[0][0] != OID or parts[-1][0] != OCTET_STRING:
            raise ValueError("an extension that is none")
        if parts[0][1] in seen:
            raise ValueError("one extension stands in it twice")
        seen[parts[0][1]] = parts[-1][1]
    if _BASIC_CONSTRAINTS not in seen:
        return False
    first = next(elements(_only(seen[_BASIC_CONSTRAINTS], SEQUENCE)), None)
    return first is not None and first[0] == BOOLEAN and first[1] != b"\0"


def _only(data: bytes, tag: int) -> bytes:
    found = list(elements(data))
    if len(found) != 1 or found[0][0] != tag:
        raise ValueError("not the one element that is to be there")
    return found[0][1]
