"""Reads back what generated declarations say: the approved record is what a change is held against."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from generator.diagnostics import WriteError
from generator.naming import OUTPUT_FOLDER
from generator.plan import DeviceTypePlan, MetricPlan

_SHARED = ("application", "region", "account_id", "environment_suffix", "reserved_concurrency", "tags")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFacility:
    """One plant as its folder declares it; `groups`: how many things of each device type."""

    name: str
    timezone: str
    registration: str
    groups: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFleet:
    """What all plants share, as the tree declares it; `values` by their names in the manifest."""

    values: dict[str, Any]
    device_types: dict[str, DeviceTypePlan]


def read_facility(path: str, content: bytes | None) -> RecordedFacility:
    """The facility in a generated `__init__.py`; raises `WriteError` where it declares none."""
    try:
        declared = _declared(content, "FACILITY")
        return RecordedFacility(
            name=str(declared["name"]),
            timezone=str(declared["timezone"]),
            registration=str(declared["registration"]),
            groups={str(group["device_type"]): int(group["count"]) for group in declared["groups"]},
        )
    except (SyntaxError, ValueError, KeyError, TypeError) as error:
        raise lost(path, str(error)) from None


def read_fleet(path: str, content: bytes | None) -> RecordedFleet:
    """What the generated `fleet.py` declares; raises `WriteError` where it declares no fleet."""
    try:
        declared = _declared(content, "FLEET")
        types = [_device_type(declaration) for declaration in declared.pop("device_types")]
        values = {name: declared[name] for name in _SHARED}
        return RecordedFleet(values=values, device_types={type_.id: type_ for type_ in types})
    except (SyntaxError, ValueError, KeyError, TypeError) as error:
        raise lost(path, str(error)) from None


def lost(path: str, reason: str) -> WriteError:
    """What to raise where the former state cannot be told any more."""
    return WriteError(
        f"{OUTPUT_FOLDER}/{path} does not say what there was, so what a change does cannot be told: {reason}",
        hint="restore it from version control; to go on without: fleet generate --force",
    )


def _device_type(declared: dict[str, Any]) -> DeviceTypePlan:
    metrics = tuple(MetricPlan(**metric) for metric in declared["metrics"])
    return DeviceTypePlan(**(declared | {"metrics": metrics}))


def _declared(content: bytes | None, name: str) -> dict[str, Any]:
    if content is None:
        raise ValueError("it is not there")
    for node in ast.parse(content).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
            value = _value(node.value)
            if isinstance(value, dict):
                return value
    raise ValueError(f"it declares no {name}")


def _value(node: ast.expr) -> Any:
    """A literal; a call of a spec is a dict of its arguments."""
    if isinstance(node, ast.Call):
        return {argument.arg: _value(argument.value) for argument in node.keywords}
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    return ast.literal_eval(node)
