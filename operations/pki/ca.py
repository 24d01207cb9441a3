"""The project's own certificate authority: make it, sign CSRs, revoke, publish CRLs, show its state.

Its key is sealed beside the devices' keys; its certificate and policy are committed. All CSRs are checked before the
first is signed, and each certificate is in the ledger before its list is written. Verifying a CSR takes ten times as
long as signing it, so both are done in worker processes. CRLs follow RFC 5280, section 5.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.operations.lists.formats import Seen, Source, check_record, nothing_found, read_records
from fleet_iot.operations.lists.record import Fault, Record, Row
from fleet_iot.operations.pki.keystore import CERTIFICATE, CRL, KeyStore
from fleet_iot.operations.pki.ledger import SKEW_S, Entry, Ledger, Signed
from fleet_iot.operations.pki.spent import SpentKeys
from fleet_iot.operations.pki.templates import SERIAL_BYTES, CertificateMaker, Issuer, digest_of, key_usage
from fleet_iot.operations.storage import located, temporary, whole
from fleet_iot.operations.workers import WORKERS, batches_of, in_order

CURVES: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
MOST_YEARS = 30
NAME_LENGTH = 64
"""Characters of a common name: https://www.rfc-editor.org/rfc/rfc5280#appendix-A.1 (ub-common-name)"""

SHORTEST = 10
"""Characters of the passphrase of a store that has an authority's key: longer than
for devices' keys, since it protects the identity of every device."""

_STORE = "_authority"
"""Its file in the key store; no facility can have this id."""
_KEY = "authority"
_SKEW = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Validity of devices' certificates: `days` by default, `max_days` at most."""

    days: int
    max_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The authority's public files, all committed: below `identities/<environment suffix>/ca`."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """Its certificate, PEM."""
        return self.folder / CERTIFICATE

    @property
    def policy(self) -> Path:
        """Its policy, JSON."""
        return self.folder / "policy.json"

    @property
    def crl(self) -> Path:
        """The list of what it revoked, PEM."""
        return self.folder / CRL

    def signed(self, facility: str) -> Path:
        """Return the certificates of a facility's devices, as a list that can be onboarded."""
        return self.folder / f"{facility}.certificates.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The opened authority."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    policy: Policy


def make_authority(
    store: KeyStore, places: Places, *, name: str, curve: str, years: int, policy: Policy, now: datetime.datetime
) -> Authority:
    """Make a key in the store, and a self-signed certificate for it. Raises RequestError where there is one already.

    A run that was killed between the two is finished by the next, with the key that it left.
    """
    check_new(places, name=name, years=years, policy=policy)
    check_store(store)
    store.add(_STORE, [(_KEY, ec.generate_private_key(CURVES[curve]))])
    key = _key_of(store)
    if key is None:
        raise EnvironmentFault("the key store has not kept the authority's key", hint="run the command again")
    certificate = _self_signed(key, name=name, years=years, now=now)
    places.folder.mkdir(parents=True, exist_ok=True)
    _write(places.policy, json.dumps(asdict(policy), indent=2) + "\n")
    _write(places.certificate, certificate.public_bytes(serialization.Encoding.PEM).decode())
    return Authority(key=key, certificate=certificate, policy=policy)


def check_new(places: Places, *, name: str, years: int, policy: Policy) -> None:
    """Raise RequestError where there is an authority already, or where none can be made so."""
    if places.certificate.exists():
        raise RequestError(f"there is an authority already: {places.certificate}", hint="see `fleet ca show`")
    if not name.isprintable() or not 1 <= len(name) <= NAME_LENGTH:
        raise RequestError(f"the name {name!r} is no common name", hint=f"give 1 to {NAME_LENGTH} letters: --name TEXT")
    if not 1 <= policy.days <= policy.max_days <= years * 365:
        raise RequestError(
            f"certificates of {policy.days} days, {policy.max_days} at most, do not fit into {years} years",
            hint="--days is at most --max-days, and that at most --years",
        )


def check_store(store: KeyStore) -> None:
    """Raise RequestError for a key store that is sealed too weakly for an authority's key."""
    if store.passphrase_length < SHORTEST:
        raise RequestError(
            f"the key store's passphrase has fewer than {SHORTEST} characters, too few for an authority's key",
            hint="found a store with a longer one: another FLEET_KEYS_DIR, and `fleet keys create` there",
        )


