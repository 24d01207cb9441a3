"""Signs the CSRs of a facility's things: all are checked first, and each certificate is in the ledger before its list.

Checking a CSR takes ten times what signing it takes; both are done in processes of their own.
"""

from __future__ import annotations

import datetime
import json
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cryptography import x509

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.operations.lists.formats import Source, nothing_found, read_records
from fleet_iot.operations.lists.reading import Seen, look_into
from fleet_iot.operations.lists.record import Fault, Record, Row
from fleet_iot.operations.pki.ledger import Ledger, Signed
from fleet_iot.operations.pki.pending import Asked, AskedRequests
from fleet_iot.operations.pki.root import Authority
from fleet_iot.operations.pki.spent import SpentKeys
from fleet_iot.operations.pki.templates import SERIAL_BYTES, CertificateMaker, Issuer
from fleet_iot.operations.workers import WORKERS, batches_of, in_order

BATCH = 250
SKEW = datetime.timedelta(hours=1)
"""Certificates hold from a little before now on: devices' clocks are late sometimes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to sign: a list's CSRs whose common names are among `planned`, the names of the facility's things.

    A CSR that has a certificate which still holds is not signed `again`, unless that is asked for. A thing that has one
    for another key gets none, unless the new key `replaces` that. `elsewhere` knows of keys that were spent in AWS IoT:
    one that was retired is signed where `reuses_retired` says so, one that was revoked never.
    """

    facility: str
    suffix: str
    source: Source
    planned: frozenset[str]
    not_after: datetime.datetime
    now: datetime.datetime
    again: bool = False
    replaces: bool = False
    reuses_retired: bool = False
    elsewhere: SpentKeys | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one run did: `signed` CSRs got a certificate, `already` had one that holds, `faults` got none; `superseded`
    certificates of other keys were revoked."""

    signed: int
    already: int
    faults: tuple[Fault, ...]
    superseded: int = 0


def end_of(authority: Authority, days: int | None, *, now: datetime.datetime) -> datetime.datetime:
    """When certificates signed now end: as the policy says, and never after the authority. Raises RequestError."""
    asked = authority.policy.days if days is None else days
    if not 1 <= asked <= authority.policy.max_days:
        raise RequestError(
            f"the authority's policy allows 1 to {authority.policy.max_days} days, not {asked}",
            hint="ask for fewer: --days N",
        )
    return min(now + datetime.timedelta(days=asked), authority.certificate.not_valid_after_utc)


def sign_requests(
    authority: Authority,
    ledger: Ledger,
    order: Order,
    *,
    target: Path,
    workers: int = WORKERS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Signs what was ordered, and writes the certificates of all good CSRs to `target`, as a list to onboard from.

    The list is replaced when all is done. A run that was stopped is gone on with by asking again.
    """
    asked, at = AskedRequests(), order.now.timestamp()
    ledger.check_clock(at)
    try:
        faults = _check(order, ledger, asked, workers=workers)
        total, already = asked.counts()
        if not total and not faults:
            raise nothing_found(order.source)
        work = partial(_sign, _maker(authority, order))
        signed = superseded = 0
        for made in in_order(batches_of(asked.unsigned(), BATCH), work, workers=workers):
            certificates = [certificate for _, certificate in made]
            until = order.not_after.timestamp()
            superseded += ledger.add(order.facility, certificates, issued=at, not_after=until)
            asked.signed([(number, certificate.serial) for number, certificate in made])
            signed += len(made)
            on_progress(signed + already, total)
        _write_list(target, (ledger.certificate(serial) for serial in asked.serials()))
    finally:
        asked.close()
    in_order_ = tuple(sorted(faults, key=lambda fault: fault.number))
    return Outcome(signed=signed, already=already, faults=in_order_, superseded=superseded)


def _check(order: Order, ledger: Ledger, asked: AskedRequests, *, workers: int) -> list[Fault]:
    """Puts the good CSRs of the list into `asked`; the faults of the others."""
    faults: list[Fault] = []
    seen = Seen()
    look = partial(_look, order.source.format, order.now)
    try:
        for looked in in_order(batches_of(read_records(order.source), BATCH), look, workers=workers):
            for each in looked:
                found = _planned(seen.hold(each), order)
                serial = None if isinstance(found, Fault) else _valid(found, order, ledger)
                fault = next((each for each in (found, serial) if isinstance(each, Fault)), None)
                if isinstance(found, Row) and not isinstance(serial, Fault):
                    fault = asked.add(found, serial=serial)
                if fault is None:
                    continue
                faults.append(_without_raw(fault))
                spoiled = asked.spoil(fault) if fault.spoils is not None else None
                if spoiled is not None:
                    faults.append(spoiled)
    finally:
        seen.close()
    return faults


