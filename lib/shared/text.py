"""Escape text for Terraform and AWS, and read generated documents as escaped strings."""

from __future__ import annotations

import unicodedata
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from .. import specs

# @@ Text from outside, as Terraform and AWS take it: what a person wrote is never read as an expression.
# @@
# @@ Terraform evaluates `${…}` and `%{…}` in every string of its JSON, keys included, and CDKTF replaces whatever looks like
# @@ one of its own tokens. So text becomes a literal where it enters a stack: the record and the tags in the stacks'
# @@ constructors, documents and things where they are read. Only expressions that code makes remain;
# @@ `lib.synthesis.output` refuses any other that it finds.

T = TypeVar("T")

_TOKEN = "TfToken["  # noqa: S105 - how CDKTF marks the values that it fills in, no secret
_NO_TOKEN = 'T${"fToken["}'  # noqa: S105 - the same text to Terraform; behind its T no `$` escapes the expression


def literal(value: T) -> T:
    """Return `value` with every text in it escaped, so that Terraform gives back what was written.

    A run of `$` or `%` before a brace loses one of them again when Terraform reads it, whatever its length.

    Args:
        value: A text, or any nesting of dataclasses, tuples, lists and dictionaries that hold texts.

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
"""Letters and punctuation that have an ASCII form which Unicode does not decompose them into."""


def ascii_form(text: str) -> str:
    """Return what of `text` can be written in printable ASCII; empty where that is nothing to read.

    Accents go (`Zürich` becomes `Zurich`), and so do the letters of other scripts.
    """
    plain = unicodedata.normalize("NFKD", text.translate(_WITHOUT_ACCENT)).replace("\N{FRACTION SLASH}", "/")
    kept = "".join(character if " " <= character <= "~" else "" for character in plain)
    words = " ".join(kept.split())
    return words if any(character.isalnum() for character in words) else ""


def described(id_: str, name: str) -> str:
    """Return a description in ASCII: the id, which says what is meant, and the name as far as ASCII has it.

    AWS IoT takes nothing else for thing groups and thing types (`[\\p{Graph}\\x20]*`):
    https://docs.aws.amazon.com/iot/latest/apireference/API_ThingGroupProperties.html
    """
    readable = ascii_form(name)
    return f"{id_} ({readable})" if readable else id_


# @@ Generated documents as Terraform strings: read beside their declaration, escaped once, tokens filled in.


def read_document(path: Path, *, account_id: str, suffix: str) -> str:
    """The document at `path`; escaped before the tokens are filled, as the account id may be an expression."""
    return specs.fill(literal(path.read_text(encoding="utf-8")), account_id=account_id, suffix=suffix)


def read_statement(path: Path, *, suffix: str) -> str:
    """A topic rule's SQL, heard only from things of this environment: two environments may share an account."""
    statement = " ".join(path.read_text(encoding="utf-8").split())
    return literal(f"{statement} WHERE regexp_matches(clientid(), '-{suffix}$')")
