"""Prepare an onboarding: read the list, match it with planned things, refuse rows, and record or forecast the run."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError, visible
from fleet_iot.lib.record.identities import csrs_file, lock_file
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.lists.formats import Source, nothing_found, read_rows
from fleet_iot.operations.lists.headings import fault_of, normalised
from fleet_iot.operations.lists.material import read_certificate
from fleet_iot.operations.lists.record import Fault, Row
from fleet_iot.operations.pki.keystore import CERTIFICATE, CRL, identities_folder, ledgers_of
from fleet_iot.operations.pki.spent import End, Spent, SpentKeys, decisive, journals_of
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.calls import IotCalls, Quotas, calls_for, least_seconds
from fleet_iot.operations.registry.journal import Journal, Run
from fleet_iot.operations.registry.matching import Matching, plants_of
from fleet_iot.operations.storage import located

# Refuse rows whose key or certificate must not be used again: spent keys, revoked certificates, in journal, ledger,
# CRLs and, for devices that are onboarded already, in AWS IoT itself.

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
        """Return whether the certificate is REVOKED; false where it is gone."""
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
        """Return the certificate's entry in its issuer's CRL. Raises ValueError for one that cannot be read."""
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
        """Yield the rows, with a fault in the place of each whose key or certificate must not be used.

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


# Read the list, match it with planned things, and record the run or forecast it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A list to onboard to a facility; `device_type` is that of rows that name no thing; `is_bulk`: AWS IoT's own task
    registers them, with their policy on the certificate. `by_order`: rows that name no thing get the next free ones;
    `ignored` are headings that say nothing of which device a row is. `reuses_retired`: keys that were retired may come
    back; `crls` are lists of the issuers."""

    facility: FacilitySpec
    source: Source
    issuers: tuple[x509.Certificate, ...] = ()
    device_type: str | None = None
    reason: str = ""
    is_staged: bool = False
    policy_on: str = "group"
    is_bulk: bool = False
    by_order: bool = False
    ignored: tuple[str, ...] = ()
    reuses_retired: bool = False
    crls: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The pairing of rows with things: counts by identity, and the first pairs in words."""

    ways: Mapping[str, int]
    first: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A run in the journal, the number of rows onboarded already, and how the others were paired."""

    run: Run
    already: int
    pairing: Pairing


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The effect of a list: rows by outcome, calls by API, and the least seconds that they need.

    `upload`: the URL prefix of the parameters of AWS IoT's own task, which makes the calls itself.
    """

    facility: str
    format: str
    rows: int
    pairs: int
    already: int
    faults: int
    unpaired: int
    calls: Mapping[str, int]
    seconds: float
    slowest: str | None
    quotas: str
    first_faults: tuple[str, ...]
    pairing: Pairing
    upload: str | None = None


_TOLD = 5
_LONGEST = 400
"""Characters of a reason: what a list says may be as long as its records."""


def match(
    project: Project,
    request: Request,
    journal: Journal | None,
    *,
    keep_material: bool,
    in_aws: RevokedInAws | None = None,
) -> Matching:
    """Pair the list's rows with the facility's planned things; refuse keys and certificates that must not be used
    again.

    Raises:
        RequestError: The list does not identify its devices, or the facility is not onboarded from lists.
        EnvironmentFault: The list cannot be read, or has no row.
    """
    if request.facility.registration != "bulk":
        raise RequestError(
            f"Terraform registers the things of {request.facility.id}, with certificates from their CSRs",
            hint="set `registration: bulk` for it in fleet.yaml, generate and apply; or hand in CSRs",
        )
    folder, suffix, plant = identities_folder(project), project.environment_suffix, request.facility.id
    if (lock := lock_file(csrs_file(folder, suffix=suffix, facility=plant))).is_file():
        raise RequestError(
            f"{lock.name} says that Terraform registered the things of {plant}: each would get a second certificate",
            hint=f"hand them over first: fleet device adopt --facility {plant}. If none was ever applied, delete the "
            "lock",
        )
    refusals = refusals_of(project, journal, crls=request.crls, issuers=request.issuers)
    matching = Matching(
        suffix=project.environment_suffix,
        device_type=request.device_type,
        keep_material=keep_material,
        by_order=request.by_order,
        ignored=request.ignored,
        plants=plants_of(project, request.facility),
    )
    try:
        matching.add_things(
            project.planned(request.facility), is_taken=journal.has_certificate if journal else lambda _: False
        )
        now = datetime.datetime.now(datetime.UTC)
        source = replace(request.source, ignored=frozenset(map(normalised, request.ignored)))
        rows = read_rows(source, now=now, issuers=request.issuers)
        sifted = refusals.sift(rows, reuses_retired=request.reuses_retired, in_aws=in_aws, at=now.timestamp())
        matching.add_rows(sifted, key_owner=journal.key_owner if journal else lambda _: None)
        if not matching.counts["rows"]:
            raise nothing_found(request.source)
    except BaseException:
        matching.close()
        raise
    finally:
        refusals.close()
    return matching


