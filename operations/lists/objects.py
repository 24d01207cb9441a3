"""JSON objects of devices, a line or an element of an array each: their keys are headings, at any depth.

An array is read element by element, however long it is; after a broken one, the next are still found.
"""

from __future__ import annotations

import base64
import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fleet_iot.operations.lists.headings import MATERIAL, WITHIN, meaning_of, private_key_refusal, record_of
from fleet_iot.operations.lists.material import holds_private_key
from fleet_iot.operations.lists.record import RECORD_LIMIT, Fault, Record, RefusedError

_CHUNK = 65_536
_ELEMENT_LIMIT = 8 * RECORD_LIMIT
"""Characters that are read in search of an element's end."""
_SPACE = " \t\r\n"
_BOUNDARY = re.compile(r"(?:\}\s*,|[\r\n])\s*(?=\{)")
"""Probable start of the next element: no JSON string contains a line break."""
_END = "\0"
"""May follow the end of the array: not a character of JSON."""
_LOST = "what follows is lost"
_REMEDY = "ask the maker for the list again"

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
    """Return each element with its text: an object, or what is wrong with it as a string (in the last: nothing follows
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
    """Return the records of an array of objects."""
    for number, (element, raw) in enumerate(read_array(path, DECODER), start=1):
        place = f"entry {number}"
        try:
            if not isinstance(element, Pairs):
                raise RefusedError(str(element), _REMEDY)
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
