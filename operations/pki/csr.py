"""Make keys and CSRs for things; read and write the committed CSRs, `identities/<environment>/<facility>.csrs.jsonl`.

One JSON object a line, sorted by thing: `{"thing": NAME, "csr": PEM}`. CSRs are public. Lines of plants that Terraform
registers may have a generation and a status (lib/record/identities.py).
"""

from __future__ import annotations

import contextlib
import heapq
import io
import json
import operator
import ssl
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.lib.record import identities
from fleet_iot.lib.record.identities import (
    Identity,
    lock_file,
    lock_new,
    read_identities,
    refuse_names_of_others,
    refuse_strange,
)
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.pki.spent import key_digest
from fleet_iot.operations.pki.templates import key_and_point, request_der
from fleet_iot.operations.project import Project, reporting_record_faults
from fleet_iot.operations.storage import inside, whole
from fleet_iot.operations.workers import WORKERS, batches_of, in_order


def csr_path(folder: Path, suffix: str, facility: str) -> Path:
    """Return the path of the facility's CSRs of one environment."""
    return inside(inside(folder, suffix), f"{facility}.csrs.jsonl")


def sign_request(name: str, key: ec.EllipticCurvePrivateKey, point: bytes | None = None) -> str:
    """Return a PEM CSR whose common name is the thing's name (AWS IoT accepts P-256 CSRs of up to 4,096 characters)."""
    text = ssl.DER_cert_to_PEM_cert(request_der(name, key, point))
    return text.replace("CERTIFICATE-----", "CERTIFICATE REQUEST-----")


def read_requests(path: Path) -> dict[str, str]:
    """Read thing name → its last PEM CSR; empty where there is no file. Raises EnvironmentFault with file and line."""
    return {row["thing"]: row["csr"] for row, _ in _lines(path)}


def places_of(path: Path) -> dict[str, int]:
    """Return thing name → offset of its line: fits into memory for a million. A line of a later generation is under
    the name, `#` and its number: no thing's name contains `#`."""
    return {_slot(row): place for row, place in _lines(path)}


def things_of(places: Mapping[str, int]) -> Collection[str]:
    """Return the things that have a line of any generation."""
    later = {slot.partition("#")[0] for slot in places if "#" in slot}
    return places.keys() | later if later else places.keys()


def _slot(row: Mapping[str, Any]) -> str:
    generation = _generation(row)
    return str(row["thing"]) if generation == 1 else f"{row['thing']}#{generation}"


def _generation(row: Mapping[str, Any]) -> int:
    return int(row.get("generation", 1))


def write_requests(path: Path, requests: dict[str, str]) -> None:
    """Replace the file whole, sorted by thing: a killed run leaves the old file or the new one."""
    _write(path, (line_of(name, requests[name]) for name in sorted(requests)))


def write_identities(path: Path, identities: Iterable[Identity]) -> None:
    """Replace the file whole, sorted by thing and generation."""
    lines = sorted(identities, key=lambda each: (each.thing, each.generation))
    _write(path, (json.dumps(msgspec.to_builtins(line)) + "\n" for line in lines))


def add_requests(
    path: Path, places: dict[str, int], added: Iterable[tuple[str, str]], *, before: Callable[[], None]
) -> None:
    """Replace the file by one that has these lines too, of other things, in order; nothing but a line is in memory.

    `before` is called when all lines are there and the file is not replaced yet.
    """
    with path.open("rb") if places else contextlib.nullcontext(io.BytesIO()) as file:

        def held() -> Iterator[tuple[str, str]]:
            for name in sorted(places):
                file.seek(places[name])
                yield name, file.readline().decode().rstrip("\n") + "\n"

        _write(path, (line for _, line in heapq.merge(held(), added, key=operator.itemgetter(0))), before=before)


def line_of(name: str, csr: str) -> str:
    """Return a line of the file."""
    return json.dumps({"thing": name, "csr": csr}) + "\n"


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Read each line's object, with thing and PEM CSR, and where the line begins."""
    if not path.exists():
        return
    place = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                row["thing"], row["csr"]  # reported here where one is missing
                yield row, place
            except (ValueError, KeyError, TypeError):
                raise EnvironmentFault(
                    f'{path}:{number}: not a line {{"thing": …, "csr": …}}',
                    hint="correct the line, or remove it and run `fleet keys create`",
                ) from None
            place += len(line)


def _write(path: Path, lines: Iterable[str], *, before: Callable[[], None] = lambda: None) -> None:
    with whole(path) as file:
        file.writelines(line.encode() for line in lines)
        before()


if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

