"""Read lists of devices: detect the format, check each entry by itself and against all earlier ones, write rows."""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from cryptography import x509

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError, visible
from fleet_iot.lib.record.spelling import canonical
from fleet_iot.operations.lists.headings import (
    fault_of,
    identities_of,
    is_named,
    possible_identities,
    private_key_refusal,
)
from fleet_iot.operations.lists.infineon import SIGNATURE, read_infineon, write_infineon
from fleet_iot.operations.lists.material import digest_of_public_key, holds_private_key, read_material
from fleet_iot.operations.lists.microchip import read_microchip, read_signers
from fleet_iot.operations.lists.record import Fault, Record, RefusedError, Row
from fleet_iot.operations.lists.texts import (
    BYTE_ORDER_MARK,
    FOLDER_SUFFIXES,
    header_of,
    is_espressif,
    is_separator_line,
    passed_over,
    read_csv,
    read_folder,
    read_header,
    read_jsonl,
    read_objects,
    read_pem,
    read_plain,
)
from fleet_iot.operations.storage import temporary

# How each format is recognised, read, and written again for the rows that failed.

FORMATS = ("csv", "jsonl", "json", "pem", "plain", "espressif", "microchip", "infineon", "csr-dir")
_LOOKED_AT = 65_536
_JWS = re.compile(rb'"(?:protected|payload)"\s*:')
_UTF_16 = ("UTF-16", "save it as UTF-8: a spreadsheet calls that CSV UTF-8")
_OTHER_FILES = (
    (b"\xff\xfe", *_UTF_16),
    (b"\xfe\xff", *_UTF_16),
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet (xlsx)", "unpack it, or save the spreadsheet as CSV UTF-8"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it: gunzip FILE"),
    (b"%PDF", "a PDF", "ask its sender for the list as CSV or JSON"),
    (
        b"-----BEGIN PKCS7-----",
        "a PKCS #7 bundle (p7b), which is not read",
        "extract the certificates: openssl pkcs7 -print_certs -in FILE -out list.pem",
    ),
)
"""First bytes of files that are not read, what they are, and what to do with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A list and how to read it; `bundle` is Infineon's, `signers` the folder with Microchip's signer certificates;
    `ignored` are normalised headings of columns to ignore."""

    path: Path
    format: str
    bundle: str | None = None
    signers: Path | None = None
    ignored: frozenset[str] = frozenset()


def open_source(path: Path, *, format_name: str, bundle: str | None = None, signers: Path | None = None) -> Source:
    """Return the list at a path; with `auto` as format, the detected one. Raises EnvironmentFault."""
    if not path.exists():
        raise EnvironmentFault(f"there is no {path}", hint="say where the list of devices is: --from FILE")
    if path.is_dir() != (format_name == "csr-dir") and not (path.is_dir() and format_name == "auto"):
        raise EnvironmentFault(
            f"{path} is {'a folder' if path.is_dir() else 'no folder'}", hint="csr-dir reads folders"
        )
    chosen = detect_format(path) if format_name == "auto" else format_name
    if format_name not in ("auto", "csr-dir", "infineon"):
        _refuse_other_files(path, _head(path))
    if chosen == "microchip" and signers is None:
        raise RequestError(
            "a Microchip manifest is verified against the certificates of its signers",
            hint="get them from Microchip, not from the list's sender, and name their folder: --signers FOLDER",
        )
    return Source(path=path, format=chosen, bundle=bundle, signers=signers)


def detect_format(path: Path) -> str:
    """Detect the format by the first bytes. Raises EnvironmentFault where it is none."""
    if path.is_dir():
        return "csr-dir"
    head = _head(path)
    if head.startswith(SIGNATURE):
        return "infineon"
    _refuse_other_files(path, head)
    text = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    if text.startswith(b"["):
        return "json" if b"{" in text and not _JWS.search(text) else "microchip"
    if text.startswith(b"{"):
        return "jsonl"
    if text.startswith(b"-----BEGIN "):
        return "pem"
    lines = text.splitlines()
    first = next((line for line in lines if line.strip() and not is_separator_line(line)), b"")
    header = read_header(first)
    if header is not None:
        return "espressif" if is_espressif(header[1]) else "csv"
    if _is_base64_certificate(first):
        return "plain"
    if b"\n-----BEGIN " in text:
        return "pem"
    raise _unknown(path, first)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LOOKED_AT)
    except OSError as error:
        raise EnvironmentFault(f"{path} cannot be read: {error.strerror}", hint="see its rights") from None


