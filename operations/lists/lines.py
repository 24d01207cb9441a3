"""Reads files by line and by quoted record, within limits; where a record is broken the next ones are still found."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.operations.lists.record import RECORD_LIMIT

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


def read_quoted(path: Path, is_record: Callable[[bytes], bool] = lambda raw: True) -> Iterator[Piece]:
    """Each record of a CSV file, whose quoted fields may hold line breaks (RFC 4180).

    A quote that is never closed would swallow all that follows. A PEM block that opens within an open quote tells that
    the record before it is broken; it ends there, and the next one begins. Where no such block comes, the line with the
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
    """The line with the quote that is not closed, with what is left of a PEM block after it; and the other lines."""
    end = 1
    while end < len(held) and _PEM_LINE.fullmatch(held[end].raw):
        end += 1
        if held[end - 1].raw.lstrip().startswith(b"-----END"):
            end += end < len(held) and held[end].raw.lstrip().startswith(_QUOTE)
            break
    return held[:end], held[end:]


def _broken(held: list[Piece], fault: str) -> Piece:
    return Piece(line=held[0].line, raw=b"".join(each.raw for each in held), fault=fault)
