"""Compare a valid manifest with the approved record: what all plants share, each plant's values, and its things."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from fleet_iot.generator import naming
from fleet_iot.generator.diagnostics import WriteError
from fleet_iot.generator.diff.impact import Kind, PlannedChange, Run, worst_first
from fleet_iot.generator.diff.things import (
    PlantDifferences,
    RowDifferences,
    as_text,
    compare_rows,
    describe_differences,
    device_changes,
    groups_once,
    paired,
)
from fleet_iot.generator.manifest.models import FleetManifest
from fleet_iot.generator.output.index import Index, facility_values, fleet_values
from fleet_iot.generator.output.writer import file_of, read
from fleet_iot.generator.plan.build import (
    FacilityPlan,
    FleetPlan,
    ThingGroupPlan,
    facility_record,
    fleet_record,
    thing_rows,
)
from fleet_iot.lib.record.place import name_of
from fleet_iot.lib.record.read import ThingRow, read_values
from fleet_iot.lib.specs import FORMER_RETENTIONS, METRIC_WORDS, FacilitySpec, FleetSpec, MetricSpec

# The approved record is read as plain values by the fields' names, whichever version wrote it.

Values = dict[str, Any]
"""The fields of a declaration by name; those of declarations within it as dicts of their own."""


def _defaults(kind: type[Any]) -> Values:
    return {each.name: each.default for each in fields(kind) if each.default is not MISSING}


_BEFORE: dict[str, Values] = {
    "FLEET": {
        **_defaults(FleetSpec),
        "retention": "short",
        "audit": {"data_events": "all"},
        "observability": {},
        "history": {"minute_days": 90, "anomaly_days": 90},
    },
    "FACILITY": {"contact": None, "tags": {}, "lines": (), "alarms": {}},
}
"""Fields that former generators did not declare, with the values that were deployed."""

_METRIC_DEFAULTS = _defaults(MetricSpec)
"""Settings of a metric that former generators did not declare, with the values that were deployed."""


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
    with _readable(root, path):
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
            given = _METRIC_DEFAULTS if name == "metrics" else {}
            values[name] = {each.get("id", each.get("name")): _comparable(given | each) for each in values[name]}
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
    with _readable(root, path), file_of(root, path).open("rb") as lines:
        for line in lines:
            yield decode(line)


@contextmanager
def _readable(root: Path, path: str) -> Iterator[None]:
    """Raise `WriteError` where the record is missing or damaged, so that the former state is unknown."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, OSError, msgspec.MsgspecError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise WriteError(
            f"{name_of(root)}/{path} does not say what there was, so what a change does is unknown: {reason}",
            hint="restore it from version control; to go on without: fleet generate --force",
        ) from None


_DESTINATIONS = {
    "application": Kind.APPLICATION,
    "region": Kind.REGION,
    "account_id": Kind.ACCOUNT,
    "environment_suffix": Kind.SUFFIX,
}
"""Fields of the fleet that are part of every name, topic or place."""

_OF_PROCESSOR = ("reserved_concurrency", "window_s")
_SETTINGS = {"observability": Kind.OBSERVABILITY, "history": Kind.HISTORY}


def compare_shared(before: Values, plan: FleetPlan) -> Iterator[PlannedChange]:
    """Compare what all facilities share with the record's."""
    now = record_values(fleet_record(plan))
    everything = partial(
        PlannedChange,
        count=sum(facility.thing_count for facility in plan.facilities),
        groups=sum(len(facility.groups) for facility in plan.facilities),
        facilities=len(plan.facilities),
    )
    for name, kind in _DESTINATIONS.items():
        if before[name] != now[name]:
            yield everything(kind=kind, detail=f"{as_text(before[name])} → {as_text(now[name])}")
    if detail := describe_differences(*({name: it.get(name) for name in _OF_PROCESSOR} for it in (before, now))):
        yield PlannedChange(kind=Kind.PROCESSOR, detail=detail)
    for name, kind in _SETTINGS.items():
        if detail := describe_differences(before[name], now[name]):
            yield PlannedChange(kind=kind, detail=detail)
    if before["retention"] != now["retention"]:
        kind = Kind.RETENTION_LENGTHENED if now["retention"] == "records" else Kind.RETENTION_SHORTENED
        yield PlannedChange(kind=kind, detail=f"{before['retention']} → {now['retention']}")
    recorded, to_record = before["audit"]["data_events"], now["audit"]["data_events"]
    if recorded != to_record:
        kind = Kind.AUDIT_WIDENED if to_record == "all" else Kind.AUDIT_NARROWED
        yield PlannedChange(kind=kind, detail=f"data events {recorded} → {to_record}")
    if detail := describe_differences(before["tags"], now["tags"]):
        yield everything(kind=Kind.TAGS, detail=detail)
    yield from _type_changes(before["device_types"], now["device_types"], plan)


