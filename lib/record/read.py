"""Read the approved record of a project: verify its files against their index, then parse its declarations as data.

The index, `.generated.json`, lists the facilities and the SHA-256 of every generated file. A file that is not in it is
refused, and nothing in the record is ever imported. The allow-list of declarations is their one grammar: the
generator's gate checks its output against it, and every program reads the record through it.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import msgspec

from .. import specs
from ..faults import PrerequisiteError, RecordError
from ..specs import FacilitySpec, FleetSpec
from .place import MANIFEST, environments, find_overlay, name_of, orphans, record_name, removal, with_environment

Spec = TypeVar("Spec")

MAXIMUM_BYTES = 64 * 1024 * 1024
"""Of one declaration; a facility of the largest manifest needs a thousandth of it."""

SPECS: dict[str, type[Any]] = {
    name: value for name, value in vars(specs).items() if isinstance(value, type) and dataclasses.is_dataclass(value)
}
"""The classes that a declaration may call, by name."""

_NODES = {
    ast.Module,
    ast.Expr,
    ast.Constant,
    ast.ImportFrom,
    ast.alias,
    ast.Assign,
    ast.AnnAssign,
    ast.Name,
    ast.Load,
    ast.Store,
    ast.Call,
    ast.keyword,
    ast.Tuple,
    ast.Dict,
    ast.Subscript,
    ast.UnaryOp,
    ast.USub,
}
"""The node types that a declaration may contain."""


_MODULES = ("__future__", "fleet_iot.lib.specs", "lib.specs")
"""Modules that a declaration may import, and those beside it; the last, and `lib.facilities`, are of former records."""


class DeclarationError(ValueError):
    """A text is not a declaration; `line` counts from 1."""

    def __init__(self, what: str, *, line: int = 1) -> None:
        super().__init__(f"line {line}: {what}")
        self.what = what
        self.line = line


def parse(content: bytes) -> ast.Module:
    """Parse a declaration: imports of specs and facilities, and assignments of literals and specs.

    Raises:
        DeclarationError: it is not ASCII Python, or contains more than declarations.
    """
    if len(content) > MAXIMUM_BYTES:
        raise DeclarationError(f"it is larger than {MAXIMUM_BYTES // 1024**2} MB")
    try:
        tree = ast.parse(content.decode("ascii"))
    except UnicodeDecodeError as error:
        raise DeclarationError("it is not ASCII", line=content[: error.start].count(b"\n") + 1) from None
    except SyntaxError as error:
        raise DeclarationError(f"it is not Python: {error.msg}", line=error.lineno or 1) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise DeclarationError(f"it is not Python: {error or 'it is nested too deep'}") from None
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 1)
        if type(node) not in _NODES:
            raise DeclarationError(f"a declaration contains no {type(node).__name__}", line=line)
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in SPECS):
            raise DeclarationError("a declaration calls nothing but the specs", line=line)
        if isinstance(node, ast.ImportFrom) and not _is_allowed_import(node):
            raise DeclarationError(f"a declaration imports nothing from {node.module or '.'}", line=line)
    return tree


def read_values(content: bytes, name: str) -> dict[str, Any]:
    """Return the arguments of the spec that is assigned to `name`, nested specs as dictionaries.

    For records of any version: the caller decides which fields are required. Raises DeclarationError.
    """
    return _plain(_assigned(content, name))


def read_spec(content: bytes, name: str, kind: type[Spec]) -> Spec:
    """Return the `kind` that is assigned to `name`, with all its fields in their types. Raises DeclarationError."""
    value = _spec(_assigned(content, name))
    if type(value) is not kind:
        raise DeclarationError(f"{name} is a {type(value).__name__}, not a {kind.__name__}")
    return value


def _is_allowed_import(node: ast.ImportFrom) -> bool:
    module = node.module or ""
    if node.level:
        return node.level == 1 and module.isidentifier()
    return module in _MODULES or module.startswith("lib.facilities.")


def _assigned(content: bytes, name: str) -> ast.Call:
    """Return the one call that is assigned to `name`."""
    found = [
        node
        for node in parse(content).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id == name
    ]
    if len(found) != 1 or not isinstance(found[0].value, ast.Call):
        what = f"it declares {name} twice" if len(found) > 1 else f"it declares no {name}"
        raise DeclarationError(what, line=found[-1].lineno if found else 1)
    return found[0].value


def _spec(call: ast.Call) -> Any:
    kind = SPECS[call.func.id]  # type: ignore[attr-defined]  # `parse` refuses other calls
    values = _arguments(call, _spec)
    if unknown := sorted(values.keys() - {field.name for field in dataclasses.fields(kind)}):
        raise DeclarationError(f"{kind.__name__} has no {', '.join(unknown)}", line=call.lineno)
    try:
        return msgspec.convert(values, type=kind)
    except msgspec.ValidationError as error:
        raise DeclarationError(f"{kind.__name__}: {error}", line=call.lineno) from None


def _plain(call: ast.Call) -> dict[str, Any]:
    return _arguments(call, _plain)


def _arguments(call: ast.Call, convert: Callable[[ast.Call], Any]) -> dict[str, Any]:
    """Return the keyword arguments of a call, with nested calls converted."""
    if call.args:
        raise DeclarationError("the values of a spec are given by name", line=call.lineno)
    values: dict[str, Any] = {}
    for argument in call.keywords:
        if argument.arg is None or argument.arg in values:
            raise DeclarationError("each value of a spec is given by name, once", line=call.lineno)
        values[argument.arg] = _value(argument.value, convert)
    return values


def _value(node: ast.expr, convert: Callable[[ast.Call], Any]) -> Any:
    match node:
        case ast.Call():
            return convert(node)
        case ast.Tuple(elts=items):
            return tuple(_value(item, convert) for item in items)
        case ast.Dict(keys=keys, values=values):
            members = [(_value(key, convert) if key else None, value) for key, value in zip(keys, values, strict=True)]
            if len({key for key, _ in members if isinstance(key, str)}) != len(members):
                raise DeclarationError("a mapping has each key once, as text", line=node.lineno)
            return {key: _value(value, convert) for key, value in members}
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if not isinstance(
            value, bool
        ):
            return -value
    raise DeclarationError("a value is a literal or a spec", line=node.lineno)


Read = TypeVar("Read")

INDEX_FILE = ".generated.json"
FORMAT = 1
"""Format of the index."""

SHOWN = 3
"""Maximum of files to name; after a change of the templates there may be thousands."""

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

OTHER_VERSION = (
    "Another version of fleet may have generated it: see what changes with `fleet plan`, run `fleet generate`, then "
    "review and commit."
)


class ThingRow(msgspec.Struct, frozen=True):
    """One line of `things.jsonl`; `attributes` are exactly those that AWS gets, sorted, the serial among them.

    In the record, names and thing types have no environment suffix; `operations` adds it to rows of its environment.
    """

    name: str
    thing_type: str
    device_type: str
    serial: str
    attributes: dict[str, str]


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
    environment: str | None
    fleet: FleetSpec
    facilities: Mapping[str, FacilitySpec]


def read_record(project: Path, environment: str | None = None) -> Record:
    """Read the record of the project in `project`, or that of an environment with an overlay.

    Raises:
        UnknownEnvironmentError: the environment has no overlay.
        RecordError: a file differs from the index, or a declaration is not of its facility and files.
    """
    if environment is not None:
        find_overlay(project / MANIFEST, environment)
    name = record_name(environment)
    folder = project / name
    if Path(os.path.realpath(folder)) != Path(os.path.realpath(project)) / name:
        raise RecordError(f"{name} is a link.", remedy="Replace it by a real folder.")
    index = check_record(folder)
    for path in sorted(index.files):
        if path.endswith(".py"):  # also the registry and a project's own modules, which others may import
            _read(folder, path, parse)
    fleet = _declaration(folder, FLEET_FILE, "FLEET", FleetSpec)
    facilities = {id_: _facility(folder, id_, section) for id_, section in sorted(index.facilities.items())}
    return Record(folder=folder, environment=environment, fleet=fleet, facilities=facilities)


class Declared(Protocol):
    """The values that decide an environment's names in AWS, of a manifest or of the record made from it."""

    @property
    def application(self) -> str: ...

    @property
    def environment_suffix(self) -> str: ...

    @property
    def region(self) -> str: ...

    @property
    def account_id(self) -> str | None: ...


