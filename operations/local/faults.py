"""Injects AWS's errors into the emulator's answers, as a file in its folder asks, to try how programs take them.

`faults.json` is a list of {"service", "match", "code", "status", "times"}: so many of the next requests to the service
whose method, path, target or body match the pattern get that error, and `faults.log` a line each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

FILE = "faults.json"
LOG = "faults.log"

BODY_BYTES = 4096
"""As much of a body is matched: the action of the query protocol is at its beginning."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """An error for the next `times` requests that match."""

    service: str
    match: str
    code: str
    status: int = 400
    times: int = 1


class Faults:
    """The faults that a file asks for; it is read again where it has changed."""

    def __init__(self, folder: Path) -> None:
        self._file, self._log = folder / FILE, folder / LOG
        self._read_at = 0
        self._left: list[Fault] = []

    @property
    def are_asked_for(self) -> bool:
        """Return whether there is a file."""
        return self._file.exists()

    def next(self, *, service: str, request: str) -> Fault | None:
        """Return the fault that this request gets, and count it; None for none."""
        self._refresh()
        for fault in self._left:
            if fault.times and fault.service == service and re.search(fault.match, request):
                fault.times -= 1
                with self._log.open("a") as log:
                    log.write(f"{service} {fault.code}\n")
                return fault
        return None

    def _refresh(self) -> None:
        changed_at = self._file.stat().st_mtime_ns
        if changed_at != self._read_at:
            self._left = msgspec.json.decode(self._file.read_bytes(), type=list[Fault])
            self._read_at = changed_at
