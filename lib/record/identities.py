"""Read the CSRs of a facility's things, and the lock of those that certificates were made from.

`<facility>.csrs.jsonl` has one certificate signing request per line, by the thing's full name. AWS IoT makes a
certificate of a CSR, and Terraform replaces the certificate when the CSR's text changes: so stacks have each CSR in a
normal form, made from its DER, whatever its line ends. `<facility>.lock.jsonl` beside it has the hashes of each key and
DER: a CSR that really differs stops the synthesis until it is allowed (docs/plan.md). Lines have a thing's name exactly
as planned, and no CSR has another planned thing's common name.

A thing whose key is rotated has a second line with the next `generation`: two certificates, until the first line goes.
A generation never changes its number, by which Terraform addresses the certificate. A key that was revoked or retired
keeps its line, with that `status`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import ssl
import stat
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from ..faults import PrerequisiteError
from ..specs import suffixed

CSR_LIMIT = 4096
"""Characters, https://docs.aws.amazon.com/iot/latest/apireference/API_CreateCertificateFromCsr.html"""

REMEDY = 'Each line is {"thing": NAME, "csr": PEM}; `fleet keys create` writes them.'
LOCK_REMEDY = "Restore it from version control: it says which keys the deployed certificates have."

_PEM = re.compile(
    r"\s*-----BEGIN (NEW )?CERTIFICATE REQUEST-----\s([A-Za-z0-9+/=\s]*?)-----END \1?CERTIFICATE REQUEST-----\s*"
)
_BEGIN, _END = "-----BEGIN CERTIFICATE REQUEST-----", "-----END CERTIFICATE REQUEST-----"


class Status(StrEnum):
    """End of a key. REVOKED: its certificate stays, never active again; RETIRED: it has none."""

    REVOKED = "revoked"
    RETIRED = "retired"


Generation = Annotated[int, msgspec.Meta(ge=1)]
"""Number of a thing's key: 1, and one more for each that comes beside or after it."""


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of `<facility>.csrs.jsonl`."""

    thing: str
    csr: str
    generation: Generation = 1
    status: Status | None = None


class Locked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of `<facility>.lock.jsonl`: SHA-256, in hex, of the public key's DER and of the CSR's."""

    thing: str
    key: str
    csr: str
    generation: Generation = 1
    status: Status | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A CSR in its normal form, its lock entry, its common names, and its line number."""

    csr: str
    locked: Locked
    names: tuple[str, ...]
    line: int

    @property
    def generation(self) -> int:
        """Return its generation."""
        return self.locked.generation

    @property
    def status(self) -> Status | None:
        """Return the end of its key; None where it is in use."""
        return self.locked.status


Requests = dict[str, tuple[Request, ...]]
"""The CSRs of each thing, by generation."""

Lock = dict[str, tuple[Locked, ...]]
"""The lock's lines of each thing, by generation."""


class Difference(StrEnum):
    """A way in which a thing's CSRs differ from the lock, the worst first."""

    KEY = "a CSR of another key"
    CERTIFICATE = "another CSR of the same key"
    GONE = "no CSR any more"
    REVIVED = "a CSR whose key was revoked or retired"
    ROTATED = "a second CSR beside the first"
    FINISHED = "only the second of two CSRs"

    @property
    def is_rotation(self) -> bool:
        """Return whether the device keeps a certificate that it has."""
        return self in (Difference.ROTATED, Difference.FINISHED)


Line = TypeVar("Line", Identity, Locked)


def csrs_file(identities: Path, *, suffix: str, facility: str) -> Path:
    return identities / suffix / f"{facility}.csrs.jsonl"


def lock_file(csrs: Path) -> Path:
    """Return the lock of a file of CSRs."""
    return csrs.with_name(csrs.name.replace(".csrs.", ".lock."))


