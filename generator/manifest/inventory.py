"""A list of devices as their maker or the plant hands it in: the value that stands for such a file in a manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Kind = tuple[str | None, tuple[str, ...]]
"""A production line, or none, and the names of a thing's own attributes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedThing:
    """One device of a list: `name` within its group, and what else the list says of it."""

    name: str
    serial: str | None
    line: str | None
    attributes: Mapping[str, str]


def encode_thing(thing: ListedThing, *, line: int) -> bytes:
    """A thing, and its line in the file, in about 100 bytes; as bytes they sort by `name_order`.

    No field holds a tab: names, serials and ids are of narrow alphabets, and JSON escapes it.
    """
    attributes = json.dumps(dict(sorted(thing.attributes.items()))) if thing.attributes else ""
    return f"{len(thing.name):02d}{thing.name}\t{thing.serial or ''}\t{thing.line or ''}\t{attributes}\t{line}".encode()


def decode_thing(row: bytes) -> ListedThing:
    """The thing of a row that `encode_thing` made."""
    name, serial, line, attributes, _ = row.decode("ascii").split("\t")
    return ListedThing(
        name=name[2:], serial=serial or None, line=line or None, attributes=json.loads(attributes) if attributes else {}
    )


def name_in(row: bytes) -> bytes:
    """What rows of the same name have in common."""
    return row.partition(b"\t")[0]


def line_in(row: bytes) -> int:
    """The line of the file that a row is from."""
    return int(row.rpartition(b"\t")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The rows that one group takes from a file, encoded and sorted; `kinds` are the kinds of things among them."""

    file: str
    rows: tuple[bytes, ...]
    kinds: frozenset[Kind]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ListedThing]:
        return map(decode_thing, self.rows)

    @property
    def last(self) -> ListedThing:
        """The last in the order of names."""
        return decode_thing(self.rows[-1])

    def line_of(self, name: str) -> int | None:
        """The line in the file on which a thing stands."""
        start = f"{len(name):02d}{name}\t".encode()
        return next((line_in(row) for row in self.rows if row.startswith(start)), None)

    @property
    def digest(self) -> str:
        """SHA-256 of what it says: neither the file's format nor the order of its rows counts."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(row[: row.rindex(b"\t") + 1])
        return digest.hexdigest()


def name_order(name: str) -> tuple[int, str]:
    """Sorts names of one group: by length, then as text, so that numbers come in their order."""
    return (len(name), name)


def read_value(value: Any) -> Inventory:
    """For pydantic: only what `manifest.inventories` has read stands for a file; raises `ValueError`."""
    if not isinstance(value, Inventory):
        raise ValueError("an inventory is the path of a file")
    return value
