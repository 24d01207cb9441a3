"""Writes the things of a facility as JSON lines, streamed: a plant may have a million of them.

The rows of a group are one row but for their numbers. So a block of them is one encoded row, repeated ten times, with
the ones laid over it as a column; these ten, repeated ten times, with the tens laid over them; and so on. The next
block is the same memory, with other digits only in the higher places. A JSON encoder called for each row takes many
times as long (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec

from fleet_iot.generator.output.artefact import Chunk
from fleet_iot.generator.output.encoding import encode_json
from fleet_iot.generator.plan.build import FacilityPlan, ThingGroupPlan
from fleet_iot.generator.plan.things import NumberedRun, Thing

BLOCK_BYTES = 400_000
"""What a processor keeps at hand while it makes, checks, hashes and writes up to 1,000 rows."""

NAMED_ROWS = 500
"""Of things with names of their own, made at a time."""

_NUMBER = b"\0"
"""Stands where a row has its number: encoded JSON holds no control character."""


def thing_rows(facility: FacilityPlan) -> Iterator[Chunk]:
    """One JSON object a line: name, thing_type, device_type, serial, attributes (exactly those that AWS gets).

    A chunk is whole rows, and holds only until the next is asked for.
    """
    for group in facility.groups:
        for run in group.runs:
            yield from numbered_rows(_pattern(group, run).split(_NUMBER), first=run.first, last=run.last)
        if group.named is not None:
            yield from _named_rows(group, iter(group.named))


def numbered_rows(parts: list[bytes], *, first: int, last: int) -> Iterator[memoryview]:
    """The rows `first` to `last`; `parts` is what stands before, between and behind the numbers of a row."""
    while first <= last:
        width = len(b"%04d" % first)
        end = min(last, 10**width - 1)
        yield from _rows_of_width(parts, width, first=first, last=end)
        first = end + 1


def _rows_of_width(parts: list[bytes], width: int, *, first: int, last: int) -> Iterator[memoryview]:
    """Rows whose numbers all have `width` digits, so that they are all as long as each other."""
    number = b"%0*d" % (width, first)
    block = bytearray(number.join(parts))
    size, stride = last + 1 - first, len(block)
    ends = [len(number.join([*parts[:place], b""])) for place in range(1, len(parts))]
    digits = next((n for n in (3, 2, 1) if 10 ** (n - 1) < size and 10**n * stride <= BLOCK_BYTES), 0)
    rows = 10**digits
    for place in range(digits):  # these turn once a block, and so stay as they are
        block *= 10
        column = _column(place, first, 10 ** (place + 1))
        for end in ends:
            block[end - 1 - place :: stride] = column
    laid = {place: _digit(place, first) * rows for place in range(digits, width)}
    for start in range(first, last + 1, rows):
        for place in laid:
            column = _column(place, start, rows)
            if column != laid[place]:
                for end in ends:
                    block[end - 1 - place :: stride] = column
                laid[place] = column
        with memoryview(block)[: min(rows, last + 1 - start) * stride] as chunk:
            yield chunk


def _column(place: int, start: int, rows: int) -> bytes:
    """The digits at a place, 0 for the ones, of the numbers from `start` on; `rows` is at most 1,000."""
    within = start % 1_000
    if place < len(_TURNS):
        return _TURNS[place][within : within + rows]
    before = min(1_000 - within, rows)
    return _digit(place, start) * before + _digit(place, start + rows) * (rows - before)


def _digit(place: int, number: int) -> bytes:
    return b"%d" % (number // 10**place % 10)


_TURNS = tuple(b"".join(_digit(place, number) for number in range(2_000)) for place in range(3))
"""Ones, tens and hundreds of the numbers from 0 to 1,999: two turns, so that a block may begin anywhere."""


def _named_rows(group: ThingGroupPlan, things: Iterator[Thing]) -> Iterator[bytes]:
    """The rows of things that have names of their own, some at a time."""
    while some := list(islice(things, NAMED_ROWS)):
        yield b"".join(_named_row(group, thing) for thing in some)


def _named_row(group: ThingGroupPlan, thing: Thing) -> bytes:
    attributes = {**dict(thing.attributes), "serial": thing.serial}
    row = {
        "name": thing.name,
        "thing_type": group.device_type.thing_type,
        "device_type": group.device_type.id,
        "serial": thing.serial,
        "attributes": {key: attributes[key] for key in sorted(attributes)},
    }
    return _ENCODE(row) + b"\n"


_ENCODE = msgspec.json.Encoder().encode
"""Names, serials and attributes are ASCII: `encode_json` would write the same, in ten times the time."""


def _pattern(group: ThingGroupPlan, run: NumberedRun) -> bytes:
    number = _NUMBER.decode()

    def numbered(prefix: str) -> str:
        return f'"{encode_json(prefix)[1:-1]}{number}"'

    serial = numbered(group.serial_prefix)
    attributes = {key: encode_json(value) for key, value in run.attributes} | {"serial": serial}
    fields = {
        "name": numbered(group.name_prefix),
        "thing_type": encode_json(group.device_type.thing_type),
        "device_type": encode_json(group.device_type.id),
        "serial": serial,
        "attributes": "{" + ",".join(f"{encode_json(key)}:{attributes[key]}" for key in sorted(attributes)) + "}",
    }
    return ("{" + ",".join(f"{encode_json(key)}:{value}" for key, value in fields.items()) + "}\n").encode("ascii")