def refusals_of(
    project: Project,
    journal: Journal | None,
    *,
    crls: Sequence[Path] = (),
    issuers: Sequence[x509.Certificate] = (),
    local: Path | None = None,
) -> Refusals:
    """Collect the keys and certificates that must not be used again: from the journal, the application's other journals
    on this machine (also the local AWS's in `local`), the own authorities' ledgers on this machine, their committed
    CRLs, and the given CRLs. Raises EnvironmentFault where one of them cannot be read."""
    lists, authorities = list(crls), list(issuers)
    for own in sorted(identities_folder(project).glob("*/ca")):
        if (own / CRL).exists():
            lists.append(own / CRL)
            authorities += _own_authority(own / CERTIFICATE)
    ledger = SpentKeys([*journals_of(project, local=local), *ledgers_of(project)])
    return Refusals(journal, ledger=ledger, lists=RevocationLists(lists, authorities))


def _own_authority(path: Path) -> list[x509.Certificate]:
    """Return the own authority's certificate; none where it is not there."""
    if not path.exists():
        return []
    try:
        with located(path):
            return [read_certificate(path.read_bytes())]
    except ValueError:
        raise EnvironmentFault(f"{path} is damaged", hint="restore it from version control") from None


def forecast(
    project: Project, request: Request, *, journal: Journal | None, quotas: Quotas, upload: str | None = None
) -> Forecast:
    """Forecast an onboarding, without a call and without a change."""
    matching = match(project, request, journal, keep_material=False)
    _refuse_certificates(request, matching)
    counts = matching.counts
    calls = calls_for(
        devices=counts["pairs"],
        certificates=matching.certificates(),
        policy_on=request.policy_on,
        groups=len(request.facility.groups),
    )
    seconds, slowest = least_seconds(calls, quotas.rates())
    first = []
    for fault in matching.faults():
        first.append(f"row {fault.number} ({fault.place}): {fault.reason[:_LONGEST]}; {fault.remedy}")
        if len(first) == _TOLD:
            break
    pairing = _pairing(matching)
    matching.close()
    return Forecast(
        facility=request.facility.id,
        format=request.source.format,
        **counts,
        calls=calls,
        seconds=seconds,
        slowest=slowest,
        quotas="live" if quotas.is_live else "AWS's defaults",
        first_faults=tuple(first),
        pairing=pairing,
        upload=upload,
    )


def count_differing(project: Project, facility: FacilitySpec, journal: Journal) -> int:
    """Count onboarded things whose record differs from the journal, which has what AWS IoT was sent."""
    differing = 0
    for thing in project.planned(facility):
        device = journal.find_device(thing.name)
        if device is not None and device.facility == facility.id and device.state == "done":
            differing += device.planned != thing
    return differing


def start(project: Project, request: Request, journal: Journal, *, in_aws: RevokedInAws | None = None) -> Started:
    """Write a new run into the journal, before any change; devices onboarded already are looked up by `in_aws`."""
    unfinished = journal.unfinished(request.facility.id)
    if unfinished is not None:
        left = journal.count(unfinished.id).get("planned", 0)
        raise RequestError(
            f"an onboarding of {request.facility.id} was cut off: {left} devices of {unfinished.source} are not done",
            hint="go on with it first: fleet onboard --facility ID --resume",
        )
    source = request.source
    run = Run(
        facility=request.facility.id,
        source=str(source.path.absolute()),
        format=source.format,
        bundle=source.bundle,
        signers=str(source.signers.absolute()) if source.signers else None,
        mark=mark_of(source.path),
        reason=request.reason,
        is_staged=request.is_staged,
        policy_on=request.policy_on,
        is_bulk=request.is_bulk,
    )
    matching = match(project, request, journal, keep_material=True, in_aws=in_aws)
    _refuse_certificates(request, matching)
    run_id = journal.start_run(run, matching.pairs(), matching.faults(), now=time.time())
    started = Started(run=run.with_id(run_id), already=matching.counts["already"], pairing=_pairing(matching))
    matching.close()
    return started


def _pairing(matching: Matching) -> Pairing:
    return Pairing(ways=matching.ways(), first=tuple(matching.first_pairs(_TOLD)))


def _refuse_certificates(request: Request, matching: Matching) -> None:
    if request.is_bulk and (count := matching.certificates()):
        matching.close()
        raise RequestError(
            f"{count:,} rows have certificates, and AWS IoT's bulk registration is given CSRs", hint="use --via api"
        )


def own_requests(path: Path, facility: str) -> Source:
    """Return the CSRs of the project's own identities, as a list. Raises EnvironmentFault where there are none."""
    if not path.is_file():
        raise EnvironmentFault(
            f"{facility} has no CSRs in {path}",
            hint=f"make keys and CSRs: fleet keys create --facility {facility}; or name a list: --from FILE",
        )
    return Source(path=path, format="jsonl")


def mark_of(path: Path) -> str:
    """Return size and modification time of a list: they change with it."""
    found = path.stat()
    return f"{found.st_size}:{found.st_mtime_ns}"
