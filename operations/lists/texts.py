"""Read text lists: CSV, JSON objects, PEM blocks, one base64 certificate a line, a folder of certificates or CSRs."""

from __future__ import annotations

import base64
import codecs
import csv
import io
import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_iot.generator.diagnostics import EnvironmentFault, visible
from fleet_iot.operations.lists.headings import (
    MATERIAL,
    WITHIN,
    has_material,
    is_ignored,
    is_name,
    meaning_of,
    normalised,
    private_key_refusal,
    record_of,
)
from fleet_iot.operations.lists.material import holds_private_key, is_issued
from fleet_iot.operations.lists.record import RECORD_LIMIT, Fault, Record, RefusedError

# JSON objects of devices, a line or an element of an array each: their keys are headings, at any depth.
#
# An array is read element by element, however long it is; after a broken one, the next are still found.

_CHUNK = 65_536
_ELEMENT_LIMIT = 8 * RECORD_LIMIT
"""Characters that are read in search of an element's end."""
_SPACE = " \t\r\n"
_BOUNDARY = re.compile(r"(?:\}\s*,|[\r\n])\s*(?=\{)")
"""Probable start of the next element: no JSON string contains a line break."""
_END = "\0"
"""May follow the end of the array: not a character of JSON."""
_LOST = "what follows is lost"
_ARRAY_REMEDY = "ask the maker for the list again"

_DEPTH = 8
"""Most levels of objects and arrays in a device's data."""


class Pairs(list[tuple[str, Any]]):
    """The members of an object in order, with repeated keys."""


DECODER = json.JSONDecoder(object_pairs_hook=Pairs)


def parse_object(raw: bytes, remedy: str) -> Pairs:
    """Return the object that these bytes are. Raises RefusedError."""
    try:
        found = DECODER.decode(raw.decode())
    except UnicodeDecodeError:
        raise RefusedError("is not UTF-8", remedy) from None
    except RecursionError:
        raise RefusedError("is no JSON object of a device: it is nested too deep", remedy) from None
    except ValueError as error:
        raise RefusedError(f"is no JSON object of a device: {error}", remedy) from None
    if not isinstance(found, Pairs):
        raise RefusedError("is no JSON object of a device", remedy)
    return found


def record_of_object(found: Pairs, *, number: int, place: str, raw: bytes, ignored: frozenset[str]) -> Record:
    """Return the record that an object makes. Raises RefusedError."""
    values = list(_values(found, "", 1))
    # Escaped text is not in the bytes that are searched for keys.
    is_escaped = b"\\u" in raw or rb"\/" in raw
    if is_escaped and any(holds_private_key(value.encode()) for _, value in values):
        raise private_key_refusal()
    return record_of(values, number=number, place=place, raw=raw, ignored=ignored)