def refuse_claimed_suffix(
    manifest: Path, environment: str | None, declared: Declared, *, suffix: str, account_id: str | None
) -> None:
    """Refuse a suffix that another record of the project declares: its resources would be taken for this one's.

    An environment with a record of its own may use the suffix and account that it declares, whatever the manifest's
    record says: that one may be of former versions, which had one record for all.

    Args:
        manifest: The project's manifest.
        environment: The environment that the command acts on.
        declared: Its values.
        suffix: The suffix that it acts under, which `ENVIRONMENT_SUFFIX` may have changed.
        account_id: The account, which `FLEET_ACCOUNT_ID` may have changed.

    Raises:
        PrerequisiteError: the suffix is another environment's in what may be the same account.
        RecordError: another environment's record cannot be read, and the suffix may be its.
    """
    is_own, gone = suffix == declared.environment_suffix, orphans(manifest)
    for other in (None, *sorted({*environments(manifest), *gone})):
        path = manifest.parent / record_name(other) / FLEET_FILE
        if other == environment or not path.is_file():
            continue
        accounts = {account_id, declared.account_id}
        if other is None and is_own:
            accounts -= {declared.account_id}
        try:
            claim = _declaration(path.parent, FLEET_FILE, "FLEET", FleetSpec)
        except RecordError as error:
            if is_own:
                continue
            raise RecordError(error.message, remedy=with_environment(error.remedy, other)) from None
        is_alike = claim.region == declared.region or claim.application == declared.application
        may_meet = claim.account_id in accounts and is_alike
        if claim.environment_suffix == suffix and (may_meet or not is_own):
            whose = f"the environment {other}, which has a record of its own" if other else "the manifest itself"
            option = f"use --env {other} (or FLEET_ENV={other})" if other else "leave out --env and FLEET_ENV"
            remedy = f"To act on that one, {option}; else choose another suffix."
            if other is not None and other in gone:
                remedy = removal(manifest, other)
            raise PrerequisiteError(
                f"the suffix `{suffix}` is that of {whose}: {record_name(other)}.",
                remedy=remedy,
            )


