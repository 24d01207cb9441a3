"""What there is to say of the authority: read, never changed, and without its key."""

from __future__ import annotations

import datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.operations.pki.crl import published, published_number
from fleet_iot.operations.pki.ledger import Ledger
from fleet_iot.operations.pki.root import Places, read_certificate, read_policy


def show_authority(ledger: Ledger, places: Places, *, now: datetime.datetime) -> dict[str, str | int | bool | None]:
    """Names and values, in the order in which they are shown. Raises RequestError where there is no authority."""
    certificate, policy, found = read_certificate(places), read_policy(places), published(places)
    counts = ledger.counts(now=now.timestamp())
    key = certificate.public_key()
    next_update = found.next_update_utc if found is not None else None
    return {
        "subject": certificate.subject.rfc4514_string(),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "curve": key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else None,
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "days": policy.days,
        "max_days": policy.max_days,
        "signed": counts.signed,
        "valid": counts.valid,
        "revoked": counts.revoked,
        "expired": counts.expired,
        "next_expiry": _iso(counts.next_expiry),
        "crl_number": published_number(places),
        "crl_revoked": len(found) if found is not None else 0,
        "crl_next_update": next_update.isoformat() if next_update else None,
        "crl_is_overdue": next_update is None or next_update < now,
    }


def _iso(at: float | None) -> str | None:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat() if at is not None else None
