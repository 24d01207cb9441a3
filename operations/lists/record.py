"""The entries of a list: records as written, then rows with checked material, or faults with a remedy."""

from __future__ import annotations

from dataclasses import dataclass

RECORD_LIMIT = 131_072
"""Most bytes of one record: a certificate of 65,536 characters, the longest in AWS IoT, a CSR, and identities.
https://docs.aws.amazon.com/iot/latest/apireference/API_RegisterCertificateWithoutCA.html"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One entry as the list has it, not looked into yet.

    `number` counts entries from 1; `place` says where it is; `raw` is the entry in the list's own format. `must_match`:
    the list means its name or serial to be a planned thing's, so no other thing may get the certificate.
    """

    number: int
    place: str
    raw: bytes
    name: str | None = None
    serial: str | None = None
    common_name: str | None = None
    device_type: str | None = None
    certificate: bytes | None = None
    request: bytes | None = None
    must_match: bool = False
    also: tuple[tuple[str, str], ...] = ()
    unknown: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """A device's key material: the DER of its certificate or of its CSR; both are public.

    `fingerprint` is the SHA-256 of the DER (of a certificate: its id in AWS IoT), `key` that of the public key.
    """

    is_certificate: bool
    der: bytes
    fingerprint: bytes
    key: bytes
    common_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A good entry."""

    number: int
    place: str
    raw: bytes
    name: str | None
    serial: str | None
    device_type: str | None
    must_match: bool
    material: Material
    also: tuple[tuple[str, str], ...] = ()
    unknown: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An entry that cannot be onboarded: why, and what to do. `spoils`: an earlier row that it proves bad too.

    `key` is the digest of the public key whose private key is in the entry: no row may have it. `identities` are the
    identities that the entry gives all the same (None: not determined), `is_named`: they are meant to be a planned
    thing's. No other row may be paired with that thing by order.
    """

    number: int
    place: str
    reason: str
    remedy: str
    raw: bytes = b""
    spoils: int | None = None
    key: bytes | None = None
    identities: tuple[str, ...] | None = None
    is_named: bool = False


class RefusedError(Exception):
    """The material of one entry is not acceptable; becomes a `Fault`."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
