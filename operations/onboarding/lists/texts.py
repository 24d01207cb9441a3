"""Lists by line or block: JSON lines, PEM blocks, one base64 certificate a line, a folder of CSRs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from operations.onboarding.lists.lines import read_lines
from operations.onboarding.lists.record import RECORD_LIMIT, Fault, Record

_FOLDER_SUFFIXES = (".csr", ".pem", ".req")


class _Line(msgspec.Struct, frozen=True):
    """One JSON line; `thing` is what `identities/…/<facility>.csrs.jsonl` calls the name."""

    name: str | None = None
    thing: str | None = None
    serial: str | None = None
    device_type: str | None = None
    certificate: str | None = None
    csr: str | None = None


def read_jsonl(path: Path) -> Iterator[Record | Fault]:
    """One object a line: `name` or `serial`, `device_type`, `certificate` or `csr` (PEM)."""
    decoder = msgspec.json.Decoder(_Line)
    for number, piece in enumerate(read_lines(path), start=1):
        place = f"line {piece.line}"
        reason = piece.fault
        line = None
        if not reason:
            try:
                line = decoder.decode(piece.raw)
            except UnicodeDecodeError:
                reason = "is not UTF-8"
            except msgspec.DecodeError as error:
                reason = f"is no JSON object of a device: {error}"
        if line is None:
            remedy = 'write {"name": …, "certificate": …} or {"name": …, "csr": …} on one line'
            yield Fault(number=number, place=place, reason=reason, remedy=remedy, raw=piece.raw)
            continue
        yield Record(
            number=number,
            place=place,
            raw=piece.raw,
            name=line.name or line.thing,
            serial=line.serial,
            device_type=line.device_type,
            certificate=line.certificate.encode() if line.certificate else None,
            request=line.csr.encode() if line.csr else None,
            must_match=bool(line.name or line.thing or line.serial),
        )


def read_plain(path: Path) -> Iterator[Record | Fault]:
    """One base64 certificate (DER) a line; its common name is the thing's name."""
    for number, piece in enumerate(read_lines(path), start=1):
        place = f"line {piece.line}"
        if piece.fault:
            yield Fault(number=number, place=place, reason=piece.fault, remedy="put each on one line", raw=piece.raw)
        else:
            yield Record(number=number, place=place, raw=piece.raw, certificate=piece.raw, must_match=True)


def read_pem(path: Path) -> Iterator[Record | Fault]:
    """PEM blocks, certificates or CSRs; what stands between the blocks is left alone."""
    number = start = size = 0
    held: list[bytes] = []
    for piece in read_lines(path):
        line = piece.raw
        begins = line.lstrip().startswith(b"-----BEGIN ")
        if held and (begins or size > RECORD_LIMIT or piece.fault):
            yield _cut_off(number, start, held)
            held = []
        if begins:
            number, start, held, size = number + 1, piece.line, [], 0
        if not (begins or held):
            continue
        held.append(line)
        size += len(line)
        if line.lstrip().startswith(b"-----END "):
            yield _block(number, start, b"".join(held))
            held = []
    if held:
        yield _cut_off(number, start, held)


def read_folder(path: Path) -> Iterator[Record | Fault]:
    """A file a CSR (`.csr`, `.pem`, `.req`), by name; the file's name without its ending is the thing's name."""
    files = sorted(each for each in path.iterdir() if each.suffix.lower() in _FOLDER_SUFFIXES)
    for number, file in enumerate(files, start=1):
        place = f"file {file.name}"
        if not file.is_file() or file.stat().st_size > RECORD_LIMIT:
            remedy = "put one CSR in PEM into it"
            yield Fault(number=number, place=place, reason="is no file of a CSR's size", remedy=remedy)
            continue
        raw = file.read_bytes()
        yield Record(number=number, place=place, raw=raw, name=file.stem, request=raw, must_match=True)


def _block(number: int, line: int, raw: bytes) -> Record:
    is_request = b"CERTIFICATE REQUEST-----" in raw
    return Record(
        number=number,
        place=f"line {line}",
        raw=raw,
        certificate=None if is_request else raw,
        request=raw if is_request else None,
    )


def _cut_off(number: int, line: int, held: list[bytes]) -> Fault:
    return Fault(
        number=number,
        place=f"line {line}",
        reason="its PEM block has no end: truncated",
        remedy="ask the maker for the list anew",
        raw=b"".join(held),
    )