def _type_changes(before: dict[str, Values], after: dict[str, Values], plan: FleetPlan) -> Iterator[PlannedChange]:
    renamed = _renames(before, after)
    for old, new in renamed.items():
        yield PlannedChange(kind=Kind.TYPE_RENAMED, device_type=new, detail=old)
    for id_ in before.keys() - after.keys() - renamed.keys():
        yield PlannedChange(kind=Kind.TYPE_REMOVED, device_type=id_)
    for id_ in after.keys() - before.keys() - set(renamed.values()):
        yield PlannedChange(kind=Kind.TYPE_ADDED, device_type=id_)
    for old, new in [(id_, id_) for id_ in before.keys() & after.keys()] + list(renamed.items()):
        count = sum(
            group.count for facility in plan.facilities for group in facility.groups if group.device_type.id == new
        )
        for kind, detail in _inner_changes(before[old], after[new]):
            if kind is not Kind.TYPE_DESCRIPTION or old == new:
                yield PlannedChange(kind=kind, device_type=new, detail=detail, count=count)


def _renames(before: dict[str, Values], after: dict[str, Values]) -> dict[str, str]:
    """Return the new id of each renamed device type, by its former one.

    A type that is gone and a new one with the same metrics are one type under another name. Where several fit, the one
    with the same description is taken, then the first by its id.
    """
    gone, new = (sorted(one.keys() - other.keys()) for one, other in ((before, after), (after, before)))
    renamed: dict[str, str] = {}
    for is_described_alike in (True, False):
        for old in gone:
            for id_ in new:
                is_free = old not in renamed and id_ not in renamed.values()
                is_alike = before[old]["description"] == after[id_]["description"] or not is_described_alike
                if is_free and is_alike and before[old]["metrics"] == after[id_]["metrics"]:
                    renamed[old] = id_
    return renamed


def _inner_changes(before: Values, after: Values) -> Iterator[tuple[Kind, str]]:
    if before["description"] != after["description"]:
        yield Kind.TYPE_DESCRIPTION, f"{before['description']} → {after['description']}"
    if before["sample_interval_s"] != after["sample_interval_s"]:
        yield Kind.SAMPLE_INTERVAL, f"{before['sample_interval_s']:g} s → {after['sample_interval_s']:g} s"
    detectors: dict[str, list[str]] = {}
    for name in sorted(before["metrics"].keys() | after["metrics"].keys()):
        old, new = before["metrics"].get(name), after["metrics"].get(name)
        if old is None:
            yield Kind.METRIC_ADDED, name
        elif new is None:
            yield Kind.METRIC_REMOVED, name
        else:
            if old["unit"] != new["unit"]:
                yield Kind.METRIC_UNIT, f"{name}: {old['unit']} → {new['unit']}"
            if old["detector"] != new["detector"]:
                detectors.setdefault(f"{old['detector']} → {new['detector']}", []).append(name)
            fields = [field for field in new if field not in ("unit", "detector") and old.get(field) != new[field]]
            if fields:
                told = (f"{METRIC_WORDS.get(it, it)} {as_text(old.get(it))} → {as_text(new[it])}" for it in fields)
                yield Kind.METRIC_LIMITS, f"{name}: {', '.join(told)}"
    for change, names in detectors.items():
        yield Kind.METRIC_DETECTOR, f"{', '.join(names)}: {change}"


