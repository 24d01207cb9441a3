"""DynamoDB's sizes and units: the true bytes of an item, and what reading and writing so many bytes consumes.

Sizes: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
Units: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

Value = Mapping[str, Any]
"""A value as DynamoDB's JSON has it: its type → its content."""
Item = Mapping[str, Value]

NESTING = 32
DIGITS, LEAST, MOST = 38, -130, 125
"""Of numbers, which lie between 1e-130 and 9.99e125:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html"""

WRITE_BYTES, READ_BYTES = 1024, 4096

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Invalid(Exception):  # noqa: N818 - becomes a ValidationException
    """A request that DynamoDB refuses whatever is stored."""


@lru_cache(maxsize=200_000)
def number_size(text: str) -> int:
    """Return the bytes of a number: one for two significant digits, and one. Raises Invalid."""
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise Invalid("The parameter cannot be converted to a numeric value")
    number = Decimal(text)
    digits = len("".join(map(str, number.as_tuple().digits)).strip("0"))
    if not digits:
        return 1
    if digits > DIGITS:
        raise Invalid("Attempting to store more than 38 significant digits in a Number")
    if number.adjusted() > MOST:
        raise Invalid("Number overflow. Attempting to store a number with magnitude larger than supported range")
    if number.adjusted() < LEAST:
        raise Invalid("Number underflow. Attempting to store a number with magnitude smaller than supported range")
    return (digits + 1) // 2 + 1


def item_size(item: Item) -> int:
    """Return the bytes of an item: names and values, 3 a list or map and 1 for each of their elements.

    Raises Invalid for what no item can have.
    """
    return _map_size(item, 0) - len(item)


@lru_cache(maxsize=10_000)
def _name_size(name: str) -> int:
    return len(name.encode())


def _map_size(values: Item, depth: int) -> int:
    """Return the bytes of names and values, and one for each."""
    size = len(values)
    for name, value in values.items():
        size += _name_size(name) + value_size(value, depth)
    return size


def value_size(value: Value, depth: int = 0) -> int:
    """Return the bytes of a value. Raises Invalid."""
    if len(value) != 1 or depth > NESTING:
        raise Invalid("Supplied AttributeValue must contain exactly one of the supported datatypes, 32 levels deep")
    ((kind, content),) = value.items()
    if kind == "N":
        return number_size(content)
    if kind == "S":
        return len(content) if content.isascii() else len(content.encode())
    if kind == "B":
        is_text = isinstance(content, str)  # on the wire, base64; boto3 has bytes
        return len(content) // 4 * 3 - int(content.count("=", -2)) if is_text else len(content)
    if kind == "M":
        return 3 + _map_size(content, depth + 1)
    if kind == "L":
        return 3 + sum(1 + value_size(each, depth + 1) for each in content)
    if kind in ("NULL", "BOOL"):
        return 1
    if kind in ("SS", "NS", "BS") and content and len(set(content)) == len(content):
        return sum(value_size({kind[0]: each}, depth) for each in content)
    raise Invalid(f"One or more parameter values were invalid: {kind}")


def write_units(size: int) -> int:
    """Return the write units of an item: one for each started kB, at least one."""
    return max(1, -(-size // WRITE_BYTES))


def read_units(size: int, *, consistent: bool) -> float:
    """Return the read units of so many bytes, one for each started 4 kB, half that if eventually consistent."""
    return max(1, -(-size // READ_BYTES)) * (1.0 if consistent else 0.5)
