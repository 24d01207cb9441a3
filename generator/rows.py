"""Writes the things of a facility as JSON lines, streamed: a plant may have a million of them.

The rows of a group are one row but for their numbers. So a block of them is made by repeating one encoded row and
laying the digits over it, one column of all its rows at a time. A JSON encoder called for each row takes many times
as long (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from generator.encoding import encode_json
from generator.plan import FacilityPlan, ThingGroupPlan

ROWS_PER_CHUNK = (250, 50, 10, 1)
"""The most of these that keep a chunk small; each divides 1,000, so that a chunk's thousands are the same."""
CHUNK_BYTES = 65_536
"""Small enough for the allocator to use the same memory again: fresh pages cost more than the rows."""

_NUMBER = b"\0"
"""Stands where a row has its number: encoded JSON holds no control character."""


def thing_rows(facility: FacilityPlan) -> Iterator[bytes]:
    """One JSON object a line: name, thing_type, device_type, serial, attributes (exactly those that AWS gets)."""
    for group in facility.groups:
        yield from _numbered(_pattern(group).split(_NUMBER), count=group.count)


def _numbered(parts: list[bytes], *, count: int) -> Iterator[bytes]:
    """The rows 1 to `count`; `parts` is what stands before, between and behind the numbers of a row."""
    length = len((b"%04d" % count).join(parts))
    rows = next((rows for rows in ROWS_PER_CHUNK if rows * length <= CHUNK_BYTES), 1)
    width = 0
    for start in range(0, count + 1, rows):
        number = b"%04d" % start
        if len(number) != width:
            width = len(number)
            row = number.join(parts)
            block, stride = bytearray(row) * rows, len(row)
            ends = [len(number.join([*parts[:place], b""])) for place in range(1, len(parts))]
        within = start % 1_000
        for place in range(width):
            if place < len(_COLUMNS):
                column = _COLUMNS[place][within : within + rows]
            else:
                column = number[-1 - place : width - place] * rows
            for end in ends:
                block[end - 1 - place :: stride] = column
        first, last = max(start, 1) - start, min(rows, count + 1 - start)
        if first < last:
            yield bytes(memoryview(block)[first * stride : last * stride])


_COLUMNS = tuple(b"".join(b"%d" % (number // 10**place % 10) for number in range(1_000)) for place in range(3))
"""Ones, tens and hundreds of the numbers from 0 to 999."""


def _pattern(group: ThingGroupPlan) -> bytes:
    number = _NUMBER.decode()

    def numbered(prefix: str) -> str:
        return f'"{encode_json(prefix)[1:-1]}{number}"'

    serial = numbered(group.serial_prefix)
    attributes = {name: encode_json(value) for name, value in group.attributes} | {"serial": serial}
    fields = {
        "name": numbered(group.name_prefix),
        "thing_type": encode_json(group.device_type.thing_type),
        "device_type": encode_json(group.device_type.id),
        "serial": serial,
        "attributes": "{" + ",".join(f"{encode_json(name)}:{attributes[name]}" for name in sorted(attributes)) + "}",
    }
    return ("{" + ",".join(f"{encode_json(name)}:{value}" for name, value in fields.items()) + "}\n").encode("ascii")
