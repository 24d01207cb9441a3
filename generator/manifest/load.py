"""Reads a manifest: parts, environment, device lists and defaults; reports every fault with its place."""

from __future__ import annotations

import gc
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

from fleet_iot.generator.aws.limits import REGIONS
from fleet_iot.generator.diagnostics import DataPath, Diagnostic, ManifestError, SourceLocation
from fleet_iot.generator.manifest.inventory import with_inventories
from fleet_iot.generator.manifest.model_errors import read_draft
from fleet_iot.generator.manifest.models import FleetManifest
from fleet_iot.generator.manifest.project import environment_file, part_files
from fleet_iot.generator.manifest.rules import check_rules, known_region, known_timezones, rule_id
from fleet_iot.generator.manifest.yaml import Document, Places, read_document
from fleet_iot.lib.record.place import PART_ENDING, environments
from fleet_iot.lib.specs import FORMER_RETENTIONS

SECTION = "defaults"
_OF_FACILITIES = ("timezone", "registration", "contact")
_OF_TYPES = ("sample_interval_s", "false_alarm_budget")
_OF_METRICS = ("detector",)
SUPPLIED = {"Facility": _OF_FACILITIES, "DeviceType": _OF_TYPES, "Metric": _OF_METRICS}
"""Keys that a part of the manifest, by its model, may leave to the defaults."""


def with_defaults(document: Document) -> Document:
    """Lay the company's defaults under facilities, device types and metrics that do not say otherwise."""
    data = document.data
    given = data.get(SECTION) if isinstance(data, dict) else None
    if not isinstance(given, dict):
        return document
    supplied: dict[DataPath, tuple[Places, DataPath]] = {}

    def filled(part: Any, path: DataPath, keys: tuple[str, ...]) -> Any:
        if not isinstance(part, dict):
            return part
        missing = [key for key in keys if key not in part and given.get(key) is not None]
        supplied.update({(*path, key): (document, (SECTION, key)) for key in missing})
        return part | {key: given[key] for key in missing}

    def types() -> Iterator[tuple[str, Any]]:
        for id_, part in data["device_types"].items():
            path = ("device_types", id_)
            whole = filled(part, path, _OF_TYPES)
            if isinstance(whole, dict) and isinstance(whole.get("metrics"), dict) and _OF_METRICS[0] in given:
                metrics = {
                    name: filled(metric, (*path, "metrics", name), _OF_METRICS)
                    for name, metric in whole["metrics"].items()
                }
                whole = whole | {"metrics": metrics}
            yield id_, whole

    data = dict(data)
    if isinstance(data.get("device_types"), dict):
        data["device_types"] = dict(types())
    if isinstance(data.get("facilities"), dict):
        data["facilities"] = {
            id_: filled(part, ("facilities", id_), _OF_FACILITIES) for id_, part in data["facilities"].items()
        }
    return document.changed(data, supplied)


SECTIONS = ("device_types", "facilities")
"""Top-level keys of the manifest, and folders beside it."""


def with_parts(document: Document, path: Path, *, name: str) -> Document:
    """Add the files `facilities/ID.yaml` and `device_types/ID.yaml` to the manifest at `path`.

    A file contains what would be below its id in the manifest. Raises `ManifestError` with the faults of all of them.
    """
    data, faults, unreadable = document.data, list[Diagnostic](), list[Diagnostic]()
    parts: dict[DataPath, tuple[Places, DataPath]] = {}
    for section in SECTIONS:
        unreadable += _misnamed(path, section, name)
        found: dict[str, Any] = {}
        for file in part_files(path, section):
            shown = str(Path(name).with_name(section) / file.name)
            try:
                part = read_document(file, name=shown, within=path.parent)
            except ManifestError as error:
                unreadable += error.diagnostics
                continue
            id_ = file.name.removesuffix(PART_ENDING)
            faults += part.diagnostics
            found[id_] = part.data
            parts[section, id_] = (part, ())
        if found and isinstance(data, dict) and (data.get(section) is None or isinstance(data[section], dict)):
            own = data.get(section) or {}
            unreadable += (_twice(document, (section, id_), parts[section, id_][0]) for id_ in found if id_ in own)
            data = data | {section: own | found}
    if unreadable:
        raise ManifestError([*document.diagnostics, *faults, *unreadable])
    return document.changed(data, parts, faults) if parts else document


