"""Read the approved record of a project: verify its files against their index, then parse its declarations.

The index, `.generated.json`, lists the facilities and the SHA-256 of every generated file. A file that is not in it is
refused, and nothing in the record is ever imported.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from ..faults import RecordError
from ..specs import FacilitySpec, FleetSpec
from .declarations import DeclarationError, Spec, parse, read_spec

Read = TypeVar("Read")

INDEX_FILE = ".generated.json"
FORMAT = 1
"""Format of the index."""

SHOWN = 3
"""Maximum of files to name; after a change of the templates there may be thousands."""

RECORD = "lib/facilities"
FLEET_FILE = "fleet.py"
DECLARATION_FILE = "__init__.py"
STAGING = ".staging"
"""Staging folder of `fleet generate`; an interrupted run leaves it."""
CACHE = "__pycache__"
"""Python's cache of modules that another program imported; ignored."""

REMEDY = (
    "Run `fleet generate --check` to see what differs and `fleet generate` to write it again "
    "(with --force over edits by hand), then review and commit."
)


class _Section(msgspec.Struct, frozen=True):
    files: dict[str, str]


class _Index(msgspec.Struct, frozen=True):
    format: int
    fleet: _Section
    facilities: dict[str, _Section]

    @property
    def files(self) -> dict[str, str]:
        """File → SHA-256, of all generated files."""
        sections = (self.fleet, *self.facilities.values())
        return {path: sha for section in sections for path, sha in section.files.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The fleet and its facilities by id; a facility's files are in `folder`, below its module's name."""

    folder: Path
    fleet: FleetSpec
    facilities: Mapping[str, FacilitySpec]


def read_record(project: Path) -> Record:
    """Read the record of the project in `project`.

    Raises:
        RecordError: a file differs from the index, or a declaration is not of its facility and files.
    """
    folder = project / RECORD
    if Path(os.path.realpath(folder)) != Path(os.path.realpath(project)) / RECORD:
        raise RecordError(f"{RECORD} is a link.", remedy="Replace it by a real folder.")
    index = check_record(folder)
    for path in sorted(index.files):
        if path.endswith(".py"):  # also the registry and a project's own modules, which others may import
            _read(folder, path, parse)
    fleet = _declaration(folder, FLEET_FILE, "FLEET", FleetSpec)
    facilities = {id_: _facility(folder, id_, section) for id_, section in sorted(index.facilities.items())}
    return Record(folder=folder, fleet=fleet, facilities=facilities)


def check_record(folder: Path) -> _Index:
    """Verify the files in `folder` against the index there, and return it. Raises RecordError."""
    index = _read_index(folder)
    faults = list(_faults(folder, index.files))
    if faults:
        more = f" (and {len(faults) - SHOWN} more)" if len(faults) > SHOWN else ""
        raise RecordError(f"{'; '.join(faults[:SHOWN])}{more}.", remedy=REMEDY)
    return index


def _read_index(folder: Path) -> _Index:
    name = f"{RECORD}/{INDEX_FILE}"
    try:
        content = _regular(folder / INDEX_FILE).read_bytes()
        index = msgspec.json.decode(content, type=_Index)
    except FileNotFoundError:
        raise RecordError(f"{name} is missing.", remedy="Run `fleet generate`, then review and commit.") from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{name} is not an index: {error}.", remedy=REMEDY) from None
    if index.format != FORMAT:
        raise RecordError(f"{name} has format {index.format}, and this version reads {FORMAT}.", remedy=REMEDY)
    for path in index.files:
        parts = path.split("/")
        if len(parts) > 2 or not {"", ".", ".."}.isdisjoint(parts) or "\0" in path:
            raise RecordError(f"{name} names a file outside the record: {path}.", remedy=REMEDY)
    return index


def _faults(folder: Path, indexed: Mapping[str, str]) -> Iterator[str]:
    for path, sha in sorted(indexed.items()):
        try:
            place = _regular(folder / path)
            with place.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, NotADirectoryError):
            yield f"{RECORD}/{path} is missing"
            continue
        except OSError as error:
            yield f"{RECORD}/{path} {error.strerror or 'cannot be read'}"
            continue
        if found == sha:
            continue
        is_reencoded = hashlib.sha256(place.read_bytes().replace(b"\r\n", b"\n")).hexdigest() == sha
        differs = "has other line ends (CRLF) than what" if is_reencoded else "is not what"
        yield f"{RECORD}/{path} {differs} was generated"
    yield from _unknown(folder, indexed)


def _unknown(folder: Path, indexed: Mapping[str, str]) -> Iterator[str]:
    """Yield every entry of the record that the index does not have; links are reported, not followed."""
    folders = {path.partition("/")[0] for path in indexed if "/" in path}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name == STAGING:
            yield f"{RECORD}/{STAGING} is left by an interrupted `fleet generate`"
        elif entry.is_symlink():
            yield f"{RECORD}/{entry.name} is a link"
        elif not entry.is_dir(follow_symlinks=False):
            if entry.name not in indexed and entry.name != INDEX_FILE:
                yield f"{RECORD}/{entry.name} was not generated"
        elif entry.name in folders:
            names = sorted(each.name for each in os.scandir(entry.path))
            unknown = (name for name in names if f"{entry.name}/{name}" not in indexed and name != CACHE)
            yield from (f"{RECORD}/{entry.name}/{name} was not generated" for name in unknown)
        elif entry.name != CACHE:
            files = sorted(
                path for path in Path(entry.path).rglob("*") if not path.is_dir() and CACHE not in path.parts
            )
            yield from (f"{RECORD}/{path.relative_to(folder).as_posix()} was not generated" for path in files)


def _regular(path: Path) -> Path:
    """Return `path` if it is a regular file: opening a pipe would block. Raises OSError."""
    parent, own = os.lstat(path.parent).st_mode, os.lstat(path).st_mode
    if stat.S_ISLNK(parent) or stat.S_ISLNK(own):
        raise OSError(0, "is a link")
    if not stat.S_ISREG(own):
        raise OSError(0, "is no file")
    return path


def _facility(folder: Path, id_: str, section: _Section) -> FacilitySpec:
    """Read the facility of a section of the index, whose files must be in that section."""
    path = next((path for path in section.files if path.endswith(f"/{DECLARATION_FILE}")), f"?/{DECLARATION_FILE}")
    spec = _declaration(folder, path, "FACILITY", FacilitySpec)
    module = path.partition("/")[0]
    named = (spec.things_file, spec.topic_rule_file, *(group.policy_file for group in spec.groups))
    if (spec.id, spec.module) != (id_, module):
        raise _fault(path, f"it declares the facility {spec.id} in {spec.module}, and the index has {id_} in {module}")
    if strange := next((name for name in named if f"{module}/{name}" not in section.files), None):
        raise _fault(path, f"it names {strange}, which is no generated file of this facility")
    return spec


def _declaration(folder: Path, path: str, name: str, kind: type[Spec]) -> Spec:
    return _read(folder, path, lambda content: read_spec(content, name, kind))


def _read(folder: Path, path: str, reader: Callable[[bytes], Read]) -> Read:
    try:
        return reader((folder / path).read_bytes())
    except DeclarationError as error:
        raise _fault(f"{path}:{error.line}", error.what) from None
    except OSError as error:
        raise _fault(path, f"it cannot be read: {(error.strerror or str(error)).lower()}") from None


def _fault(place: str, what: str) -> RecordError:
    return RecordError(f"{RECORD}/{place}: {what}.", remedy="Run `fleet generate --force`, then review and commit.")
