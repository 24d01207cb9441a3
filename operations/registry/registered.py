"""Keys of things that Terraform registers: rotate them, and mark them as revoked or retired.

The project's CSRs are the truth for these things: a line for each key, which the next apply makes a certificate of,
and the lock beside them (docs/devices.md). What locks a device out is done in AWS IoT at once, before the file is
written, so that it never waits for an apply.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.lib.record.identities import (
    Identity,
    Request,
    Requests,
    Status,
    in_use,
    lock_file,
    parse_request,
    read_identities,
    read_lock,
    read_requests,
    refuse_names_of_others,
    refuse_shared_keys,
    write_lock,
)
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.pki.csr import csr_path, write_identities
from fleet_iot.operations.pki.keystore import identities_folder
from fleet_iot.operations.project import Project, reporting_record_faults
from fleet_iot.operations.storage import exclusive


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingKeys:
    """The keys of one thing that Terraform registers, by generation, and the file that they are in."""

    project: Project = field(repr=False)
    thing: str
    path: Path
    requests: tuple[Request, ...] = field(repr=False)

    @property
    def used(self) -> tuple[Request, ...]:
        """Return those that were neither revoked nor retired."""
        return in_use(self.requests)

    @property
    def ended(self) -> frozenset[bytes]:
        """Return the digests of those that were revoked or retired."""
        return frozenset(digest_of(each) for each in self.requests if each.status is not None)


def digest_of(request: Request) -> bytes:
    """Return the SHA-256 of its public key, as journals have it."""
    return bytes.fromhex(request.locked.key)


def refuse_shared_lock(project: Project, facility: FacilitySpec) -> None:
    """Raise RequestError where the plant, which leaves Terraform, has a lock in the identities of the accounts too."""
    lock = lock_file(csr_path(identities_folder(project), project.environment_suffix, facility.id))
    if facility.registration == "bulk" and lock.exists() and shared_identities(project) is not None:
        raise RequestError(
            f"on the local AWS, this removes {lock}, which an account's plant has too: its synthesis would no longer "
            "refuse to delete certificates",
            hint=f"{_REHEARSE}; where no account has the plant: --yes",
        )


def shared_identities(project: Project) -> str | None:
    """Return the warning for a command that changes the identities on the local AWS; None where they are others than
    the accounts'."""
    if os.environ.get("FLEET_IDENTITIES"):
        return None
    folder = f"identities/{project.environment_suffix}"
    return f"note: {folder} is the account's too: what this changes counts there from the next synthesis; {_REHEARSE}"


_REHEARSE = (
    "to rehearse, use a suffix of its own (ENVIRONMENT_SUFFIX=…), or a copy of the identities (FLEET_IDENTITIES=…)"
)


def keys_of(project: Project, facility: FacilitySpec) -> Callable[[str], ThingKeys | None]:
    """Return what finds a thing's keys in the facility's CSRs, read once; None where Terraform does not register it.

    Raises:
        EnvironmentFault: a line is invalid.
    """
    if facility.registration != "terraform":
        return lambda thing: None
    path = csr_path(identities_folder(project), project.environment_suffix, facility.id)
    with reporting_record_faults():
        requests: Requests = read_requests(path)
    return lambda thing: ThingKeys(project=project, thing=thing, path=path, requests=requests.get(thing, ()))


def end_keys(keys: ThingKeys, ends: Mapping[int, Status]) -> None:
    """Mark generations of the thing as revoked or retired, in the CSRs and in the lock.

    Raises:
        EnvironmentFault: a file cannot be written: AWS IoT was asked before.
    """
    changed = [each.generation for each in keys.requests if ends.get(each.generation, each.status) != each.status]
    if not changed:
        return

    def marked(line: Identity) -> Identity:
        is_ended = line.thing == keys.thing and line.generation in ends
        return msgspec.structs.replace(line, status=ends[line.generation]) if is_ended else line

    try:
        with _alone(keys.path), reporting_record_faults():
            write_identities(keys.path, map(marked, read_identities(keys.path)))
            lock = read_lock(lock_file(keys.path), ())
            held = {each.generation: each for each in lock.get(keys.thing, ())}
            for each in read_requests(keys.path)[keys.thing]:
                if each.generation in ends:
                    held[each.generation] = each.locked
            lock[keys.thing] = tuple(held.values())
            write_lock(lock_file(keys.path), (line for lines in lock.values() for line in lines))
    except OSError as error:
        raise EnvironmentFault(
            f"AWS IoT has locked {keys.thing} out, and {error.filename or keys.path} cannot be written: "
            f"{error.strerror}",
            hint="see to its rights and repeat the command: without the mark, an apply would try to activate it",
        ) from None


def add_key(keys: ThingKeys, csr: str) -> Request:
    """Add a CSR of the thing's next generation, for the next apply.

    Raises:
        EnvironmentFault: its key or its common name is another thing's, or the file cannot be written.
    """
    project, suffix = keys.project, keys.project.environment_suffix
    with _alone(keys.path), reporting_record_faults():
        lines = read_identities(keys.path)
        last = max((line.generation for line in lines if line.thing == keys.thing), default=0)
        added = Identity(thing=keys.thing, csr=csr, generation=last + 1)
        request = parse_request(added, len(lines) + 1)
        refuse_names_of_others(
            keys.path,
            {keys.thing: (request,)},
            suffix=suffix,
            planned=lambda: (
                thing.name.removesuffix(f"-{suffix}") for each in project.facilities for thing in project.things(each)
            ),
        )
        refuse_shared_keys([read_requests(keys.path), {keys.thing: (request,)}])
        _write(keys.path, [*lines, added])
    return request


def drop_keys(keys: ThingKeys, generations: Collection[int]) -> None:
    """Remove CSRs of the thing: the next apply deletes their certificates. Raises EnvironmentFault."""
    with _alone(keys.path), reporting_record_faults():
        lines = read_identities(keys.path)
        _write(keys.path, (line for line in lines if line.thing != keys.thing or line.generation not in generations))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Lock the file's folder until the context ends; the file itself is replaced, so a lock on it would not last."""
    with exclusive(path.parent, opens=lambda folder, _: os.open(folder, os.O_RDONLY)):
        yield


def _write(path: Path, lines: Iterable[Identity]) -> None:
    try:
        write_identities(path, lines)
    except OSError as error:
        raise EnvironmentFault(f"{path} cannot be written: {error.strerror}") from None
