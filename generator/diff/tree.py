"""Holds the manifest against the generated tree: what is added, changed, retired, moved between plants or renamed.

Looks only at what can have changed: a plant whose hashes in the index are those of the manifest is not opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from fleet_iot.generator import naming
from fleet_iot.generator.diff import record
from fleet_iot.generator.diff.devices import PlantDifferences, device_changes, groups_once
from fleet_iot.generator.diff.fleet import compare_shared, told_values
from fleet_iot.generator.diff.impact import Kind, PlannedChange, Run, worst_first
from fleet_iot.generator.diff.moves import paired
from fleet_iot.generator.diff.rows import RowError, compare_rows, lines_of
from fleet_iot.generator.manifest.models import FleetManifest
from fleet_iot.generator.output.index import Index, Section, facility_values, fleet_values
from fleet_iot.generator.output.rows import thing_rows
from fleet_iot.generator.output.tree import file_of
from fleet_iot.generator.plan.build import FacilityPlan, FleetPlan, ThingGroupPlan, plan_fleet

Read = Callable[[str], bytes | None]
"""Gives a small file of the tree, None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All changes, the worst first; `facilities`: those that are about these alone, where it is not about all.

    `bulk`: the plants whose things commands of `fleet` register, not Terraform.
    """

    changes: tuple[PlannedChange, ...]
    facilities: tuple[str, ...] = ()
    bulk: frozenset[str] = frozenset()

    def of(self, facilities: frozenset[str]) -> Comparison:
        """Those that are about some facilities, or about all."""
        changes = tuple(change for change in self.changes if change.touches(facilities))
        return replace(self, changes=changes, facilities=tuple(sorted(facilities)))


def compare_tree(manifest: FleetManifest, former: Index, root: Path, *, read: Read, templates: str) -> Comparison:
    """The manifest against the tree at `root`; `templates`: the hash of those that this generator has.

    Raises `WriteError` where the tree does not say any more what there was.
    """
    plan = plan_fleet(manifest)
    changes: list[PlannedChange] = []
    changes += _shared_changes(plan, former.fleet, fleet_values(manifest), read=read)
    recorded = dict(former.facilities)
    plants: list[PlantDifferences] = []
    new: list[FacilityPlan] = []
    for facility in plan.facilities:
        section = recorded.pop(facility.id, None)
        if section is None:
            new.append(facility)
        elif section.values != facility_values(manifest, facility.id) or section.templates != templates:
            before = _record(facility.module, read)
            changes += _changed(facility, before, is_other_version=section.templates != templates)
            with _recorded_rows(root, facility.module) as rows:
                current = lines_of(thing_rows(facility))
                plants.append(_differences(facility.id, rows, current, frozenset(before.groups), facility))
    for id_ in recorded:
        module = naming.module_of(id_)
        before = _record(module, read)
        changes.append(PlannedChange(kind=Kind.FACILITY_REMOVED, facility=id_, detail=before.name, facilities=1))
        with _recorded_rows(root, module) as rows:
            plants.append(_differences(id_, rows, (), frozenset(before.groups), None))
    is_fresh = not any(plant.rows.retired or plant.rows.retired_devices for plant in plants)
    for facility in new:
        changes.append(
            PlannedChange(kind=Kind.FACILITY_ADDED, facility=facility.id, detail=facility.name, facilities=1)
        )
        known = [group for group in facility.groups if group.named is not None and not is_fresh]
        changes += (_group_added(group) for group in facility.groups if group not in known)
        rows_of_known = lines_of(thing_rows(replace(facility, groups=tuple(known))))
        plants.append(_differences(facility.id, (), rows_of_known, frozenset(), facility))
    changes += groups_once(chain(*map(_thing_changes, plants), device_changes(plants)))
    bulk = frozenset(facility.id for facility in plan.facilities if facility.registration == "bulk")
    return Comparison(changes=worst_first(paired(changes, renamed=_renamed(changes))), bulk=bulk)


def _shared_changes(
    plan: FleetPlan, former: Section | None, values: tuple[tuple[str, str], ...], *, read: Read
) -> Iterator[PlannedChange]:
    if former is None:
        yield from (PlannedChange(kind=Kind.TYPE_ADDED, device_type=type_.id) for type_ in plan.device_types)
    elif former.values != values:
        before = record.read_fleet(naming.FLEET_FILE, read(naming.FLEET_FILE))
        yield from compare_shared(before, plan, changed=_different(dict(former.values), dict(values)))


def _different(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))


def _renamed(changes: Iterable[PlannedChange]) -> dict[str, str]:
    """The new id of each device type that was renamed, by its former one."""
    return {change.detail: change.device_type or "" for change in changes if change.kind is Kind.TYPE_RENAMED}


def _group_added(group: ThingGroupPlan) -> PlannedChange:
    """A group of a new plant: where nothing came from, its things need not be looked at one by one."""
    return PlannedChange(
        kind=Kind.THINGS_ADDED,
        facility=group.facility,
        device_type=group.device_type.id,
        count=group.count,
        things=(Run(first=group.first.name, last=group.last.name, count=group.count),),
        groups_made=1,
    )


def _record(module: str, read: Read) -> record.RecordedFacility:
    path = f"{module}/__init__.py"
    return record.read_facility(path, read(path))


def _changed(
    facility: FacilityPlan, before: record.RecordedFacility, *, is_other_version: bool
) -> Iterator[PlannedChange]:
    """What differs but the things."""
    if is_other_version:
        yield PlannedChange(kind=Kind.DOCUMENTS, facility=facility.id)
    lines = {line.id: record.told_line(line.name, line.contact) for line in facility.lines}
    for kind, old, new in (
        (Kind.FACILITY_NAME, before.name, facility.name),
        (Kind.FACILITY_TIMEZONE, before.timezone, facility.timezone),
        (Kind.FACILITY_CONTACT, before.contact, record.told_contact(facility.contact)),
        (Kind.REGISTRATION, before.registration, facility.registration),
    ):
        if old != new:
            kept = sum(min(count, before.groups.get(id_, 0)) for id_, count in _counts(facility).items())
            detail, groups = f"{old} → {new}", len(facility.groups)
            yield PlannedChange(kind=kind, facility=facility.id, detail=detail, groups=groups, facilities=1, count=kept)
    for kind, olds, news in (
        (Kind.FACILITY_TAGS, before.tags, dict(facility.tags)),
        (Kind.FACILITY_LINES, before.lines, lines),
        (Kind.FACILITY_ALARMS, before.alarms, record.told_thresholds(facility.alarms)),
    ):
        if olds != news:
            detail, groups = told_values(olds, news), len(facility.groups)
            yield PlannedChange(kind=kind, facility=facility.id, detail=detail, facilities=1, groups=groups)


def _differences(
    id_: str, former: Iterable[bytes], current: Iterable[bytes], before: frozenset[str], facility: FacilityPlan | None
) -> PlantDifferences:
    try:
        rows = compare_rows(former, current)
    except RowError as error:
        raise record.lost(f"{naming.module_of(id_)}/{naming.THINGS_FILE}", str(error)) from None
    after = frozenset(_counts(facility)) if facility else frozenset()
    return PlantDifferences(facility=id_, rows=rows, before=before, after=after)


def _thing_changes(plant: PlantDifferences) -> Iterator[PlannedChange]:
    """What became of things that no serial of their own identifies, and of those that stay where they are."""
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


@contextmanager
def _recorded_rows(root: Path, module: str) -> Iterator[Iterable[bytes]]:
    path = f"{module}/{naming.THINGS_FILE}"
    try:
        with file_of(root, path).open("rb") as former:
            yield (row.replace(b"\r\n", b"\n") for row in former)  # as a checkout may have left them
    except OSError as error:
        raise record.lost(path, (error.strerror or str(error)).lower()) from None
