"""CSRs and certificates from DER templates: what the library's builder makes once, with other names and keys laid over.

A builder takes many times a signature's time; of what it makes, all but the signature is known before. A template is
held against the builder when it is made; where the two differ in a byte, the builder does the work.
"""

from __future__ import annotations

import datetime
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ALGORITHM = ec.ECDSA(hashes.SHA256())
SERIAL_BYTES = 16
"""127 random bits, positive and without a leading zero: https://www.rfc-editor.org/rfc/rfc5280#section-4.1.2.2"""
POINT_BYTES = 65
"""An uncompressed P-256 point, with which the PKCS #8 of a key ends (RFC 5915 in RFC 5958)."""

_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_NO_ENCRYPTION = serialization.NoEncryption()


@dataclass(frozen=True, slots=True)
class Pattern:
    """DER around the places of values whose lengths never differ."""

    parts: tuple[bytes, ...]

    def fill(self, *values: bytes) -> bytes:
        """The bytes with these values in their places."""
        pieces = [self.parts[0]]
        for value, part in zip(values, self.parts[1:], strict=True):
            pieces += (value, part)
        return b"".join(pieces)


def pattern_of(sample: bytes, *values: bytes) -> Pattern:
    """The pattern of a sample that holds each value once, in this order. Raises ValueError where it does not."""
    parts = []
    for value in values:
        before, found, sample = sample.partition(value)
        if not found or value in sample:
            raise ValueError("a value does not stand in the sample exactly once")
        parts.append(before)
    return Pattern((*parts, sample))


def signed(content: bytes, signature: bytes) -> bytes:
    """The DER of content, algorithm (ECDSA with SHA-256) and signature: what both CSRs and certificates are."""
    body = content + _ECDSA_SHA256 + b"\x03" + _length(len(signature) + 1) + b"\x00" + signature
    return b"\x30" + _length(len(body)) + body


def key_and_point(key: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    """The key as PKCS #8, and its public point, which that ends with."""
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, _NO_ENCRYPTION)
    return der, der[-POINT_BYTES:]


def request_der(name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A CSR whose common name is `name`."""
    pattern = _request_pattern(len(name)) if name.isascii() and isinstance(key.curve, ec.SECP256R1) else None
    if pattern is None:
        return built_request(name, key).public_bytes(serialization.Encoding.DER)
    content = pattern.fill(name.encode(), key_and_point(key)[1])
    return signed(content, key.sign(content, ALGORITHM))


def built_request(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateSigningRequest:
    """The same by the library's builder."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who signs certificates, and how long they hold."""

    key: ec.EllipticCurvePrivateKey
    name: x509.Name
    not_before: datetime.datetime
    not_after: datetime.datetime


class CertificateMaker:
    """Device certificates of one issuer: end entities that authenticate as TLS clients."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        self._patterns: dict[int, Pattern | None] = {}

    def certificate(self, name: str, point: bytes) -> bytes:
        """The DER of a certificate for the key with this public point, under a random serial number."""
        serial = os.urandom(SERIAL_BYTES)
        # Never negative, never shorter.
        serial = bytes((serial[0] & 0x7F | 0x40,)) + serial[1:]
        if len(name) not in self._patterns:
            self._patterns[len(name)] = _checked(len(name), self._content) if name.isascii() else None
        pattern = self._patterns[len(name)]
        if pattern is None:
            return self.built(name, point, serial).public_bytes(serialization.Encoding.DER)
        content = pattern.fill(serial, name.encode(), point)
        return signed(content, self._issuer.key.sign(content, ALGORITHM))

    def built(self, name: str, point: bytes, serial: bytes) -> x509.Certificate:
        """The same by the library's builder."""
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._issuer.name)
            .public_key(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point))
            .serial_number(int.from_bytes(serial, "big"))
            .not_valid_before(self._issuer.not_before)
            .not_valid_after(self._issuer.not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(self._authority, critical=False)
            .sign(self._issuer.key, hashes.SHA256())
        )

    def _content(self, name: str, key: ec.EllipticCurvePrivateKey, serial: bytes) -> bytes:
        return self.built(name, key_and_point(key)[1], serial).tbs_certificate_bytes


def _checked(length: int, content: Callable[[str, ec.EllipticCurvePrivateKey, bytes], bytes]) -> Pattern | None:
    """The pattern of names of this length, held against the builder with other values; None where they differ."""
    samples = []
    for letter in "xy":
        key, serial = ec.generate_private_key(ec.SECP256R1()), bytes((0x55,)) + os.urandom(SERIAL_BYTES - 1)
        samples.append((letter * length, key, serial))
    (name, key, serial), (other, other_key, other_serial) = samples
    try:
        pattern = pattern_of(content(name, key, serial), serial, name.encode(), key_and_point(key)[1])
    except ValueError:
        return None
    filled = pattern.fill(other_serial, other.encode(), key_and_point(other_key)[1])
    return pattern if filled == content(other, other_key, other_serial) else None


@functools.cache
def _request_pattern(length: int) -> Pattern | None:
    """The pattern of CSRs for names of this length, held against the builder; None where they differ."""
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    try:
        sample = built_request("x" * length, key).tbs_certrequest_bytes
        pattern = pattern_of(sample, b"x" * length, key_and_point(key)[1])
    except ValueError:
        return None
    filled = pattern.fill(b"y" * length, key_and_point(other)[1])
    return pattern if filled == built_request("y" * length, other).tbs_certrequest_bytes else None


def _length(number: int) -> bytes:
    """A DER length."""
    if number < 0x80:
        return bytes((number,))
    size = (number.bit_length() + 7) // 8
    return bytes((0x80 | size,)) + number.to_bytes(size, "big")