def open_authority(store: KeyStore, places: Places, *, now: datetime.datetime) -> Authority:
    """Return the authority with its key. Raises RequestError where there is none, or where it has expired."""
    certificate = read_certificate(places)
    key = _key_of(store)
    if key is None or key.public_key() != certificate.public_key():
        raise EnvironmentFault(
            f"the key of {places.certificate} is not in the key store", hint="point FLEET_KEYS_DIR at the right store"
        )
    if certificate.not_valid_before_utc > now:
        raise EnvironmentFault(
            f"this machine's clock says {now:%Y-%m-%d}, and the authority begins on "
            f"{certificate.not_valid_before_utc:%Y-%m-%d}",
            hint="set the clock right",
        )
    if certificate.not_valid_after_utc <= now:
        raise RequestError(
            f"the authority expired on {certificate.not_valid_after_utc:%Y-%m-%d}", hint="make another one"
        )
    return Authority(key=key, certificate=certificate, policy=read_policy(places))


def read_certificate(places: Places) -> x509.Certificate:
    """Return the authority's certificate. Raises RequestError where there is none, EnvironmentFault where it is
    damaged."""
    if not places.certificate.exists():
        raise RequestError(f"there is no authority in {places.folder}", hint="make one: fleet ca init")
    try:
        return x509.load_pem_x509_certificate(places.certificate.read_bytes())
    except ValueError:
        raise EnvironmentFault(f"{places.certificate} is damaged", hint="restore it from version control") from None


def read_policy(places: Places) -> Policy:
    """Return the authority's policy. Raises EnvironmentFault where it is damaged."""
    try:
        policy = Policy(**json.loads(places.policy.read_text(encoding="utf-8")))
        if not 1 <= policy.days <= policy.max_days:
            raise ValueError
    except (OSError, ValueError, TypeError):
        raise EnvironmentFault(
            f'{places.policy} is no policy {{"days": …, "max_days": …}}', hint="restore it from version control"
        ) from None
    return policy


def _write(path: Path, text: str) -> None:
    with located(path), whole(path) as file:
        file.write(text.encode())


def _key_of(store: KeyStore) -> ec.EllipticCurvePrivateKey | None:
    return dict(store.keys(_STORE, {_KEY})).get(_KEY)