def read_things(path: Path) -> Iterator[ThingRow]:
    """Yield the things of a facility's `things.jsonl`, of which there may be a million. Raises PrerequisiteError."""
    decode = msgspec.json.Decoder(ThingRow).decode
    with _opened_things(path) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise PrerequisiteError(f"{path}:{number}: not a thing", remedy="run `fleet generate`") from None


def _opened_things(path: Path) -> BinaryIO:
    if not path.is_file():
        raise PrerequisiteError(f"{path} is missing", remedy="run `fleet generate`, then review and commit it")
    return path.open("rb")


BLOCK = 1 << 20
"""Bytes of `things.jsonl` that are searched at a time."""
_LOWER = bytes(range(256)).lower()
_SEPARATORS = b" \t_:.-"


def loosened(text: bytes) -> bytes:
    """Return the text in lower case and without separators."""
    return text.translate(_LOWER, _SEPARATORS)


def search_things(path: Path, endings: Collection[str]) -> Iterator[ThingRow]:
    """Yield the things of which some value ends with one of the texts, whatever their case and separators.

    Only lines that match are decoded, so a million are searched in a second. Raises PrerequisiteError.
    """
    wanted = [loosened(ending.encode()) + b'"' for ending in endings]
    decode = msgspec.json.Decoder(ThingRow).decode
    with _opened_things(path) as file:
        while block := file.read(BLOCK):
            block += file.readline()
            searched = loosened(block)
            if any(ending in searched for ending in wanted):
                for line, text in zip(block.splitlines(), searched.splitlines(), strict=True):
                    if any(ending in text for ending in wanted):
                        yield decode(line)


