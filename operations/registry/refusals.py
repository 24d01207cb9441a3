"""Refuse rows whose key or certificate must not be used again: spent keys, revoked certificates, in journal, ledger,
CRLs and, for devices that are onboarded already, in AWS IoT itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from fleet_iot.generator.diagnostics import EnvironmentFault, visible
from fleet_iot.operations.lists.headings import fault_of
from fleet_iot.operations.lists.material import read_certificate
from fleet_iot.operations.lists.record import Fault, Row
from fleet_iot.operations.pki.spent import End, Spent, SpentKeys, decisive
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.calls import IotCalls
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.storage import located

DESCRIBED = 250
"""Most certificates described one by one; for more, listing the account's, 250 a call, is faster.
https://docs.aws.amazon.com/iot/latest/apireference/API_ListCertificates.html"""
_AUTHORITY_KEYS = (
    rsa.RSAPublicKey,
    dsa.DSAPublicKey,
    ec.EllipticCurvePublicKey,
    ed25519.Ed25519PublicKey,
    ed448.Ed448PublicKey,
)


class RevokedInAws:
    """Certificates that AWS IoT has as REVOKED: in its console, or by another machine."""

    def __init__(self, calls: IotCalls) -> None:
        self._calls = calls
        self._asked = 0
        self._revoked: set[str] | None = None

    def has(self, certificate_id: str) -> bool:
        """Return whether it is REVOKED; not where it is gone."""
        if self._revoked is None and self._asked >= DESCRIBED:
            self._revoked = set(self._listed())
        if self._revoked is not None:
            return certificate_id in self._revoked
        self._asked += 1
        return self._calls.status_of(certificate_id) == "REVOKED"

    def _listed(self) -> Iterator[str]:
        for page in self._calls.pages("ListCertificates", pageSize=DESCRIBED):
            yield from (each["certificateId"] for each in page["certificates"] if each["status"] == "REVOKED")


class RevocationLists:
    """CRLs, each signed by one of the authorities (RFC 5280, section 5)."""

    def __init__(self, paths: Sequence[Path], authorities: Sequence[x509.Certificate]) -> None:
        """Read them, PEM or DER. Raises EnvironmentFault for one that cannot be read or that no authority signed."""
        self._lists = [_read_list(path, authorities) for path in paths]

    def find(self, der: bytes) -> Spent | None:
        """Return its entry in the CRL of the certificate's issuer. Raises ValueError for one that cannot be read."""
        if not self._lists:
            return None
        certificate = read_certificate(der)
        for path, found in self._lists:
            if found.issuer != certificate.issuer:
                continue
            entry = found.get_revoked_certificate_by_serial_number(certificate.serial_number)
            if entry is not None:
                at = entry.revocation_date_utc.timestamp()
                return Spent(what=End.REVOKED, thing="its issuer's list", at=at, by=path.name, reason=_reason(entry))
        return None


class Refusals:
    """All sources of spent keys and revoked certificates; `journal` is None where there is none yet. `ledger` reads the
    other journals too."""

    def __init__(self, journal: Journal | None, *, ledger: SpentKeys, lists: RevocationLists) -> None:
        self._journal, self._ledger, self._lists = journal, ledger, lists

    def close(self) -> None:
        """Close the files but the journal."""
        self._ledger.close()

    def find(self, key: bytes, certificate_id: str | None, der: bytes | None) -> Spent | None:
        """Return why the key, or the certificate with this DER, must not be used; a revocation outweighs the rest."""
        own = self._journal.ends(key, certificate_id) if self._journal else []
        return decisive([*own, *self.ends(key, certificate_id, der)])

    def ends(self, key: bytes | None, certificate_id: str | None, der: bytes | None) -> list[Spent]:
        """Return what other journals, the own authority's ledgers and the CRLs have: a journal's `Elsewhere`."""
        listed = self._lists.find(der) if der is not None else None
        return [*self._ledger.ends(key, certificate_id), *([listed] if listed is not None else [])]

    def sift(
        self, rows: Iterable[Row | Fault], *, reuses_retired: bool, in_aws: RevokedInAws | None, at: float
    ) -> Iterator[Row | Fault]:
        """Return the rows, with a fault in the place of each whose key or certificate must not be used.

        `in_aws` is queried for devices onboarded by the journal; without it, no call is made. With
        `reuses_retired`, keys that were retired or replaced, and not revoked, may come back.
        """
        for row in rows:
            found = None if isinstance(row, Fault) else self._refused(row, in_aws, at)
            if isinstance(row, Fault) or found is None or (reuses_retired and not found.is_final):
                yield row
                continue
            what = "certificate" if found.by.endswith((".pem", ".crl", ".der")) else "key"
            yield fault_of(row, f"its {what} {found.clause}", found.remedy)

    def _refused(self, row: Row, in_aws: RevokedInAws | None, at: float) -> Spent | None:
        material = row.material
        certificate_id = material.fingerprint.hex() if material.is_certificate else None
        found = self.find(material.key, certificate_id, material.der if material.is_certificate else None)
        if found is not None or self._journal is None or in_aws is None:
            return found
        for device in self._journal.onboarded_with(material.key):
            own = str(device.certificate_id)
            if in_aws.has(own):
                self._journal.write(*entries.seen_revoked(device.thing, material.key, own, at=at))
        return self._journal.spent(material.key, certificate_id)


def _read_list(path: Path, authorities: Sequence[x509.Certificate]) -> tuple[Path, x509.CertificateRevocationList]:
    try:
        with located(path):
            content = path.read_bytes()
    except FileNotFoundError:
        raise EnvironmentFault(f"there is no {path}", hint="--crl FILE is a CRL in PEM or DER") from None
    load = x509.load_pem_x509_crl if b"-----BEGIN" in content else x509.load_der_x509_crl
    try:
        found = load(content)
        issuer, named = found.issuer, visible(found.issuer.rfc4514_string())
        for entry in found:
            _ = entry.revocation_date_utc
    except Exception:  # ValueError, and what odd names, dates and algorithms make of it
        raise EnvironmentFault(f"{path} is no CRL in PEM or DER", hint="get it again from its authority") from None
    if any(authority.subject == issuer and _has_signed(authority, found) for authority in authorities):
        return path, found
    raise EnvironmentFault(
        f"{path} is signed by none of the authorities (it names {named})",
        hint="give the authority too: --issuer FILE; or it is forged: get it again",
    )


def _has_signed(authority: x509.Certificate, found: x509.CertificateRevocationList) -> bool:
    try:
        key = authority.public_key()
        return isinstance(key, _AUTHORITY_KEYS) and found.is_signature_valid(key)
    except Exception:  # a key, or an algorithm, that the library does not know
        return False


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except Exception:  # there is none, or one that cannot be read: it is revoked all the same
        return ""
