"""Encodes a value as one literal of the language of the file that it is placed in.

Every placed value goes through the encoder of its file's suffix, so that nothing in a manifest can end the
literal that it is in. What has no safe literal raises `EncodingError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from fleet_iot.generator.diagnostics import is_hidden
from fleet_iot.lib.record.read import SPECS


class EncodingError(ValueError):
    """The value has no literal in the target language."""


class Identifier(str):
    """A Python name: placed bare, where any other text is placed as a literal."""

    __slots__ = ()


def encode_python(value: Any) -> str:
    """Encode a Python literal in ASCII, on one line; or a declaration of the record's classes.

    A declaration has one field a line, so that a change of one value changes one line of the record.
    """
    if SPECS.get(type(value).__name__) is type(value):
        return _declaration(value, "\n")
    if isinstance(value, Identifier):
        if not (value.isascii() and value.isidentifier()):
            raise EncodingError(f"{str(value)!a} is no Python name")
        return str(value)
    if value is None or isinstance(value, bool | int | str):
        return ascii(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise EncodingError(f"{value} has no Python literal")
        return repr(value)
    if isinstance(value, tuple):
        items = [encode_python(item) for item in value]
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{encode_python(key)}: {encode_python(value[key])}" for key in value) + "}"
    raise EncodingError(f"a {type(value).__name__} has no place in a declaration")


def _declaration(value: Any, line: str) -> str:
    """`line` begins a line at the indentation of the declaration."""
    inner = f"{line}    "
    if is_dataclass(value):
        items = [f"{field.name}={_declaration(getattr(value, field.name), inner)}" for field in fields(value)]
        return f"{type(value).__name__}({''.join(f'{inner}{item},' for item in items)}{line})"
    if isinstance(value, tuple) and value:
        return f"({''.join(f'{inner}{_declaration(item, inner)},' for item in value)}{line})"
    if isinstance(value, dict) and value:
        pairs = [f"{encode_python(key)}: {encode_python(value[key])}" for key in value]
        return f"{{{''.join(f'{inner}{pair},' for pair in pairs)}{line}}}"
    return encode_python(value)


_JSON = json.JSONEncoder(ensure_ascii=True, allow_nan=False)


def encode_json(value: Any) -> str:
    """Return a JSON value in ASCII, which hides no invisible character."""
    try:
        return _JSON.encode(value)
    except (TypeError, ValueError) as error:
        raise EncodingError(str(error)) from None


_SQL_PLAIN = re.compile(r"[\x20-\x26\x28-\x5b\x5d-\x7e]*")


def encode_sql(value: Any) -> str:
    """Return an AWS IoT SQL string in single quotes.

    The dialect documents no escape, so a quote, a backslash or anything beyond printable ASCII is refused.
    """
    if not isinstance(value, str) or not _SQL_PLAIN.fullmatch(value):
        raise EncodingError(f"{value!a} cannot be placed in an AWS IoT SQL string")
    return f"'{value}'"


class Code(str):
    """A name that Markdown shows as code, where any other text is placed as text."""

    __slots__ = ()


_CODE = re.compile(r"[A-Za-z0-9_.,@/:#=\[\]{}$+-]+", re.ASCII)
"""The characters of names, serials and topics: none ends a code span or a table cell."""

_MARKUP = re.compile(
    r"[\\`*\[\]<|~${]"  # anywhere
    r"|(?<=\{)[%#]"  # what looks like a template's
    r"|&(?=[A-Za-z#])"  # an entity
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis, but not within a word
    r"|(?:(?<=http)|(?<=https)|(?<=ftp)):(?=//)|(?<=www)\."  # a link
    r"|:(?=\w+:)"  # an emoji
    r"|\A(?:>|#(?=#*(?:\s|\Z))|[+-](?![^\s-])|=(?==*\s*\Z)|:(?=-))",  # a quote, heading, list, rule or table
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"\A(\d{1,9})([.)])(?=\s|\Z)")
_OUTER_SPACE = re.compile(r"\A\s|\s\Z")


def encode_markdown(value: Any) -> str:
    """Encode text that Markdown shows as it is, with a backslash before what would be markup there.

    Spaces at its ends, which Markdown would drop, are numeric references.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise EncodingError(f"a {type(value).__name__} has no text")
    text = value if isinstance(value, str) else format_number(value)
    if isinstance(value, Code):
        if not _CODE.fullmatch(text):
            raise EncodingError(f"{text!a} is no name to show as code")
        return f"`{text}`"
    for character in text:
        if is_hidden(character):
            raise EncodingError(f"the invisible character U+{ord(character):04X} has no place in a text to read")
    text = _MARKUP.sub(r"\\\g<0>", text)
    text = _NUMBERED.sub(r"\1\\\2", text)
    return _OUTER_SPACE.sub(lambda found: f"&#{ord(found[0])};", text)


def format_number(value: float) -> str:
    """Return a number as operators write it: no `.0` on whole numbers."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)


ENCODERS: dict[str, Callable[[Any], str]] = {
    ".py": encode_python,
    ".json": encode_json,
    ".sql": encode_sql,
    ".md": encode_markdown,
}