def _self_signed(key: ec.EllipticCurvePrivateKey, *, name: str, years: int, now: datetime.datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    digest: hashes.SHA256 | hashes.SHA384 = digest_of(key.curve)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(b"\x40" + os.urandom(SERIAL_BYTES - 1), "big"))
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + datetime.timedelta(days=365 * years))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(own, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
        .sign(key, digest)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCsr:
    """A CSR that is to be signed: its thing, the SHA-256 of its key, and its own DER."""

    number: int
    thing: str
    key: bytes
    request: bytes


class PendingCsrs:
    """The CSRs of one list until they are signed, in a temporary SQLite database; close it when done."""

    def __init__(self) -> None:
        self._rows = temporary(
            """CREATE TABLE asked (number INTEGER PRIMARY KEY, place TEXT, thing TEXT UNIQUE, key BLOB, request BLOB,
            serial BLOB)"""
        )
        self._rows.execute("BEGIN")

    def close(self) -> None:
        """Delete the file."""
        self._rows.close()

    def add(self, row: Row, *, serial: bytes | None) -> Fault | None:
        """Add a row whose common name is its thing's; `serial` is that of the certificate which it has, if any.

        Where another row has the same thing, neither stays: returns the fault of this one, which spoils the other.
        """
        thing = str(row.material.common_name)
        other = self._rows.execute("SELECT number FROM asked WHERE thing = ?", (thing,)).fetchone()
        if other is not None:
            return Fault(
                number=row.number,
                place=row.place,
                reason=f"has the thing of row {other[0]}",
                remedy="leave only the true one in",
                spoils=other[0],
            )
        request = row.material.der if serial is None else None
        values = (row.number, row.place, thing, row.material.key, request, serial)
        self._rows.execute("INSERT INTO asked VALUES (?, ?, ?, ?, ?, ?)", values)
        return None

    def spoil(self, fault: Fault) -> Fault | None:
        """Withdraw the row that a later one's fault proves bad; return its fault, if it was good so far."""
        found = self._rows.execute("SELECT place FROM asked WHERE number = ?", (fault.spoils,)).fetchone()
        if found is None:
            return None
        self._rows.execute("DELETE FROM asked WHERE number = ?", (fault.spoils,))
        reason = f"row {fault.number} {fault.reason.replace(f'row {fault.spoils}', 'this row')}"
        return Fault(number=int(fault.spoils or 0), place=found[0], reason=reason, remedy=fault.remedy)

    def counts(self) -> tuple[int, int]:
        """Count them, and those of them that have a certificate."""
        total, signed = self._rows.execute("SELECT count(*), count(serial) FROM asked").fetchone()
        return int(total), int(signed)

    def unsigned(self) -> Iterator[PendingCsr]:
        """Yield those that are to be signed, in the list's order, a slice at a time: meanwhile they are written to."""
        query = """SELECT number, thing, key, request FROM asked WHERE serial IS NULL AND number > ?
            ORDER BY number LIMIT 1000"""
        last = 0
        while part := self._rows.execute(query, (last,)).fetchall():
            for number, thing, key, request in part:
                yield PendingCsr(number=number, thing=thing, key=bytes(key), request=bytes(request))
            last = part[-1][0]

    def signed(self, made: list[tuple[int, bytes]]) -> None:
        """Record the serial numbers of the rows' certificates."""
        self._rows.executemany("UPDATE asked SET serial = ? WHERE number = ?", [(serial, row) for row, serial in made])

    def serials(self) -> Iterator[bytes]:
        """Yield the serial numbers of all, in the list's order."""
        for (serial,) in self._rows.execute("SELECT serial FROM asked WHERE serial IS NOT NULL ORDER BY number"):
            yield bytes(serial)


BATCH = 250
SKEW = datetime.timedelta(hours=1)
"""Certificates are valid from a little before now: devices' clocks may be late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order to sign: a list's CSRs whose common names are among `planned`, the names of the facility's things.

    A CSR with a valid certificate is signed only `again`, where that is asked for. A thing that has one
    for another key gets none, unless the new key `replaces` that. `elsewhere` has the keys that were spent in AWS IoT:
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
class SigningResult:
    """The result: `signed` CSRs got a certificate, `already` had a valid one, `faults` got none; `superseded`
    certificates of other keys were revoked."""

    signed: int
    already: int
    faults: tuple[Fault, ...]
    superseded: int = 0


def end_of(authority: Authority, days: int | None, *, now: datetime.datetime) -> datetime.datetime:
    """Return when certificates signed now expire: by policy, never after the authority. Raises RequestError."""
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
) -> SigningResult:
    """Sign what was ordered, and write the certificates of all good CSRs to `target`, as a list to onboard from.

    The list is replaced when all is done. Repeat it after an interruption.
    """
    asked, at = PendingCsrs(), order.now.timestamp()
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
    return SigningResult(signed=signed, already=already, faults=in_order_, superseded=superseded)


def _check(order: Order, ledger: Ledger, asked: PendingCsrs, *, workers: int) -> list[Fault]:
    """Put the good CSRs of the list into `asked`; return the faults of the others."""
    faults: list[Fault] = []
    seen = Seen()
    look = partial(_look, order.source.format, order.now)
    try:
        for looked in in_order(batches_of(read_records(order.source), BATCH), look, workers=workers):
            for each in looked:
                found = _planned(seen.check(each), order)
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
    """Check the CSR of each entry, also where it has a certificate too."""
    return [
        each
        if isinstance(each, Fault)
        else check_record(replace(each, certificate=None) if each.request else each, format_name, now, ())
        for each in batch
    ]


def _planned(row: Row | Fault, order: Order) -> Row | Fault:
    """Return the row if its CSR names a planned thing and the list the same one, else a fault."""
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
    """Return the serial number of the certificate that the CSR's key has for this thing, where it is valid and kept;
    a fault where the key must not be signed for it."""
    key, thing = row.material.key, str(row.material.common_name)
    known = ledger.standing(key, thing, now=order.now.timestamp())
    spent = known.spent
    if spent is None and order.elsewhere is not None:
        spent = order.elsewhere.find(key, None)
        spent = None if spent is not None and order.reuses_retired and not spent.is_final else spent
    if spent is not None:
        reason, remedy = f"its key {spent.clause}", spent.remedy
    elif known.owner is not None:
        reason = f"its key is that of {known.owner}, and no other thing may have it"
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


def _sign(maker: CertificateMaker, batch: list[PendingCsr]) -> list[tuple[int, Signed]]:
    """Return the certificates by row; each is parsed again, and compared with the CSR's key."""
    found = []
    for asked in batch:
        key = x509.load_der_x509_csr(asked.request).public_key()
        der = maker.certificate_of(asked.thing, key)
        certificate = x509.load_der_x509_certificate(der)
        if certificate.public_key() != key:
            raise EnvironmentFault(f"the certificate of {asked.thing} would have another key", hint="report this bug")
        serial = certificate.serial_number.to_bytes(SERIAL_BYTES, "big")
        found.append((asked.number, Signed(serial=serial, thing=asked.thing, key=asked.key, der=der)))
    return found


def _write_list(target: Path, certificates: Iterator[tuple[str, bytes]]) -> None:
    with whole(target) as file:
        for thing, der in certificates:
            line = {"name": thing, "certificate": ssl.DER_cert_to_PEM_cert(der)}
            file.write(json.dumps(line).encode() + b"\n")


REASONS = {
    "unspecified": x509.ReasonFlags.unspecified,
    "keyCompromise": x509.ReasonFlags.key_compromise,
    "affiliationChanged": x509.ReasonFlags.affiliation_changed,
    "superseded": x509.ReasonFlags.superseded,
    "cessationOfOperation": x509.ReasonFlags.cessation_of_operation,
    "privilegeWithdrawn": x509.ReasonFlags.privilege_withdrawn,
}
"""Those of RFC 5280, section 5.3.1, that apply to devices; no hold, which could be lifted."""

LIST_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A CRL: its number, and how many certificates are in it."""

    number: int
    revoked: int
    next_update: datetime.datetime


def find_certificates(ledger: Ledger, asked: str, *, suffix: str) -> list[Entry]:
    """Return the certificates of a thing (with or without suffix), or the one with this serial number in hex.

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
    """Revoke those that are neither revoked nor expired, and return them; the keys of all are spent."""
    at = now.timestamp()
    ledger.check_clock(at)
    fresh = [entry for entry in entries if entry.revoked is None and entry.not_after > at]
    ledger.revoke([entry.serial for entry in entries], at=at, reason=reason, note=note)
    return fresh


def withdraw(ledger: Ledger, places: Places, facilities: Iterable[str]) -> dict[Path, int]:
    """Remove revoked certificates from the facilities' lists: path → number removed."""
    taken: dict[Path, int] = {}
    for path in sorted({places.signed(facility) for facility in facilities}):
        if not path.exists():
            continue
        with located(path):
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if not _is_revoked(ledger, path, line)]
            if len(kept) < len(lines):
                _write(path, "".join(kept))
                taken[path] = len(lines) - len(kept)
    return taken


