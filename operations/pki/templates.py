"""Make CSRs and certificates from DER templates: the builder's output, with another name, key and serial filled in.

A CSR takes 47 us so, and 127 us by the library's builder, which a user notices when keys are made for a plant of
100,000 things (docs/benchmarks.md). Each template is compared with the builder's output, byte by byte, when it is made,
once a process and length of name; where the two differ, the builder is used.
"""

from __future__ import annotations

import datetime
import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

ALGORITHM = ec.ECDSA(hashes.SHA256())
POINT_BYTES = 65
"""An uncompressed P-256 point, with which the PKCS #8 of a key ends (RFC 5915 in RFC 5958)."""

_SERIAL_START = b"\x40"
_SERIAL_RANDOM = 15
SERIAL_BYTES = len(_SERIAL_START) + _SERIAL_RANDOM
"""120 random bits after a first byte that makes each number positive and equally long; 64 are required:
https://cabforum.org/working-groups/server/baseline-requirements/requirements/#71-certificate-profile"""

_DIGESTS: dict[str, hashes.SHA256 | hashes.SHA384] = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384()}
_IDENTIFIERS = {
    "sha256": bytes.fromhex("300a06082a8648ce3d040302"),
    "sha384": bytes.fromhex("300a06082a8648ce3d040303"),
}
"""ecdsa-with-SHA256 and -SHA384: https://www.rfc-editor.org/rfc/rfc5758#section-3.2"""
_DER, _PKCS8, _PLAIN = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()


@dataclass(frozen=True, slots=True)
class Pattern:
    """DER around the places of values whose lengths never differ, as a format of bytes: it is filled in one step."""

    template: bytes

    def fill(self, *values: bytes) -> bytes:
        """Return the bytes with these values in their places."""
        return self.template % values


def pattern_of(sample: bytes, *values: bytes) -> Pattern:
    """Return the pattern of a sample that contains each value once, in this order. Raises ValueError where it does
    not."""
    parts = []
    for value in values:
        before, found, sample = sample.partition(value)
        if not found or value in sample:
            raise ValueError("the sample does not contain a value exactly once")
        parts.append(before)
    return Pattern(b"%b".join(part.replace(b"%", b"%%") for part in (*parts, sample)))


def signed(content: bytes, signature: bytes, digest: str = "sha256") -> bytes:
    """Return the DER of a CSR or certificate: content, algorithm (ECDSA with this digest) and signature."""
    head, middle = _frame(len(content), len(signature), digest)
    return b"".join((head, content, middle, signature))


@functools.lru_cache(maxsize=1024)
def _frame(content: int, signature: int, digest: str) -> tuple[bytes, bytes]:
    """Return what precedes a content and a signature of these lengths."""
    middle = _IDENTIFIERS[digest] + b"\x03" + der_length(signature + 1) + b"\x00"
    return b"\x30" + der_length(content + len(middle) + signature), middle


def digest_of(curve: ec.EllipticCurve) -> hashes.SHA256 | hashes.SHA384:
    """Return the digest that a key of this curve signs with: one of the curve's strength."""
    return _DIGESTS[curve.name]