def _refuse_other_files(path: Path, head: bytes) -> None:
    """Raise EnvironmentFault for known kinds of files that are not read."""
    for begin, what, hint in _OTHER_FILES:
        if head.startswith(begin):
            raise EnvironmentFault(f"{path} is {what}", hint=hint)
    if not head.strip():
        raise EnvironmentFault(f"{path} is empty", hint="ask its sender for the list again")
    if head[:1] == b"\x30" and head[1:2] >= b"\x80":
        raise EnvironmentFault(
            f"{path} is DER: one certificate or CSR, a bundle of them (p7b) or a key store",
            hint="put certificates or CSRs into a folder, a file each, and give the folder",
        )
    if head[:200].count(b"\0") > len(head[:200]) // 4:
        raise EnvironmentFault(f"{path} is no text: many of its bytes are NUL", hint="save it as UTF-8, not as UTF-16")


def _unknown(path: Path, first: bytes) -> EnvironmentFault:
    """Return the error for a file that has the form of no list."""
    if b"-----BEGIN" in first:
        return EnvironmentFault(
            f"{path}:1: the first line is a device already: the list has no header",
            hint="write one above it that names the columns, such as name,serial,certificate",
        )
    shown = visible(first.decode(errors="replace").strip()[:120])
    return EnvironmentFault(
        f"{path} has the form of no list of devices that is known; it begins with {shown!r}",
        hint="a CSV list needs a header with a column `certificate` or `csr`, and `name` or `serial`; "
        f"or say the format: --format {'|'.join(FORMATS)}",
    )


def read_records(source: Source) -> Iterator[Record | Fault]:
    """Yield the list's entries as they are written."""
    signers = read_signers(source.signers) if source.format == "microchip" and source.signers else {}
    readers: dict[str, Callable[[Path], Iterator[Record | Fault]]] = {
        "csv": lambda path: read_csv(path, espressif=False, ignored=source.ignored),
        "espressif": lambda path: read_csv(path, espressif=True, ignored=source.ignored),
        "jsonl": lambda path: read_jsonl(path, source.ignored),
        "json": lambda path: read_objects(path, source.ignored),
        "pem": read_pem,
        "plain": read_plain,
        "csr-dir": read_folder,
        "microchip": lambda path: read_microchip(path, signers),
        "infineon": lambda path: read_infineon(path, source.bundle),
    }
    for entry in readers[source.format](source.path):
        yield _without_private_key(entry)


def _without_private_key(entry: Record | Fault) -> Record | Fault:
    """Return the entry; one that contains a private key as a fault without its bytes, so that they are not copied."""
    refused = private_key_refusal()
    is_refused = isinstance(entry, Fault) and entry.reason == refused.reason
    if not (is_refused or holds_private_key(entry.raw)):
        return entry
    if isinstance(entry, Record):
        said, names = identities_of(entry), is_named(entry)
    else:
        said, names = possible_identities(entry.raw, entry.place)
        names = names or entry.is_named
    return Fault(
        number=entry.number,
        place=entry.place,
        reason=refused.reason,
        remedy=refused.remedy,
        key=digest_of_public_key(entry.raw),
        identities=said,
        is_named=names,
    )


def nothing_found(source: Source) -> EnvironmentFault:
    """Return the error for a list without rows."""
    if source.format == "csr-dir":
        return EnvironmentFault(
            f"{source.path} contains no certificate and no CSR: {passed_over(source.path)} files were skipped",
            hint=f"files with these endings are read, not those in folders below: {' '.join(FOLDER_SUFFIXES)}",
        )
    return EnvironmentFault(
        f"{source.path} contains no device (read as {source.format})", hint="see the file, or say its format: --format"
    )


def write_again(source: Source, target: Path, entries: Iterator[Record | Fault]) -> None:
    """Write entries in their list's own format, unchanged, so that they can be onboarded from it.

    Those with a private key are left out: it must not be copied, and must be removed from the list anyway. The file is
    readable by its owner only.
    """
    entries = (entry for entry in entries if entry.raw)
    if source.format == "csr-dir":
        target.mkdir(parents=True, exist_ok=True)
        for entry in entries:
            with create_private(target / entry.place.removeprefix("file ")) as file:
                file.write(entry.raw)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.format == "infineon":
        members = ((entry.place.removeprefix("file "), entry.raw) for entry in entries)
        held = list(members)
        bundle = source.bundle or next((name[-8:-4] for name, _ in held), "E0E0")
        with create_private(target) as archive:
            write_infineon(archive, bundle, iter(held))
        return
    with create_private(target) as file:
        if source.format in ("csv", "espressif"):
            file.write(header_of(source.path))
        if source.format in ("microchip", "json"):
            file.write(b"[")
            for number, entry in enumerate(each for each in entries if each.raw):
                file.write((b",\n" if number else b"\n") + entry.raw)
            file.write(b"\n]\n")
            return
        for entry in entries:
            file.write(entry.raw if entry.raw.endswith(b"\n") else entry.raw + b"\n")


