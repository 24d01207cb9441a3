"""Compares the things of the approved record with the planned ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count as counting

from fleet_iot.generator import naming
from fleet_iot.generator.diff.impact import Kind, PlannedChange, Run
from fleet_iot.lib.record.read import ThingRow

# Rows: two sorted streams are merged, and none is kept in memory.

RUNS_KEPT = 8
"""Runs that are named; what is beyond is counted."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Things that something happens to: how many, and the first runs of them."""

    count: int = 0
    _ends: list[tuple[str, str, int]] = field(default_factory=list)
    _place: int = -2

    def add(self, name: str, place: int) -> None:
        """Count one more thing, which continues a run if `place` follows the former one."""
        self.count += 1
        ends = self._ends
        if len(ends) <= RUNS_KEPT:
            if place == self._place + 1:
                first, _, count = ends[-1]
                ends[-1] = (first, name, count + 1)
            else:
                ends.append((name, name, 1))
        self._place = place

    @property
    def things(self) -> tuple[Run, ...]:
        """The runs to name."""
        return tuple(Run(first=first, last=last, count=count) for first, last, count in self._ends[:RUNS_KEPT])


@dataclass(slots=True, kw_only=True)
class RowDifferences:
    """Differences of one facility, by device type.

    Things that are known by serials of their own are apart: their names by serial. `replaced`: another serial under
    the same name. `fields` and `serials`: what has another value in the first of those rows.
    """

    added: dict[str, Tally] = field(default_factory=dict)
    retired: dict[str, Tally] = field(default_factory=dict)
    changed: dict[str, Tally] = field(default_factory=dict)
    replaced: dict[str, Tally] = field(default_factory=dict)
    added_devices: dict[str, dict[str, str]] = field(default_factory=dict)
    retired_devices: dict[str, dict[str, str]] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    serials: dict[str, str] = field(default_factory=dict)


def compare_rows(former: Iterable[ThingRow], current: Iterable[ThingRow]) -> RowDifferences:
    """Merge two streams of rows, both sorted by device type, then by number or name."""
    found = RowDifferences()
    olds, news = iter(former), iter(current)
    old, new = next(olds, None), next(news, None)
    for place in counting():
        if old is None and new is None:
            return found
        if old == new:
            old, new = next(olds, None), next(news, None)
        elif new is None or (old is not None and _order(old) < _order(new)):
            assert old is not None  # noqa: S101 - both None ended it above; mypy cannot know
            _note(found.retired, found.retired_devices, old, place)
            old = next(olds, None)
        elif old is None or _order(new) < _order(old):
            _note(found.added, found.added_devices, new, place)
            new = next(news, None)
        else:
            is_other = own_serial(old) not in (None, new.serial)
            tallies, details = (found.replaced, found.serials) if is_other else (found.changed, found.fields)
            _tally(tallies, old, place)
            if old.device_type not in details:
                details[old.device_type] = describe_differences(_flat(old), _flat(new))
            old, new = next(olds, None), next(news, None)
    raise AssertionError("the streams have an end")


def describe_differences(before: Mapping[str, object], after: Mapping[str, object]) -> str:
    """Name what differs between values by name, as `line: b2 → b3`; empty where nothing does."""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return ", ".join(f"{name}: {as_text(before.get(name))} → {as_text(after.get(name))}" for name in names)


def as_text(value: object) -> str:
    """Write a value as people do."""
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def own_serial(row: ThingRow) -> str | None:
    """Return the serial by which a device is known wherever it is; None where it only follows from the thing's name."""
    own = row.name.rpartition("-")[2]
    facility = row.name.removesuffix(f"-{row.device_type}-{own}")
    return None if row.serial == naming.named_serial(facility, row.device_type, own) else row.serial


def _note(tallies: dict[str, Tally], devices: dict[str, dict[str, str]], row: ThingRow, place: int) -> None:
    serial = own_serial(row)
    if serial is None:
        _tally(tallies, row, place)
    else:
        devices.setdefault(row.device_type, {})[serial] = row.name


def _order(row: ThingRow) -> tuple[str, int, str]:
    """Name of one type differ in their number only, and a longer one is a higher one."""
    return (row.device_type, len(row.name), row.name)


