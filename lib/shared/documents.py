"""Generated documents as Terraform strings: read beside their declaration, escaped once, tokens filled in."""

from __future__ import annotations

from pathlib import Path

from .. import specs
from .text import literal


def read_document(path: Path, *, account_id: str, suffix: str) -> str:
    """The document at `path`; escaped before the tokens are filled, as the account id may be an expression."""
    return specs.fill(literal(path.read_text(encoding="utf-8")), account_id=account_id, suffix=suffix)


def read_statement(path: Path, *, suffix: str) -> str:
    """A topic rule's SQL, heard only from things of this environment: two environments may share an account."""
    statement = " ".join(path.read_text(encoding="utf-8").split())
    return literal(f"{statement} WHERE regexp_matches(clientid(), '-{suffix}$')")