def _look(format_name: str, now: datetime.datetime, batch: list[Record | Fault]) -> list[Row | Fault]:
    """Looks at the CSR of each entry, also where a certificate stands beside it."""
    return [
        each
        if isinstance(each, Fault)
        else look_into(replace(each, certificate=None) if each.request else each, format_name, now, ())
        for each in batch
    ]


def _planned(row: Row | Fault, order: Order) -> Row | Fault:
    """The row, where its CSR names a planned thing, and the list the same one."""
    if isinstance(row, Fault):
        return row
    name = row.material.common_name
    if row.material.is_certificate:
        reason, remedy = "is a certificate, not a CSR", "it is signed already: onboard it"
    elif name not in order.planned:
        reason = f"its common name {name!r} is no planned thing of {order.facility}"
        remedy = "the device makes its CSR with its thing's full name, environment suffix included"
    elif row.must_match and row.name is not None and name not in (row.name, f"{row.name}-{order.suffix}"):
        reason, remedy = f"the list calls it {row.name!r}, its CSR {name!r}", "find out which of the two it is"
    else:
        return row
    return Fault(number=row.number, place=row.place, reason=reason, remedy=remedy)


def _valid(row: Row, order: Order, ledger: Ledger) -> bytes | Fault | None:
    """The serial number of the certificate that the CSR's key has for this thing, where it holds and is to be kept;
    a fault where the key must not be signed for it."""
    key, thing = row.material.key, str(row.material.common_name)
    known = ledger.standing(key, thing, now=order.now.timestamp())
    spent = known.spent
    if spent is None and order.elsewhere is not None:
        spent = order.elsewhere.find(key, None)
        spent = None if spent is not None and order.reuses_retired and not spent.is_final else spent
    if spent is not None:
        reason, remedy = f"its key {spent.told}", spent.remedy
    elif known.owner is not None:
        reason = f"its key is that of {known.owner}, and nobody else may have it"
        remedy = (
            "have the device make one of its own; or, where that very device has another name now: "
            f"fleet ca revoke {known.owner} --reason affiliationChanged"
        )
    elif known.other_key_until is not None and not order.replaces:
        until = datetime.datetime.fromtimestamp(known.other_key_until, datetime.UTC)
        reason = f"{thing} has a certificate for another key, until {until:%Y-%m-%d}"
        remedy = "find out whose CSR this is; to sign it, and revoke the other as superseded: --replace"
    else:
        return None if order.again else known.valid
    return Fault(number=row.number, place=row.place, reason=reason, remedy=remedy)


def _without_raw(fault: Fault) -> Fault:
    return Fault(number=fault.number, place=fault.place, reason=fault.reason, remedy=fault.remedy)


def _maker(authority: Authority, order: Order) -> CertificateMaker:
    own = authority.certificate
    return CertificateMaker(
        Issuer(
            key=authority.key,
            name=own.subject,
            not_before=max(order.now - SKEW, own.not_valid_before_utc),
            not_after=order.not_after,
        )
    )


def _sign(maker: CertificateMaker, batch: list[Asked]) -> list[tuple[int, Signed]]:
    """The certificates by row; what came out is read again, and held against the CSR's key."""
    found = []
    for asked in batch:
        key = x509.load_der_x509_csr(asked.request).public_key()
        der = maker.certificate_of(asked.thing, key)
        certificate = x509.load_der_x509_certificate(der)
        if certificate.public_key() != key:
            raise EnvironmentFault(f"the certificate of {asked.thing} would bear another key", hint="report this bug")
        serial = certificate.serial_number.to_bytes(SERIAL_BYTES, "big")
        found.append((asked.number, Signed(serial=serial, thing=asked.thing, key=asked.key, der=der)))
    return found


def _write_list(target: Path, certificates: Iterator[tuple[str, bytes]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f"{target.name}.new")
    try:
        with staged.open("w", encoding="utf-8") as file:
            for thing, der in certificates:
                file.write(json.dumps({"name": thing, "certificate": ssl.DER_cert_to_PEM_cert(der)}) + "\n")
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)
