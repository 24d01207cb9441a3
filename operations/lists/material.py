"""Check the certificates and CSRs of a list, more strictly than AWS IoT, and detect private keys in it.

Weak, expired and forged material is refused.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from fleet_iot.generator.diagnostics import visible
from fleet_iot.operations.lists.record import Material, RefusedError

# Some parts are read from the DER itself, as the library refuses the whole for one odd part: Microchip's
# certificates have `eui48_…` as a PrintableString, whose alphabet has no `_` (X.690),
# in an extension without meaning here.

SEQUENCE, BOOLEAN, OCTET_STRING, OID = 0x30, 0x01, 0x04, 0x06
_EXTENSIONS = 0xA3
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element. Raises ValueError where the bytes are no DER."""
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
    """Return whether the bytes are one SEQUENCE of whole elements and nothing more. Raises ValueError where they end
    early."""
    found = list(elements(data))
    return len(found) == 1 and found[0][0] == SEQUENCE and all(list(elements(found[0][1])))


def is_authority(tbs_certificate: bytes) -> bool:
    """Return the `cA` of BasicConstraints, or false without it; no other extension is read.

    Args: tbs_certificate: the DER of a TBSCertificate (RFC 5280, 4.1). Raises ValueError for anything else, and for a
    repeated extension.
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
            raise ValueError("one extension is repeated")
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


if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

CERTIFICATE_LIMIT = 65_536
"""Characters of PEM: https://docs.aws.amazon.com/iot/latest/apireference/API_RegisterCertificateWithoutCA.html"""
REQUEST_LIMIT = 4_096
"""Characters of PEM: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateCertificateFromCsr.html"""
RSA_BITS = 2_048
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Allowed by AWS IoT: https://docs.aws.amazon.com/iot/latest/developerguide/x509-client-certs.html"""

_WEAK_HASHES = (hashes.SHA1, hashes.MD5)
_ASK_MAKER = "ask the maker for the entry again"
_BEGIN = b"-----BEGIN"
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_PATH = re.compile(rb"[\w./\\: -]+\.(?:pem|crt|cer|cert|der|csr|req|p7b|txt)", re.IGNORECASE)
_SPACE = b" \t\r\n\v\f"


def read_material(
    certificate: bytes | None,
    request: bytes | None,
    *,
    now: datetime.datetime,
    issuers: Sequence[x509.Certificate] = (),
) -> Material:
    """Return the material of an entry: PEM, or base64 of DER or PEM, or DER. Raises RefusedError with reason and
    remedy.

    With both, the certificate counts and must have the CSR's key. A certificate may be followed by the authorities
    that issued it. With `issuers`, one of them must have signed it, or the last of those authorities.
    """
    if certificate is None and request is None:
        raise RefusedError(
            "contains neither certificate nor CSR", "add one of them; without it nothing proves the device"
        )
    if certificate is None:
        assert request is not None  # noqa: S101 - said above
        return _request_material(_load_request(request))
    own, *chain = _load_certificates(certificate)
    material = _certificate_material(own, chain, now, issuers)
    if request is not None and _request_material(_load_request(request)).key != material.key:
        raise RefusedError(
            "the certificate's key is not the CSR's", "find out which of the two is the device's, and hand in that one"
        )
    return material


def read_certificate(data: bytes) -> x509.Certificate:
    """Read one certificate of an authority or signer, in PEM or DER, with every part of it. Raises ValueError."""
    load = x509.load_pem_x509_certificate if _BEGIN in data else x509.load_der_x509_certificate
    try:
        return _read(load(data))
    except Exception as error:
        raise ValueError(_first_line(error)) from None


def _read(certificate: x509.Certificate) -> x509.Certificate:
    """Return the certificate with each part decoded that is used later: the library decodes lazily, and raises then.
    Extensions are left out: makers' are often malformed, and only one of them is used."""
    with _reading("its public key"):
        certificate.public_key()
    for part in ("issuer", "subject", "serial_number", "not_valid_before_utc", "not_valid_after_utc"):
        with _reading(f"its {part.removesuffix('_utc').replace('_', ' ')}"):
            getattr(certificate, part)
    return certificate


