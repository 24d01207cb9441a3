"""CSV lists: whatever their columns are called, in any order; Espressif's `MAC,cn,cert` among them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from fleet_iot.generator.diagnostics import EnvironmentFault, visible
from fleet_iot.operations.lists.headings import has_material, is_ignored, is_name, meaning_of, normalised, record_of
from fleet_iot.operations.lists.lines import BYTE_ORDER_MARK, Piece, read_quoted
from fleet_iot.operations.lists.record import RECORD_LIMIT, Fault, Record, RefusedError

csv.field_size_limit(RECORD_LIMIT)

ESPRESSIF = {"mac", "cn", "cert"}
"""The columns of Espressif's list; its module writes the certificate's common name beside it."""

_DELIMITERS = (",", ";", "\t", "|")
_SEPARATOR_LINE = b"sep="
"""How a spreadsheet is told the delimiter, in a line before the header."""
_REMEDY = "correct the record; fields with line breaks stand in double quotes"


def split(text: str, delimiter: str) -> list[str]:
    """The fields of one record. Raises csv.Error where its quotes are wrong."""
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    if len(rows) != 1:
        raise csv.Error("not one record")
    return [field.strip() for field in rows[0]]


def read_header(line: bytes) -> tuple[str, list[str]] | None:
    """Delimiter and headings; None where the line has no column of certificates or CSRs."""
    try:
        text = line.removeprefix(BYTE_ORDER_MARK).decode().strip("\r\n")
    except UnicodeDecodeError:
        return None
    found = []
    for delimiter in _DELIMITERS:
        try:
            headings = split(text, delimiter)
        except csv.Error:
            continue
        if has_material(headings) and not any("-----BEGIN" in heading for heading in headings):
            found.append((delimiter, headings))
    return max(found, key=lambda each: sum(map(bool, map(meaning_of, each[1]))), default=None)


def is_separator_line(line: bytes) -> bool:
    """Whether a line says the delimiter, and the header comes after it."""
    return line.removeprefix(BYTE_ORDER_MARK).strip().strip(b'"').lower().startswith(_SEPARATOR_LINE)


def is_espressif(headings: list[str]) -> bool:
    """Whether these are the columns of Espressif's list."""
    return set(map(normalised, headings)) >= ESPRESSIF


def header_of(path: Path) -> bytes:
    """What stands before the first record as written: a file of failures begins with it too."""
    pieces = read_quoted(path)
    first = next(pieces, None)
    if first is not None and is_separator_line(first.raw):
        second = next(pieces, None)
        return first.raw + (second.raw if second else b"")
    return first.raw if first else b""


def read_csv(path: Path, *, espressif: bool, ignored: frozenset[str] = frozenset()) -> Iterator[Record | Fault]:
    """The records of a CSV list. Raises EnvironmentFault where its header has no certificate and no CSR."""
    layout: list[tuple[str, int]] = []
    pieces = read_quoted(path, lambda raw: not layout or _is_record(raw, *layout[0]))
    first = next(pieces, None)
    if first is not None and is_separator_line(first.raw):
        first = next(pieces, None)
    header = read_header(first.raw) if first else None
    if header is None or (espressif and not is_espressif(header[1])):
        raise _no_header(path, first, espressif=espressif)
    delimiter, headings = header
    layout.append((delimiter, len(headings)))
    is_named = not espressif and any(is_name(heading) and not is_ignored(heading, ignored) for heading in headings)
    number = 0
    for piece in pieces:
        if not piece.fault and not piece.raw.strip(b'" \t\r\n' + delimiter.encode()):
            continue
        number += 1
        try:
            yield _record(number, piece, delimiter, headings, is_named=not espressif, ignored=ignored)
        except RefusedError as refused:
            yield Fault(
                number=number,
                place=f"line {piece.line}",
                reason=refused.reason,
                remedy=refused.remedy,
                raw=piece.raw,
                is_named=is_named,
            )


def _record(
    number: int, piece: Piece, delimiter: str, headings: list[str], *, is_named: bool, ignored: frozenset[str]
) -> Record:
    if piece.fault:
        raise RefusedError(piece.fault, _REMEDY)
    try:
        fields = _fields(piece.raw, delimiter, len(headings))
    except UnicodeDecodeError:
        raise RefusedError("is not UTF-8", _REMEDY) from None
    except csv.Error:
        raise RefusedError("is no CSV record: a quote is out of place", _REMEDY) from None
    if len(fields) != len(headings):
        raise RefusedError(f"has {len(fields)} fields, the header has {len(headings)}", _REMEDY)
    values = zip(headings, fields, strict=True)
    return record_of(
        values, number=number, place=f"line {piece.line}", raw=piece.raw, is_named=is_named, ignored=ignored
    )


def _fields(raw: bytes, delimiter: str, count: int) -> list[str]:
    """The fields of a record, without empty ones after the last column."""
    fields = split(raw.decode(), delimiter)
    while len(fields) > count and not fields[-1]:
        fields.pop()
    return fields


def _is_record(raw: bytes, delimiter: str, count: int) -> bool:
    try:
        return len(_fields(raw, delimiter, count)) == count
    except (UnicodeDecodeError, csv.Error):
        return False


def _no_header(path: Path, first: Piece | None, *, espressif: bool) -> EnvironmentFault:
    text = first.raw.decode(errors="replace") if first else ""
    if "-----BEGIN" in text:
        return EnvironmentFault(
            f"{path}:1: the first line is a device already: the list has no header",
            hint="write one above it that names the columns, such as name,serial,certificate",
        )
    wanted = "MAC,cn,cert" if espressif else "name, serial, certificate or csr"
    named = ", ".join(heading for heading in _split_loosely(text) if meaning_of(heading))
    known = f"; of those there, these are known: {visible(named)}" if named else ""
    return EnvironmentFault(
        f"{path}:1: the header has not the columns that are needed: {visible(text.strip()[:120])!r}",
        hint=f"its first line names them: {wanted}{known}",
    )


def _split_loosely(text: str) -> list[str]:
    """The parts of a line at whichever delimiter parts it most."""
    delimiter = max(_DELIMITERS, key=text.count)
    return [part.strip(' "\r\n\ufeff') for part in text.split(delimiter)]