def normal_csr(text: str) -> tuple[str, bytes]:
    """Return a PEM CSR in the form of `fleet keys create` (64 columns, LF, one at the end), and its DER.

    Raises:
        ValueError: the text is no PEM certificate request.
    """
    found = _PEM.fullmatch(text)
    if found is None:
        raise ValueError("no PEM certificate request")
    der = base64.b64decode("".join(found[2].split()), validate=True)
    pem = ssl.DER_cert_to_PEM_cert(der)
    return f"{_BEGIN}{pem[pem.index(chr(10)) : pem.rindex('-----END')]}{_END}\n", der


def read_identities(path: Path, things: Collection[str] = ()) -> list[Identity]:
    """Return the lines of a file of CSRs as they are written. Raises PrerequisiteError as `read_requests` does."""
    return [identity for _, identity in _named_lines(path, Identity, things, REMEDY)]


def read_requests(path: Path, things: Collection[str] = ()) -> Requests:
    """Return thing name → CSRs with their lock entries; empty where the file does not exist yet.

    Args:
        path: The file of CSRs.
        things: Full names of the facility's things; a line that spells one of them differently is an error.

    Raises:
        PrerequisiteError: a line or its CSR is invalid; with file and line.
    """
    requests: Requests = {}
    for number, identity in _named_lines(path, Identity, things, REMEDY):
        held = requests.get(identity.thing, ())
        if any(each.generation == identity.generation for each in held):
            raise _bad_line(path, number, f"thing '{identity.thing}' has a CSR{_number(identity)} already")
        try:
            request = parse_request(identity, number)
        except ValueError as error:
            raise _bad_line(path, number, str(error)) from None
        if same := next((each.line for each in held if each.locked.key == request.locked.key), None):
            raise _bad_line(path, number, f"thing '{identity.thing}' has the key of line {same} again")
        requests[identity.thing] = _by_generation(*held, request)
    return requests


def in_use(requests: Iterable[Request]) -> tuple[Request, ...]:
    """Return those of a thing's CSRs whose keys were neither revoked nor retired."""
    return tuple(each for each in requests if each.status is None)


def read_lock(path: Path, things: Collection[str]) -> Lock:
    """Return thing name → hashes of its certificates' keys and CSRs; empty where the lock does not exist yet.

    Args:
        path: The lock.
        things: Full names of the facility's things; a line that spells one of them differently is an error.

    Raises:
        PrerequisiteError: a line is invalid, or a thing has one twice; with file and line.
    """
    lock: Lock = {}
    for number, locked in _named_lines(path, Locked, things, LOCK_REMEDY):
        held = lock.get(locked.thing, ())
        if any(each.generation == locked.generation for each in held):
            raise _bad_line(path, number, f"thing '{locked.thing}' is locked{_number(locked)} already", LOCK_REMEDY)
        lock[locked.thing] = _by_generation(*held, locked)
    return lock


