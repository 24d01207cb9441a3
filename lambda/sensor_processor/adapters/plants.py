"""The plants: an item for each in the lanes table, with the state of its notifications, its messages and its shelves.

Messages that a plant makes are attributes of the item from the write that decides them until they are published.
Shelves are attributes that people set (`fleet anomalies shelve`). The item `plants` has an attribute for each plant, so
that a sweep finds them without a scan; it is there before the plant's item is, and stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ..ingest.log import Log
from ..planning.items import binary
from ..planning.plant import (
    INDEX,
    LISTED,
    MESSAGE,
    PLANT,
    SHELF,
    Decision,
    Known,
    Plant,
    Shelf,
    flood_of,
    pack_plant,
    shelf_of,
    unpack_plant,
)
from . import Retry, Unavailable
from .lanes import LanesTable

FORMAT = 1
"""Format of a plant's state that this version writes; with a newer one, notifications wait for a process of that."""

STALE_MS = 30_000
"""Age of a message from which any process publishes it: the one that made it is gone."""

TRIES = 8

CHUNK = 100
"""Attributes that one update removes: an expression has at most 4,096 bytes."""

WAITING = 100
"""Messages of a plant that wait for the topic; beyond it the oldest are given up, and are in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A message that a plant made; `name` is its attribute, which begins with the time (ms) that it was made at."""

    name: str
    message: str

    @property
    def made_at(self) -> int:
        """Return when it was made, in ms."""
        return int(self.name.split()[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision that is stored: which notifications to publish by themselves, and messages of the plant."""

    alone: Sequence[bool]
    made: Sequence[Made]


@dataclass(slots=True, kw_only=True)
class _Stored:
    """A plant's item; revision 0 if there is none."""

    revision: int = 0
    plant: Plant = field(default_factory=Plant)
    shelves: dict[str, Shelf] = field(default_factory=dict)
    made: list[Made] = field(default_factory=list)


class PlantStore(LanesTable):
    """Items of plants in the lanes table."""

    def __init__(self, *, dynamodb: Any, table: str, random: Random) -> None:
        super().__init__(dynamodb=dynamodb, table=table, random=random)
        self._listed: set[str] = set()

    def listed(self, *, retry: Retry) -> list[str]:
        """List the plants that may have an item. Raises Unavailable."""
        item = self._item(INDEX, retry=retry) or {}
        return sorted(name.removeprefix(LISTED) for name in item if name.startswith(LISTED))

    def decide(self, facility: str, notices: Sequence[Known], *, now: int, retry: Retry, log: Log) -> Decided:
        """Decide notifications of a plant, or with none of them sweep it, and store that. Raises Unavailable."""
        for attempt in range(1, TRIES + 1):
            stored = self._read(facility, retry=retry, log=log)
            decision = Decision(facility=facility, plant=stored.plant, shelves=[*stored.shelves.values()], now=now)
            alone: Sequence[bool] = ()
            over: list[str] = []
            if notices:
                alone = decision.decide(notices)
            else:
                decision.sweep()
                over = [name for name, shelf in stored.shelves.items() if now >= shelf.until]
            if not decision.is_changed and not over:
                return Decided(alone=alone, made=_stale(stored.made, now=now))
            first = stored.plant.made - len(decision.made)
            made = [
                Made(name=f"{MESSAGE}{now:013d} {first + place}", message=message)
                for place, message in enumerate(decision.made)
            ]
            waiting, covered = _covered(stored.made, made, now=now)
            most = max(0, min(len(waiting) + len(made) - WAITING, CHUNK - len(covered))) if made else 0
            given_up, waiting = waiting[:most], waiting[most:]
            removed = [*(each.name for each in (*covered, *given_up)), *over][:CHUNK]
            if self._move(facility, stored, made, removed=removed, retry=retry):
                for each in given_up:
                    log.error("A message of a plant was given up: too many wait for the topic.", notice=each.message)
                return Decided(alone=alone, made=[*_stale(waiting, now=now), *made])
            if not retry.pause(attempt):
                break
        raise Unavailable(f"the item of {facility} was still being changed by other processes")

    def published(self, facility: str, made: Iterable[Made], *, retry: Retry) -> None:
        """Remove messages that were published. Raises Unavailable."""
        names = [each.name for each in made]
        for start in range(0, len(names), CHUNK):
            places = {f"m{place}": name for place, name in enumerate(names[start : start + CHUNK])}
            self._update(
                f"{PLANT}{facility}",
                condition="attribute_exists(#lane)",
                changes="REMOVE " + ", ".join(f"#{place}" for place in places),
                names={"lane": "lane", **places},
                values=None,
                retry=retry,
            )

    def _read(self, facility: str, *, retry: Retry, log: Log) -> _Stored:
        item = self._item(f"{PLANT}{facility}", retry=retry)
        if item is None:
            return _Stored()
        stored = _Stored(
            shelves={name: shelf_of(name, value) for name, value in item.items() if name.startswith(SHELF)},
            made=[Made(name=name, message=value["S"]) for name, value in item.items() if name.startswith(MESSAGE)],
        )
        stored.revision = int(item["revision"]["N"])
        if "state" not in item:
            return stored
        if int(item["format"]["N"]) > FORMAT:
            raise Unavailable(f"the notifications of {facility} have a format of a newer version")
        try:
            stored.plant = unpack_plant(binary(item["state"]))
        except ValueError as error:
            log.error("The state of a plant's notifications is damaged, and begins again.", error=str(error))
        return stored

    def _move(
        self, facility: str, before: _Stored, made: Sequence[Made], *, removed: Sequence[str], retry: Retry
    ) -> bool:
        """Store a plant's state with the messages that it made; return False if another process was first."""
        if facility not in self._listed:
            names = {"plant": f"{LISTED}{facility}"}
            known = "attribute_not_exists(#plant)"
            listed = {":plant": {"BOOL": True}}
            self._update(INDEX, condition=known, changes="SET #plant = :plant", names=names, values=listed, retry=retry)
            self._listed.add(facility)
        nonce = self.nonce()
        values = {
            ":revision": {"N": str(before.revision + 1)},
            ":nonce": {"S": nonce},
            ":format": {"N": str(FORMAT)},
            ":state": {"B": pack_plant(before.plant)},
            **{f":m{place}": {"S": each.message} for place, each in enumerate(made)},
        }
        names = {name: name for name in ("revision", "nonce", "format", "state")}
        names |= {f"m{place}": each.name for place, each in enumerate(made)}
        gone = {f"s{place}": name for place, name in enumerate(removed)}
        condition = "attribute_not_exists(#revision)"
        if before.revision:
            condition, values[":before"] = "#revision = :before", {"N": str(before.revision)}
        changes = "SET " + ", ".join(f"#{name} = :{name}" for name in names)
        if gone:
            changes += " REMOVE " + ", ".join(f"#{name}" for name in gone)
        is_done = self._update(
            f"{PLANT}{facility}",
            condition=condition,
            changes=changes,
            names=names | gone,
            values=values,
            retry=retry,
        )
        # An answer may have been lost: then the nonce is this attempt's own.
        return is_done or ((self._item(f"{PLANT}{facility}", retry=retry) or {}).get("nonce") or {}).get("S") == nonce


def _stale(made: Iterable[Made], *, now: int) -> list[Made]:
    return [each for each in made if now - each.made_at >= STALE_MS]


def _covered(stored: Iterable[Made], made: Iterable[Made], *, now: int) -> tuple[list[Made], list[Made]]:
    """Split stored messages, oldest first, into those that still count and those that a later one covers.

    Of a flood's messages of a kind that could not be published, the last one is enough.
    """
    later = {flood_of(each.message) for each in made} - {None}
    waiting = sorted(stored, key=lambda each: each.name)
    covered = [each for each in _stale(waiting, now=now) if flood_of(each.message) in later]
    return [each for each in waiting if each not in covered], covered
