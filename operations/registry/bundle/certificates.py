"""Finds each thing's certificate: in the journal, where it was handed in or signed here, else in AWS IoT.

AWS IoT allows ten DescribeCertificate a second: what it said once is kept beside the journal.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fleet_iot.operations.lists.material import key_digest, read_certificate
from fleet_iot.operations.registry.calls import IotCalls
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.refusals import Refusals
from fleet_iot.operations.registry.registered import id_of, principals_of
from fleet_iot.operations.sqlite import connect

_SCHEMA = "CREATE TABLE IF NOT EXISTS certificates (id TEXT PRIMARY KEY, pem TEXT) WITHOUT ROWID"
_ANOTHER = "rotate the device: it needs a certificate that can be read"
_USABLE = ("ACTIVE", "INACTIVE")
"""What is INACTIVE is staged: the bundle may go out before the certificate is activated on site."""


class MissingError(Exception):
    """A thing has no certificate that could go into a bundle; says why, and what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Certificates:
    """The certificates of one account's things; close it when done."""

    def __init__(self, journal: Journal, calls: IotCalls, *, refusals: Refusals, cache: Path) -> None:
        self._journal = journal
        self._calls = calls
        self._refusals = refusals
        self._cache = connect(cache, synchronous="OFF", schema=_SCHEMA)

    def close(self) -> None:
        """Closes the files beside the journal and the keys."""
        self._cache.close()
        self._refusals.close()

    def of(self, thing: str) -> tuple[str, str]:
        """Id and PEM of the thing's certificate. Raises MissingError."""
        query = """SELECT state, is_certificate, der, key, certificate_id, certificate_status FROM devices
            WHERE thing = ? AND state <> 'retired'"""
        found = self._journal.read(query, thing)
        if not found:
            return self._registered(thing)
        state, is_certificate, der, key, certificate_id, status = found[0]
        if state != "done" or certificate_id is None:
            raise MissingError("is not onboarded yet", "go on with it: fleet onboard --resume, or correct its row")
        if status not in _USABLE:
            raise MissingError(f"its certificate is {status}", "retire the device, and onboard another")
        self._refuse(key, certificate_id, der if is_certificate else None)
        pem = ssl.DER_cert_to_PEM_cert(der) if is_certificate else self._described(certificate_id)
        if key_digest(x509.load_pem_x509_certificate(pem.encode()).public_key()) != key:
            raise MissingError(
                f"AWS IoT's certificate {certificate_id} bears another key than the journal has", "tell AWS support"
            )
        return certificate_id, pem

    def _registered(self, thing: str) -> tuple[str, str]:
        """The certificate of a thing that was not onboarded from here: Terraform's."""
        for arn in principals_of(self._calls, thing):
            described = self._describe(id_of(arn))
            if described["status"] in _USABLE:
                try:
                    certificate = read_certificate(described["certificatePem"].encode())
                except ValueError:
                    raise MissingError("its certificate cannot be read: a part of it is damaged", _ANOTHER) from None
                self._refuse(
                    key_digest(certificate.public_key()),
                    described["certificateId"],
                    certificate.public_bytes(serialization.Encoding.DER),
                )
                return described["certificateId"], described["certificatePem"]
        raise MissingError("has no certificate in AWS IoT", "onboard it, or apply its plant's stack")

    def _refuse(self, key: bytes, certificate_id: str, der: bytes | None) -> None:
        """Raises MissingError for what was revoked or retired: from here, by the own authority, or in a CRL of its."""
        try:
            spent = self._refusals.find(key, certificate_id, der)
        except ValueError:
            raise MissingError("its certificate cannot be read: a name in it is damaged", _ANOTHER) from None
        if spent is not None:
            raise MissingError(f"its key {spent.told}", spent.remedy)

    def _described(self, certificate_id: str) -> str:
        found = self._cache.execute("SELECT pem FROM certificates WHERE id = ?", (certificate_id,)).fetchone()
        if found:
            return str(found[0])
        pem = str(self._describe(certificate_id)["certificatePem"])
        self._cache.execute("INSERT OR REPLACE INTO certificates VALUES (?, ?)", (certificate_id, pem))
        return pem

    def _describe(self, certificate_id: str) -> dict[str, Any]:
        answer = self._calls.call("DescribeCertificate", certificateId=certificate_id)
        described: dict[str, Any] = answer["certificateDescription"]
        return described
