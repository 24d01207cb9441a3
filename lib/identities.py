"""Reads the identities of a plant's things, and the lock that says which of them certificates were made from.

`<facility>.csrs.jsonl` holds one certificate signing request a line, by the thing's full name. AWS IoT makes a
certificate of a CSR, and Terraform replaces the certificate where the CSR's text differs: so a stack has each CSR in
one form, made from its DER, whatever line ends it was handed in with. `<facility>.lock.jsonl` beside it has the hashes
of the key and of the DER of each: a CSR that is really another stops a synthesis until it is allowed (docs/plan.md).
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import ssl
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from lib.faults import PrerequisiteError

CSR_LIMIT = 4096
"""Characters, https://docs.aws.amazon.com/iot/latest/apireference/API_CreateCertificateFromCsr.html"""

REMEDY = 'Each line is {"thing": NAME, "csr": PEM}; `fleet keys create` writes them.'

_PEM = re.compile(
    r"\s*-----BEGIN (NEW )?CERTIFICATE REQUEST-----\s([A-Za-z0-9+/=\s]*?)-----END \1?CERTIFICATE REQUEST-----\s*"
)
_BEGIN, _END = "-----BEGIN CERTIFICATE REQUEST-----", "-----END CERTIFICATE REQUEST-----"


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of `<facility>.csrs.jsonl`."""

    thing: str
    csr: str


class Locked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of `<facility>.lock.jsonl`: SHA-256, in hex, of the public key's DER and of the CSR's."""

    thing: str
    key: str
    csr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A CSR in the form that stacks have it in, and what the lock says of it."""

    csr: str
    locked: Locked


class Difference(StrEnum):
    """What a thing's CSR is that the lock does not say."""

    KEY = "a CSR of another key"
    CERTIFICATE = "another CSR of the same key"
    GONE = "no CSR any more"


Line = TypeVar("Line", Identity, Locked)


def csrs_file(identities: Path, *, suffix: str, facility: str) -> Path:
    return identities / suffix / f"{facility}.csrs.jsonl"


def lock_file(csrs: Path) -> Path:
    """The lock that belongs to a file of CSRs."""
    return csrs.with_name(csrs.name.replace(".csrs.", ".lock."))


def normal_csr(text: str) -> tuple[str, bytes]:
    """A PEM CSR in the form that `fleet keys create` writes: 64 columns, LF, one at the end; and its DER.

    Raises:
        ValueError: the text is no PEM certificate request.
    """
    found = _PEM.fullmatch(text)
    if found is None:
        raise ValueError("no PEM certificate request")
    der = base64.b64decode("".join(found[2].split()), validate=True)
    pem = ssl.DER_cert_to_PEM_cert(der)
    return f"{_BEGIN}{pem[pem.index(chr(10)) : pem.rindex('-----END')]}{_END}\n", der


def read_csrs(path: Path) -> dict[str, str]:
    """Thing name → CSR in its one form; empty where the file is not there yet. Raises `PrerequisiteError`."""
    return {thing: request.csr for thing, request in read_requests(path).items()}


def read_requests(path: Path) -> dict[str, Request]:
    """Thing name → CSR, and what the lock says of such a one; empty where the file is not there yet.

    Raises:
        PrerequisiteError: a line is none of a thing's, or its CSR cannot be read; with file and line.
    """
    requests: dict[str, Request] = {}
    for number, identity in _lines(path, Identity, REMEDY):
        if identity.thing in requests:
            raise _bad_line(path, number, f"thing '{identity.thing}' has a CSR already")
        try:
            requests[identity.thing] = _request(identity)
        except ValueError as error:
            raise _bad_line(path, number, str(error)) from None
    return requests


def read_lock(path: Path) -> dict[str, Locked]:
    """Thing name → what its certificate was made from; empty where nothing was yet. Raises `PrerequisiteError`."""
    remedy = "Restore it from version control: it says which keys the deployed certificates have."
    return {locked.thing: locked for _, locked in _lines(path, Locked, remedy)}


def write_lock(path: Path, locked: Iterable[Locked]) -> None:
    """Replace the lock whole, sorted by thing: a killed run leaves the old file or the new one. Raises `OSError`."""
    refuse_strange(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    encode = msgspec.json.Encoder().encode
    content = b"".join(encode(each) + b"\n" for each in sorted(locked, key=lambda each: each.thing))
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


def differences(
    requests: Mapping[str, Request], lock: Mapping[str, Locked], things: Collection[str]
) -> dict[str, Difference]:
    """The things of these whose certificate would be replaced or deleted, and why; what is new is no difference."""
    found: dict[str, Difference] = {}
    for thing in sorted(lock.keys() & set(things)):
        request, before = requests.get(thing), lock[thing]
        if request is None:
            found[thing] = Difference.GONE
        elif request.locked.key != before.key:
            found[thing] = Difference.KEY
        elif request.locked.csr != before.csr:
            found[thing] = Difference.CERTIFICATE
    return found


def lock_new(csrs: Path, things: Iterable[str], *, requests: Mapping[str, Request] | None = None) -> None:
    """Add those of these things to the lock that have a CSR, in the file or in `requests`, and no line there.

    Raises:
        OSError: it cannot be written.
    """
    requests = read_requests(csrs) if requests is None else requests
    lock = read_lock(lock_file(csrs))
    new = [requests[thing].locked for thing in things if thing in requests and thing not in lock]
    if new:
        write_lock(lock_file(csrs), [*lock.values(), *new])


def refuse_shared_keys(plants: Iterable[Mapping[str, Request]]) -> None:
    """Raise `PrerequisiteError` where CSRs of two things, in any of the plants, are of one key.

    Each of the two devices could pass for the other.
    """
    owners: dict[str, str] = {}
    for requests in plants:
        for thing, request in requests.items():
            owner = owners.setdefault(request.locked.key, thing)
            if owner != thing:
                raise PrerequisiteError(
                    f"The CSRs of {owner} and {thing} are of one key.",
                    remedy="Each device needs a key of its own: have one of the two make another, and hand in its CSR.",
                )


def _request(identity: Identity) -> Request:
    """Raises ValueError."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if len(identity.csr) > CSR_LIMIT:
        raise ValueError(f"no PEM certificate request of at most {CSR_LIMIT} characters")
    csr, der = normal_csr(identity.csr)
    try:
        key = x509.load_der_x509_csr(der).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"a certificate request that cannot be read: {error}") from None
    hashes = {"key": hashlib.sha256(key).hexdigest(), "csr": hashlib.sha256(der).hexdigest()}
    return Request(csr=csr, locked=Locked(thing=identity.thing, **hashes))


def _lines(path: Path, kind: type[Line], remedy: str) -> Iterator[tuple[int, Line]]:
    """The lines of a file with their numbers, whatever their ends; none where there is no file."""
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
    """Raise `PrerequisiteError` at a link out of the folder of identities, and at a pipe, which would be waited for."""
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
