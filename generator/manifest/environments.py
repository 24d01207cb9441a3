"""Lays an environment's file, such as `fleet.prod.yaml`, over the manifest beside it.

Mappings merge key by key, as deep as they go; all else in the environment's file replaces what the manifest has. Every
value keeps the place in the file that it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

from fleet_iot.generator.aws.regions import REGIONS
from fleet_iot.generator.diagnostics import Diagnostic, ManifestError, SourceLocation
from fleet_iot.generator.manifest.document import Document, read_document
from fleet_iot.generator.manifest.inventories import with_inventories
from fleet_iot.generator.manifest.parts import with_parts
from fleet_iot.generator.manifest.project import environment_file, environments
from fleet_iot.generator.manifest.sources import DataPath

ONE_APPLICATION = "one-application"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayeredPlaces:
    """The places of two documents that became one."""

    base: Document
    over: Document

    def at(self, path: DataPath, *, is_key: bool = False) -> SourceLocation:
        """The place in the file that decided the value at `path`."""
        return self._layer(path).sources.at(path, is_key=is_key)

    def _layer(self, path: DataPath) -> Document:
        below, above = self.base.data, self.over.data
        for step in path:
            if not isinstance(below, dict) or not isinstance(above, dict):
                return self.over
            if step not in above:
                return self.base
            if step not in below:
                return self.over
            below, above = below[step], above[step]
        return self.over


def read_layers(path: Path, *, name: str, environment: str | None) -> Document:
    """The manifest in a file with its parts, an environment's file over it, and the lists of devices that they name.

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
    document = replace(document, faults=(*document.faults, *clashes))
    return with_inventories(document, path, name=name)


def _suffixes_apart(base: Document, path: Path, *, name: str) -> Iterator[Diagnostic]:
    """A fault where environments of the project with one suffix would meet in AWS: see `_shared`."""
    layers = [base]
    for environment in environments(path):
        over = environment_file(path, environment)
        with suppress(ManifestError):  # what is wrong in it is said where it is validated
            layers.append(layered(base, read_document(over, name=str(Path(name).with_name(over.name)))))
    for place, layer in enumerate(layers):
        for other in layers[:place]:
            key = _shared(layer.data, other.data)
            if key is not None:
                here, there = (each.sources.at((key,)) for each in (layer, other))
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
    "application": "tables, streams and topic rules are told apart by it",
    "region": "buckets are global, and told apart by it",
}


def _shared(one: Any, other: Any) -> str | None:
    """The key by which two environments differ although the names that they share in AWS do not tell it apart.

    Two applications share tables, streams and rules where region and account are the same; an account that nobody has
    said may be any. Two regions share buckets, whose names hold application, account and suffix.
    """
    keys = ("application", "environment_suffix", "region")
    if not all(isinstance(data, dict) and isinstance(data.get(key), str) for data in (one, other) for key in keys):
        return None
    if one["environment_suffix"] != other["environment_suffix"]:
        return None
    accounts = [data["account_id"] if isinstance(data.get("account_id"), str) else None for data in (one, other)]
    if one["region"] == other["region"]:
        may_meet = accounts[0] == accounts[1] or None in accounts
        return "application" if may_meet and one["application"] != other["application"] else None
    is_known = {one["region"], other["region"]} <= set(REGIONS)  # else the name is the fault
    return "region" if is_known and accounts[0] == accounts[1] and one["application"] == other["application"] else None


def _with_parts(path: Path, *, name: str) -> Document:
    return with_parts(read_document(path, name=name), path, name=name)


def layered(base: Document, over: Document) -> Document:
    """Both documents as one."""
    return Document(
        data=_merged(base.data, over.data),
        sources=LayeredPlaces(base=base, over=over),
        faults=(*base.faults, *over.faults),
    )


def _merged(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _merged(below[key], value) if key in below else value for key, value in above.items()}
