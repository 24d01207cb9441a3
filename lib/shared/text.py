"""Escape text for Terraform and AWS, and read generated documents as escaped strings.

Terraform evaluates `${…}` and `%{…}` in every string of its JSON, keys included, and CDKTF replaces whatever looks like
one of its tokens. So text is escaped where it enters a stack: the record and the tags in the stacks' constructors,
documents and things where they are read. Only expressions that code makes remain; `lib.synthesis.output` refuses any
other.
"""

from __future__ import annotations

import unicodedata
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from .. import specs

T = TypeVar("T")

_TOKEN = "TfToken["  # noqa: S105 - CDKTF's mark of a value to resolve, no secret
_NO_TOKEN = 'T${"fToken["}'  # noqa: S105 - the same text, as Terraform evaluates it


def literal(value: T) -> T:
    """Return `value` with every string in it escaped, so that Terraform evaluates it to the original.

    Terraform removes one `$` or `%` of a run before a brace, whatever its length.

    Args:
        value: A string, or any nesting of dataclasses, tuples, lists and dictionaries.

    Source: https://developer.hashicorp.com/terraform/language/expressions/strings#escape-sequences-1
    """
    return cast(T, _literal(value))


def _literal(value: Any) -> Any:
    if isinstance(value, str):
        escaped = value.replace("${", "$${").replace("%{", "%%{")
        return escaped.replace(_TOKEN, _NO_TOKEN)
    if isinstance(value, dict):
        return {_literal(key): _literal(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_literal(each) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{field.name: _literal(getattr(value, field.name)) for field in fields(value)})
    return value


_WITHOUT_ACCENT = str.maketrans(
    {
        **{"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D"},
        **{"ł": "l", "Ł": "L", "ı": "i", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th"},
        **{"–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "×": "x"},
    }
)
"""Characters with an ASCII form that Unicode normalisation does not produce."""


def ascii_form(text: str) -> str:
    """Return the part of `text` that has a printable ASCII form; empty without a letter or digit.

    Accents are removed (`Zürich` becomes `Zurich`), and letters of other scripts dropped.
    """
    plain = unicodedata.normalize("NFKD", text.translate(_WITHOUT_ACCENT)).replace("\N{FRACTION SLASH}", "/")
    kept = "".join(character if " " <= character <= "~" else "" for character in plain)
    words = " ".join(kept.split())
    return words if any(character.isalnum() for character in words) else ""


def described(id_: str, name: str) -> str:
    """Return a description in ASCII: the id, and the name as far as ASCII can express it.

    AWS IoT accepts only ASCII for thing groups and thing types (`[\\p{Graph}\\x20]*`):
    https://docs.aws.amazon.com/iot/latest/apireference/API_ThingGroupProperties.html
    """
    readable = ascii_form(name)
    return f"{id_} ({readable})" if readable else id_


def read_document(path: Path, *, account_id: str, suffix: str) -> str:
    """Return a generated document, escaped before its tokens are filled: the account id may be an expression."""
    return specs.fill(literal(path.read_text(encoding="utf-8")), account_id=account_id, suffix=suffix)


def read_statement(path: Path, *, suffix: str) -> str:
    """Return a topic rule's SQL, restricted to this environment's clients: two environments may share an account."""
    statement = " ".join(path.read_text(encoding="utf-8").split())
    return literal(f"{statement} WHERE regexp_matches(clientid(), '-{suffix}$')")