def create_private(path: Path) -> BinaryIO:
    """Create a file, replacing an old one, that only its owner can read."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")


def _is_base64_certificate(line: bytes) -> bool:
    try:
        return base64.b64decode(line.strip()[:64], validate=True).startswith(b"\x30")
    except binascii.Error:
        return False


# The rows of a list: check each entry by itself, and against all earlier ones.


def read_rows(
    source: Source, *, now: datetime.datetime, issuers: Sequence[x509.Certificate] = ()
) -> Iterator[Row | Fault]:
    """Yield every entry as a row or as a fault, in the list's order. What was seen is in a temporary file, so that
    a list of a million fits into constant memory."""
    seen = Seen()
    try:
        for record in read_records(source):
            yield seen.check(record if isinstance(record, Fault) else check_record(record, source.format, now, issuers))
    finally:
        seen.close()


def check_record(
    record: Record, format_name: str, now: datetime.datetime, issuers: Sequence[x509.Certificate]
) -> Row | Fault:
    """Return an entry as a row, or as the fault that it is by itself."""
    try:
        material = read_material(record.certificate, record.request, now=now, issuers=issuers)
        if record.common_name is not None and record.common_name != material.common_name:
            raise RefusedError(
                f"the list calls it {record.common_name!r}, its certificate {material.common_name!r}",
                "the certificate may be another device's: ask the maker",
            )
        name = record.name
        if format_name == "plain" or (name is None and record.serial is None and not record.must_match):
            name = material.common_name
        if format_name == "plain" and name is None:
            raise RefusedError(
                "its certificate has no common name", "such a list names things by it: use another format"
            )
    except RefusedError as refused:
        return fault_of(record, refused.reason, refused.remedy)
    return Row(
        number=record.number,
        place=record.place,
        raw=record.raw,
        name=name,
        serial=record.serial,
        device_type=record.device_type,
        must_match=record.must_match,
        material=material,
        also=record.also,
        unknown=record.unknown,
    )


_SECRET = b"secret"
"""In place of a row's identity: its private key is in the list."""


class Seen:
    """Keys and identities of earlier rows, in a temporary SQLite database."""

    def __init__(self) -> None:
        self._rows = temporary("CREATE TABLE seen (what BLOB PRIMARY KEY, row INTEGER, identity BLOB) WITHOUT ROWID")
        self._rows.execute("BEGIN")

    def check(self, row: Row | Fault) -> Row | Fault:
        """Return the row, or its fault where it clashes with an earlier one; a leaked private key spoils its key's
        row."""
        if isinstance(row, Fault):
            return row if row.key is None else self._compromised(row, row.key)
        identity = _digest(b"i", f"{row.name}\n{row.serial}".encode())
        for what, reason, remedy in _marks(row):
            found = self._rows.execute("SELECT row, identity FROM seen WHERE what = ?", (what,)).fetchone()
            if found is None:
                self._rows.execute("INSERT INTO seen VALUES (?, ?, ?)", (what, row.number, identity))
                continue
            earlier, is_same = int(found[0]), found[1] == identity
            if found[1] == _SECRET:
                wrong = private_key_refusal()
                return fault_of(row, f"has its private key in row {earlier} of the list", wrong.remedy)
            if what.startswith(b"m") and is_same:
                return fault_of(row, f"is row {earlier} once more", "nothing: the first one counts")
            return fault_of(row, reason.format(row=earlier), remedy, spoils=earlier)
        return row

    def _compromised(self, fault: Fault, key: bytes) -> Fault:
        mark = _digest(b"k", key)
        found = self._rows.execute("SELECT row FROM seen WHERE what = ?", (mark,)).fetchone()
        self._rows.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (mark, fault.number, _SECRET))
        return replace(fault, spoils=int(found[0])) if found else fault

    def close(self) -> None:
        """Delete the file."""
        self._rows.close()


def _marks(row: Row) -> Iterator[tuple[bytes, str, str]]:
    """Yield what no other row may have: its digest, with reason and remedy for a row that does.

    A name that is not meant to be a thing's is only a common name: makers give many chips the same.
    """
    yield (
        _digest(b"m", row.material.fingerprint),
        "has the certificate or CSR of row {row}: two devices share it",
        "each device needs its own: ask the maker",
    )
    yield (
        _digest(b"k", row.material.key),
        "has the key of row {row}: two devices share it",
        "both need new keys: one device can impersonate the other",
    )
    if row.must_match and row.name is not None:
        yield _digest(b"n", _normal(row.name)), "has the name of row {row}", "leave only the true one in"
    if row.serial is not None:
        yield _digest(b"s", _normal(row.serial)), "has the serial of row {row}", "leave only the true one in"


def _normal(identity: str) -> bytes:
    return canonical(identity)[0].encode()


def _digest(kind: bytes, value: bytes) -> bytes:
    """Return kind and 128 bits: no two in any list collide."""
    return kind + hashlib.sha256(value).digest()[:16]
