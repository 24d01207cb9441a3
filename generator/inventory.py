"""A list of devices as their maker or the plant hands it in: the value that stands for such a file in a manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedThing:
    """One device of a list: `name` within its group, and what else the list says of it."""

    name: str
    serial: str | None
    line: str | None
    attributes: Mapping[str, str]

    def encoded(self) -> bytes:
        """The same thing gives the same bytes."""
        row = [self.name, self.serial, self.line, dict(sorted(self.attributes.items()))]
        return json.dumps(row, separators=(",", ":")).encode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The rows that one group takes from a file, sorted by name, encoded: about 150 bytes a thing.

    `lines` are their lines in the file, which say where a thing comes from and count for nothing else.
    """

    file: str
    rows: tuple[bytes, ...]
    lines: tuple[int, ...] = field(compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ListedThing]:
        return map(_decoded, self.rows)

    @property
    def last(self) -> ListedThing:
        """The last in the order of names."""
        return _decoded(self.rows[-1])

    def line_of(self, name: str) -> int | None:
        """The line in the file on which a thing stands."""
        start = f'["{name}",'.encode()
        return next((line for row, line in zip(self.rows, self.lines, strict=True) if row.startswith(start)), None)

    @property
    def digest(self) -> str:
        """SHA-256 of what it says: neither the file's format nor the order of its rows counts."""
        return hashlib.sha256(b"\n".join(self.rows)).hexdigest()


def _decoded(row: bytes) -> ListedThing:
    name, serial, line, attributes = json.loads(row)
    return ListedThing(name=name, serial=serial, line=line, attributes=attributes)


def name_order(name: str) -> tuple[int, str]:
    """Sorts names of one group: by length, then as text, so that numbers come in their order."""
    return (len(name), name)


def read_value(value: Any) -> Inventory:
    """For pydantic: only what `generator.inventories` has read stands for a file; raises `ValueError`."""
    if not isinstance(value, Inventory):
        raise ValueError("an inventory is the path of a file")
    return value
