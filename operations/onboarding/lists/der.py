"""Reads single parts of certificates and CSRs from their DER, where a library refuses the whole for one odd part.

Makers put strings into names that X.690 does not allow there: Microchip's certificates have `eui48_…` as a
PrintableString, whose alphabet has no `_`, in an extension that says nothing about what the certificate may do.
"""

from __future__ import annotations

from collections.abc import Iterator

SEQUENCE, SET, INTEGER, BOOLEAN, BIT_STRING, OCTET_STRING, OID = 0x30, 0x31, 0x02, 0x01, 0x03, 0x04, 0x06
_EXTENSIONS = 0xA3
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
_COMMON_NAME = bytes.fromhex("550403")
_TEXTS = {
    0x0C: "utf-8",
    0x12: "latin-1",
    0x13: "latin-1",
    0x14: "latin-1",
    0x16: "latin-1",
    0x1A: "latin-1",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
"""Encodings of the string types; where a type's alphabet is narrower, what is beyond it is read all the same."""


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


def common_names(name: bytes) -> list[str]:
    """The common names in the DER of a Name. Raises ValueError for what is none, or no text."""
    found = []
    for _, attributes in elements(_only(name, SEQUENCE)):
        for _, attribute in elements(attributes):
            (kind, oid), (tag, value) = elements(attribute)
            if kind == OID and oid == _COMMON_NAME:
                if tag not in _TEXTS:
                    raise ValueError("the common name is no text")
                found.append(value.decode(_TEXTS[tag]))
    return found


def subject_of(signed: bytes) -> bytes:
    """The DER of the subject in a TBSCertificate or a CertificationRequestInfo (RFC 2986, 4.1)."""
    fields = list(elements(_only(signed, SEQUENCE)))
    sequences = [content for tag, content in fields if tag == SEQUENCE]
    # A certificate has signature algorithm, issuer and validity before its subject; a CSR has nothing but its version.
    content = sequences[0 if len(sequences) < 5 else 3]
    return _wrapped(SEQUENCE, content)


def _only(data: bytes, tag: int) -> bytes:
    found = list(elements(data))
    if len(found) != 1 or found[0][0] != tag:
        raise ValueError("not the one element that is to be there")
    return found[0][1]


def _wrapped(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x84]) + size.to_bytes(4, "big")
    return bytes([tag]) + length + content
