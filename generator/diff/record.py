"""Reads back what generated declarations say: the approved record is what a change is held against."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fleet_iot.generator.diagnostics import WriteError
from fleet_iot.generator.naming import OUTPUT_FOLDER
from fleet_iot.generator.plan.build import DeviceTypePlan, MetricPlan
from fleet_iot.lib.record.declarations import read_values

_LATER = {"retention": "brief", "observability": {}, "history": {"minute_days": 90, "anomaly_days": 90}}
"""What a former generator did not declare, and what held then."""
_SHARED = ("application", "region", "account_id", "environment_suffix", "reserved_concurrency", "tags")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFacility:
    """One plant as its folder declares it, or as a former generator did, which knew less.

    `groups`: how many things of each device type; contacts and lines as they are told.
    """

    name: str
    timezone: str
    registration: str
    contact: str
    tags: dict[str, str]
    lines: dict[str, str]
    alarms: dict[str, str]
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
            contact=told_contact(declared.get("contact")),
            tags={str(key): str(value) for key, value in declared.get("tags", {}).items()},
            lines={str(line["id"]): told_line(line["name"], line["contact"]) for line in declared.get("lines", ())},
            alarms=told_thresholds(declared.get("alarms", {})),
            groups={str(group["device_type"]): int(group["count"]) for group in declared["groups"]},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise lost(path, str(error)) from None


def read_fleet(path: str, content: bytes | None) -> RecordedFleet:
    """What the generated `fleet.py` declares; raises `WriteError` where it declares no fleet."""
    try:
        declared = _declared(content, "FLEET")
        types = [_device_type(declaration) for declaration in declared.pop("device_types")]
        values = {name: declared[name] for name in _SHARED}
        values |= {name: declared.get(name, value) for name, value in _LATER.items()}
        return RecordedFleet(values=values, device_types={type_.id: type_ for type_ in types})
    except (ValueError, KeyError, TypeError) as error:
        raise lost(path, str(error)) from None


def told_contact(contact: Any) -> str:
    """A contact, planned or as a record declares it, as people read it."""
    if contact is None:
        return "none"
    values = contact if isinstance(contact, dict) else asdict(contact)
    return " ".join(str(values[name]) for name in ("name", "email", "phone") if values[name] is not None)


def told_thresholds(declared: Any) -> dict[str, str]:
    """Switches and thresholds by name, planned or as a record declares them, as people read them."""
    told: dict[str, str] = {}
    for name, value in (declared if isinstance(declared, dict) else asdict(declared)).items():
        told |= told_thresholds(value) if isinstance(value, dict) else {name: _told_value(value)}
    return told


def _told_value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "false" if not value else "true"
    return f"{value:g}" if isinstance(value, float) else str(value)


def told_line(name: str, contact: Any) -> str:
    """A production line, as people read it."""
    return f"{name} ({told_contact(contact)})"


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
    return read_values(content, name)