def is_issued(certificate: bytes, authority: bytes) -> bool:
    """Return whether one PEM block is a certificate that the other, an authority's, has signed."""
    try:
        issuer = _load_certificates(authority)[0]
        return _is_issued_by(_load_certificates(certificate)[0], issuer) and _is_authority(issuer)
    except RefusedError:
        return False


def key_digest(key: CertificatePublicKeyTypes) -> bytes:
    """Return the SHA-256 of the public key's SubjectPublicKeyInfo."""
    info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).digest()


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn any error of the library into a refusal: a bad row must not stop its list."""
    try:
        yield
    except RefusedError:
        raise
    except UnsupportedAlgorithm as error:
        raise RefusedError(f"{what} uses what cannot be checked: {_first_line(error)}", _ASK_MAKER) from None
    except Exception as error:
        detail = f": {_first_line(error)}" if str(error) else ""
        raise RefusedError(f"{what} cannot be read{detail}", _ASK_MAKER) from None


def _first_line(error: Exception) -> str:
    return visible((str(error).splitlines() or [""])[0][:120])


def _certificate_material(
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    now: datetime.datetime,
    issuers: Sequence[x509.Certificate],
) -> Material:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end < now:
        raise RefusedError(f"the certificate expired on {end:%Y-%m-%d}", "give the device a new one")
    if start > now:
        raise RefusedError(
            f"the certificate is not valid before {start:%Y-%m-%d}", "onboard it then, or check this machine's clock"
        )
    if _is_authority(certificate):
        raise RefusedError(
            "the certificate is an authority's, not a device's",
            "leave it out of the list; --issuer FILE is for authorities",
        )
    _check_hash(certificate)
    key = _checked_key(certificate)
    _check_chain(certificate, chain)
    if issuers and not _is_trusted((certificate, *chain), now, issuers):
        raise RefusedError(
            f"the certificate is not signed by a given issuer (it names {_issuer_name(certificate)})",
            "it may be forged: ask the maker; or give its true issuer too: --issuer FILE",
        )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Material(
        is_certificate=True,
        der=der,
        fingerprint=hashlib.sha256(der).digest(),
        key=key,
        common_name=_common_name(certificate),
    )


def _request_material(request: x509.CertificateSigningRequest) -> Material:
    _check_hash(request)
    key = _checked_key(request)
    with _reading("the CSR's signature"):
        if not request.is_signature_valid:
            raise RefusedError("the CSR's signature does not verify", "have the device make it again: it was changed")
    der = request.public_bytes(serialization.Encoding.DER)
    return Material(
        is_certificate=False,
        der=der,
        fingerprint=hashlib.sha256(der).digest(),
        key=key,
        common_name=_common_name(request),
    )


def _load_certificates(given: bytes) -> list[x509.Certificate]:
    """Return the device's certificate, and those of authorities that follow it."""
    if len(given) > CERTIFICATE_LIMIT:
        raise RefusedError(f"the certificate has more than {CERTIFICATE_LIMIT:,} characters", _ASK_MAKER)
    with _reading("the certificate"):
        try:
            found = _ders(given, b"CERTIFICATE", b"X509 CERTIFICATE")
            return [_read(x509.load_der_x509_certificate(der)) for der in found]
        except ValueError as error:
            raise _unreadable("the certificate", found[0], error) from None


