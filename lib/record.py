"""Holds the generated declarations against their index before they are read: what nobody approved is not deployed.

The index names every generated file with its SHA-256. Declarations are code, so they are checked before their import.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from lib.faults import RecordError

INDEX_FILE = ".generated.json"
FORMAT = 1
"""Of the index, as the generator writes it."""

SHOWN = 3
"""Faults that are named one by one; after a change of the templates there may be thousands."""

RECORD = "lib/facilities"
REMEDY = (
    "Run `fleet generate --check` to see what differs and `fleet generate` to write it anew "
    "(with --force over edits by hand), then review and commit."
)


class _Section(msgspec.Struct, frozen=True):
    files: dict[str, str]


class _Index(msgspec.Struct, frozen=True):
    format: int
    fleet: _Section
    facilities: dict[str, _Section]


def check_record(folder: Path) -> None:
    """Raises where a file below `folder` is not the one that the index there names, or a module is in no index."""
    faults = list(_faults(folder, _indexed(folder)))
    if faults:
        more = f" (and {len(faults) - SHOWN} more)" if len(faults) > SHOWN else ""
        raise RecordError(f"{'; '.join(faults[:SHOWN])}{more}.", remedy=REMEDY)


def _indexed(folder: Path) -> dict[str, str]:
    """File → SHA-256, of all that was generated."""
    name = f"{RECORD}/{INDEX_FILE}"
    try:
        index = msgspec.json.decode((folder / INDEX_FILE).read_bytes(), type=_Index)
    except FileNotFoundError:
        raise RecordError(f"{name} is missing.", remedy="Run `fleet generate`, then review and commit.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{name} is not an index: {error}.", remedy=REMEDY) from None
    if index.format != FORMAT:
        raise RecordError(f"{name} has format {index.format}, and this version reads {FORMAT}.", remedy=REMEDY)
    return {path: sha for section in (index.fleet, *index.facilities.values()) for path, sha in section.files.items()}


def _faults(folder: Path, indexed: dict[str, str]) -> Iterator[str]:
    for path, sha in sorted(indexed.items()):
        try:
            with (folder / path).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            yield f"{RECORD}/{path} is missing"
            continue
        if found != sha:
            yield f"{RECORD}/{path} is not what was generated"
    for module in sorted(folder.rglob("*.py")):
        name = module.relative_to(folder).as_posix()
        if name not in indexed:
            yield f"{RECORD}/{name} was not generated"
