"""Holds the manifest against the generated tree: what is added, changed, retired, moved between plants or renamed.

Looks only at what can have changed: a plant whose hashes in the index are those of the manifest is not opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from generator import comparison_record as record
from generator import naming
from generator.comparison_fleet import compare_shared
from generator.comparison_moves import paired
from generator.comparison_rows import RowDifferences, RowError, Tally, compare_rows, lines_of
from generator.impact import Kind, PlannedChange, Run, worst_first
from generator.index import Index, Section, facility_values, fleet_values
from generator.manifest import FleetManifest
from generator.plan import FacilityPlan, FleetPlan, plan_fleet
from generator.rows import thing_rows

Read = Callable[[str], bytes | None]
"""Gives a small file of the tree, None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All changes, the worst first; `facilities`: those that are about these alone, where it is not about all."""

    changes: tuple[PlannedChange, ...]
    facilities: tuple[str, ...] = ()

    def of(self, facilities: frozenset[str]) -> Comparison:
        """Those that are about some facilities, or about all."""
        changes = tuple(change for change in self.changes if change.touches(facilities))
        return Comparison(changes=changes, facilities=tuple(sorted(facilities)))


def compare_tree(manifest: FleetManifest, former: Index, root: Path, *, read: Read, templates: str) -> Comparison:
    """The manifest against the tree at `root`; `templates`: the hash of those that this generator has.

    Raises `WriteError` where the tree does not say any more what there was.
    """
    plan = plan_fleet(manifest)
    changes: list[PlannedChange] = []
    changes += _shared_changes(plan, former.fleet, fleet_values(manifest), read=read)
    recorded = dict(former.facilities)
    for facility in plan.facilities:
        section = recorded.pop(facility.id, None)
        if section is None:
            changes += _added(facility)
        elif section.values != facility_values(manifest, facility.id) or section.templates != templates:
            changes += _changed(facility, root, read=read, is_other_version=section.templates != templates)
    for id_ in recorded:
        changes += _removed(id_, root, read=read)
    return Comparison(changes=worst_first(paired(changes, renamed=_renamed(changes))))


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


def _added(facility: FacilityPlan) -> Iterator[PlannedChange]:
    yield PlannedChange(kind=Kind.FACILITY_ADDED, facility=facility.id, detail=facility.name, facilities=1)
    for group in facility.groups:
        run = Run(first=group.first.name, last=group.last.name, count=group.count)
        yield PlannedChange(
            kind=Kind.THINGS_ADDED,
            facility=facility.id,
            device_type=group.device_type.id,
            count=group.count,
            things=(run,),
            groups_made=1,
        )


def _changed(facility: FacilityPlan, root: Path, *, read: Read, is_other_version: bool) -> Iterator[PlannedChange]:
    path = f"{facility.module}/__init__.py"
    before = record.read_facility(path, read(path))
    groups = len(facility.groups)
    if is_other_version:
        yield PlannedChange(kind=Kind.DOCUMENTS, facility=facility.id)
    for kind, old, new in (
        (Kind.FACILITY_NAME, before.name, facility.name),
        (Kind.FACILITY_TIMEZONE, before.timezone, facility.timezone),
        (Kind.REGISTRATION, before.registration, facility.registration),
    ):
        if old != new:
            kept = sum(min(count, before.groups.get(id_, 0)) for id_, count in _counts(facility).items())
            yield PlannedChange(
                kind=kind, facility=facility.id, detail=f"{old} → {new}", groups=groups, facilities=1, count=kept
            )
    rows = _compare_rows(root, facility.module, lines_of(thing_rows(facility)))
    yield from _thing_changes(facility.id, rows, before=set(before.groups), after=set(_counts(facility)))


def _removed(id_: str, root: Path, *, read: Read) -> Iterator[PlannedChange]:
    module = naming.module_of(id_)
    path = f"{module}/__init__.py"
    before = record.read_facility(path, read(path))
    yield PlannedChange(kind=Kind.FACILITY_REMOVED, facility=id_, detail=before.name, facilities=1)
    rows = _compare_rows(root, module, ())
    yield from _thing_changes(id_, rows, before=set(before.groups), after=set())


def _thing_changes(
    facility: str, rows: RowDifferences, *, before: set[str], after: set[str]
) -> Iterator[PlannedChange]:
    def change(kind: Kind, device_type: str, tally: Tally) -> PlannedChange:
        return PlannedChange(
            kind=kind,
            facility=facility,
            device_type=device_type,
            count=tally.count,
            things=tally.things,
            detail=rows.fields.get(device_type, "") if kind is Kind.THINGS_CHANGED else "",
            groups_made=int(kind is Kind.THINGS_ADDED and device_type not in before),
            groups_gone=int(kind is Kind.THINGS_RETIRED and device_type not in after),
        )

    for kind, tallies in (
        (Kind.THINGS_ADDED, rows.added),
        (Kind.THINGS_CHANGED, rows.changed),
        (Kind.THINGS_RETIRED, rows.retired),
    ):
        yield from (change(kind, device_type, tally) for device_type, tally in tallies.items())


def _counts(facility: FacilityPlan) -> dict[str, int]:
    return {group.device_type.id: group.count for group in facility.groups}


def _compare_rows(root: Path, module: str, current: Iterable[bytes]) -> RowDifferences:
    path = f"{module}/{naming.THINGS_FILE}"
    try:
        with (root / path).open("rb") as former:
            return compare_rows(former, current)
    except OSError as error:
        raise record.lost(path, (error.strerror or str(error)).lower()) from None
    except RowError as error:
        raise record.lost(path, str(error)) from None
