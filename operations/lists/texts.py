"""Lists by line or block: JSON lines, PEM blocks, one base64 certificate a line, a folder of certificates or CSRs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fleet_iot.operations.lists.headings import private_key_refusal
from fleet_iot.operations.lists.lines import read_lines
from fleet_iot.operations.lists.material import is_issued
from fleet_iot.operations.lists.objects import parse_object, record_of_object
from fleet_iot.operations.lists.record import RECORD_LIMIT, Fault, Record, RefusedError
from fleet_iot.operations.lists.secrets import holds_private_key

FOLDER_SUFFIXES = (".csr", ".req", ".pem", ".crt", ".cer", ".cert", ".der")
"""Endings of files that are looked into; what they hold decides what they are."""
_KEY_SUFFIXES = (".key", ".p12", ".pfx", ".p8", ".pk8")
_ROLES = re.compile(r"[-_.](?:certificate|cert|crt|csr)$", re.IGNORECASE)
"""What AWS's console and others add to the name of a device's file: x-certificate.pem.crt."""
_CERTIFICATE_ID = re.compile(r"[0-9a-f]{64}")
_JSON_REMEDY = 'write {"name": …, "certificate": …} or {"name": …, "csr": …} on one line'
_REQUEST_LABEL = b"CERTIFICATE REQUEST-----"
_LENGTH = rb"(?:\x82..|\x81.|[\0-\x7f])"
_REQUEST_DER = re.compile(rb"\x30%b\x30%b\x02\x01[\0-\x0f]\x30" % (_LENGTH, _LENGTH), re.DOTALL)


def read_jsonl(path: Path, ignored: frozenset[str] = frozenset()) -> Iterator[Record | Fault]:
    """One object a line: name or serial, device type, certificate or CSR, under whatever keys they stand."""
    for number, piece in enumerate(read_lines(path), start=1):
        place = f"line {piece.line}"
        try:
            if piece.fault:
                raise RefusedError(piece.fault, _JSON_REMEDY)
            found = parse_object(piece.raw, _JSON_REMEDY)
            yield record_of_object(found, number=number, place=place, raw=piece.raw, ignored=ignored)
        except RefusedError as refused:
            yield Fault(number=number, place=place, reason=refused.reason, remedy=refused.remedy, raw=piece.raw)


def read_plain(path: Path) -> Iterator[Record | Fault]:
    """One base64 certificate (DER) a line; its common name is the thing's name."""
    for number, piece in enumerate(read_lines(path), start=1):
        place = f"line {piece.line}"
        if piece.fault:
            yield Fault(number=number, place=place, reason=piece.fault, remedy="put each on one line", raw=piece.raw)
        else:
            yield Record(number=number, place=place, raw=piece.raw, certificate=piece.raw, must_match=True)


def read_pem(path: Path) -> Iterator[Record | Fault]:
    """PEM blocks, certificates or CSRs; what stands between the blocks is left alone.

    The certificate of an authority that has issued the one before it belongs to that.
    """
    number = 0
    last: Record | None = None
    for place, raw, fault in _blocks(path):
        if last is not None and not fault and _continues(last, raw):
            last = Record(number=number, place=last.place, raw=last.raw + raw, certificate=last.raw + raw)
            continue
        if last is not None:
            yield last
            last = None
        number += 1
        if fault:
            yield Fault(number=number, place=place, reason=fault, remedy="ask the maker for the list anew", raw=raw)
        else:
            is_request = _REQUEST_LABEL in raw
            material = (None, raw) if is_request else (raw, None)
            last = Record(number=number, place=place, raw=raw, certificate=material[0], request=material[1])
    if last is not None:
        yield last