# The tree: plants whose hashes in the index are those of the manifest are not opened.


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All changes, the worst first; `facilities`: the selected ones, if not all are compared.

    `bulk`: the plants whose things commands of `fleet` register, not Terraform.
    """

    changes: tuple[PlannedChange, ...]
    facilities: tuple[str, ...] = ()
    bulk: frozenset[str] = frozenset()

    def of(self, facilities: frozenset[str]) -> Comparison:
        """Return the comparison with only the changes that are about some facilities, or about all."""
        changes = tuple(change for change in self.changes if change.touches(facilities))
        return replace(self, changes=changes, facilities=tuple(sorted(facilities)))


def compare_tree(manifest: FleetManifest, plan: FleetPlan, former: Index, root: Path, *, templates: str) -> Comparison:
    """Compare the manifest with the tree at `root`; `templates`: the hash of those that this generator has.

    A plant whose hashes in the index are those of the manifest is not opened. Raises `WriteError` where the tree does
    not show any more what there was.
    """
    changes: list[PlannedChange] = []
    if former.fleet is None:
        changes += (PlannedChange(kind=Kind.TYPE_ADDED, device_type=type_.id) for type_ in plan.device_types)
    elif former.fleet.values != fleet_values(plan):
        changes += compare_shared(read_fleet(root), plan)
    recorded = dict(former.facilities)
    plants: list[PlantDifferences] = []
    new: list[FacilityPlan] = []
    for facility in plan.facilities:
        section = recorded.pop(facility.id, None)
        if section is None:
            new.append(facility)
        elif section.values != facility_values(manifest, facility.id) or section.templates != templates:
            before = read_facility(root, facility.id)
            changes += _changed(facility, before, is_other_version=section.templates != templates)
            rows = compare_rows(recorded_rows(root, facility.id), thing_rows(facility))
            plants.append(_differences(facility.id, rows, before, facility))
    for id_ in recorded:
        before = read_facility(root, id_)
        changes.append(PlannedChange(kind=Kind.FACILITY_REMOVED, facility=id_, detail=before["name"], facilities=1))
        plants.append(_differences(id_, compare_rows(recorded_rows(root, id_), ()), before, None))
    is_fresh = not any(plant.rows.retired or plant.rows.retired_devices for plant in plants)
    for facility in new:
        changes.append(
            PlannedChange(kind=Kind.FACILITY_ADDED, facility=facility.id, detail=facility.name, facilities=1)
        )
        known = [group for group in facility.groups if group.named is not None and not is_fresh]
        changes += (_group_added(group) for group in facility.groups if group not in known)
        rows = compare_rows((), thing_rows(replace(facility, groups=tuple(known))))
        plants.append(_differences(facility.id, rows, {"groups": {}}, facility))
    changes += groups_once(chain(*map(_thing_changes, plants), device_changes(plants)))
    bulk = frozenset(facility.id for facility in plan.facilities if facility.registration == "bulk")
    return Comparison(changes=worst_first(paired(changes, renamed=_renamed(changes))), bulk=bulk)


def _renamed(changes: Iterable[PlannedChange]) -> dict[str, str]:
    """Return the new id of each device type that was renamed, by its former one."""
    return {change.detail: change.device_type or "" for change in changes if change.kind is Kind.TYPE_RENAMED}


def _group_added(group: ThingGroupPlan) -> PlannedChange:
    """Return the change for a group of a new plant: no thing of it was there before, so none is looked at by itself."""
    return PlannedChange(
        kind=Kind.THINGS_ADDED,
        facility=group.facility,
        device_type=group.device_type.id,
        count=group.count,
        things=(Run(first=group.first.name, last=group.last.name, count=group.count),),
        groups_made=1,
    )


_FACILITY_VALUES = {
    "name": Kind.FACILITY_NAME,
    "timezone": Kind.FACILITY_TIMEZONE,
    "contact": Kind.FACILITY_CONTACT,
    "registration": Kind.REGISTRATION,
}
_FACILITY_TABLES = {
    "tags": Kind.FACILITY_TAGS,
    "lines": Kind.FACILITY_LINES,
    "alarms": Kind.FACILITY_ALARMS,
}


def _changed(facility: FacilityPlan, before: Values, *, is_other_version: bool) -> Iterator[PlannedChange]:
    """Yield what differs but the things."""
    now, groups = record_values(facility_record(facility)), len(facility.groups)
    if is_other_version:
        yield PlannedChange(kind=Kind.DOCUMENTS, facility=facility.id)
    for name, kind in _FACILITY_VALUES.items():
        old, new = as_text(before[name]), as_text(now[name])
        if old != new:
            kept = sum(min(count, before["groups"].get(id_, 0)) for id_, count in _counts(facility).items())
            detail = f"{old} → {new}"
            yield PlannedChange(kind=kind, facility=facility.id, detail=detail, groups=groups, facilities=1, count=kept)
    for name, kind in _FACILITY_TABLES.items():
        if detail := describe_differences(before[name], now[name]):
            yield PlannedChange(kind=kind, facility=facility.id, detail=detail, facilities=1, groups=groups)


def _differences(id_: str, rows: RowDifferences, before: Values, facility: FacilityPlan | None) -> PlantDifferences:
    after = frozenset(_counts(facility)) if facility else frozenset()
    return PlantDifferences(facility=id_, rows=rows, before=frozenset(before["groups"]), after=after)


def _thing_changes(plant: PlantDifferences) -> Iterator[PlannedChange]:
    """Yield what became of things that no serial of their own identifies, and of those that stay where they are."""
    rows = plant.rows
    for kind, tallies, details in (
        (Kind.THINGS_ADDED, rows.added, {}),
        (Kind.THINGS_CHANGED, rows.changed, rows.fields),
        (Kind.THINGS_REPLACED, rows.replaced, rows.serials),
        (Kind.THINGS_RETIRED, rows.retired, {}),
    ):
        for device_type, tally in tallies.items():
            yield PlannedChange(
                kind=kind,
                facility=plant.facility,
                device_type=device_type,
                count=tally.count,
                things=tally.things,
                detail=details.get(device_type, ""),
                groups_made=int(kind is Kind.THINGS_ADDED and device_type not in plant.before),
                groups_gone=int(kind is Kind.THINGS_RETIRED and device_type not in plant.after),
            )


def _counts(facility: FacilityPlan) -> dict[str, int]:
    return {group.device_type.id: group.count for group in facility.groups}