def _is_revoked(ledger: Ledger, path: Path, line: str) -> bool:
    try:
        der = ssl.PEM_cert_to_DER_cert(json.loads(line)["certificate"])
    except (ValueError, KeyError, TypeError):
        raise EnvironmentFault(f"{path} is no list of certificates", hint="write it again: fleet ca sign") from None
    return ledger.spent(None, hashlib.sha256(der).hexdigest()) is not None


def publish(
    authority: Authority, ledger: Ledger, places: Places, *, now: datetime.datetime, days: int = LIST_DAYS
) -> Published:
    """Publish a CRL of all that is revoked, under the next number; valid for so many days, or to the authority's end.

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
    _write(places.crl, signed.public_bytes(serialization.Encoding.PEM).decode())
    ledger.add_list(number, revoked=len(revoked), issued=this_update.timestamp(), next_update=next_update.timestamp())
    return Published(number=number, revoked=len(revoked), next_update=next_update)


def published(places: Places) -> x509.CertificateRevocationList | None:
    """Return the CRL that is there. Raises EnvironmentFault where it is damaged."""
    if not places.crl.exists():
        return None
    try:
        return x509.load_pem_x509_crl(places.crl.read_bytes())
    except ValueError:
        raise EnvironmentFault(
            f"{places.crl} is damaged", hint="delete it, and publish another: fleet ca crl"
        ) from None


def published_number(places: Places) -> int:
    """Return the number of the CRL that is there, 0 where there is none."""
    found = published(places)
    return found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number if found is not None else 0


def _revoked(entry: Entry) -> x509.RevokedCertificate:
    at = datetime.datetime.fromtimestamp(entry.revoked or 0, datetime.UTC)
    builder = x509.RevokedCertificateBuilder().serial_number(int.from_bytes(entry.serial, "big")).revocation_date(at)
    if entry.reason not in (None, "unspecified"):  # which is said by saying nothing: RFC 5280, section 5.3.1
        builder = builder.add_extension(x509.CRLReason(REASONS[str(entry.reason)]), critical=False)
    return builder.build()


def show_authority(ledger: Ledger, places: Places, *, now: datetime.datetime) -> dict[str, str | int | bool | None]:
    """Return names and values, in the order in which they are shown. Raises RequestError where there is no
    authority."""
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
