"""What came of a bundle: the devices that are in it, those that are missing, its size and checksum."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundled:
    """A device that is in the bundle: `fingerprint` is the SHA-256 of its certificate's DER."""

    thing: str
    serial: str
    device_type: str
    certificate_id: str
    fingerprint: str
    not_after: str
    has_key: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A thing that is not in the bundle."""

    thing: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it; where no device could be bundled, there is no archive (`sha256` is empty)."""

    archive: Path
    sha256: str
    size: int
    devices: int
    keys: int
    missing: tuple[Missing, ...]
    entries: IO[str]
    """The devices that are in it, a `Bundled` as JSON a line."""

    def bundled(self) -> Iterator[Bundled]:
        """The devices, in the archive's order."""
        self.entries.seek(0)
        return (Bundled(**json.loads(line)) for line in self.entries)


class NothingToBundleError(Exception):
    """No thing has a certificate: there is no archive."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("no thing has a certificate")
        self.outcome = outcome


def joined(parts: Iterable[str]) -> Iterator[str]:
    """Parts of a JSON list, a line each."""
    for number, part in enumerate(parts):
        yield f",\n{part}" if number else part
