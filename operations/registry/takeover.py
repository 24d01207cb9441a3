"""Takes over journals of older formats: what they know of revoked and retired devices becomes spent keys."""

from __future__ import annotations

import sqlite3

from cryptography import x509

from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.pki.spent import End, spend

_BY = "an earlier fleet"
_ENDED = """SELECT history.certificate_id, thing, what, at, history.reason, devices.key, devices.certificate_id
    FROM history LEFT JOIN devices USING (thing)
    WHERE what IN ('REVOKED begun', 'REVOKED', 'retire begun', 'deleted') AND history.certificate_id IS NOT NULL
    ORDER BY history.id"""
_GONE = "SELECT thing, is_certificate, der FROM devices WHERE state = 'retired' AND der IS NOT NULL"
_LAST = """SELECT what, at, reason, certificate_id FROM history WHERE thing = ?1 AND
    what IN ('REVOKED', 'REVOKED begun', 'retired', 'deleted') AND id > coalesce(
    (SELECT id FROM history WHERE thing = ?1 AND what = 'retired' ORDER BY id DESC LIMIT 1 OFFSET 1), 0)
    ORDER BY what LIKE 'REVOKED%' DESC, id DESC LIMIT 1"""
"""How the thing's last device ended; who had the thing before is another device."""


def from_format_1(connection: sqlite3.Connection) -> None:
    """Format 1 had a history and no spent keys, and forgot a retired device's key; its certificate or CSR is there
    until the thing got another device. A device that was moved has its key under its new name, where it is not spent.
    """
    for certificate_id, thing, what, at, reason, key, own in connection.execute(_ENDED).fetchall():
        known = bytes(key) if key and own == certificate_id else None
        write = spend(_end(what), key=known, certificate_id=certificate_id, thing=thing, at=at, by=_BY, reason=reason)
        connection.execute(*write)
    for thing, is_certificate, der in connection.execute(_GONE).fetchall():
        load = x509.load_der_x509_certificate if is_certificate else x509.load_der_x509_csr
        try:
            key = key_digest(load(bytes(der)).public_key())
        except ValueError:
            continue
        is_elsewhere = connection.execute(
            "SELECT 1 FROM devices WHERE key = ? AND state <> 'retired'", (key,)
        ).fetchone()
        last = connection.execute(_LAST, (thing,)).fetchone()
        if is_elsewhere is None and last is not None:
            what, at, reason, certificate_id = last
            end = _end(what)
            connection.execute(
                *spend(end, key=key, certificate_id=certificate_id, thing=thing, at=at, by=_BY, reason=reason)
            )


def _end(what: str) -> End:
    return End.REVOKED if what.startswith("REVOKED") else End.RETIRED


OLDER = {1: from_format_1}
