"""Notices private keys in what a list holds, in whatever form: PEM, DER, their base64 or hexadecimal, PKCS #12."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from cryptography.hazmat.primitives import serialization

from fleet_iot.operations.lists.material import key_digest

_LABEL = b"PRIVATE KEY"
_RUN = re.compile(rb"(?<![A-Za-z0-9+/_-])(?:M[A-Za-z0-9+/_-]{15,}|LS0t[A-Za-z0-9+/_-]{12,}|30[0-9A-Fa-f]{30,})")
"""What may be base64 of DER or of PEM, or the hexadecimal of DER."""
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_PBE = (bytes.fromhex("2a864886f70d0105"), bytes.fromhex("2a864886f70d010c01"))
_LOOKED_AT = 96


def holds_private_key(raw: bytes) -> bool:
    """Whether a private key stands in these bytes."""
    if _LABEL in raw or _is_private(raw[:_LOOKED_AT]):
        return True
    return any(_LABEL in start or _is_private(start) for start in _decoded(raw, _LOOKED_AT))


def digest_of_public_key(raw: bytes) -> bytes | None:
    """The digest of the public key that belongs to the first private key in these bytes which can be read."""
    texts = [raw, raw.replace(rb"\r", b"").replace(rb"\n", b"\n")]
    found = [block for text in texts for block in _BLOCK.finditer(text)]
    for data in (*(block[0] for block in found), raw, *_decoded(raw, None)):
        load = serialization.load_pem_private_key if _LABEL in data else serialization.load_der_private_key
        try:
            return key_digest(load(data, None).public_key())  # type: ignore[arg-type]
        except Exception:  # noqa: S112 - encrypted, damaged or none: the next may be one
            continue
    return None


def is_public_key(text: str) -> bool:
    """Whether a text is a public key, in PEM or as base64 of DER (SubjectPublicKeyInfo)."""
    if "PUBLIC KEY-----" in text:
        return _LABEL.decode() not in text
    start = next(_decoded(text.strip().encode(), _LOOKED_AT), b"")
    inner = _content(start)
    return inner[:1] == b"\x30" and _content(inner)[:1] == b"\x06" and not _is_private(start)


def _decoded(raw: bytes, size: int | None) -> Iterator[bytes]:
    for found in _RUN.finditer(raw):
        text = found[0][: size and size // 3 * 4]
        try:
            if text.startswith(b"30") and re.fullmatch(rb"[0-9A-Fa-f]+", text):
                yield binascii.unhexlify(text[: len(text) // 2 * 2])
            else:
                yield base64.b64decode(text[: len(text) // 4 * 4] if size else text + b"=" * (-len(text) % 4), b"-_")
        except (binascii.Error, ValueError):
            continue


def _is_private(start: bytes) -> bool:
    """Whether bytes begin as PKCS #8, PKCS #1, SEC 1, encrypted PKCS #8 or PKCS #12 do."""
    inner = _content(start)
    if inner[:2] == b"\x02\x01":
        version, following = inner[2:3], inner[3:]
        if version == b"\x03":
            return following[:1] == b"\x30"
        is_pkcs8 = following[:1] == b"\x30" and _content(following)[:1] == b"\x06"
        return version in (b"\0", b"\x01") and (is_pkcs8 or following[:1] in (b"\x02", b"\x04"))
    return inner[:1] == b"\x30" and _content(inner)[:1] == b"\x06" and _content(inner)[2:].startswith(_PBE)


def _content(data: bytes) -> bytes:
    """What follows tag and length of a SEQUENCE, as far as it goes."""
    if len(data) < 2 or data[0] != 0x30:
        return b""
    return data[2 + (data[1] & 0x7F if data[1] & 0x80 else 0) :]
