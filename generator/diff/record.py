"""Reads what the approved record declares, as plain values by the fields' names, whichever version wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from fleet_iot.generator import naming
from fleet_iot.generator.diagnostics import WriteError
from fleet_iot.generator.output.writer import file_of, read
from fleet_iot.generator.plan.build import ThingRow
from fleet_iot.lib.record.declarations import read_values
from fleet_iot.lib.specs import FORMER_RETENTIONS, FacilitySpec, FleetSpec

Values = dict[str, Any]
"""The fields of a declaration by name; those of declarations within it as dicts of their own."""

_BEFORE: dict[str, Values] = {
    "FLEET": {"retention": "short", "observability": {}, "history": {"minute_days": 90, "anomaly_days": 90}},
    "FACILITY": {"contact": None, "tags": {}, "lines": (), "alarms": {}},
}
"""Fields that former generators did not declare, with the values that were deployed."""


def read_facility(root: Path, facility: str) -> Values:
    """Return what the folder of a facility declares; raises `WriteError` where it declares none."""
    path = f"{naming.module_of(facility)}/{naming.REGISTRY_FILE}"
    return _read(root, path, "FACILITY", FacilitySpec)


def read_fleet(root: Path) -> Values:
    """Return what the generated `fleet.py` declares; raises `WriteError` where it declares no fleet."""
    values = _read(root, naming.FLEET_FILE, "FLEET", FleetSpec)
    return values | {"retention": FORMER_RETENTIONS.get(values["retention"], values["retention"])}


def record_values(spec: FleetSpec | FacilitySpec) -> Values:
    """Return the values of a declaration as they would be read back."""
    return _comparable(msgspec.to_builtins(spec))


def _read(root: Path, path: str, name: str, kind: type[FleetSpec | FacilitySpec]) -> Values:
    with _readable(path):
        content = read(root, path)
        if content is None:
            raise ValueError("it is not there")
        values = _comparable(_BEFORE[name] | read_values(content, name))
        if missing := [field.name for field in fields(kind) if field.name not in values]:
            raise ValueError(f"{name} has no {', '.join(missing)}")
        return values


def _comparable(declared: Values) -> Values:
    """Declarations in a tuple by id or name, and what is compared as text in the words of the manifest."""
    values = dict(declared)
    for name in ("observability", "history", "alarms"):
        if name in values:
            values[name] = _flat(values[name])
    for name in ("device_types", "metrics"):
        if name in values:
            values[name] = {each.get("id", each.get("name")): _comparable(each) for each in values[name]}
    if "contact" in values:
        values["contact"] = _contact(values["contact"])
    if "lines" in values:
        values["lines"] = {line["id"]: f"{line['name']} ({_contact(line['contact'])})" for line in values["lines"]}
    if "groups" in values:
        values["groups"] = {group["device_type"]: group["count"] for group in values["groups"]}
    return values


def _contact(contact: Values | None) -> str:
    return "none" if contact is None else " ".join(str(value) for value in contact.values() if value is not None)


def _flat(settings: Values) -> dict[str, str]:
    """Switches and thresholds by name, as the manifest writes them."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        flat |= _flat(value) if isinstance(value, dict) else {name: _setting(value)}
    return flat


def _setting(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def recorded_rows(root: Path, facility: str) -> Iterator[ThingRow]:
    """Yield the rows of a facility's things; raises `WriteError` where they cannot be read."""
    path = f"{naming.module_of(facility)}/{naming.THINGS_FILE}"
    decode = msgspec.json.Decoder(ThingRow).decode
    with _readable(path), file_of(root, path).open("rb") as lines:
        for line in lines:
            yield decode(line)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Raise `WriteError` where the record is missing or damaged, so that the former state is unknown."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, OSError, msgspec.MsgspecError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise WriteError(
            f"{naming.OUTPUT_FOLDER}/{path} does not say what there was, so what a change does is unknown: {reason}",
            hint="restore it from version control; to go on without: fleet generate --force",
        ) from None
