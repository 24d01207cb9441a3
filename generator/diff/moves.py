"""Sees a move where things of a type vanish in one place and appear in another in the same plan.

Things that are given by count carry no identity of their own: as many as vanish here and appear there have moved.
Devices that are known by their serials were followed before; what is left of them moved nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from fleet_iot.generator.diff.impact import Kind, PlannedChange, Run


def paired(changes: Iterable[PlannedChange], *, renamed: dict[str, str]) -> Iterator[PlannedChange]:
    """The changes, with what was retired here and added there joined: first under a new type, then in another plant.

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
    """Takes what a retired and an added group have in common out of both; gives it as a change of the retired one."""
    count = min(gone.count, came.count)
    taken, _ = _cut(gone.things, count)
    is_last = gone.count == count
    _lessen(retired, gone, count, groups_gone=gone.groups_gone)
    _lessen(added, came, count)
    return replace(
        gone, count=count, things=taken, groups_made=came.groups_made, groups_gone=gone.groups_gone if is_last else 0
    )


def _lessen(groups: list[PlannedChange], group: PlannedChange, count: int, *, groups_gone: int = 0) -> None:
    """Takes things out of a group, and the group out of its list where nothing is left of it."""
    at = groups.index(group)
    left = _cut(group.things, count)[1]
    rest = replace(group, count=group.count - count, things=left, groups_made=0, groups_gone=groups_gone)
    groups[at : at + 1] = [rest] if rest.count else []


def _cut(runs: tuple[Run, ...], count: int) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """The first `count` things of runs, and the rest."""
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
    """The name whose number is higher by `steps`."""
    match = re.search(r"[0-9]+$", name)
    if match is None:
        return name
    return f"{name[: match.start()]}{int(match[0]) + steps:0{len(match[0])}d}"
