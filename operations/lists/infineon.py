"""Infineon's archives: a 7z with one inner 7z for each kind of certificate of the same chips, opened within limits.

Nothing is written to disk, so no name in an archive can lead out of a folder; unpacked bytes are counted as they come,
whatever the archive claims. The archive of pairing keys beside them is never opened.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import py7zr
from py7zr import archiveinfo
from py7zr.io import Py7zIO, WriterFactory

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.lists.record import Fault, Record

BUNDLES = ("E0E0", "E0E1", "E0E2")
"""The certificate objects of an OPTIGA Trust M: two P-256 ones, and RSA-2048."""

UNPACKED_LIMIT = 256_000_000
"""Bytes of all that one archive may unpack to: the certificates of some 200,000 chips."""
MEMBER_LIMIT = 250_000
HEADER_LIMIT = 32_000_000
"""Bytes of an archive's unpacked header: names, sizes and times of so many files need less."""
SIGNATURE = b"7z\xbc\xaf\x27\x1c"

_INNER = re.compile(r"[A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*_(E0E[0-2])_Certs\.7z")
_MEMBER = re.compile(r"([0-9A-Fa-f]{8,64})_(E0E[0-2])\.pem")
# py7zr makes a value of each file that a header declares before anybody can ask how many there are, and a header of two
# kilobytes can declare millions: its own limits are set to ours.
archiveinfo.MAX_NUMFILES = MEMBER_LIMIT
archiveinfo.MAX_HEADER_SIZE = HEADER_LIMIT
_OVER_LIMIT = re.compile(r"exceeds limit")
_DAMAGED = "ask Infineon for the archive again, and check its checksum"


class _Budget(WriterFactory):
    """Collect unpacked bytes in memory, up to a limit."""

    def __init__(self, limit: int) -> None:
        self.left = limit
        self.products: dict[str, _Member] = {}

    def create(self, filename: str) -> Py7zIO:
        self.products[filename] = _Member(self)
        return self.products[filename]


class _BombError(Exception):
    """More is unpacked than any list of devices has."""


class _Member(Py7zIO):
    """One unpacked file."""

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self.data = io.BytesIO()

    def write(self, s: bytes | bytearray) -> int:
        self._budget.left -= len(s)
        if self._budget.left < 0:
            raise _BombError
        return self.data.write(s)

    def read(self, size: int | None = None) -> bytes:
        return self.data.read(-1 if size is None else size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.data.seek(offset, whence)

    def flush(self) -> None:
        return None

    def size(self) -> int:
        return self.data.getbuffer().nbytes


def read_infineon(path: Path, bundle: str | None) -> Iterator[Record | Fault]:
    """Yield the certificates of one bundle, by chip id. Raises EnvironmentFault for an archive that must not be
    opened."""
    outer = _unpack(path, str(path), wanted=lambda name: _INNER.fullmatch(name) is not None)
    inner = {found[1]: data for name, data in outer.items() if (found := _INNER.fullmatch(name))}
    if bundle is None and len(inner) == 1:
        bundle = next(iter(inner))
    if bundle is None or bundle not in inner:
        there = ", ".join(sorted(inner)) or "none"
        wrong = f"no bundle {bundle}" if bundle else "several bundles of the same chips"
        raise EnvironmentFault(f"{path} contains {wrong} (there: {there})", hint="say which: --bundle E0E0|E0E1|E0E2")
    members = _unpack(io.BytesIO(inner[bundle]), f"{path}, bundle {bundle}", wanted=lambda name: True)
    for number, name in enumerate(sorted(members), start=1):
        found = _MEMBER.fullmatch(name)
        place, raw = f"file {name}", members[name]
        if found is None or found[2] != bundle:
            yield Fault(number=number, place=place, reason="is no certificate of the bundle", remedy=_DAMAGED, raw=raw)
        else:
            yield Record(number=number, place=place, raw=raw, serial=found[1].upper(), certificate=raw)


def write_infineon(file: BinaryIO, bundle: str, members: Iterator[tuple[str, bytes]]) -> None:
    """Write an archive of the same shape with only these members."""
    inner = io.BytesIO()
    with py7zr.SevenZipFile(inner, "w") as archive:
        for name, data in members:
            archive.writestr(data, name)
    with py7zr.SevenZipFile(file, "w") as archive:
        archive.writestr(inner.getvalue(), f"failures_{bundle}_Certs.7z")


def _unpack(source: Any, shown: str, *, wanted: Any) -> dict[str, bytes]:
    """Return the wanted members by name; names, number and sizes are checked before anything is unpacked."""
    try:
        with py7zr.SevenZipFile(source, "r") as archive:
            listed = archive.list()
            for member in listed:
                parts = re.split(r"[/\\]", member.filename)
                if len(parts) > 1 or parts[0] in ("", ".", "..") or ":" in parts[0] or member.is_symlink:
                    raise EnvironmentFault(
                        f"{shown} contains {member.filename!r}, a path that leads elsewhere",
                        hint="do not use it: it may have been made to harm; ask Infineon for the archive again",
                    )
            declared = sum(member.uncompressed or 0 for member in listed)
            if len(listed) > MEMBER_LIMIT or declared > UNPACKED_LIMIT:
                raise _BombError
            targets = [member.filename for member in listed if not member.is_directory and wanted(member.filename)]
            if len(set(targets)) != len(targets):
                raise EnvironmentFault(f"{shown} contains two files of one name", hint=_DAMAGED)
            budget = _Budget(UNPACKED_LIMIT)
            if targets:
                archive.extract(targets=targets, factory=budget)
    except _BombError:
        raise _too_large(shown) from None
    except EnvironmentFault:
        raise
    except Exception as error:  # py7zr passes on any error of its decoders on a damaged archive
        if _OVER_LIMIT.search(str(error)):
            raise _too_large(shown) from None
        raise EnvironmentFault(f"{shown} cannot be unpacked: {type(error).__name__}", hint=_DAMAGED) from None
    return {name: member.data.getvalue() for name, member in budget.products.items() if name in targets}


def _too_large(shown: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"{shown} would unpack to more than {UNPACKED_LIMIT // 1_000_000} MB or {MEMBER_LIMIT:,} files",
        hint="no list of devices is so large: it may have been made to harm; split it if it is yours",
    )
