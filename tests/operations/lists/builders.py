"""Certificates, CSRs and signed manifests for the onboarding tests, each with what a test wants to be different."""

from __future__ import annotations

import base64
import datetime
import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import py7zr
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from fleet_iot.operations.lists.formats import open_source, read_rows
from fleet_iot.operations.lists.record import Fault, Row
from tests.places import PROJECT

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
VENDOR = PROJECT.parent / "shared" / "data" / "vendor"
NO_SAMPLES = "the makers' sample lists are not beside the project (../shared/data/vendor)"

AnyKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def make_certificate(
    name: str | None = "device",
    *,
    key: Any = None,
    signer: AnyKey | None = None,
    issuer: str = "maker",
    start: datetime.datetime = NOW - DAY,
    end: datetime.datetime = NOW + 365 * DAY,
    is_authority: bool = False,
    algorithm: Any = None,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key((key or new_key()).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .sign(signer or new_key(), algorithm or hashes.SHA256())
    )


def pem(signed: x509.Certificate | x509.CertificateSigningRequest) -> str:
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def der(signed: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    return signed.public_bytes(serialization.Encoding.DER)


def make_request(name: str = "device", *, key: Any = None) -> x509.CertificateSigningRequest:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key or new_key(), hashes.SHA256())


def base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


class Signer:
    """A maker that signs manifests as Microchip does."""

    def __init__(self, **certificate: Any) -> None:
        self.key = new_key()
        self.certificate = make_certificate("signer", key=self.key, signer=self.key, **certificate)

    def entry(self, serial: str, *certificates: x509.Certificate, alg: str = "ES256", **more: Any) -> dict[str, Any]:
        """One signed entry of a device with these certificates."""
        chain = [base64.b64encode(der(each)).decode() for each in certificates]
        payload: dict[str, Any] = {"version": 1, "uniqueId": serial, "provisioningTimestamp": "2026-11-23T10:00:00Z"}
        if chain:
            payload["publicKeySet"] = {"keys": [{"kid": "0", "x5c": chain}]}
        thumbprint = base64url(hashlib.sha256(der(self.certificate)).digest())
        protected = base64url(json.dumps({"alg": alg, "typ": "JWT", "x5t#S256": thumbprint}).encode())
        text = base64url(json.dumps(payload | more).encode())
        numbers = decode_dss_signature(self.key.sign(f"{protected}.{text}".encode(), ec.ECDSA(hashes.SHA256())))
        signature = base64url(b"".join(number.to_bytes(32, "big") for number in numbers))
        return {"payload": text, "protected": protected, "header": {"uniqueId": serial}, "signature": signature}

    def write(self, folder: Path) -> Path:
        """Its certificate in a folder, for --signers."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "signer.crt").write_text(pem(self.certificate))
        return folder


def rows_of(path: Path, format_name: str = "auto", **options: Any) -> tuple[list[Row], list[Fault]]:
    """Return the good rows and the faults of a list."""
    found = list(read_rows(open_source(path, format_name=format_name, **options), now=NOW))
    return [each for each in found if isinstance(each, Row)], [each for each in found if isinstance(each, Fault)]


def write(path: Path, *lines: str | bytes) -> Path:
    path.write_bytes(b"".join(line.encode() if isinstance(line, str) else line for line in lines))
    return path


def quoted(text: str) -> str:
    return f'"{text}"'


def cert(name: str = "device", **options: Any) -> str:
    return pem(make_certificate(name, **options))


def packed(members: dict[str, bytes]) -> bytes:
    """An archive with these members."""
    file = io.BytesIO()
    with py7zr.SevenZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(data, name)
    return file.getvalue()


def seven_zip(path: Path, members: dict[str, bytes], *, inner: str = "1_E0E0_Certs.7z") -> Path:
    """An archive in an archive."""
    return write(path, packed({inner: packed(members)}))


_LIST_SERIAL = 0x5A5A_5A5A_5A5A_5A5A


def write_certificate_list(path: Path, names: Iterable[str]) -> None:
    """CSV with a certificate for each name. Their signatures are those of the one: a list's reader does not know its
    issuer, and so cannot check them, but reads all else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a maker")])
    now = datetime.datetime.now(datetime.UTC)
    pattern = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(_LIST_SERIAL)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    before, _, rest = pattern.partition(_LIST_SERIAL.to_bytes(8, "big"))
    between, _, after = rest.partition(_point(key))
    with path.open("wb") as file:
        file.write(b"name,certificate\n")
        for number, thing in enumerate(names, start=1):
            point = _point(ec.generate_private_key(ec.SECP256R1()))
            serial = (_LIST_SERIAL + number).to_bytes(8, "big")
            der = b"".join((before, serial, between, point, after))
            file.write(thing.encode() + b"," + base64.b64encode(der) + b"\n")


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