def _values(found: Pairs, prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _DEPTH:
        raise RefusedError("is nested too deep", "give name, serial and certificate of a device as one flat object")
    keys = {key for key, _ in found}
    if "kty" in keys and "d" in keys:
        raise private_key_refusal()
    for key, value in found:
        yield from _value(f"{prefix}{WITHIN}{key}" if prefix else key, value, depth)


def _value(heading: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, Pairs):
        yield from _values(value, heading, depth + 1)
    elif isinstance(value, list):
        yield from _array(heading, value, depth)
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RefusedError(f"{heading!r} is no text: it contains half a character", "correct the record") from None
        yield heading, value.strip()
    elif isinstance(value, int) and not isinstance(value, bool):
        yield heading, _number(value)
    elif isinstance(value, float):
        meaning = meaning_of(heading)
        if meaning is not None and meaning.kind not in ("other", "label"):
            raise RefusedError(f"{heading!r} is a number with a point: digits may be lost", "write it in quotes")


def _array(heading: str, values: list[Any], depth: int) -> Iterator[tuple[str, str]]:
    meaning = meaning_of(heading)
    if depth > _DEPTH:
        raise RefusedError("is nested too deep", "give name, serial and certificate of a device as one flat object")
    if meaning is not None and meaning.kind in MATERIAL and all(isinstance(value, str) for value in values):
        texts = [value.strip() for value in values if value.strip()]
        yield heading, "\n".join(_block(text, meaning.kind) for text in texts) if len(texts) > 1 else "".join(texts)
        return
    for value in values:
        yield from _value(heading, value, depth + 1)


def _block(text: str, kind: str) -> str:
    """Return a certificate or CSR as a PEM block, so that each of several is checked: they must be a chain."""
    label = "CERTIFICATE REQUEST" if kind == "request" else "CERTIFICATE"
    if "-----BEGIN" in text:
        return text
    if text.startswith("LS0tLS1CRUdJTi"):
        try:
            return base64.b64decode(text).decode()
        except ValueError:
            return text
    return f"-----BEGIN {label}-----\n{text}\n-----END {label}-----"


def _number(value: int) -> str:
    try:
        return str(value)
    except ValueError:
        raise RefusedError("contains a number of thousands of digits", "correct the record") from None


def read_array(path: Path, decoder: json.JSONDecoder | None = None) -> Iterator[tuple[Any, bytes]]:
    """Yield each element with its text: an object, or what is wrong with it as a string (in the last: nothing follows
    it)."""
    decoder = decoder or json.JSONDecoder()
    utf8 = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    text, at_end, expects = "", False, "["
    with path.open("rb") as file:
        while True:
            text = text.lstrip(_SPACE)
            is_last = at_end or len(text) > _ELEMENT_LIMIT
            if not expects and text.startswith("]"):
                text, expects = text[1:], _END
                continue
            if expects != _END and text[:1] and text[0] in expects:
                text, expects = text[1:], _END if text[0] == "]" else ""
                continue
            if not expects:
                element, end = _element(decoder, text)
                if end is not None:
                    yield element, _raw(text[:end])
                    text, expects = text[end:], ",]"
                    continue
                is_broken, what = is_last or element is not None, element or "is no JSON: damaged"
            elif at_end and not text and expects == _END:
                return
            else:
                is_broken, what = bool(text) or at_end, "is no JSON: damaged"
            following = _next(text) if is_broken else None
            if following is not None:
                yield what, _raw(text[:following])
                text, expects = text[following:], ""
                continue
            if is_broken and is_last:
                yield f"is no JSON that can be read: truncated, damaged or too long; {_LOST}", b""
                return
            chunk = file.read(_CHUNK)
            text += utf8.decode(chunk, final=not chunk)
            at_end = not chunk


def read_objects(path: Path, ignored: frozenset[str] = frozenset()) -> Iterator[Record | Fault]:
    """Yield the records of an array of objects."""
    for number, (element, raw) in enumerate(read_array(path, DECODER), start=1):
        place = f"entry {number}"
        try:
            if not isinstance(element, Pairs):
                raise RefusedError(str(element), _ARRAY_REMEDY)
            yield record_of_object(element, number=number, place=place, raw=raw, ignored=ignored)
        except RefusedError as refused:
            yield Fault(number=number, place=place, reason=refused.reason, remedy=refused.remedy, raw=raw)


def _element(decoder: json.JSONDecoder, text: str) -> tuple[Any, int | None]:
    """Return the element that the text begins with and where it ends; no end where more of the file is needed, or where
    the element, a string then, says what is wrong."""
    if not text.startswith("{"):
        if text.startswith(("[", '"')):
            try:
                return "is no JSON object", decoder.raw_decode(text)[1]
            except RecursionError:
                return "is nested too deep", None
            except ValueError:
                return None, None
        found = re.match(r"[^,\]\[{}\"]+(?=\s*[,\]])", text)
        return ("is no JSON object", found.end()) if found else (None, None)
    try:
        element, end = decoder.raw_decode(text)
    except RecursionError:
        return "is nested too deep", None
    except ValueError:
        return None, None
    return element, end


def _next(text: str) -> int | None:
    """Return where the element after a broken one begins."""
    found = _BOUNDARY.search(text)
    return found.end() if found else None


def _raw(text: str) -> bytes:
    return text.encode(errors="surrogateescape").rstrip(b", \t\r\n")


# CSV, JSON lines, PEM blocks, one base64 certificate a line, a folder of certificates or CSRs.

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_QUOTE = b'"'
_PEM_LINE = re.compile(rb"\s*(?:[A-Za-z0-9+/]{1,76}={0,2}|-----END [A-Z ]+-----.*)\s*", re.DOTALL)
_QUOTED_BLOCK = b'"-----BEGIN'


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some bytes of a file that begin at `line`, and what is wrong with them already (empty: nothing)."""

    line: int
    raw: bytes
    fault: str = ""


def read_lines(path: Path) -> Iterator[Piece]:
    """Yield each line that is not blank; of one that is too long, its beginning."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(RECORD_LIMIT + 1):
            number += 1
            if number == 1:
                line = line.removeprefix(BYTE_ORDER_MARK)
            if len(line) > RECORD_LIMIT:
                while (rest := file.readline(RECORD_LIMIT)) and not rest.endswith(b"\n"):
                    pass
                yield Piece(line=number, raw=line[:80], fault=f"is longer than {RECORD_LIMIT:,} bytes")
            elif line.strip():
                yield Piece(line=number, raw=line)


def read_quoted(path: Path, is_record: Callable[[bytes], bool] = lambda raw: True) -> Iterator[Piece]:
    """Yield each record of a CSV file, whose quoted fields may contain line breaks (RFC 4180).

    A quote that is never closed would swallow all that follows. A PEM block that opens within an open quote proves
    the record before it broken; it ends there, and the next one begins. Where no such block comes, the line with the
    quote is the broken record, and the lines after it are read again; so too where several lines make no record.

    Args:
        path: The file.
        is_record: Whether the bytes of several lines are a record.
    """
    waiting: deque[Piece] = deque()
    pieces = read_lines(path)
    held: list[Piece] = []
    size = 0
    is_open = False
    while True:
        piece = waiting.popleft() if waiting else next(pieces, None)
        if piece is None or piece.fault:
            if held:
                fault = "has a quote that is not closed" + ("" if piece else ": the list is truncated")
                broken, again = _parted(held)
                yield _broken(broken, fault)
                waiting.extendleft(reversed([*again, *([piece] if piece else [])]))
            elif piece:
                yield piece
            else:
                return
            held, size, is_open = [], 0, False
            continue
        line = piece.raw
        block = line.find(_QUOTED_BLOCK) if is_open else -1
        if block >= 0 and line.count(_QUOTE, 0, block) % 2 == 0:
            yield _broken(held, "has a quote that is not closed")
            held, size, is_open = [], 0, False
        held.append(piece)
        size += len(line)
        is_open ^= line.count(_QUOTE) % 2 == 1
        if size > RECORD_LIMIT:
            broken, again = _parted(held)
            yield _broken(broken, "is too long, or a quote in it is not closed")
            waiting.extendleft(reversed(again))
            held, size, is_open = [], 0, False
        elif not is_open:
            raw = b"".join(each.raw for each in held)
            if len(held) > 1 and not is_record(raw):
                broken, again = _parted(held)
                yield _broken(broken, "is no record, or a quote in it is not closed")
                waiting.extendleft(reversed(again))
            else:
                yield Piece(line=held[0].line, raw=raw)
            held, size = [], 0


def _parted(held: list[Piece]) -> tuple[list[Piece], list[Piece]]:
    """Return the line with the quote that is not closed, with what is left of a PEM block after it; and the other
    lines."""
    end = 1
    while end < len(held) and _PEM_LINE.fullmatch(held[end].raw):
        end += 1
        if held[end - 1].raw.lstrip().startswith(b"-----END"):
            end += end < len(held) and held[end].raw.lstrip().startswith(_QUOTE)
            break
    return held[:end], held[end:]


def _broken(held: list[Piece], fault: str) -> Piece:
    return Piece(line=held[0].line, raw=b"".join(each.raw for each in held), fault=fault)


FOLDER_SUFFIXES = (".csr", ".req", ".pem", ".crt", ".cer", ".cert", ".der")
"""Endings of files that are read; their content decides what they are."""
_KEY_SUFFIXES = (".key", ".p12", ".pfx", ".p8", ".pk8")
_ROLES = re.compile(r"[-_.](?:certificate|cert|crt|csr)$", re.IGNORECASE)
"""Added to the name of a device's file by AWS's console and others: x-certificate.pem.crt."""
_CERTIFICATE_ID = re.compile(r"[0-9a-f]{64}")
_JSON_REMEDY = 'write {"name": …, "certificate": …} or {"name": …, "csr": …} on one line'
_REQUEST_LABEL = b"CERTIFICATE REQUEST-----"
_LENGTH = rb"(?:\x82..|\x81.|[\0-\x7f])"
_REQUEST_DER = re.compile(rb"\x30%b\x30%b\x02\x01[\0-\x0f]\x30" % (_LENGTH, _LENGTH), re.DOTALL)


def read_jsonl(path: Path, ignored: frozenset[str] = frozenset()) -> Iterator[Record | Fault]:
    """Read one object a line: name or serial, device type, certificate or CSR, under any known keys."""
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
    """Read one base64 certificate (DER) a line; its common name is the thing's name."""
    for number, piece in enumerate(read_lines(path), start=1):
        place = f"line {piece.line}"
        if piece.fault:
            yield Fault(number=number, place=place, reason=piece.fault, remedy="put each on one line", raw=piece.raw)
        else:
            yield Record(number=number, place=place, raw=piece.raw, certificate=piece.raw, must_match=True)


def read_pem(path: Path) -> Iterator[Record | Fault]:
    """Read PEM blocks, certificates or CSRs; text between the blocks is ignored.

    An authority's certificate belongs to the one before it, if it issued that.
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
            yield Fault(number=number, place=place, reason=fault, remedy="ask the maker for the list again", raw=raw)
        else:
            is_request = _REQUEST_LABEL in raw
            material = (None, raw) if is_request else (raw, None)
            last = Record(number=number, place=place, raw=raw, certificate=material[0], request=material[1])
    if last is not None:
        yield last


def read_folder(path: Path) -> Iterator[Record | Fault]:
    """Read one file a device, by name: a certificate or a CSR, in PEM or DER.

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
    """Return the thing's name in a file's: without its endings, and without a certificate's suffix."""
    name = file_name
    while Path(name).suffix.lower() in (*FOLDER_SUFFIXES, *_KEY_SUFFIXES):
        name = Path(name).stem
    return _ROLES.sub("", name)


def passed_over(path: Path) -> int:
    """Count the files and folders of a folder that are not read."""
    return sum(each.suffix.lower() not in FOLDER_SUFFIXES or not each.is_file() for each in path.iterdir())


def _content(file: Path) -> tuple[bytes, str]:
    """Return a file's bytes, and what is wrong with it already."""
    try:
        if file.is_symlink():
            return b"", "is a link, which may lead out of the folder"
        if not file.is_file() or file.stat().st_size > RECORD_LIMIT:
            return b"", "is no file of a certificate's or CSR's size"
        return file.read_bytes(), ""
    except OSError as error:
        return b"", f"cannot be read: {error.strerror}"


def _is_request(raw: bytes) -> bool:
    """Return whether a file contains a CSR: by its label, or by the version (0) that its DER begins with."""
    return _REQUEST_LABEL in raw or _REQUEST_DER.match(raw) is not None


def _has_certificate(file: Path) -> bool:
    raw, fault = _content(file)
    if fault or _is_request(raw) or holds_private_key(raw):
        return False
    return b"CERTIFICATE-----" in raw or raw[:1] == b"\x30"


def _continues(last: Record, raw: bytes) -> bool:
    """Return whether a block is the certificate of the authority that issued the last one of an entry."""
    if last.certificate is None or b"-----BEGIN CERTIFICATE-----" not in raw:
        return False
    latest = last.raw[last.raw.rindex(b"-----BEGIN") :]
    return is_issued(latest, raw)


def _blocks(path: Path) -> Iterator[tuple[str, bytes, str]]:
    """Read place and bytes of each block, and what is wrong with it already."""
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


csv.field_size_limit(RECORD_LIMIT)

ESPRESSIF = {"mac", "cn", "cert"}
"""The columns of Espressif's list; its module writes the certificate's common name beside it."""

_DELIMITERS = (",", ";", "\t", "|")
_SEPARATOR_LINE = b"sep="
"""The line before the header that gives spreadsheets the delimiter."""
_CSV_REMEDY = "correct the record; put fields with line breaks in double quotes"


def split(text: str, delimiter: str) -> list[str]:
    """Return the fields of one record. Raises csv.Error where its quotes are wrong."""
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    if len(rows) != 1:
        raise csv.Error("not one record")
    return [field.strip() for field in rows[0]]


def read_header(line: bytes) -> tuple[str, list[str]] | None:
    """Read delimiter and headings; None where the line has no column of certificates or CSRs."""
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
    """Return whether a line gives the delimiter, and the header comes after it."""
    return line.removeprefix(BYTE_ORDER_MARK).strip().strip(b'"').lower().startswith(_SEPARATOR_LINE)


def is_espressif(headings: list[str]) -> bool:
    """Return whether these are the columns of Espressif's list."""
    return set(map(normalised, headings)) >= ESPRESSIF


def header_of(path: Path) -> bytes:
    """Return what is before the first record, unchanged: a file of failures begins with it too."""
    pieces = read_quoted(path)
    first = next(pieces, None)
    if first is not None and is_separator_line(first.raw):
        second = next(pieces, None)
        return first.raw + (second.raw if second else b"")
    return first.raw if first else b""


def read_csv(path: Path, *, espressif: bool, ignored: frozenset[str] = frozenset()) -> Iterator[Record | Fault]:
    """Yield the records of a CSV list. Raises EnvironmentFault where its header has no certificate and no CSR."""
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
        raise RefusedError(piece.fault, _CSV_REMEDY)
    try:
        fields = _fields(piece.raw, delimiter, len(headings))
    except UnicodeDecodeError:
        raise RefusedError("is not UTF-8", _CSV_REMEDY) from None
    except csv.Error:
        raise RefusedError("is no CSV record: a quote is out of place", _CSV_REMEDY) from None
    if len(fields) != len(headings):
        raise RefusedError(f"has {len(fields)} fields, the header has {len(headings)}", _CSV_REMEDY)
    values = zip(headings, fields, strict=True)
    return record_of(
        values, number=number, place=f"line {piece.line}", raw=piece.raw, is_named=is_named, ignored=ignored
    )


def _fields(raw: bytes, delimiter: str, count: int) -> list[str]:
    """Return the fields of a record, without empty ones after the last column."""
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
    """Split a line at the delimiter that is most frequent in it."""
    delimiter = max(_DELIMITERS, key=text.count)
    return [part.strip(' "\r\n\ufeff') for part in text.split(delimiter)]