BATCH = 500
"""Things that a process makes keys for at a time, some 25 ms of work; up to twice as many are done in this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """The result for a facility; `handed_in` things have a CSR whose key is not in this store, `spent` are things
    whose key was revoked or retired: they get no CSR, and another key only on request."""

    facility: str
    things: int
    keys: int
    requests: int
    handed_in: int
    spent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """One batch: lines of the key store, and lines of the CSR file by thing."""

    keys: list[bytes]
    requests: list[tuple[str, str]]
    spent: list[str]


def create_missing(
    project: Project,
    facility: FacilitySpec,
    *,
    store: KeyStore,
    folder: Path,
    workers: int = WORKERS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    spent: frozenset[bytes] = frozenset(),
    renewed: Sequence[str] = (),
) -> Created:
    """Give each thing a key and a CSR where it has none.

    Keys are on disk before the CSRs that name them, so a killed run never leaves a CSR without its key; the next one
    continues with the keys that it left. A CSR that a device or its maker handed in is kept, and no key is made for it.
    Only the names of existing things are in memory. `spent` are keys, by `key_digest`.
    The things in `renewed` get other keys in place of spent ones first; RequestError where one's key is not spent.
    """
    path = csr_path(folder, project.environment_suffix, facility.id)
    if renewed:
        _renew(path, facility.id, renewed, store=store, spent=spent)
    with reporting_record_faults():
        refuse_strange(path)
    with store.writing(facility.id) as writer:
        requests = places_of(path)
        names = sorted(thing.name for thing in project.things(facility))
        if facility.registration == "terraform":
            _refuse_swapped(project, path, names)
        known = things_of(requests)
        wanted = [name for name in names if name not in known]
        held = writer.places
        found = _spent_requests(path, spent, planned=set(names))
        if wanted:
            items = ((name, writer.line(name) if name in held else None) for name in wanted)
            work = partial(_make, store, facility.id, spent)

            def added() -> Iterator[tuple[str, str]]:
                done = 0
                for made in in_order(batches_of(items, BATCH), work, workers=workers):
                    writer.append(made.keys)
                    found.extend(made.spent)
                    yield from made.requests
                    done += len(made.requests)
                    on_progress(done, len(wanted))

            add_requests(path, requests, added(), before=writer.sync)
    if facility.registration == "terraform":
        _lock(path, names)
    return Created(
        facility=facility.id,
        things=len(names),
        keys=len(set(renewed)) + sum(1 for name in wanted if name not in held),
        requests=len(set(renewed)) + len(wanted) - sum(1 for name in found if name not in known),
        handed_in=sum(1 for name in names if name in known and name not in held),
        spent=tuple(sorted(found)),
    )


def _refuse_swapped(project: Project, path: Path, names: list[str]) -> None:
    """Raise EnvironmentFault where a CSR or the lock cannot be read, or a CSR is in the name of another thing."""
    suffix, things = project.environment_suffix, frozenset(names)
    with reporting_record_faults():
        requests = identities.read_requests(path, things)
        identities.read_lock(lock_file(path), things)
        refuse_names_of_others(
            path,
            {thing: request for thing, request in requests.items() if thing in things},
            suffix=suffix,
            planned=lambda: (
                thing.name.removesuffix(f"-{suffix}") for each in project.facilities for thing in project.things(each)
            ),
        )


def _lock(path: Path, names: list[str]) -> None:
    """Record whose keys they are. Raises EnvironmentFault where a CSR cannot be read, or the lock not written."""
    try:
        with reporting_record_faults():
            lock_new(path, names)
    except OSError as error:
        raise EnvironmentFault(f"{lock_file(path)} cannot be written: {error.strerror}") from None


def _renew(path: Path, facility: str, names: Sequence[str], *, store: KeyStore, spent: frozenset[bytes]) -> None:
    """Give each thing another key and CSR in the place of spent ones; beside a line that says how its key ended.

    Raises RequestError for one whose key is not spent: nothing is changed then.
    """
    keys = dict(store.keys(facility, set(names)))
    with reporting_record_faults():
        lines = {(line.thing, line.generation): line for line in read_identities(path)}
    last = {line.thing: line for _, line in sorted(lines.items())}
    for name in names:
        known = [_digest(key.public_key()) for key in filter(None, [keys.get(name)])]
        known += [_digest(x509.load_pem_x509_csr(last[name].csr.encode()).public_key())] if name in last else []
        if spent.isdisjoint(known) and (name not in last or last[name].status is None):
            raise RequestError(
                f"the key of {name} was neither revoked nor retired",
                hint="fleet device rotate gives a device another key; a CSR that it hands in replaces its line",
            )
    for name in names:
        key = ec.generate_private_key(ec.SECP256R1())
        store.replace(facility, name, key)
        before = last.get(name, Identity(thing=name, csr=""))
        number = before.generation if before.status is None else before.generation + 1
        lines[name, number] = Identity(thing=name, csr=sign_request(name, key), generation=number)
    write_identities(path, lines.values())


def _spent_requests(path: Path, spent: frozenset[bytes], *, planned: Set[str]) -> list[str]:
    """Return the planned things whose CSRs have spent keys."""
    if not spent:
        return []
    last: dict[str, tuple[int, str, str | None]] = {}
    for row, _ in _lines(path):
        if row["thing"] not in last or last[row["thing"]][0] < _generation(row):
            last[row["thing"]] = (_generation(row), row["csr"], row.get("status"))
    found = []
    for name, (_, request, status) in last.items():
        try:
            key = x509.load_pem_x509_csr(request.encode()).public_key()
        except (ValueError, UnsupportedAlgorithm):
            continue  # reported where the CSR is used
        if name in planned and status is None and _digest(key) in spent:
            found.append(name)
    return found


def _digest(key: CertificatePublicKeyTypes) -> bytes:
    return key_digest(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


def _make(store: KeyStore, facility: str, spent: frozenset[bytes], batch: list[tuple[str, bytes | None]]) -> _Made:
    """Make sealed keys and CSRs; a thing whose line of the store is given keeps its key. Returns no unsealed key."""
    made = _Made(keys=[], requests=[], spent=[])
    for name, line in batch:
        key = ec.generate_private_key(ec.SECP256R1()) if line is None else store.opened(facility, line)
        if line is not None and spent and _digest(key.public_key()) in spent:
            made.spent.append(name)
            continue
        plain, point = key_and_point(key)
        if line is None:
            made.keys.append(store.sealed_line(name, plain))
        made.requests.append((name, line_of(name, sign_request(name, key, point))))
    return made
