"""CSV lists: the project's own columns, and Espressif's `MAC,cn,cert`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from generator.diagnostics import EnvironmentFault
from operations.onboarding.lists.lines import BYTE_ORDER_MARK, read_quoted
from operations.onboarding.lists.record import RECORD_LIMIT, Fault, Record

csv.field_size_limit(RECORD_LIMIT)

COLUMNS = {
    "name": "name",
    "thing": "name",
    "serial": "serial",
    "device_type": "device_type",
    "certificate": "certificate",
    "cert": "certificate",
    "csr": "request",
    "common_name": "common_name",
}
"""What a column means; columns that are not here are left alone."""

ESPRESSIF = {"mac": "serial", "cn": "common_name", "cert": "certificate"}
"""The columns of Espressif's list; its module writes the certificate's common name beside it."""

_DELIMITERS = (",", ";", "\t")
_REMEDY = "correct the record; fields with line breaks stand in double quotes"


def split(text: str, delimiter: str) -> list[str]:
    """The fields of one record. Raises csv.Error where its quotes are wrong."""
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    if len(rows) != 1:
        raise csv.Error("not one record")
    return [field.strip() for field in rows[0]]


def read_header(line: bytes) -> tuple[str, list[str]] | None:
    """Delimiter and column names, lower-case; None where the line holds no column that this reader knows."""
    try:
        text = line.removeprefix(BYTE_ORDER_MARK).decode().strip("\r\n")
    except UnicodeDecodeError:
        return None
    for delimiter in _DELIMITERS:
        try:
            names = [name.lower() for name in split(text, delimiter)]
        except csv.Error:
            continue
        if "cert" in names or "certificate" in names or "csr" in names:
            return delimiter, names
    return None


def is_espressif(names: list[str]) -> bool:
    """Whether these are the columns of Espressif's list."""
    return ESPRESSIF.keys() <= set(names)


def header_of(path: Path) -> bytes:
    """The first record as written: a file of failures begins with it too."""
    return next((piece.raw for piece in read_quoted(path)), b"")


def read_csv(path: Path, *, espressif: bool) -> Iterator[Record | Fault]:
    """The records of a CSV list. Raises EnvironmentFault where its header has no certificate and no CSR."""
    pieces = read_quoted(path)
    first = next(pieces, None)
    header = read_header(first.raw) if first else None
    if header is None or (espressif and not is_espressif(header[1])):
        wanted = "MAC,cn,cert" if espressif else "name, serial, certificate or csr"
        raise EnvironmentFault(
            f"{path}:1: the header has not the columns that are needed", hint=f"its first line names them: {wanted}"
        )
    delimiter, names = header
    meanings = [(ESPRESSIF if espressif else COLUMNS).get(name) for name in names]
    for number, piece in enumerate(pieces, start=1):
        place = f"line {piece.line}"

        def fault(reason: str, number: int = number, place: str = place, raw: bytes = piece.raw) -> Fault:
            return Fault(number=number, place=place, reason=reason, remedy=_REMEDY, raw=raw)

        if piece.fault:
            yield fault(piece.fault)
            continue
        try:
            fields = split(piece.raw.decode(), delimiter)
        except UnicodeDecodeError:
            yield fault("is not UTF-8")
            continue
        except csv.Error:
            yield fault("is no CSV record: a quote is out of place")
            continue
        if len(fields) != len(names):
            yield fault(f"has {len(fields)} fields, the header has {len(names)}")
            continue
        values = {meaning: value for meaning, value in zip(meanings, fields, strict=True) if meaning and value}
        yield Record(
            number=number,
            place=place,
            raw=piece.raw,
            name=values.get("name"),
            serial=values.get("serial"),
            common_name=values.get("common_name"),
            device_type=values.get("device_type"),
            certificate=_encoded(values.get("certificate")),
            request=_encoded(values.get("request")),
            must_match=not espressif and ("name" in values or "serial" in values),
        )


def _encoded(value: str | None) -> bytes | None:
    return value.encode() if value else None
