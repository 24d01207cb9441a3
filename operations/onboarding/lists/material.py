"""Looks at certificates and CSRs as AWS IoT would, and more strictly: weak, expired and forged ones are refused."""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from operations.onboarding.lists.record import Material, RefusedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

CERTIFICATE_LIMIT = 65_536
"""Characters of PEM: https://docs.aws.amazon.com/iot/latest/apireference/API_RegisterCertificateWithoutCA.html"""
REQUEST_LIMIT = 4_096
"""Characters of PEM: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateCertificateFromCsr.html"""
RSA_BITS = 2_048
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""What AWS IoT takes: https://docs.aws.amazon.com/iot/latest/developerguide/x509-client-certs.html"""

_WEAK_HASHES = (hashes.SHA1, hashes.MD5)
_ASK_MAKER = "ask the maker for the entry anew"
_BEGIN = b"-----BEGIN"


def read_material(
    certificate: bytes | None,
    request: bytes | None,
    *,
    now: datetime.datetime,
    issuers: Sequence[x509.Certificate] = (),
) -> Material:
    """The material of an entry, PEM or base64 of DER. Raises RefusedError with reason and remedy.

    With both, the certificate counts and has to bear the CSR's key. With `issuers`, one of them must have signed it.
    """
    if certificate is None and request is None:
        raise RefusedError("holds neither certificate nor CSR", "add one of them; without it nothing proves the device")
    if certificate is None:
        assert request is not None  # noqa: S101 - said above
        return _request_material(_load_request(request))
    material = _certificate_material(_load_certificate(certificate), now, issuers)
    if request is not None and _request_material(_load_request(request)).key != material.key:
        raise RefusedError(
            "the certificate's key is not the CSR's", "find out which of the two is the device's, and hand in that one"
        )
    return material


def key_digest(key: CertificatePublicKeyTypes) -> bytes:
    """SHA-256 of the public key's SubjectPublicKeyInfo."""
    info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).digest()


def _certificate_material(
    certificate: x509.Certificate, now: datetime.datetime, issuers: Sequence[x509.Certificate]
) -> Material:
    if certificate.not_valid_after_utc < now:
        raise RefusedError(
            f"the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}", "give the device a new one"
        )
    if certificate.not_valid_before_utc > now:
        raise RefusedError(
            f"the certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}",
            "onboard it then, or check this machine's clock",
        )
    if _is_authority(certificate):
        raise RefusedError(
            "the certificate is an authority's, not a device's", "leave it out of the list; --issuer takes authorities"
        )
    _check_hash(certificate)
    key = _checked_key(certificate)
    if issuers and not any(_is_issued_by(certificate, issuer) for issuer in issuers):
        raise RefusedError(
            f"the certificate is not signed by a given issuer (it names {certificate.issuer.rfc4514_string()})",
            "it may be forged: ask the maker; or give its true issuer too: --issuer FILE",
        )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Material(
        is_certificate=True,
        der=der,
        fingerprint=hashlib.sha256(der).digest(),
        key=key_digest(key),
        common_name=_common_name(certificate.subject),
    )


def _request_material(request: x509.CertificateSigningRequest) -> Material:
    _check_hash(request)
    key = _checked_key(request)
    if not request.is_signature_valid:
        raise RefusedError("the CSR's signature does not verify", "have the device make it anew: it was changed")
    der = request.public_bytes(serialization.Encoding.DER)
    return Material(
        is_certificate=False,
        der=der,
        fingerprint=hashlib.sha256(der).digest(),
        key=key_digest(key),
        common_name=_common_name(request.subject),
    )


def _load_certificate(given: bytes) -> x509.Certificate:
    if len(given) > CERTIFICATE_LIMIT:
        raise RefusedError(f"the certificate has more than {CERTIFICATE_LIMIT:,} characters", _ASK_MAKER)
    der = _der(given, b"CERTIFICATE")
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, UnsupportedAlgorithm):
        raise RefusedError("the certificate cannot be read: truncated or damaged", _ASK_MAKER) from None


def _load_request(given: bytes) -> x509.CertificateSigningRequest:
    if len(given) > REQUEST_LIMIT:
        raise RefusedError(f"the CSR has more than {REQUEST_LIMIT:,} characters", "make it with fewer attributes")
    der = _der(given, b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST")
    try:
        return x509.load_der_x509_csr(der)
    except (ValueError, UnsupportedAlgorithm):
        raise RefusedError("the CSR cannot be read: truncated or damaged", _ASK_MAKER) from None


def _der(given: bytes, *labels: bytes) -> bytes:
    """The DER in a PEM block with one of the labels, or in bare base64."""
    text = given.strip()
    if b"PRIVATE KEY-----" in text:
        raise RefusedError(
            "holds a private key", "delete the key from the list and tell its sender: that device needs a new one"
        )
    if _BEGIN in text:
        if text.count(_BEGIN) > 1:
            raise RefusedError("holds more than one PEM block", "give each device's own certificate alone")
        label = next((each for each in labels if text.startswith(b"-----BEGIN %s-----" % each)), None)
        if label is None:
            raise RefusedError(f"is no PEM block of a {labels[0].decode().lower()}", _ASK_MAKER)
        if not text.endswith(b"-----END %s-----" % label):
            raise RefusedError("its PEM block has no end: truncated", _ASK_MAKER)
        text = text[len(label) + 16 : -len(label) - 14]
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        raise RefusedError("is no base64: truncated or mis-encoded", _ASK_MAKER) from None


def _check_hash(signed: x509.Certificate | x509.CertificateSigningRequest) -> None:
    try:
        used = signed.signature_hash_algorithm
    except UnsupportedAlgorithm:
        raise RefusedError("is signed with an unknown algorithm", "use SHA-256 with RSA or ECDSA") from None
    if isinstance(used, _WEAK_HASHES):
        raise RefusedError(f"is signed with {used.name.upper()}, which can be forged", "have it signed with SHA-256")


def _checked_key(signed: x509.Certificate | x509.CertificateSigningRequest) -> CertificatePublicKeyTypes:
    try:
        key = signed.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise RefusedError("its public key cannot be read", _ASK_MAKER) from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < RSA_BITS:
            raise RefusedError(
                f"its RSA key has {key.key_size} bits, fewer than {RSA_BITS:,}", "give the device a stronger key"
            )
    elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise RefusedError("its key is of a kind that AWS IoT does not take", "use RSA from 2,048 bits, or P-256")
    return key


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
    except ValueError:
        raise RefusedError("its extensions cannot be read", _ASK_MAKER) from None


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _common_name(name: x509.Name) -> str | None:
    try:
        found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return None
    return str(found[0].value) if found else None