def _twice(document: Document, path: DataPath, part: Places) -> Diagnostic:
    first = document.at(path, is_key=True)
    return Diagnostic(
        location=part.at(()),
        message=f"`{path[0]}.{path[1]}` is defined in a file of its own and in the manifest, at {first}",
        hint="keep one of them",
        rule="duplicate-key",
        related=(first,),
    )


def _misnamed(path: Path, section: str, name: str) -> Iterator[Diagnostic]:
    for file in sorted(path.with_name(section).glob("*.yml")):
        yield Diagnostic(
            location=SourceLocation(file=str(Path(name).with_name(section) / file.name)),
            message=f"only files that end in {PART_ENDING} are read here",
            hint=f"rename it to {file.stem}{PART_ENDING}",
            rule="unreadable-file",
        )


ONE_APPLICATION = "one-application"
ONE_ENVIRONMENT = "one-environment"
_SUFFIX = "environment_suffix"


def read_layers(path: Path, *, name: str, environment: str | None) -> Document:
    """Read a manifest with its parts, an environment's file over it, and the device lists that they name.

    Raises `ManifestError` with what is in any of them.
    """
    files = [(path, name, _with_parts)]
    if environment is not None:
        over = environment_file(path, environment)
        files.append((over, str(Path(name).with_name(over.name)), partial(read_document, within=path.parent)))
    documents, faults = [], list[Diagnostic]()
    for file, shown, read in files:
        try:
            documents.append(read(file, name=shown))
        except ManifestError as error:
            faults += error.diagnostics
    if faults:
        raise ManifestError(faults)
    document = reduce(layered, documents)
    clashes = tuple(_suffixes_apart(documents[0], path, name=name))
    document = replace(document, diagnostics=(*document.diagnostics, *clashes))
    return with_inventories(document, path, name=name)


def _suffixes_apart(base: Document, path: Path, *, name: str) -> Iterator[Diagnostic]:
    """Yield a fault where environments of the project with one suffix would meet in AWS: see `_shared`."""
    layers = [(base, name)]
    for environment in environments(path):
        over = environment_file(path, environment)
        with suppress(ManifestError):  # what is wrong in it is said where it is validated
            own = str(Path(name).with_name(over.name))
            layers.append((layered(base, read_document(over, name=own)), own))
    for place, (layer, file) in enumerate(layers):
        for other, other_file in layers[:place]:
            key = _shared(layer.data, other.data)
            if key == _SUFFIX:
                here = layer.at((key,))
                own, theirs = layer.data[key], other.data[key]
                how = (
                    f"is `{own}`, as in {other_file}: the names in AWS would be the same"
                    if own == theirs
                    else f"`{own}` and `{theirs}` in {other_file} end alike: topic rules distinguish environments by "
                    "the end of the client id"
                )
                yield Diagnostic(
                    location=here if here.file == file else SourceLocation(file=file),
                    message=f"the environment_suffix {how}",
                    hint=f"in {file}, give it an environment_suffix of its own, or the account_id of another account",
                    rule=ONE_ENVIRONMENT,
                    related=(other.at((key,)),),
                )
                break
            if key is not None:
                here, there = (each.at((key,)) for each in (layer, other))
                values = f"`{layer.data[key]}` here and `{other.data[key]}` in {there.file}"
                yield Diagnostic(
                    location=here,
                    message=f"the {key} is {values}, both under the environment_suffix "
                    f"`{layer.data['environment_suffix']}`",
                    hint=f"give one of them an environment_suffix of its own: {_SHARED[key]}",
                    rule=ONE_APPLICATION,
                    related=(there,),
                )
                break


_SHARED = {
    "application": "tables, streams and topic rules are distinguished by it",
    "region": "buckets are global, and distinguished by it",
}


def _shared(one: Any, other: Any) -> str | None:
    """Return the key by which two environments differ although their names in AWS would be the same.

    It is the suffix where nothing differs, or where the suffixes end alike.

    Two applications share tables, streams and rules where region and account are the same; an account that is not
    given may be any. Two regions share buckets, whose names contain application, account and suffix.
    """
    keys = ("application", _SUFFIX, "region")
    if not all(isinstance(data, dict) and isinstance(data.get(key), str) for data in (one, other) for key in keys):
        return None
    suffixes = [data[_SUFFIX] for data in (one, other)]
    longer, shorter = sorted((f"-{suffix}" for suffix in suffixes), key=len, reverse=True)
    if not longer.endswith(shorter):
        return None
    is_same = {key: one[key] == other[key] for key in keys}
    accounts = [data["account_id"] if isinstance(data.get("account_id"), str) else None for data in (one, other)]
    is_one_account = accounts[0] == accounts[1]
    if is_same["application"] and is_same["region"]:
        return _SUFFIX if is_one_account else None
    if not is_same[_SUFFIX]:
        return None
    if is_same["region"]:
        return "application" if is_one_account or None in accounts else None
    is_known = {one["region"], other["region"]} <= set(REGIONS)  # else the name is the fault
    return "region" if is_known and is_one_account and is_same["application"] else None