def read_folder(path: Path) -> Iterator[Record | Fault]:
    """A file a device, by name: a certificate or a CSR, in PEM or DER.

    The file's name without its endings is the thing's name; one that is a certificate's id names no thing. A CSR
    belongs to the certificate of the same name.
    """
    files = [each for each in sorted(path.iterdir()) if each.suffix.lower() in (*FOLDER_SUFFIXES, *_KEY_SUFFIXES)]
    names = Counter(thing_of(file.name) for file in files)
    shared = [file for file in files if names[thing_of(file.name)] > 1]
    certified = {thing_of(file.name) for file in shared if _has_certificate(file)}
    requests = {thing_of(file.name): file for file in shared if _is_request(_content(file)[0])}
    number = 0
    for file in files:
        raw, fault = _content(file)
        name = thing_of(file.name)
        is_key, is_request = file.suffix.lower() in _KEY_SUFFIXES, _is_request(raw)
        if not fault and ((is_key and not holds_private_key(raw)) or (is_request and name in certified)):
            continue
        number += 1
        place = f"file {file.name}"
        if fault:
            yield Fault(number=number, place=place, reason=fault, remedy="put one certificate or CSR into it", raw=raw)
        elif holds_private_key(raw):
            refused = private_key_refusal()
            yield Fault(number=number, place=place, reason=refused.reason, remedy=refused.remedy, raw=raw)
        else:
            is_named = _CERTIFICATE_ID.fullmatch(name.lower()) is None
            beside = requests.get(name)
            yield Record(
                number=number,
                place=place,
                raw=raw,
                name=name if is_named else None,
                certificate=None if is_request else raw,
                request=raw if is_request else _content(beside)[0] if beside else None,
                must_match=is_named,
            )


def thing_of(file_name: str) -> str:
    """The thing's name in a file's: without its endings, and without what says that it is a certificate."""
    name = file_name
    while Path(name).suffix.lower() in (*FOLDER_SUFFIXES, *_KEY_SUFFIXES):
        name = Path(name).stem
    return _ROLES.sub("", name)


def passed_over(path: Path) -> int:
    """How many files and folders of a folder are not looked into."""
    return sum(each.suffix.lower() not in FOLDER_SUFFIXES or not each.is_file() for each in path.iterdir())


def _content(file: Path) -> tuple[bytes, str]:
    """A file's bytes, and what is wrong with it already."""
    try:
        if file.is_symlink():
            return b"", "is a link, which may lead out of the folder"
        if not file.is_file() or file.stat().st_size > RECORD_LIMIT:
            return b"", "is no file of a certificate's or CSR's size"
        return file.read_bytes(), ""
    except OSError as error:
        return b"", f"cannot be read: {error.strerror}"


def _is_request(raw: bytes) -> bool:
    """Whether a file holds a CSR: by its label, or by the version (0) that its DER begins with."""
    return _REQUEST_LABEL in raw or _REQUEST_DER.match(raw) is not None


def _has_certificate(file: Path) -> bool:
    raw, fault = _content(file)
    if fault or _is_request(raw) or holds_private_key(raw):
        return False
    return b"CERTIFICATE-----" in raw or raw[:1] == b"\x30"


def _continues(last: Record, raw: bytes) -> bool:
    """Whether a block is the certificate of the authority that issued the last one of an entry."""
    if last.certificate is None or b"-----BEGIN CERTIFICATE-----" not in raw:
        return False
    latest = last.raw[last.raw.rindex(b"-----BEGIN") :]
    return is_issued(latest, raw)


def _blocks(path: Path) -> Iterator[tuple[str, bytes, str]]:
    """Place and bytes of each block, and what is wrong with it already."""
    start = size = 0
    held: list[bytes] = []
    for piece in read_lines(path):
        line = piece.raw
        begins = line.lstrip().startswith(b"-----BEGIN ")
        if held and (begins or size > RECORD_LIMIT or piece.fault):
            yield f"line {start}", b"".join(held), "its PEM block has no end: truncated"
            held = []
        if begins:
            start, held, size = piece.line, [], 0
        ends = line.lstrip().startswith(b"-----END ")
        if not (begins or held):
            if ends:
                yield f"line {piece.line}", line, "its PEM block has no beginning: damaged"
            continue
        held.append(line)
        size += len(line)
        if ends:
            yield f"line {start}", b"".join(held), ""
            held = []
    if held:
        yield f"line {start}", b"".join(held), "its PEM block has no end: truncated"