def check_record(folder: Path) -> _Index:
    """Verify the files in `folder` against the index there, and return it. Raises RecordError."""
    index = _read_index(folder)
    faults = list(_faults(folder, index.files))
    if faults:
        more = f" (and {len(faults) - SHOWN} more)" if len(faults) > SHOWN else ""
        raise RecordError(f"{'; '.join(faults[:SHOWN])}{more}.", remedy=REMEDY)
    return index


def _read_index(folder: Path) -> _Index:
    name = f"{name_of(folder)}/{INDEX_FILE}"
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
    record = name_of(folder)
    for path, sha in sorted(indexed.items()):
        try:
            place = _regular(folder / path)
            with place.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, NotADirectoryError):
            yield f"{record}/{path} is missing"
            continue
        except OSError as error:
            yield f"{record}/{path} {error.strerror or 'cannot be read'}"
            continue
        if found == sha:
            continue
        is_reencoded = hashlib.sha256(place.read_bytes().replace(b"\r\n", b"\n")).hexdigest() == sha
        differs = "has other line ends (CRLF) than what" if is_reencoded else "is not what"
        yield f"{record}/{path} {differs} was generated"
    yield from _unknown(folder, indexed)


def _unknown(folder: Path, indexed: Mapping[str, str]) -> Iterator[str]:
    """Yield every entry of the record that the index does not have; links are reported, not followed."""
    record = name_of(folder)
    folders = {path.partition("/")[0] for path in indexed if "/" in path}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name == STAGING:
            yield f"{record}/{STAGING} is left by an interrupted `fleet generate`"
        elif entry.is_symlink():
            yield f"{record}/{entry.name} is a link"
        elif not entry.is_dir(follow_symlinks=False):
            if entry.name not in indexed and entry.name != INDEX_FILE:
                yield f"{record}/{entry.name} was not generated"
        elif entry.name in folders:
            names = sorted(each.name for each in os.scandir(entry.path))
            unknown = (name for name in names if f"{entry.name}/{name}" not in indexed and name != CACHE)
            yield from (f"{record}/{entry.name}/{name} was not generated" for name in unknown)
        elif entry.name != CACHE:
            files = sorted(
                path for path in Path(entry.path).rglob("*") if not path.is_dir() and CACHE not in path.parts
            )
            yield from (f"{record}/{path.relative_to(folder).as_posix()} was not generated" for path in files)


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
        what = f"it declares the facility {spec.id} in {spec.module}, and the index has {id_} in {module}"
        raise _fault(folder, path, what)
    if strange := next((name for name in named if f"{module}/{name}" not in section.files), None):
        raise _fault(folder, path, f"it names {strange}, which is no generated file of this facility")
    return spec


def _declaration(folder: Path, path: str, name: str, kind: type[Spec]) -> Spec:
    return _read(folder, path, lambda content: read_spec(content, name, kind))


def _read(folder: Path, path: str, reader: Callable[[bytes], Read]) -> Read:
    try:
        return reader((folder / path).read_bytes())
    except DeclarationError as error:
        raise _fault(folder, f"{path}:{error.line}", error.what) from None
    except OSError as error:
        raise _fault(folder, path, f"it cannot be read: {(error.strerror or str(error)).lower()}") from None


def _fault(folder: Path, place: str, what: str) -> RecordError:
    """Return the error of a file that is what was generated, by the index, and that this version does not read."""
    return RecordError(f"{name_of(folder)}/{place}: {what}.", remedy=OTHER_VERSION)