def key_and_point(key: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    """Return the key as PKCS #8, and its public point, which that ends with."""
    der = key.private_bytes(_DER, _PKCS8, _PLAIN)
    return der, der[-POINT_BYTES:]


def request_der(name: str, key: ec.EllipticCurvePrivateKey, point: bytes | None = None) -> bytes:
    """Return a CSR whose common name is `name`; `point` is the key's, where it is known already."""
    pattern = _request_pattern(len(name)) if name.isascii() and isinstance(key.curve, ec.SECP256R1) else None
    if pattern is None:
        return built_request(name, key).public_bytes(serialization.Encoding.DER)
    content = pattern.fill(name.encode(), point or key_and_point(key)[1])
    return signed(content, key.sign(content, ALGORITHM))


def built_request(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateSigningRequest:
    """Return the CSR that the library's builder makes."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """The signer of certificates (with a P-256 or P-384 key), and their validity."""

    key: ec.EllipticCurvePrivateKey
    name: x509.Name
    not_before: datetime.datetime
    not_after: datetime.datetime


class CertificateMaker:
    """Device certificates of one issuer: end entities that authenticate as TLS clients."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._digest = digest_of(issuer.key.curve)
        self._algorithm = ec.ECDSA(self._digest)
        self._sign = issuer.key.sign
        self._authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        self._patterns: dict[int, Pattern | None] = {}

    def certificate(self, name: str, point: bytes) -> bytes:
        """Return the DER of a certificate for the P-256 key with this public point, under a random serial number."""
        serial = _SERIAL_START + os.urandom(_SERIAL_RANDOM)
        length = len(name)
        if length not in self._patterns:
            self._patterns[length] = self._pattern(length)
        pattern = self._patterns[length] if name.isascii() else None
        if pattern is None:
            return self.built(name, point, serial).public_bytes(serialization.Encoding.DER)
        content = pattern.fill(serial, name.encode(), point)
        return signed(content, self._sign(content, self._algorithm), self._digest.name)

    def certificate_of(self, name: str, key: CertificatePublicKeyTypes) -> bytes:
        """Return the DER of a certificate for a key of any kind."""
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            return self.certificate(name, point_of(key))
        serial = _SERIAL_START + os.urandom(_SERIAL_RANDOM)
        return self.built(name, key, serial).public_bytes(serialization.Encoding.DER)

    def built(self, name: str, key: bytes | CertificatePublicKeyTypes, serial: bytes) -> x509.Certificate:
        """Return the certificate that the library's builder makes; a key in bytes is the point of a P-256 key."""
        if isinstance(key, bytes):
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._issuer.name)
            .public_key(key)
            .serial_number(int.from_bytes(serial, "big"))
            .not_valid_before(self._issuer.not_before)
            .not_valid_after(self._issuer.not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(self._authority, critical=False)
            .sign(self._issuer.key, self._digest)
        )

    def _pattern(self, length: int) -> Pattern | None:
        """Return the pattern for names of this length; None where the builder makes anything else."""
        samples = []
        for letter in "xy":
            point, serial = _new_point(), _SERIAL_START + os.urandom(_SERIAL_RANDOM)
            samples.append((serial, letter * length, point, self.built(letter * length, point, serial)))
        (serial, name, point, built), (other_serial, other_name, other_point, other) = samples
        try:
            pattern = pattern_of(built.tbs_certificate_bytes, serial, name.encode(), point)
        except ValueError:
            return None
        content = pattern.fill(other_serial, other_name.encode(), other_point)
        return pattern if signed(content, other.signature, self._digest.name) == other.public_bytes(_DER) else None


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the key's uncompressed point."""
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def key_usage(*uses: str) -> x509.KeyUsage:
    """Return the extension for exactly these uses: `digital_signature`, `key_cert_sign`, `crl_sign`."""
    return x509.KeyUsage(
        digital_signature="digital_signature" in uses,
        key_cert_sign="key_cert_sign" in uses,
        crl_sign="crl_sign" in uses,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


@functools.cache
def _request_pattern(length: int) -> Pattern | None:
    """Return the pattern of CSRs for names of this length; None where the builder makes anything else."""
    key, other_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    sample, other = built_request("x" * length, key), built_request("y" * length, other_key)
    try:
        pattern = pattern_of(sample.tbs_certrequest_bytes, b"x" * length, key_and_point(key)[1])
    except ValueError:
        return None
    content = pattern.fill(b"y" * length, key_and_point(other_key)[1])
    return pattern if signed(content, other.signature) == other.public_bytes(_DER) else None


def _new_point() -> bytes:
    return point_of(ec.generate_private_key(ec.SECP256R1()).public_key())


def der_length(number: int) -> bytes:
    """Return a DER length."""
    if number < 0x80:
        return bytes((number,))
    size = (number.bit_length() + 7) // 8
    return bytes((0x80 | size,)) + number.to_bytes(size, "big")