def _tally(tallies: dict[str, Tally], row: ThingRow, place: int) -> None:
    tallies.setdefault(row.device_type, Tally()).add(row.name, place)


def _flat(row: ThingRow) -> dict[str, str]:
    return {"thing_type": row.thing_type, "serial": row.serial, **row.attributes}


# Devices with serials of their own: one that vanishes here and appears there has moved.


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantDifferences:
    """Differences in the rows of one plant, and its device types `before` and `after`."""

    facility: str
    rows: RowDifferences
    before: frozenset[str]
    after: frozenset[str]


@dataclass(slots=True, kw_only=True)
class _Move:
    """Devices on one way: the names they had and get, and whether groups come and go with them."""

    gone: Tally
    came: Tally
    makes_group: bool
    ends_group: bool


def device_changes(plants: Iterable[PlantDifferences]) -> Iterator[PlannedChange]:
    """Find devices with serials of their own that were moved, renamed, added or retired."""
    plants = tuple(plants)
    homes = {
        serial: (plant, device_type, name, place)
        for plant in plants
        for device_type, devices in plant.rows.added_devices.items()
        for place, (serial, name) in enumerate(devices.items())
    }
    moves: dict[tuple[str, str, str], _Move] = {}
    for plant in plants:
        for device_type, devices in plant.rows.retired_devices.items():
            ends_group = device_type not in plant.after
            left = Tally()
            for place, (serial, name) in enumerate(devices.items()):
                if serial not in homes:
                    left.add(name, place)
                    continue
                home, home_type, new_name, new_place = homes.pop(serial)
                move = moves.setdefault(
                    (plant.facility, device_type, home.facility),
                    _Move(
                        gone=Tally(),
                        came=Tally(),
                        makes_group=home_type not in home.before,
                        ends_group=ends_group,
                    ),
                )
                move.gone.add(name, place)
                move.came.add(new_name, new_place)
            yield from _one_way(Kind.THINGS_RETIRED, plant.facility, device_type, left, groups_gone=int(ends_group))
    for (facility, device_type, to), move in moves.items():
        yield PlannedChange(
            kind=Kind.THINGS_RENAMED if facility == to else Kind.THINGS_MOVED,
            facility=facility,
            to=None if facility == to else to,
            device_type=device_type,
            count=move.gone.count,
            things=move.gone.things,
            become=move.came.things,
            is_by_serial=True,
            groups_made=int(move.makes_group),
            groups_gone=int(move.ends_group),
        )
    new: dict[tuple[str, str], tuple[Tally, bool]] = {}
    for plant, device_type, name, place in homes.values():
        is_made = device_type not in plant.before
        new.setdefault((plant.facility, device_type), (Tally(), is_made))[0].add(name, place)
    for (facility, device_type), (tally, is_made) in new.items():
        yield from _one_way(Kind.THINGS_ADDED, facility, device_type, tally, groups_made=int(is_made))


def _one_way(
    kind: Kind, facility: str, device_type: str, tally: Tally, *, groups_made: int = 0, groups_gone: int = 0
) -> Iterator[PlannedChange]:
    if tally.count:
        yield PlannedChange(
            kind=kind,
            facility=facility,
            device_type=device_type,
            count=tally.count,
            things=tally.things,
            is_by_serial=True,
            groups_made=groups_made,
            groups_gone=groups_gone,
        )


def groups_once(changes: Iterable[PlannedChange]) -> Iterator[PlannedChange]:
    """Count a group that several changes add or remove only with the first of them."""
    seen: set[tuple[str, str | None, str | None]] = set()
    for change in changes:
        if change.groups_made and not _is_first(seen, ("made", change.to or change.facility, change.device_type)):
            change = replace(change, groups_made=0)
        if change.groups_gone and not _is_first(seen, ("gone", change.facility, change.device_type)):
            change = replace(change, groups_gone=0)
        yield change


def _is_first(seen: set[tuple[str, str | None, str | None]], key: tuple[str, str | None, str | None]) -> bool:
    is_first = key not in seen
    seen.add(key)
    return is_first


