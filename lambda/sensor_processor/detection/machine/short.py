"""Numbers of 16 significant bits: what a detector keeps for long takes three bytes and is exact when it is packed.

State is rounded when it is stored, whether or not it is packed then, so that a detector that was packed and unpacked at
any reading finds what one that was not finds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from sys import byteorder

_SPLIT = 2.0**37 + 1.0
"""Veltkamp's constant for 53 - 37 = 16 bits: https://doi.org/10.1007/BF01397083"""

_TINY = 1e-30
"""Smaller numbers become 0: a single-precision float has fewer bits for them."""


def short(value: float) -> float:
    """Round to 16 significant bits (a relative error of at most 8e-6)."""
    if -_TINY < value < _TINY:
        return 0.0
    split = value * _SPLIT
    return split - (split - value)


def pack_short(values: Iterable[float]) -> bytes:
    """Pack rounded numbers, three bytes each, all first bytes before all second ones: they compress better so."""
    raw = pack_single(array("f", values))
    return raw[3::4] + raw[2::4] + raw[1::4]


def unpack_short(packed: bytes) -> list[float]:
    """Unpack what `pack_short` packed. Raises ValueError."""
    count, rest = divmod(len(packed), 3)
    if rest:
        raise ValueError(f"{len(packed)} bytes of numbers of three bytes")
    raw = bytearray(4 * count)
    raw[3::4], raw[2::4], raw[1::4] = packed[:count], packed[count : 2 * count], packed[2 * count :]
    return unpack_single(bytes(raw)).tolist()


def pack_single(values: array[float]) -> bytes:
    """Pack single-precision numbers, four bytes each."""
    packed = array("f", values)
    if byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_single(packed: bytes) -> array[float]:
    """Unpack what `pack_single` packed. Raises ValueError."""
    values = array("f", packed)
    if byteorder == "big":
        values.byteswap()
    return values
