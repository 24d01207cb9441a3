"""Compares a valid manifest with the approved record: what all plants share, each plant's values, and its things."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from fleet_iot.generator.diff.impact import Kind, PlannedChange, Run, worst_first
from fleet_iot.generator.diff.record import Values, read_facility, read_fleet, record_values, recorded_rows
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
from fleet_iot.generator.plan.build import (
    FacilityPlan,
    FleetPlan,
    ThingGroupPlan,
    facility_record,
    fleet_record,
    thing_rows,
)

_DESTINATIONS = {
    "application": Kind.APPLICATION,
    "region": Kind.REGION,
    "account_id": Kind.ACCOUNT,
    "environment_suffix": Kind.SUFFIX,
}
"""Fields of the fleet that are part of every name, topic or place."""

_SETTINGS = {"observability": Kind.OBSERVABILITY, "history": Kind.HISTORY}

_MANIFEST_WORDS = {"minimum": "min", "maximum": "max"}
"""Fields of the record that have another name in the manifest."""


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
    if detail := describe_differences(*({"reserved_concurrency": it["reserved_concurrency"]} for it in (before, now))):
        yield PlannedChange(kind=Kind.PROCESSOR, detail=detail)
    for name, kind in _SETTINGS.items():
        if detail := describe_differences(before[name], now[name]):
            yield PlannedChange(kind=kind, detail=detail)
    if before["retention"] != now["retention"]:
        kind = Kind.RETENTION_LENGTHENED if now["retention"] == "records" else Kind.RETENTION_SHORTENED
        yield PlannedChange(kind=kind, detail=f"{before['retention']} → {now['retention']}")
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
    """Return a type that is gone and one that is new, with the same metrics, are one type under another name.

    Where several fit, the one with the same description is taken, then the first by its id.
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
    for name in sorted(before["metrics"].keys() | after["metrics"].keys()):
        old, new = before["metrics"].get(name), after["metrics"].get(name)
        if old is None:
            yield Kind.METRIC_ADDED, name
        elif new is None:
            yield Kind.METRIC_REMOVED, name
        else:
            if old["unit"] != new["unit"]:
                yield Kind.METRIC_UNIT, f"{name}: {old['unit']} → {new['unit']}"
            fields = [field for field in new if field != "unit" and old.get(field) != new[field]]
            if fields:
                told = (f"{_MANIFEST_WORDS.get(it, it)} {as_text(old.get(it))} → {as_text(new[it])}" for it in fields)
                yield Kind.METRIC_LIMITS, f"{name}: {', '.join(told)}"


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
        """Return those that are about some facilities, or about all."""
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
    """Return a group of a new plant: where nothing came from, its things need not be looked at one by one."""
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
