"""Makes the keys and CSRs that a facility's things still miss; what is there stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from generator.diagnostics import EnvironmentFault
from lib.identities import lock_file, lock_new, refuse_strange
from lib.specs import FacilitySpec
from operations.identities.keystore import KeyStore
from operations.identities.requests import add_requests, csr_path, line_of, places_of, sign_request
from operations.identities.templates import key_and_point
from operations.project import Project, told
from operations.workers import WORKERS, batches_of, in_order

BATCH = 500
"""Things that a process makes keys for at a time, some 25 ms of work; up to twice as many are done in this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """What one run did for a facility; `handed_in` things have a CSR whose key is not in this store."""

    facility: str
    things: int
    keys: int
    requests: int
    handed_in: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What came of one batch: lines of the key store, and lines of the CSR file by thing."""

    keys: list[bytes]
    requests: list[tuple[str, str]]


def create_missing(
    project: Project,
    facility: FacilitySpec,
    *,
    store: KeyStore,
    folder: Path,
    workers: int = WORKERS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Created:
    """Give each thing a key and a CSR where it has none.

    Keys are on disk before the CSRs that name them, so a killed run never leaves a CSR without its key; the next one
    goes on with the keys that it left. A CSR that a device or its maker handed in is kept, and no key is made for it.
    Of the things that are there, no more is held in memory than their names.
    """
    path = csr_path(folder, project.environment_suffix, facility.id)
    with told():
        refuse_strange(path)
    with store.writing(facility.id) as writer:
        requests = places_of(path)
        names = sorted(thing.name for thing in project.things(facility))
        wanted = [name for name in names if name not in requests]
        held = writer.places
        if wanted:
            items = ((name, writer.line(name) if name in held else None) for name in wanted)
            work = partial(_make, store, facility.id)

            def added() -> Iterator[tuple[str, str]]:
                done = 0
                for made in in_order(batches_of(items, BATCH), work, workers=workers):
                    writer.append(made.keys)
                    yield from made.requests
                    done += len(made.requests)
                    on_progress(done, len(wanted))

            add_requests(path, requests, added(), before=writer.sync)
    if facility.registration == "terraform":
        _lock(path, names)
    return Created(
        facility=facility.id,
        things=len(names),
        keys=sum(1 for name in wanted if name not in held),
        requests=len(wanted),
        handed_in=sum(1 for name in names if name in requests and name not in held),
    )


def _lock(path: Path, names: list[str]) -> None:
    """Records whose keys they are. Raises EnvironmentFault where a CSR cannot be read, or the lock not written."""
    try:
        with told():
            lock_new(path, names)
    except OSError as error:
        raise EnvironmentFault(f"{lock_file(path)} cannot be written: {error.strerror}") from None


def _make(store: KeyStore, facility: str, batch: list[tuple[str, bytes | None]]) -> _Made:
    """Sealed keys and CSRs of things; one whose line of the store is given keeps its key. No key leaves it unsealed."""
    made = _Made(keys=[], requests=[])
    for name, line in batch:
        key = ec.generate_private_key(ec.SECP256R1()) if line is None else store.opened(facility, line)
        plain, point = key_and_point(key)
        if line is None:
            made.keys.append(store.sealed_line(name, plain))
        made.requests.append((name, line_of(name, sign_request(name, key, point))))
    return made
