"""Lays the company's defaults under facilities, device types and metrics that do not say otherwise.

That is done on the plain data, so that all later stages see whole values, and each keeps the place it is written at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from fleet_iot.generator.diagnostics import SourceLocation
from fleet_iot.generator.manifest.document import Document
from fleet_iot.generator.manifest.sources import DataPath, Places

SECTION = "defaults"
_OF_FACILITIES = ("timezone", "registration", "contact")
_OF_TYPES = ("sample_interval_s",)
_OF_METRICS = ("detector",)
SUPPLIED = {"Facility": _OF_FACILITIES, "DeviceType": _OF_TYPES, "Metric": _OF_METRICS}
"""What a part of the manifest, by its model, may leave to the defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultedPlaces:
    """The places of a document; a value that was left to the defaults has the place of its default."""

    own: Places
    supplied: frozenset[DataPath]

    def at(self, path: DataPath, *, is_key: bool = False) -> SourceLocation:
        """The place of the value at `path`, or of its key."""
        for end in range(3, len(path) + 1):
            if path[:end] in self.supplied:
                return self.own.at((SECTION, *path[end - 1 :]), is_key=is_key)
        return self.own.at(path, is_key=is_key)


def with_defaults(document: Document) -> Document:
    """The document with every default where it holds; the same one where it has none."""
    data = document.data
    given = data.get(SECTION) if isinstance(data, dict) else None
    if not isinstance(given, dict):
        return document
    supplied: list[DataPath] = []

    def filled(part: Any, path: DataPath, keys: tuple[str, ...]) -> Any:
        if not isinstance(part, dict):
            return part
        missing = [key for key in keys if key not in part and given.get(key) is not None]
        supplied.extend((*path, key) for key in missing)
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
    places = DefaultedPlaces(own=document.sources, supplied=frozenset(supplied))
    return replace(document, data=data, sources=places)
