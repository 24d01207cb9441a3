"""Reads plain YAML scalars as JSON would, and names the ones that YAML readers disagree about."""

from __future__ import annotations

import re

Scalar = str | int | float | bool | None

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,29})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)", re.ASCII)
_NAN = re.compile(r"\.(nan|NaN|NAN)", re.ASCII)
_WORDS: dict[str, Scalar] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}

_TRAPS = (
    (re.compile(r"yes|Yes|YES|on|On|ON"), "YAML 1.1 reads {text} as true"),
    (re.compile(r"no|No|NO|off|Off|OFF"), "YAML 1.1 reads {text} as false"),
    (re.compile(r"[-+]?0[0-7_]+"), "YAML 1.1 reads {text} as the octal number {octal}"),
    (re.compile(r"[-+]?0[0-9]+"), "{text} is a number to some YAML readers and text to others"),
    (re.compile(r"[-+]?0[xob][0-9a-fA-F_]+"), "{text} is a number to some YAML readers and text to others"),
    (
        re.compile(r"[-+]?\.?[0-9][0-9.]*_[0-9_.]*([eE][-+]?[0-9]+)?|[-+]\.[0-9]+([eE][-+]?[0-9]+)?"),
        "{text} is a number to some YAML readers and text to others",
    ),
    (
        re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
        "YAML 1.1 reads {text} as a number to the base 60",
    ),
    (re.compile(r"[0-9]{4}-([0-9]{2}-[0-9]{2}|[0-9]{1,2}-[0-9]{1,2}[Tt \t].*)"), "YAML 1.1 reads {text} as a date"),
    (re.compile(r"="), "YAML 1.1 gives {text} a meaning of its own"),
)
_START_OF_A_TRAP = frozenset("yYoOnN0123456789+-.=")


def trap(text: str) -> str | None:
    """Why a plain scalar is read in different ways by different YAML readers; None for one that is not."""
    if text[:1] not in _START_OF_A_TRAP:
        return None
    for pattern, reason in _TRAPS:
        if pattern.fullmatch(text):
            digits = text.lstrip("+-").replace("_", "")
            octal = int(digits, 8) if digits and set(digits) <= set("01234567") else 0
            return reason.format(text=text, octal=octal)
    return None


def resolve(text: str) -> Scalar:
    """The value of a plain scalar: null, a truth value, a decimal number, or else text."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return float(text.replace(".", ""))
    return float("nan") if _NAN.fullmatch(text) else text
