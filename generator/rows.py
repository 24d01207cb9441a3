"""Writes the things of a facility as JSON lines, streamed: a plant may have a million of them.

A row is formatted from a pattern that is encoded once a group: a template engine, or a JSON encoder, for each row
is far slower.
"""

from __future__ import annotations

from collections.abc import Iterator

from generator.encoding import encode_json
from generator.plan import FacilityPlan, ThingGroupPlan

ROWS_PER_CHUNK = 8192
_NUMBER = "%(n)04d"


def thing_rows(facility: FacilityPlan) -> Iterator[bytes]:
    """One JSON object a line: name, thing_type, device_type, serial, attributes (exactly those that AWS gets)."""
    for group in facility.groups:
        pattern = _pattern(group)
        for start in range(1, group.count + 1, ROWS_PER_CHUNK):
            numbers = range(start, min(start + ROWS_PER_CHUNK, group.count + 1))
            yield "".join([pattern % {"n": number} for number in numbers]).encode("ascii")


def _pattern(group: ThingGroupPlan) -> str:
    def numbered(prefix: str) -> str:
        return f'"{encode_json(prefix)[1:-1].replace("%", "%%")}{_NUMBER}"'

    def text(value: str) -> str:
        return encode_json(value).replace("%", "%%")

    serial = numbered(group.serial_prefix)
    attributes = {name: text(value) for name, value in group.attributes} | {"serial": serial}
    fields = {
        "name": numbered(group.name_prefix),
        "thing_type": text(group.device_type.thing_type),
        "device_type": text(group.device_type.id),
        "serial": serial,
        "attributes": "{" + ",".join(f"{text(name)}:{attributes[name]}" for name in sorted(attributes)) + "}",
    }
    return "{" + ",".join(f"{text(name)}:{value}" for name, value in fields.items()) + "}\n"
