"""Reads files by line and by quoted record, within limits; where a record is broken the next ones are still found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from operations.onboarding.lists.record import RECORD_LIMIT

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_QUOTE = b'"'
_QUOTED_BLOCK = b'"-----BEGIN'


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some bytes of a file that begin at `line`, and what is wrong with them already (empty: nothing)."""

    line: int
    raw: bytes
    fault: str = ""


def read_lines(path: Path) -> Iterator[Piece]:
    """Each line that is not blank; of one that is too long, its beginning."""
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


def read_quoted(path: Path) -> Iterator[Piece]:
    """Each record of a CSV file, whose quoted fields may hold line breaks (RFC 4180).

    A quote that is never closed would swallow all that follows. A PEM block that opens within an open quote tells that
    the record before it is broken; it ends there, and the next one begins.
    """
    held: list[bytes] = []
    start = size = 0
    is_open = False
    for piece in read_lines(path):
        line = piece.raw
        if piece.fault:
            if held:
                yield Piece(line=start, raw=b"".join(held), fault="has a quote that is not closed")
            held, size, is_open = [], 0, False
            yield piece
            continue
        block = line.find(_QUOTED_BLOCK) if is_open else -1
        if block >= 0 and line.count(_QUOTE, 0, block) % 2 == 0:
            yield Piece(line=start, raw=b"".join(held), fault="has a quote that is not closed")
            held, size, is_open = [], 0, False
        if not held:
            start = piece.line
        held.append(line)
        size += len(line)
        is_open ^= line.count(_QUOTE) % 2 == 1
        if size > RECORD_LIMIT:
            yield Piece(line=start, raw=b"".join(held), fault="is too long, or a quote in it is not closed")
            held, size, is_open = [], 0, False
        elif not is_open:
            yield Piece(line=start, raw=b"".join(held))
            held, size = [], 0
    if held:
        yield Piece(line=start, raw=b"".join(held), fault="has a quote that is not closed: the list is truncated")
