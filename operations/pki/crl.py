"""Revokes certificates and publishes the list of them (RFC 5280, section 5)."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.operations.pki.ledger import SKEW_S, Entry, Ledger
from fleet_iot.operations.pki.root import Authority, Places, write_whole
from fleet_iot.operations.pki.templates import digest_of
from fleet_iot.operations.storage import located

REASONS = {
    "unspecified": x509.ReasonFlags.unspecified,
    "keyCompromise": x509.ReasonFlags.key_compromise,
    "affiliationChanged": x509.ReasonFlags.affiliation_changed,
    "superseded": x509.ReasonFlags.superseded,
    "cessationOfOperation": x509.ReasonFlags.cessation_of_operation,
    "privilegeWithdrawn": x509.ReasonFlags.privilege_withdrawn,
}
"""Those of RFC 5280, section 5.3.1, that mean something for a device; a hold, which could be taken back, is none."""

LIST_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A CRL: its number, and how many certificates are in it."""

    number: int
    revoked: int
    next_update: datetime.datetime


def find_certificates(ledger: Ledger, asked: str, *, suffix: str) -> list[Entry]:
    """The certificates of a thing (with or without suffix), or the one with this serial number in hex.

    Raises RequestError where the authority has signed none.
    """
    full = asked if asked.endswith(f"-{suffix}") else f"{asked}-{suffix}"
    found = ledger.of_thing(full)
    digits = asked.replace(":", "").lower()
    if not found and re.fullmatch(r"(0x)?([0-9a-f]{2}){1,20}", digits):
        found = ledger.of_serial(bytes.fromhex(digits.removeprefix("0x")))
    if not found:
        raise RequestError(
            f"the authority has signed no certificate of {asked!r}",
            hint="give a thing's name, or a certificate's serial number in hex",
        )
    return found


def revoke(ledger: Ledger, entries: list[Entry], *, reason: str, note: str, now: datetime.datetime) -> list[Entry]:
    """Revokes those that are neither revoked nor expired, and returns them; the keys of all are spent."""
    at = now.timestamp()
    ledger.check_clock(at)
    fresh = [entry for entry in entries if entry.revoked is None and entry.not_after > at]
    ledger.revoke([entry.serial for entry in entries], at=at, reason=reason, note=note)
    return fresh


def withdraw(ledger: Ledger, places: Places, facilities: Iterable[str]) -> dict[Path, int]:
    """Takes what is revoked out of the lists of certificates that were written for the facilities: path → how many."""
    taken: dict[Path, int] = {}
    for path in sorted({places.signed(facility) for facility in facilities}):
        if not path.exists():
            continue
        with located(path):
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if not _is_revoked(ledger, path, line)]
            if len(kept) < len(lines):
                write_whole(path, "".join(kept))
                taken[path] = len(lines) - len(kept)
    return taken


def _is_revoked(ledger: Ledger, path: Path, line: str) -> bool:
    try:
        der = ssl.PEM_cert_to_DER_cert(json.loads(line)["certificate"])
    except (ValueError, KeyError, TypeError):
        raise EnvironmentFault(f"{path} is no list of certificates", hint="write it anew: fleet ca sign") from None
    return ledger.spent(None, hashlib.sha256(der).hexdigest()) is not None


def publish(
    authority: Authority, ledger: Ledger, places: Places, *, now: datetime.datetime, days: int = LIST_DAYS
) -> Published:
    """Another CRL of all that is revoked, under the next number; valid for so many days, or to the authority's end.

    It is never older than the one before. Raises EnvironmentFault where the clock says so, or that its end has passed.
    """
    before = published(places)
    issued = max(ledger.last_issued(), before.last_update_utc.timestamp() if before is not None else 0)
    ledger.check_clock(now.timestamp())
    this_update = max(now, datetime.datetime.fromtimestamp(issued, datetime.UTC))
    if now.timestamp() < issued - SKEW_S:
        raise EnvironmentFault(
            f"this machine's clock says {now:%Y-%m-%d %H:%M}, and {places.crl} is of {this_update:%Y-%m-%d %H:%M}",
            hint="set the clock right: a CRL must not be older than its predecessor",
        )
    revoked = [_revoked(entry) for entry in ledger.revoked()]
    # A run that was killed after it had published has not written that down.
    number = max(ledger.last_list()[0], published_number(places)) + 1
    next_update = min(now + datetime.timedelta(days=days), authority.certificate.not_valid_after_utc)
    if next_update <= this_update:
        raise EnvironmentFault(
            f"the CRL would be out of date at once: the authority ends on {next_update:%Y-%m-%d}",
            hint="make another authority",
        )
    own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    # Added one by one, each would copy all before it.
    builder = (
        x509.CertificateRevocationListBuilder(revoked_certificates=revoked)
        .issuer_name(authority.certificate.subject)
        .last_update(this_update)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
    )
    signed = builder.sign(authority.key, digest_of(authority.key.curve))
    write_whole(places.crl, signed.public_bytes(serialization.Encoding.PEM).decode())
    ledger.add_list(number, revoked=len(revoked), issued=this_update.timestamp(), next_update=next_update.timestamp())
    return Published(number=number, revoked=len(revoked), next_update=next_update)


def published(places: Places) -> x509.CertificateRevocationList | None:
    """The CRL that is there. Raises EnvironmentFault where it is damaged."""
    if not places.crl.exists():
        return None
    try:
        return x509.load_pem_x509_crl(places.crl.read_bytes())
    except ValueError:
        raise EnvironmentFault(
            f"{places.crl} is damaged", hint="delete it, and publish another: fleet ca crl"
        ) from None


def published_number(places: Places) -> int:
    """The number of the CRL that is there, 0 where there is none."""
    found = published(places)
    return found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number if found is not None else 0


def _revoked(entry: Entry) -> x509.RevokedCertificate:
    at = datetime.datetime.fromtimestamp(entry.revoked or 0, datetime.UTC)
    builder = x509.RevokedCertificateBuilder().serial_number(int.from_bytes(entry.serial, "big")).revocation_date(at)
    if entry.reason not in (None, "unspecified"):  # which is said by saying nothing: RFC 5280, section 5.3.1
        builder = builder.add_extension(x509.CRLReason(REASONS[str(entry.reason)]), critical=False)
    return builder.build()
