"""A maker's list of any length: one certificate whose key and serial number are laid over for each device."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SERIAL = 0x5A5A_5A5A_5A5A_5A5A


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
        .serial_number(_SERIAL)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    before, _, rest = pattern.partition(_SERIAL.to_bytes(8, "big"))
    between, _, after = rest.partition(_point(key))
    with path.open("wb") as file:
        file.write(b"name,certificate\n")
        for number, thing in enumerate(names, start=1):
            point = _point(ec.generate_private_key(ec.SECP256R1()))
            serial = (_SERIAL + number).to_bytes(8, "big")
            der = b"".join((before, serial, between, point, after))
            file.write(thing.encode() + b"," + base64.b64encode(der) + b"\n")


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