def _load_request(given: bytes) -> x509.CertificateSigningRequest:
    if len(given) > REQUEST_LIMIT:
        raise RefusedError(f"the CSR has more than {REQUEST_LIMIT:,} characters", "make it with fewer attributes")
    found = _ders(given, b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST")
    if len(found) > 1:
        raise RefusedError("contains more than one CSR", "give only the device's own CSR")
    with _reading("the CSR"):
        try:
            return x509.load_der_x509_csr(found[0])
        except ValueError as error:
            raise _unreadable("the CSR", found[0], error) from None


def _unreadable(what: str, der: bytes, error: ValueError) -> RefusedError:
    """Say whether bytes are missing or wrong, or all are there and some part violates the standard."""
    try:
        is_whole = is_one_element(der)
    except ValueError:
        is_whole = False
    if not is_whole:
        return RefusedError(f"{what} cannot be read: truncated or damaged", _ASK_MAKER)
    places = re.findall(r'"([A-Za-z:_]+)"', str(error))
    where = f" ({places[-1]})" if places else f" ({_first_line(error)})"
    return RefusedError(
        f"{what} cannot be read: a part of it is not as the standard has it, or damaged{where}",
        "ask the maker for one whose names are of the types that RFC 5280 has",
    )


def _ders(given: bytes, *labels: bytes) -> list[bytes]:
    """Return the DER in PEM blocks with one of the labels, in bare base64 of it or of PEM, or as it is."""
    text = given.strip()
    if b"PRIVATE KEY" in text:
        raise RefusedError(
            "contains a private key", "delete the key from the list and inform its sender: that device needs a new one"
        )
    if text[:1] == b"\x30" and text[1:2] >= b"\x80":
        return [given]
    if _BEGIN not in text:
        if _PATH.fullmatch(text):
            shown = visible(text.decode(errors="replace")[:80])
            raise RefusedError(
                f"is the path of a file, {shown!r}, not a {labels[0].decode().lower()}",
                "put the text of that file into the list, or give the folder with the files",
            )
        try:
            text = base64.b64decode(_without_escapes(text).translate(None, _SPACE), validate=True)
        except binascii.Error:
            raise RefusedError("is no base64: truncated or mis-encoded", _ASK_MAKER) from None
        if not text.lstrip().startswith(_BEGIN):
            return [text]
        if b"PRIVATE KEY" in text:
            return _ders(text, *labels)
    return [_block_der(found, labels) for found in _blocks(_without_escapes(text), labels)]


def _without_escapes(text: bytes) -> bytes:
    """Return the text with the line breaks that were written as `\\n`."""
    return text.replace(b"\\r", b"").replace(b"\\n", b"\n") if b"\\" in text else text


def _blocks(text: bytes, labels: tuple[bytes, ...]) -> list[re.Match[bytes]]:
    found = list(_BLOCK.finditer(text))
    wanted = labels[0].decode().lower()
    if len(found) != text.count(_BEGIN) or not found:
        if any(b"-----BEGIN %s-----" % label in text for label in labels):
            raise RefusedError("its PEM block has no end: truncated", _ASK_MAKER)
        raise RefusedError(f"is no PEM block of a {wanted}", _ASK_MAKER)
    others = [each[1] for each in found if each[1] not in labels]
    if b"PKCS7" in others:
        raise RefusedError(
            "is a PKCS #7 bundle (p7b), which is not read",
            "extract the device's certificate: openssl pkcs7 -print_certs",
        )
    if others:
        raise RefusedError(f"is no PEM block of a {wanted}, but of a {others[0].decode().lower()}", _ASK_MAKER)
    return found


def _block_der(found: re.Match[bytes], labels: tuple[bytes, ...]) -> bytes:
    try:
        return base64.b64decode(found[2].translate(None, _SPACE), validate=True)
    except binascii.Error:
        raise RefusedError("is no base64: truncated or mis-encoded", _ASK_MAKER) from None


def _check_hash(signed: x509.Certificate | x509.CertificateSigningRequest) -> None:
    try:
        used = signed.signature_hash_algorithm
    except Exception:
        raise RefusedError("is signed with an unknown algorithm", "use SHA-256 with RSA or ECDSA") from None
    if isinstance(used, _WEAK_HASHES):
        raise RefusedError(f"is signed with {used.name.upper()}, which can be forged", "have it signed with SHA-256")


def _checked_key(signed: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """Return the digest of a public key that AWS IoT accepts."""
    with _reading("its public key"):
        key = signed.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            if key.key_size < RSA_BITS:
                raise RefusedError(
                    f"its RSA key has {key.key_size} bits, fewer than {RSA_BITS:,}", "give the device a stronger key"
                )
        elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
            raise RefusedError(
                f"its key is of a kind that AWS IoT does not accept ({_kind_of(key)})",
                "use RSA from 2,048 bits, or P-256",
            )
        return key_digest(key)


def _kind_of(key: object) -> str:
    return (
        key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__.removesuffix("PublicKey")
    )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
    except Exception:
        # Some other extension is not as the standard has it; makers' are often not. Only this one is of interest.
        with _reading("its extensions"):
            return is_authority(certificate.tbs_certificate_bytes)


def _check_chain(certificate: x509.Certificate, chain: Sequence[x509.Certificate]) -> None:
    """Verify that each certificate was issued by the next one."""
    for number, issuer in enumerate(chain, start=2):
        if not (_is_issued_by(certificate, issuer) and _is_authority(issuer)):
            raise RefusedError(
                f"contains more than one PEM block, and number {number} did not issue the one before it",
                "give the device's own certificate first and its issuers after it, or only that one",
            )
        certificate = issuer


def _is_trusted(
    certificates: Sequence[x509.Certificate], now: datetime.datetime, issuers: Sequence[x509.Certificate]
) -> bool:
    """Return whether a given issuer signed the first certificate, or one of the authorities that vouch for it."""
    for at, certificate in enumerate(certificates):
        if at and not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            return False
        if any(_is_issued_by(certificate, issuer) for issuer in issuers):
            return True
    return False


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # InvalidSignature, and what odd keys, names and algorithms make of it
        return False
    return True


def _issuer_name(certificate: x509.Certificate) -> str:
    try:
        return visible(certificate.issuer.rfc4514_string())
    except Exception:
        return "an unreadable issuer"


def _common_name(signed: x509.Certificate | x509.CertificateSigningRequest) -> str | None:
    """Return the subject's one common name, or none."""
    with _reading("its subject"):
        found = {str(each.value) for each in signed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    if len(found) > 1:
        raise RefusedError("has several common names", "a device has one name: ask the maker for another certificate")
    return next(iter(found), None)


_LABEL = b"PRIVATE KEY"
_RUN = re.compile(rb"(?<![A-Za-z0-9+/_-])(?:M[A-Za-z0-9+/_-]{15,}|LS0t[A-Za-z0-9+/_-]{12,}|30[0-9A-Fa-f]{30,})")
"""Possible base64 of DER or PEM, or hexadecimal of DER."""
_KEY_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_PBE = (bytes.fromhex("2a864886f70d0105"), bytes.fromhex("2a864886f70d010c01"))
_LOOKED_AT = 96


def holds_private_key(raw: bytes) -> bool:
    """Return whether these bytes contain a private key."""
    if _LABEL in raw or _is_private(raw[:_LOOKED_AT]):
        return True
    return any(_LABEL in start or _is_private(start) for start in _decoded(raw, _LOOKED_AT))


def digest_of_public_key(raw: bytes) -> bytes | None:
    """Return the digest of the public key that belongs to the first private key in these bytes which can be read."""
    texts = [raw, raw.replace(rb"\r", b"").replace(rb"\n", b"\n")]
    found = [block for text in texts for block in _KEY_BLOCK.finditer(text)]
    for data in (*(block[0] for block in found), raw, *_decoded(raw, None)):
        load = serialization.load_pem_private_key if _LABEL in data else serialization.load_der_private_key
        try:
            return key_digest(load(data, None).public_key())  # type: ignore[arg-type]
        except Exception:  # noqa: S112 - encrypted, damaged or none: the next may be one
            continue
    return None


def is_public_key(text: str) -> bool:
    """Return whether a text is a public key, in PEM or as base64 of DER (SubjectPublicKeyInfo)."""
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
    """Return whether bytes begin as PKCS #8, PKCS #1, SEC 1, encrypted PKCS #8 or PKCS #12 do."""
    inner = _content(start)
    if inner[:2] == b"\x02\x01":
        version, following = inner[2:3], inner[3:]
        if version == b"\x03":
            return following[:1] == b"\x30"
        is_pkcs8 = following[:1] == b"\x30" and _content(following)[:1] == b"\x06"
        return version in (b"\0", b"\x01") and (is_pkcs8 or following[:1] in (b"\x02", b"\x04"))
    return inner[:1] == b"\x30" and _content(inner)[:1] == b"\x06" and _content(inner)[2:].startswith(_PBE)


def _content(data: bytes) -> bytes:
    """Return the content of a SEQUENCE, as far as it goes."""
    if len(data) < 2 or data[0] != 0x30:
        return b""
    return data[2 + (data[1] & 0x7F if data[1] & 0x80 else 0) :]