def _with_parts(path: Path, *, name: str) -> Document:
    return with_parts(read_document(path, name=name), path, name=name)


def layered(base: Document, over: Document) -> Document:
    """Lay an environment's document over the manifest's.

    Mappings merge key by key, as deep as they go; any other value replaces what the manifest has.
    """
    moved: dict[DataPath, tuple[Places, DataPath]] = {}

    def merged(below: Any, above: Any, path: DataPath) -> Any:
        if not isinstance(below, dict) or not isinstance(above, dict):
            moved[path] = (over, path)
            return above
        for key in above.keys() - below.keys():
            moved[*path, key] = (over, (*path, key))
        return below | {
            key: merged(below[key], value, (*path, key)) if key in below else value for key, value in above.items()
        }

    data = merged(base.data, over.data, ())
    return base.changed(data, moved, over.diagnostics) if () not in moved else over.changed(data, {}, base.diagnostics)


_FOREIGN_LETTER = re.compile(r"[^\W\d_\x00-\x7f]")
_RULES_OF_WORDS = {"unknown-key", "wrong-pattern", "unknown-choice", *map(rule_id, (known_region, known_timezones))}


def read_manifest(path: Path, *, name: str, environment: str | None = None) -> FleetManifest:
    """Read and validate a manifest, with the environment's file over it. Raises `ManifestError` with all faults."""
    with _collector_paused():
        return validate(read_layers(path, name=name, environment=environment))


def read_with_warnings(
    path: Path, *, name: str, environment: str | None = None
) -> tuple[FleetManifest, tuple[Diagnostic, ...]]:
    """Read and validate a manifest; return it with the sorted warnings of what may still fail in AWS."""
    with _collector_paused():
        document = with_defaults(read_layers(path, name=name, environment=environment))
        manifest, warnings = _judge(document)
        return manifest, tuple(sorted(_locate(document, warning) for warning in warnings))


def validate(document: Document) -> FleetManifest:
    """Validate a document. Raises `ManifestError` with all faults."""
    return _judge(with_defaults(document))[0]


def _judge(document: Document) -> tuple[FleetManifest, tuple[Diagnostic, ...]]:
    """Return the manifest and its warnings, whose places are looked up only where they are shown.

    A place that is misread as YAML has no second fault for its shape. Raises ManifestError with all faults.
    """
    draft = read_draft(document.data, written=lambda path: document.at(path).written)
    misread = {fault.location for fault in document.diagnostics}
    found = (*draft.diagnostics, *check_rules(draft), *_former_words(document.data))
    located = [_locate(document, fault) for fault in found if not fault.is_warning]
    diagnostics = [*document.diagnostics, *(each for each in located if each.location not in misread)]
    if diagnostics or draft.manifest is None:
        raise ManifestError(diagnostics)
    return draft.manifest, tuple(fault for fault in found if fault.is_warning)


def _former_words(data: Any) -> Iterator[Diagnostic]:
    retention = data.get("retention") if isinstance(data, dict) else None
    if isinstance(retention, str) and retention in FORMER_RETENTIONS:
        now = FORMER_RETENTIONS[retention]
        message, hint = f"`{retention}` is now called `{now}`", f"write `retention: {now}`"
        yield Diagnostic(path=("retention",), message=message, hint=hint, rule="former-word", is_warning=True)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector from walking a large manifest, which has no cycle, again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _locate(document: Document, diagnostic: Diagnostic) -> Diagnostic:
    location = document.at(diagnostic.path, is_key=diagnostic.is_key)
    hint = "; ".join(filter(None, (diagnostic.hint, _look_alike(diagnostic))))
    return replace(diagnostic, location=location, hint=hint)


def _look_alike(fault: Diagnostic) -> str:
    """Name the first letter of another script where only ASCII is known: it may look like the right one."""
    found = _FOREIGN_LETTER.search(fault.message) if fault.rule in _RULES_OF_WORDS else None
    return f"`{found[0]}` is U+{ord(found[0]):04X}, {unicodedata.name(found[0], 'without a name')}" if found else ""
