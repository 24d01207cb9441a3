"""Reads the identities of a plant's things: one certificate signing request a line, by the thing's full name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lib.faults import PrerequisiteError

CSR_HEADER = "-----BEGIN CERTIFICATE REQUEST-----"
CSR_LIMIT = 4096
"""Characters, https://docs.aws.amazon.com/iot/latest/apireference/API_CreateCertificateFromCsr.html"""


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of `<facility>.csrs.jsonl`."""

    thing: str
    csr: str


def csrs_file(identities: Path, *, suffix: str, facility: str) -> Path:
    return identities / suffix / f"{facility}.csrs.jsonl"


def read_csrs(path: Path) -> dict[str, str]:
    """Thing name → CSR in PEM; empty where the file is not there yet."""
    if not path.is_file():
        return {}
    decoder = msgspec.json.Decoder(Identity)
    csrs: dict[str, str] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            identity = decoder.decode(line)
        except UnicodeDecodeError:
            raise _bad_line(path, number, "not UTF-8") from None
        except msgspec.DecodeError as error:
            raise _bad_line(path, number, str(error)) from None
        if identity.thing in csrs:
            raise _bad_line(path, number, f"thing '{identity.thing}' has a CSR already")
        if not identity.csr.startswith(CSR_HEADER) or len(identity.csr) > CSR_LIMIT:
            raise _bad_line(path, number, f"no PEM certificate request of at most {CSR_LIMIT} characters")
        csrs[identity.thing] = identity.csr
    return csrs


def refuse_shared_keys(csrs: Mapping[str, Mapping[str, str]]) -> None:
    """Raises PrerequisiteError where two things have CSRs of one key: either could pass for the other, in any plant.

    A CSR that cannot be read is left to whoever makes the certificate of it.
    """
    owners: dict[bytes, str] = {}
    for requests in csrs.values():
        for thing, csr in requests.items():
            try:
                key = x509.load_pem_x509_csr(csr.encode()).public_key()
            except (ValueError, UnsupportedAlgorithm):
                continue
            owner = owners.setdefault(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), thing)
            if owner != thing:
                raise PrerequisiteError(
                    f"The CSRs of {owner} and {thing} are of one key.",
                    remedy="Each device needs a key of its own: have one of the two make another, and hand in its CSR.",
                )


def _bad_line(path: Path, number: int, what: str) -> PrerequisiteError:
    return PrerequisiteError(
        f"{path}:{number}: {what}.",
        remedy='Each line is {"thing": NAME, "csr": PEM}; `fleet keys create` writes them.',
    )
