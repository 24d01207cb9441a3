"""Follows devices that are known by serials of their own: one that vanishes here and appears there has moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from fleet_iot.generator.diff.impact import Kind, PlannedChange
from fleet_iot.generator.diff.rows import RowDifferences, Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantDifferences:
    """What differs in the rows of one plant, and the device types that it had `before` and has `after`."""

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
    """What became of devices with serials of their own: moved, renamed, added, retired."""
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
    """The changes, where a group that comes or goes with several of them is counted with the first alone."""
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
