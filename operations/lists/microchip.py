"""Microchip's manifests: a JSON array of signed entries (JWS), verified against signer certificates that are given.

The protected header names its signer by `x5t#S256`, the SHA-256 of the certificate (RFC 7515, 4.1.8). Signers are never
taken from the list itself: a forger would add forged ones.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.lists.headings import private_key_refusal
from fleet_iot.operations.lists.material import read_certificate
from fleet_iot.operations.lists.record import Fault, Record, RefusedError
from fleet_iot.operations.lists.texts import read_array

_FORGED = "do not use it: it may be forged; ask Microchip for the manifest again"
_ES256_HALF = 32
"""Bytes of r and of s in an ES256 signature (RFC 7518, 3.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A certificate that may sign entries, and when."""

    key: ec.EllipticCurvePublicKey
    not_before: datetime.datetime
    not_after: datetime.datetime


def read_signers(folder: Path) -> dict[str, Signer]:
    """Read signers from the certificates in a folder or file, by `x5t#S256`. Raises EnvironmentFault without one."""
    files = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    signers: dict[str, Signer] = {}
    for file in files:
        try:
            data = file.read_bytes()
            certificate = read_certificate(data)
            key = certificate.public_key()
        except (OSError, ValueError, UnsupportedAlgorithm):
            continue
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            der = certificate.public_bytes(serialization.Encoding.DER)
            signers[_encode(hashlib.sha256(der).digest())] = Signer(
                key=key, not_before=certificate.not_valid_before_utc, not_after=certificate.not_valid_after_utc
            )
    if not signers:
        raise EnvironmentFault(
            f"{folder} contains no certificate of a manifest signer",
            hint="Microchip publishes them; say where they are: --signers FOLDER",
        )
    return signers


def read_microchip(path: Path, signers: Mapping[str, Signer]) -> Iterator[Record | Fault]:
    """Yield the entries whose signature verifies, each with the first certificate of its first key that has one."""
    for number, (entry, raw) in enumerate(read_array(path), start=1):
        place = f"entry {number}"
        try:
            if not isinstance(entry, dict):
                raise RefusedError(str(entry), "ask Microchip for the manifest again")
            payload = _verified(entry, signers)
            certificate = _certificate(payload)
        except RefusedError as refused:
            yield Fault(number=number, place=place, reason=refused.reason, remedy=refused.remedy, raw=raw)
            continue
        serial = payload.get("uniqueId")
        serial = serial.encode(errors="replace").decode() if isinstance(serial, str) and serial else None
        yield Record(number=number, place=place, raw=raw, serial=serial, certificate=certificate)


def _verified(entry: Mapping[str, Any], signers: Mapping[str, Signer]) -> dict[str, Any]:
    """Return the payload, once its signature has verified."""
    try:
        protected, payload, signature = entry["protected"], entry["payload"], _decode(entry["signature"])
        header = json.loads(_decode(protected))
        algorithm, signer_id = header["alg"], header["x5t#S256"]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise RefusedError("is not signed: it is no JWS with alg and x5t#S256", _FORGED) from None
    if algorithm != "ES256" or len(signature) != 2 * _ES256_HALF:
        raise RefusedError(f"is signed with {algorithm!r}, not with ES256", _FORGED)
    signer = signers.get(signer_id) if isinstance(signer_id, str) else None
    if signer is None:
        raise RefusedError("is signed by none of the given signers", f"{_FORGED}, or give it: --signers")
    numbers = (int.from_bytes(signature[at : at + _ES256_HALF], "big") for at in (0, _ES256_HALF))
    try:
        signer.key.verify(
            encode_dss_signature(*numbers), f"{protected}.{payload}".encode("ascii"), ec.ECDSA(hashes.SHA256())
        )
        content = json.loads(_decode(payload))
    except (InvalidSignature, ValueError, AttributeError, RecursionError):
        raise RefusedError("its signature does not verify", _FORGED) from None
    if not isinstance(content, dict):
        raise RefusedError("its payload is no JSON object", _FORGED)
    _check_time(content, signer)
    header = entry.get("header") or {}
    header_id = header.get("uniqueId") if isinstance(header, dict) else ""
    if header_id is not None and header_id != content.get("uniqueId"):
        raise RefusedError("its unsigned header names another device than its payload", _FORGED)
    return content


def _check_time(content: Mapping[str, Any], signer: Signer) -> None:
    """Refuse what was made when its signer's certificate was not valid."""
    try:
        made = datetime.datetime.fromisoformat(str(content["provisioningTimestamp"]))
    except (KeyError, ValueError, OverflowError):
        return
    if made.tzinfo and not signer.not_before <= made <= signer.not_after:
        raise RefusedError(f"was made on {made:%Y-%m-%d}, when its signer's certificate was not valid", _FORGED)


def _certificate(payload: Mapping[str, Any]) -> bytes:
    key_set = payload.get("publicKeySet")
    keys = key_set.get("keys") if isinstance(key_set, dict) else None
    for key in keys if isinstance(keys, list) else ():
        chain = key.get("x5c") if isinstance(key, dict) else None
        if isinstance(key, dict) and "d" in key:
            raise private_key_refusal()
        if isinstance(chain, list) and chain and isinstance(chain[0], str):
            return chain[0].encode(errors="replace")
    raise RefusedError(
        "verifies, but carries no certificate",
        "onboard the device with a CSR of its own, or order parts whose manifest has certificates",
    )


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _decode(value: str) -> bytes:
    """Decode base64url without padding, strictly: two spellings of one payload would make two entries of it."""
    try:
        raw = base64.b64decode(value.encode("ascii") + b"=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from None
    if _encode(raw) != value:
        raise ValueError("not canonical")
    return raw
