"""Encodes a value as one literal of the language of the file that it is placed in.

Every placed value goes through the encoder of its file's suffix, so that nothing in a manifest can end the
literal that it stands in. What has no safe literal raises `EncodingError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from fleet_iot.generator.diagnostics import is_hidden


class EncodingError(ValueError):
    """The value has no literal in the target language."""


class Identifier(str):
    """A Python name: placed bare, where any other text is placed as a literal."""

    __slots__ = ()


def encode_python(value: Any) -> str:
    """Encode a literal, or a declaration of the record's classes, in ASCII.

    A declaration has one field a line, so that a change of one value changes one line of the record.
    """
    return _python(value, "\n")


def _python(value: Any, line: str) -> str:
    """`line` begins a line at the indentation of the statement."""
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
    inner = f"{line}    "
    if isinstance(value, tuple):
        items = [_python(item, inner) for item in value]
        if any(is_dataclass(item) for item in value):
            return f"({''.join(f'{inner}{item},' for item in items)}{line})"
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
    if isinstance(value, dict):
        pairs = [f"{_python(key, inner)}: {_python(value[key], inner)}" for key in value]
        return f"{{{''.join(f'{inner}{pair},' for pair in pairs)}{line}}}" if pairs else "{}"
    if is_dataclass(value):
        pairs = [f"{field.name}={_python(getattr(value, field.name), inner)}" for field in fields(value)]
        return f"{type(value).__name__}({''.join(f'{inner}{pair},' for pair in pairs)}{line})"
    raise EncodingError(f"a {type(value).__name__} has no place in a declaration")


_JSON = json.JSONEncoder(ensure_ascii=True, allow_nan=False)


def encode_json(value: Any) -> str:
    """A JSON value in ASCII, which hides no invisible character."""
    try:
        return _JSON.encode(value)
    except (TypeError, ValueError) as error:
        raise EncodingError(str(error)) from None


_SQL_PLAIN = re.compile(r"[\x20-\x26\x28-\x5b\x5d-\x7e]*")


def encode_sql(value: Any) -> str:
    """An AWS IoT SQL string in single quotes.

    The dialect documents no escape, so a quote, a backslash or anything beyond printable ASCII is refused.
    """
    if not isinstance(value, str) or not _SQL_PLAIN.fullmatch(value):
        raise EncodingError(f"{value!a} cannot stand in an AWS IoT SQL string")
    return f"'{value}'"


_MARKDOWN_PLAIN = set(" -/,()%=°²³")
_MARKDOWN_NAMES = re.compile(r"[A-Za-z0-9]+([-_ /,%=][A-Za-z0-9]+)*")
"""What most texts are, and what needs no look at each character: each sign stands alone between letters or digits."""


def encode_markdown(value: Any) -> str:
    """Text that Markdown shows as it is: everything that could be markup is a numeric character reference."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise EncodingError(f"a {type(value).__name__} has no text")
    text = value if isinstance(value, str) else format_number(value)
    if _MARKDOWN_NAMES.fullmatch(text):
        return text
    for character in text:
        if is_hidden(character):
            raise EncodingError(f"the invisible character U+{ord(character):04X} has no place in a text to read")
    return "".join(_markdown_character(text, place) for place in range(len(text)))


def format_number(value: float) -> str:
    """A number as operators write it: no `.0` on whole numbers."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)


def _markdown_character(text: str, place: int) -> str:
    character = text[place]
    if character.isalnum():
        return character
    before, after = text[:place][-1:], text[place + 1 : place + 2]
    is_within = before.isalnum() and after.isalnum()
    if character in "_." and is_within and (character == "_" or (before + after).isdecimal()):
        return character
    if character in _MARKDOWN_PLAIN and before not in ("", character) and (after or character != " "):
        return character
    if character == "-" and place == 0 and after.isdecimal():
        return character
    return f"&#{ord(character)};"


ENCODERS: dict[str, Callable[[Any], str]] = {
    ".py": encode_python,
    ".json": encode_json,
    ".sql": encode_sql,
    ".md": encode_markdown,
}
