"""Compare identities however they are spelt: names, serials, MAC addresses, EUIs, UUIDs and IMEIs.

Two spellings are of one identity where only case, white space, separators, prefixes or leading zeros differ. Leading
zeros are ignored in decimal numbers only, not in a MAC, EUI or IMEI nor after `0x`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from .read import loosened

_WRAPPING = "\"'`=\ufeff\u200b\u200e\u200f"
"""Around a value: quotes, and what spreadsheets write to keep a number a text ('0012, ="0012")."""
_TO_DASHES = str.maketrans(dict.fromkeys(" \t\r\n\v\f_", "-"))
_HEX_SEPARATORS = re.compile(r"[\s_:.-]+")
_HEX_PREFIXES = ("0x", "eui", "mac", "urn", "uuid")
_HEX_SIGNS = "0123456789abcdef :_.-\t\u00a0{}()<>"
_HEX_PREFIX = re.compile(r"(?:0x|eui48|eui64|mac|urn:uuid:|uuid:)[\s_:-]*")
_HEX = re.compile(r"(?:[0-9a-f]{12}|[0-9a-f]{16}|[0-9a-f]{32})")
"""EUI-48 (a MAC), EUI-64, UUID: separators mean nothing in them."""
_SHORT_OCTETS = re.compile(r"[0-9a-f]{1,2}(?:([:-])[0-9a-f]{1,2})(?:\1[0-9a-f]{1,2}){4}(?:(?:\1[0-9a-f]{1,2}){2})?")
_HEX_NUMBER = re.compile(r"0x[0-9a-f]{4,}")
_IMEI = 15
"""Digits of an IMEI (3GPP TS 23.003, 6.2.1)."""
_DECIMAL = set("0123456789")
_WHOLE = re.compile(r"\d+\.0+")
"""A number that passed through a spreadsheet or a data frame."""


@lru_cache(maxsize=4096)
def canonical(text: str) -> tuple[str, str]:
    """Return the canonical form of a name, serial, MAC, EUI or UUID: with separators as `-`, and without any."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = text.strip().strip(_WRAPPING).strip().casefold()
    bare = hexadecimal(text)
    if bare is not None:
        return (bare, bare.lstrip("0") or "0") if bare.isdigit() else (bare, bare)
    if text.startswith("0x") and _HEX_NUMBER.fullmatch(text):
        if text[2:].isdigit():
            return text, text
        text = text[2:]
    elif text[:1].isdigit() and _WHOLE.fullmatch(text):
        text = text.partition(".")[0]
    normal = text if text.isalnum() else _dashed(text)
    loose = normal.replace("-", "")
    return (normal, loose.lstrip("0") or "0") if loose.isdigit() else (normal, loose)


def _dashed(text: str) -> str:
    text = text.translate(_TO_DASHES).strip("-")
    while "--" in text:
        text = text.replace("--", "-")
    return text


def is_same(one: str, other: str) -> bool:
    """Return whether two spellings are of one identity. Where both have separators, these must be at the same
    positions."""
    if one == other:
        return True
    (normal, loose), (other_normal, other_loose) = canonical(one), canonical(other)
    if loose != other_loose:
        return False
    if loose.isdigit():
        digits, others = normal.replace("-", ""), other_normal.replace("-", "")
        has_zeros = _is_fixed(one, normal) or _is_fixed(other, other_normal)
        if digits != others and has_zeros:
            return False
    return "-" not in normal or "-" not in other_normal or normal == other_normal


def spelt_as(kind: str, value: str) -> str:
    """Return a value in the form of what its heading says: the twelve or sixteen digits of a MAC or EUI are no
    number."""
    number = canonical(value)[0]
    if kind == "mac" and number.isdigit() and len(number) in (12, 16):
        return ":".join(number[at : at + 2] for at in range(0, len(number), 2))
    return value


def _is_fixed(text: str, normal: str) -> bool:
    """Return whether leading zeros belong to digits: those of a MAC, EUI or UUID that is written as one, of an IMEI,
    and those that are parted by separators."""
    is_plain = not set(text.strip().strip(_WRAPPING).strip().casefold()) - _DECIMAL
    return "-" in normal or len(normal) == _IMEI or (hexadecimal(text) is not None and not is_plain)


def hexadecimal(text: str) -> str | None:
    """Return the digits of a MAC, EUI-64 or UUID; None for what is none of them."""
    text = text.strip().casefold()
    if _WHOLE.fullmatch(text):
        return None
    if text.startswith(_HEX_PREFIXES):
        found = _HEX_PREFIX.match(text)
        text = text[found.end() :] if found else text
    if text.strip(_HEX_SIGNS):
        return None
    text = text.strip("{}()<>")
    if _SHORT_OCTETS.fullmatch(text):
        text = "".join(octet.zfill(2) for octet in re.split("[:-]", text))
    bare = _HEX_SEPARATORS.sub("", text)
    return bare if _HEX.fullmatch(bare) else None


def endings(text: str) -> Iterator[str]:
    """Yield the texts with which a value ends that `text` may be a spelling of, for `search_things`; none for a text
    without letters and digits."""
    loose = canonical(text)[1]
    if loosened(loose.encode()):
        yield loose
    octets = hexadecimal(text)
    if octets is not None and len(octets) < 32:  # a MAC may be written without the zeros of its octets
        yield "".join(f"{int(octets[at : at + 2], 16):x}" for at in range(0, len(octets), 2))
