"""Reads a JSON array element by element, however long it is."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from operations.onboarding.lists.record import RECORD_LIMIT

_CHUNK = 65_536
_SPACE = " \t\r\n"


def read_array(path: Path) -> Iterator[tuple[dict[str, Any] | str, bytes]]:
    """Each element with its text; in place of one that cannot be read, what is wrong (the last: nothing follows it)."""
    decoder = json.JSONDecoder()
    utf8 = codecs.getincrementaldecoder("utf-8-sig")()
    text, at_end, expects = "", False, "["
    with path.open("rb") as file:
        while True:
            text = text.lstrip(_SPACE)
            if expects:
                if text[:1] and text[0] in expects:
                    closed = text[0] == "]"
                    text, expects = text[1:], ""
                    if closed:
                        return
                    continue
                if text or at_end:
                    yield "the JSON array breaks off here: truncated or damaged", b""
                    return
            else:
                if text.startswith("]"):
                    return
                found = _element(decoder, text)
                if found is not None:
                    element, end = found
                    raw = text[:end].encode()
                    yield (element if isinstance(element, dict) else "is no JSON object"), raw
                    text, expects = text[end:], ",]"
                    continue
                if at_end or len(text) > 8 * RECORD_LIMIT:
                    yield "is no JSON that can be read: truncated, damaged or too long; what follows is lost", b""
                    return
            try:
                chunk = file.read(_CHUNK)
                text += utf8.decode(chunk, final=not chunk)
            except UnicodeDecodeError:
                yield "is not UTF-8 from here on", b""
                return
            at_end = not chunk


def _element(decoder: json.JSONDecoder, text: str) -> tuple[Any, int] | None:
    """The element that the text begins with and where it ends; None where more of the file is needed."""
    if not text.startswith("{"):
        return None
    try:
        return decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return None
