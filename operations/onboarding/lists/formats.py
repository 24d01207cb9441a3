"""The formats of lists: how each is read, recognised, and written again for the rows that failed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from generator.diagnostics import EnvironmentFault, RequestError
from operations.onboarding.lists.infineon import SIGNATURE, read_infineon, write_infineon
from operations.onboarding.lists.lines import BYTE_ORDER_MARK
from operations.onboarding.lists.microchip import read_microchip, read_signers
from operations.onboarding.lists.record import Fault, Record
from operations.onboarding.lists.tables import header_of, is_espressif, read_csv, read_header
from operations.onboarding.lists.texts import read_folder, read_jsonl, read_pem, read_plain

FORMATS = ("csv", "jsonl", "pem", "plain", "espressif", "microchip", "infineon", "csr-dir")
_LOOKED_AT = 65_536
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A list and how to read it; `bundle` is Infineon's, `signers` the folder with Microchip's signer certificates."""

    path: Path
    format: str
    bundle: str | None = None
    signers: Path | None = None


def open_source(path: Path, *, format_name: str, bundle: str | None = None, signers: Path | None = None) -> Source:
    """The list at a path; with `auto` as format, in the format that it shows. Raises EnvironmentFault."""
    if not path.exists():
        raise EnvironmentFault(f"there is no {path}", hint="say where the list of devices is: --from FILE")
    if path.is_dir() != (format_name == "csr-dir") and not (path.is_dir() and format_name == "auto"):
        raise EnvironmentFault(
            f"{path} is {'a folder' if path.is_dir() else 'no folder'}", hint="csr-dir takes folders"
        )
    chosen = detect_format(path) if format_name == "auto" else format_name
    if chosen == "microchip" and signers is None:
        raise RequestError(
            "a Microchip manifest is verified against the certificates of its signers",
            hint="get them from Microchip, not from whoever sent the list, and say where they are: --signers FOLDER",
        )
    return Source(path=path, format=chosen, bundle=bundle, signers=signers)


def detect_format(path: Path) -> str:
    """The format that the first bytes show. Raises EnvironmentFault where they show none."""
    if path.is_dir():
        return "csr-dir"
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT)
    if head.startswith(SIGNATURE):
        return "infineon"
    if head.startswith(_UTF_16):
        raise EnvironmentFault(f"{path} is UTF-16", hint="save it as UTF-8")
    text = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    if text.startswith(b"["):
        return "microchip"
    if text.startswith(b"{"):
        return "jsonl"
    if text.startswith(b"-----BEGIN "):
        return "pem"
    first = text.splitlines()[0] if text else b""
    header = read_header(first)
    if header is not None:
        return "espressif" if is_espressif(header[1]) else "csv"
    if _is_base64_certificate(first):
        return "plain"
    if b"\n-----BEGIN " in text:
        return "pem"
    raise EnvironmentFault(
        f"{path} has the form of no list of devices that is known", hint=f"say which: --format {'|'.join(FORMATS)}"
    )


def read_records(source: Source) -> Iterator[Record | Fault]:
    """The list's entries as they are written."""
    signers = read_signers(source.signers) if source.format == "microchip" and source.signers else {}
    readers: dict[str, Callable[[Path], Iterator[Record | Fault]]] = {
        "csv": lambda path: read_csv(path, espressif=False),
        "espressif": lambda path: read_csv(path, espressif=True),
        "jsonl": read_jsonl,
        "pem": read_pem,
        "plain": read_plain,
        "csr-dir": read_folder,
        "microchip": lambda path: read_microchip(path, signers),
        "infineon": lambda path: read_infineon(path, source.bundle),
    }
    return readers[source.format](source.path)


def write_again(source: Source, target: Path, entries: Iterator[Record | Fault]) -> None:
    """Writes entries in their list's own format, as they stood there, so that they can be onboarded from it.

    Those with a private key are left out: it must not be copied, and has to come out of the list anyway.
    """
    entries = (entry for entry in entries if b"PRIVATE KEY-----" not in entry.raw)
    if source.format == "csr-dir":
        target.mkdir(parents=True, exist_ok=True)
        for entry in entries:
            (target / entry.place.removeprefix("file ")).write_bytes(entry.raw)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.format == "infineon":
        members = ((entry.place.removeprefix("file "), entry.raw) for entry in entries)
        held = list(members)
        bundle = source.bundle or next((name[-8:-4] for name, _ in held), "E0E0")
        write_infineon(target, bundle, iter(held))
        return
    with target.open("wb") as file:
        if source.format in ("csv", "espressif"):
            file.write(header_of(source.path))
        if source.format == "microchip":
            file.write(b"[")
            for number, entry in enumerate(each for each in entries if each.raw):
                file.write((b",\n" if number else b"\n") + entry.raw)
            file.write(b"\n]\n")
            return
        for entry in entries:
            file.write(entry.raw if entry.raw.endswith(b"\n") else entry.raw + b"\n")


def _is_base64_certificate(line: bytes) -> bool:
    try:
        return base64.b64decode(line.strip()[:64], validate=True).startswith(b"\x30")
    except binascii.Error:
        return False