# Things given by count have no identity of their own: as many as vanish here and appear there have moved.


def paired(changes: Iterable[PlannedChange], *, renamed: dict[str, str]) -> Iterator[PlannedChange]:
    """Join what was retired here and added there into moves: first under a new type, then in another plant.

    `renamed`: the new id of each renamed device type by its former one.
    """
    rest = [change for change in changes if change.kind not in (Kind.THINGS_RETIRED, Kind.THINGS_ADDED)]
    retired, added = (
        [change for change in changes if change.kind is kind] for kind in (Kind.THINGS_RETIRED, Kind.THINGS_ADDED)
    )
    for new in [change for change in rest if change.kind is Kind.TYPE_RENAMED]:
        rest.remove(new)
        moved = [
            _take(retired, added, gone, came)
            for gone in tuple(retired)
            for came in tuple(added)
            if gone.facility == came.facility and gone.device_type == new.detail and came.device_type == new.device_type
        ]
        yield replace(
            new,
            count=sum(it.count for it in moved),
            things=tuple(run for it in moved for run in it.things),
            facilities=len(moved),
            groups_made=sum(it.groups_made for it in moved),
            groups_gone=sum(it.groups_gone for it in moved),
        )
    for kind_of in sorted({change.device_type or "" for change in retired}):
        yield from _moves(retired, added, kind_of, renamed.get(kind_of, kind_of))
    yield from (*rest, *retired, *added)


def _moves(retired: list[PlannedChange], added: list[PlannedChange], old: str, new: str) -> Iterator[PlannedChange]:
    while True:
        pairs = (
            (gone, came)
            for gone in retired
            for came in added
            if gone.device_type == old and came.device_type == new and not (gone.is_by_serial and came.is_by_serial)
        )
        pair = min(pairs, key=lambda pair: pair[0].facility != pair[1].facility, default=None)
        if pair is None:
            return
        moved, (gone, came) = _take(retired, added, *pair), pair
        is_within = gone.facility == came.facility
        yield replace(
            moved,
            kind=Kind.THINGS_RENAMED if is_within else Kind.THINGS_MOVED,
            to=None if is_within else came.facility,
            become=_cut(came.things, moved.count)[0],
            is_by_serial=False,
        )


def _take(
    retired: list[PlannedChange], added: list[PlannedChange], gone: PlannedChange, came: PlannedChange
) -> PlannedChange:
    """Take what a retired and an added group have in common out of both; gives it as a change of the retired one."""
    count = min(gone.count, came.count)
    taken, _ = _cut(gone.things, count)
    is_last = gone.count == count
    _lessen(retired, gone, count, groups_gone=gone.groups_gone)
    _lessen(added, came, count)
    return replace(
        gone, count=count, things=taken, groups_made=came.groups_made, groups_gone=gone.groups_gone if is_last else 0
    )


def _lessen(groups: list[PlannedChange], group: PlannedChange, count: int, *, groups_gone: int = 0) -> None:
    """Take things out of a group, and the group out of its list where nothing is left of it."""
    at = groups.index(group)
    left = _cut(group.things, count)[1]
    rest = replace(group, count=group.count - count, things=left, groups_made=0, groups_gone=groups_gone)
    groups[at : at + 1] = [rest] if rest.count else []


def _cut(runs: tuple[Run, ...], count: int) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """Return the first `count` things of runs, and the rest."""
    taken: list[Run] = []
    for at, run in enumerate(runs):
        if count >= run.count:
            taken.append(run)
            count -= run.count
        elif count == 0:
            return tuple(taken), runs[at:]
        else:
            head = replace(run, last=_following(run.first, count - 1), count=count)
            tail = replace(run, first=_following(run.first, count), count=run.count - count)
            return (*taken, head), (tail, *runs[at + 1 :])
    return tuple(taken), ()


def _following(name: str, steps: int) -> str:
    """Return the name whose number is higher by `steps`."""
    match = re.search(r"[0-9]+$", name)
    if match is None:
        return name
    return f"{name[: match.start()]}{int(match[0]) + steps:0{len(match[0])}d}"
