"""DynamoDB's typed attributes, to and from the core's values.

The items that every batch writes by the hundred are made as JSON text: in dicts, they would be half of all the objects
that a batch makes, and a tenth of its time. Texts go into templates as they are, so ids that come from a table pass
`plain` first; those of readings were checked when they were parsed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from ..ingest.base64 import decode_base64

Item = dict[str, Any]
"""Attribute name to typed value, as DynamoDB's low-level client takes it."""

Text = str
"""An item as JSON: `{"device": {"S": "…"}, …}`."""

DAY_S = 24 * 60 * 60

_encode = msgspec.json.Encoder().encode

_SPECIAL = re.compile(r"[^A-Za-z0-9:_.-]")


def template(**kinds: str) -> str:
    """JSON of attributes of these kinds (S, N, B, M), for `%`: a place for the text of each value, in this order."""
    places = {"S": '"%s"', "N": '"%s"', "B": '"%s"', "M": "%s"}
    return ",".join([f'"{name}":{{"{kind}":{places[kind]}}}' for name, kind in kinds.items()])


def text_of(item: Item) -> Text:
    """The item as JSON."""
    return _encode(item).decode()


def more_of(item: Item) -> str:
    """Attributes as JSON that follow those of a template."""
    return f",{text_of(item)[1:-1]}"


def plain(text: str) -> str:
    """An id as a template takes it: whatever no id of ours has in it becomes a hyphen."""
    return _SPECIAL.sub("-", text)


def iso(time: int) -> str:
    """`time` (ms) as `2026-11-23T14:49:03.250Z`."""
    return f"{_second(time // 1000)}.{time % 1000:03d}Z"


@lru_cache(maxsize=4_096)
def _second(time: int) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%S}"


def milliseconds(text: str) -> int:
    """The time (ms) that `iso` wrote."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def binary_of(value: Mapping[str, Any]) -> bytes:
    """A binary attribute's bytes; from the wire (see `wire`) they come as base64."""
    content = value["B"]
    return decode_base64(content) if isinstance(content, str) else bytes(content)


def number_text(value: float) -> str:
    """A number as DynamoDB takes it."""
    text = repr(value)
    return format(Decimal(text), "f") if "e" in text else text.removesuffix(".0")


def expiry_of(time: int, retention_days: int) -> int:
    """When an item of `time` (ms) expires, in seconds."""
    return time // 1000 + retention_days * DAY_S
