"""Read a list into rows: check each entry by itself, and against all earlier ones."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from cryptography import x509

from fleet_iot.operations.lists.formats import Source, read_records
from fleet_iot.operations.lists.headings import canonical, fault_of, private_key_refusal
from fleet_iot.operations.lists.material import read_material
from fleet_iot.operations.lists.record import Fault, Record, RefusedError, Row
from fleet_iot.operations.storage import temporary


def read_rows(
    source: Source, *, now: datetime.datetime, issuers: Sequence[x509.Certificate] = ()
) -> Iterator[Row | Fault]:
    """Return every entry as a row or as a fault, in the list's order. What was seen is in a temporary file, so that
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
    """Return what no other row may have: its digest, with reason and remedy for a row that does.

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