def write_lock(path: Path, locked: Iterable[Locked]) -> None:
    """Replace the lock atomically, sorted by thing and generation. Raises OSError."""
    refuse_strange(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    encode = msgspec.json.Encoder().encode
    content = b"".join(encode(each) + b"\n" for each in sorted(locked, key=lambda it: (it.thing, it.generation)))
    if path.exists() and path.read_bytes() == content:
        return
    handle, staged = tempfile.mkstemp(dir=path.parent, prefix=".lock-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(staged).chmod(0o644)
        Path(staged).replace(path)
    finally:
        Path(staged).unlink(missing_ok=True)


def differences(requests: Requests, lock: Lock, things: Collection[str]) -> dict[str, Difference]:
    """Return the things whose certificates would be replaced, deleted, or be two, and why; a thing's first CSR, and
    one after those that were revoked or retired, is no difference."""
    compared = (
        (thing, _difference(requests.get(thing, ()), lock[thing])) for thing in sorted(lock.keys() & set(things))
    )
    return {thing: difference for thing, difference in compared if difference is not None}


def _difference(requests: tuple[Request, ...], locked: tuple[Locked, ...]) -> Difference | None:
    """Return the worst difference of one thing."""
    now = {each.generation: each.locked for each in requests}
    before = {each.generation: each for each in locked}
    keeps = any(each.status is None and now.get(each.generation) == each for each in locked)
    found = {_change(each, now, keeps=keeps) for each in locked}
    if keeps and any(each.status is None for number, each in now.items() if number not in before):
        found.add(Difference.ROTATED)
    return next((each for each in Difference if each in found), None)


def _change(before: Locked, lines: Mapping[int, Locked], *, keeps: bool) -> Difference | None:
    """Return what happened to a locked line; `keeps`: another certificate of the thing stays."""
    now = lines.get(before.generation)
    if now is None:
        if before.status is not None:
            return None
        if keeps:
            return Difference.FINISHED
        return Difference.KEY if any(each.status is None for each in lines.values()) else Difference.GONE
    if now.key != before.key:
        return Difference.KEY
    if now.status != before.status and None in (now.status, before.status):
        return Difference.GONE if before.status is None else Difference.REVIVED
    return Difference.CERTIFICATE if now.csr != before.csr else None


def unlocked(requests: Requests, lock: Lock, things: Iterable[str]) -> list[str]:
    """Return the things with a CSR in use that has no line in the lock, beside none that has: it is new, or the line
    was removed."""
    return [thing for thing in things if _is_unlocked(requests.get(thing, ()), lock.get(thing, ()))]


def _is_unlocked(requests: tuple[Request, ...], locked: tuple[Locked, ...]) -> bool:
    used = {each.generation for each in locked if each.status is None}
    known = {each.generation for each in locked}
    return not used and any(each.generation not in known for each in requests)


def unplanned(lock: Lock, things: Collection[str]) -> list[str]:
    """Return the names in the lock that are none of `things`."""
    return sorted(lock.keys() - set(things))


def lock_new(csrs: Path, things: Collection[str], *, requests: Requests | None = None) -> list[str]:
    """Bring the lock up to date where nothing that is locked differs: new CSRs, and rotations.

    Args:
        csrs: The file of CSRs.
        things: Full names of the facility's things.
        requests: The file's CSRs, where they were read already.

    Returns:
        The things whose lines were written.

    Raises:
        PrerequisiteError: a line of either file is invalid.
        OSError: the lock cannot be written.
    """
    requests = read_requests(csrs, things) if requests is None else requests
    lock = read_lock(lock_file(csrs), things)
    found = differences(requests, lock, things)
    after = {
        thing: tuple(each.locked for each in requests[thing])
        for thing in things
        if thing in requests and (thing not in found or found[thing].is_rotation)
    }
    written = [thing for thing, lines in after.items() if lines != lock.get(thing)]
    if written:
        write_lock(lock_file(csrs), [line for lines in (lock | after).values() for line in lines])
    return written


def refuse_names_of_others(
    csrs: Path, requests: Requests, *, suffix: str, planned: Callable[[], Iterable[str]]
) -> None:
    """Refuse a CSR with another thing's common name: two devices were swapped, and each would impersonate the other.

    A name of no thing is accepted: makers give chips names of their own.

    Args:
        csrs: The file that the CSRs are from.
        requests: The CSRs by full thing name.
        suffix: The environment's.
        planned: Gives the names, without suffix, of all things of the project; called where a CSR is not in its own
            thing's name.

    Raises:
        PrerequisiteError: there is such a CSR; with file and line.
    """
    strange: dict[str, tuple[int, str]] = {}
    for thing, each in ((thing, each) for thing, held in requests.items() for each in held):
        own = {_folded(thing), _folded(thing.removesuffix(f"-{suffix}"))}
        for name in map(_folded, each.names):
            if name and name not in own:
                strange.setdefault(name, (each.line, thing))
    if not strange:
        return
    spellings = ((name, spelling) for name in planned() for spelling in (name, suffixed(name, suffix)))
    found = [(*strange[_folded(spelling)], name) for name, spelling in spellings if _folded(spelling) in strange]
    if found:
        line, thing, other = min(found)
        more = f" (and {len(found) - 1} more such lines)" if len(found) > 1 else ""
        raise _bad_line(
            csrs,
            line,
            f"the CSR of thing '{thing}' has the common name of another thing, '{suffixed(other, suffix)}'{more}",
            "Put each CSR under the thing whose name it has, or have the device make one in its own thing's name.",
        )


def refuse_shared_keys(facilities: Iterable[Requests]) -> None:
    """Raise PrerequisiteError where CSRs of two things share a key: each device could impersonate the other."""
    owners: dict[str, str] = {}
    for requests in facilities:
        for thing, each in ((thing, each) for thing, held in requests.items() for each in held):
            owner = owners.setdefault(each.locked.key, thing)
            if owner != thing:
                raise PrerequisiteError(
                    f"The CSRs of {owner} and {thing} are of one key.",
                    remedy="Each device needs a key of its own: have one of the two make another, and hand in its CSR.",
                )


def parse_request(identity: Identity, line: int) -> Request:
    """Return the CSR of a line. Raises ValueError for one that cannot be read."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509.oid import NameOID

    if len(identity.csr) > CSR_LIMIT:
        raise ValueError(f"no PEM certificate request of at most {CSR_LIMIT} characters")
    csr, der = normal_csr(identity.csr)
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        names = tuple(str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"a certificate request that cannot be read: {error}") from None
    hashes = {"key": hashlib.sha256(key).hexdigest(), "csr": hashlib.sha256(der).hexdigest()}
    locked = Locked(thing=identity.thing, **hashes, generation=identity.generation, status=identity.status)
    return Request(csr=csr, locked=locked, names=names, line=line)


Numbered = TypeVar("Numbered", Request, Locked)


def _by_generation(*lines: Numbered) -> tuple[Numbered, ...]:
    return tuple(sorted(lines, key=lambda each: each.generation)) if len(lines) > 1 else lines


def _number(line: Identity | Locked) -> str:
    return f" of generation {line.generation}" if line.generation > 1 else ""


def _folded(name: str) -> str:
    """Return a name in the form in which different spellings are equal."""
    return name.strip().casefold()


def _named_lines(path: Path, kind: type[Line], things: Collection[str], remedy: str) -> Iterator[tuple[int, Line]]:
    """Yield the lines of a file; raise at one that would be ignored because of its thing's spelling."""
    planned = set(things)
    spelled = {_folded(thing): thing for thing in planned}
    for number, line in _lines(path, kind, remedy):
        if line.thing not in planned and (meant := spelled.get(_folded(line.thing))):
            raise _bad_line(path, number, f"thing '{line.thing}' is spelled '{meant}'", "Spell it as it is planned.")
        yield number, line


def _lines(path: Path, kind: type[Line], remedy: str) -> Iterator[tuple[int, Line]]:
    """Yield the lines of a file with their numbers, whatever their ends; none without a file."""
    refuse_strange(path)
    if not path.exists():
        return
    decoder = msgspec.json.Decoder(kind)
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield number, decoder.decode(line)
        except UnicodeDecodeError:
            raise _bad_line(path, number, "not UTF-8", remedy) from None
        except msgspec.DecodeError as error:
            raise _bad_line(path, number, str(error), remedy) from None


def refuse_strange(path: Path) -> None:
    """Raise PrerequisiteError at a link out of the folder of identities, and at a pipe, which would block."""
    identities = os.path.realpath(path.parents[1])
    if not Path(os.path.realpath(path)).is_relative_to(identities):
        raise PrerequisiteError(f"{path} leads out of {path.parents[1]}.", remedy="Replace the link by a real file.")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise PrerequisiteError(f"{path} leads nowhere.", remedy="Replace the link by a real file.") from None
        return
    except OSError as error:
        raise PrerequisiteError(f"{path} cannot be read: {error.strerror}.", remedy="See to its rights.") from None
    if not stat.S_ISREG(mode):
        raise PrerequisiteError(f"{path} is no file.", remedy="Move or delete it.")


def _bad_line(path: Path, number: int, what: str, remedy: str = REMEDY) -> PrerequisiteError:
    return PrerequisiteError(f"{path}:{number}: {what}.", remedy=remedy)
