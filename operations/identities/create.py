"""Makes the keys and CSRs that a facility's things still miss; what is there stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from lib.specs import FacilitySpec
from operations.identities.keystore import KeyStore
from operations.identities.requests import csr_path, read_requests, sign_request, write_requests
from operations.project import Project


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """What one run did for a facility; `handed_in` things have a CSR whose key is not in this store."""

    facility: str
    things: int
    keys: int
    requests: int
    handed_in: int


def create_missing(project: Project, facility: FacilitySpec, *, store: KeyStore, folder: Path) -> Created:
    """Give each thing a key and a CSR where it has none.

    Keys are on disk before the CSRs that name them, so a killed run never leaves a CSR without its key.
    A CSR that a device or its maker handed in is kept, and no key is made for it.
    """
    path = csr_path(folder, project.environment_suffix, facility.id)
    requests = read_requests(path)
    held = store.names(facility.id)
    names = [thing.name for thing in project.things(facility)]

    without_request = [name for name in names if name not in requests]
    fresh = {name: ec.generate_private_key(ec.SECP256R1()) for name in without_request if name not in held}
    store.add(facility.id, fresh.items())
    kept = dict(store.keys(facility.id, {name for name in without_request if name in held}))
    signed = {name: sign_request(name, key) for name, key in (fresh | kept).items()}
    if signed:
        write_requests(path, requests | signed)
    return Created(
        facility=facility.id,
        things=len(names),
        keys=len(fresh),
        requests=len(signed),
        handed_in=sum(1 for name in names if name in requests and name not in held),
    )
