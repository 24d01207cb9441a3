"""Writes what was not onboarded: the rows as they stood in their list, to be corrected and run again, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.operations.lists.formats import Source, create_private, read_records, write_again
from fleet_iot.operations.lists.record import Fault, Record
from fleet_iot.operations.registry.journal import Journal

_ALL = """SELECT row, place, reason, remedy, NULL AS thing, NULL AS certificate_id FROM faults WHERE run = ?1
UNION ALL SELECT row, place, reason, remedy, thing, certificate_id FROM devices WHERE run = ?1 AND state = 'failed'
ORDER BY row"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One row that was not onboarded; `certificate_id` where AWS IoT has a certificate for it all the same."""

    row: int
    place: str
    reason: str
    remedy: str
    thing: str | None = None
    certificate_id: str | None = None


def failures_of(journal: Journal, run: int) -> Iterator[Failure]:
    """The run's failures in the list's order."""
    for row, place, reason, remedy, thing, certificate_id in journal.read(_ALL, run):
        yield Failure(row=row, place=place, reason=reason, remedy=remedy, thing=thing, certificate_id=certificate_id)


def write_failures(folder: Path, source: Source, failures: Iterator[Failure], *, is_unchanged: bool) -> Path | None:
    """Writes the failed rows in their list's format (only while the list is still the one that was read), and beside
    them `reasons.jsonl`. Returns the list of failures, or of reasons where there is no other; None without failures."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    reasons = folder / "reasons.jsonl"
    rows: list[int] = []
    with create_private(reasons) as file:
        for failure in failures:
            rows.append(failure.row)
            told = {name: getattr(failure, name) for name in Failure.__slots__ if getattr(failure, name) is not None}
            file.write(json.dumps(told).encode() + b"\n")
    if not rows:
        reasons.unlink()
        return None
    if not is_unchanged:
        return reasons
    target = folder / source.path.name
    write_again(source, target, _chosen(read_records(source), rows))
    return target


def mark_of(path: Path) -> str:
    """Tells whether a list is still the file that it was: size and time of the last change."""
    found = path.stat()
    return f"{found.st_size}:{found.st_mtime_ns}"


def _chosen(entries: Iterator[Record | Fault], rows: list[int]) -> Iterator[Record | Fault]:
    """The entries with these numbers, both in order."""
    wanted = iter(rows)
    number = next(wanted, None)
    for entry in entries:
        if number is None:
            return
        if entry.number == number:
            yield entry
            number = next(wanted, None)
