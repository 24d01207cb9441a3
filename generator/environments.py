"""Lays an environment's file, such as `fleet.prod.yaml`, over the manifest beside it.

Mappings merge key by key, as deep as they go; all else in the environment's file replaces what the manifest has. Every
value keeps the place in the file that it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any

from generator.diagnostics import Diagnostic, ManifestError, SourceLocation
from generator.document import Document, read_document
from generator.inventories import with_inventories
from generator.parts import with_parts
from generator.project import environment_file
from generator.sources import DataPath


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
    return with_inventories(reduce(layered, documents), path, name=name)


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
