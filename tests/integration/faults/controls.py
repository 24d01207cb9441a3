"""Processors that are wrong in a known way: a harness that does not find them out proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from unittest.mock import patch

from benchmarks.function import DEVICES, READINGS
from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.adapters import lanes, plants, store
from fleet_iot.sensor_processor.ingest.reading import Reading
from fleet_iot.sensor_processor.numbers import minute as aggregate
from fleet_iot.sensor_processor.planning import items
from fleet_iot.sensor_processor.planning.lane import Lane, Pointer, unpack_objects


@contextmanager
def no_dedupe() -> Iterator[None]:
    """Counts a message as often as it comes."""
    add = aggregate.Minute.add

    def forgetful(self: aggregate.Minute, reading: Reading) -> aggregate.Added:
        self.entries.pop(reading.identity, None)
        return add(self, reading)

    with patch.object(aggregate.Minute, "add", forgetful):
        yield


@contextmanager
def acknowledge_before_archive() -> Iterator[None]:
    """Answers first and archives afterwards, when nobody is left to be told that it failed."""

    def afterwards(objects: Any, *, archive: Any, **_: Any) -> set[str]:
        for entry in objects:
            with suppress(Exception):
                archive.put(entry, retry=Once())
        return set()

    class Once:
        def run(self, call: Callable[[], Any]) -> Any:
            return call()

    with patch.object(handler, "_put", afterwards):
        yield


@contextmanager
def ignore_unprocessed() -> Iterator[None]:
    """Takes what a batch call left undone for done."""
    put_page = store.Store._put_page

    class Heedless:
        def __init__(self, client: Any) -> None:
            self.batch_write_item = lambda **call: client.batch_write_item(**call) | {"UnprocessedItems": {}}

    def heedless(self: store.Store, *args: Any, **more: Any) -> Any:
        client, self._client = self._client, Heedless(self._client)
        try:
            return put_page(self, *args, **more)
        finally:
            self._client = client

    with patch.object(store.Store, "_put_page", heedless):
        yield


@contextmanager
def float_sums() -> Iterator[None]:
    """Adds binary fractions."""
    with ExitStack() as patches:
        patches.enter_context(patch.object(aggregate, "exact_sum", lambda values, **_: sum(values)))
        patches.enter_context(patch.object(items, "decimal_text", lambda total: format(total, ".17g")))
        patches.enter_context(patch.object(items, "steps_of", float))
        yield


@contextmanager
def highest_checkpoint() -> Iterator[None]:
    """Reports the last record that failed, where the first one is what the stream goes back to."""
    respond = handler.respond

    def hasty(*args: Any) -> Any:
        failures = respond(*args)["batchItemFailures"]
        return {"batchItemFailures": failures[-1:]}

    with patch.object(handler, "respond", hasty):
        yield


@contextmanager
def late_hours_anew() -> Iterator[None]:
    """Makes an hour of a late reading of that reading only, without asking what else lies in it."""
    load = store.Store.load_stored

    def without(*args: Any, **more: Any) -> Any:
        found = load(*args, **more)
        for each in found.values():
            each.hours.clear()
        return found

    with patch.object(store.Store, "load_stored", without):
        yield


@contextmanager
def effects_before_commit() -> Iterator[None]:
    """Emits what follows from a state that may not become the lane's."""
    put = lanes.LaneStore.put

    def eager(self: lanes.LaneStore, key: str, body: bytes, *, retry: Any) -> None:
        put(self, key, body, retry=retry)
        lane = Lane(pointer=Pointer(lane="", version=0, acked=0))
        unpack_objects([body], into=lane)
        readings = store.Store(client=self._dynamodb, readings_table=READINGS, devices_table=DEVICES)
        readings.put_items(lane.outbox.items, refused=lambda item, why: None, retry=retry)

    with patch.object(lanes.LaneStore, "put", eager):
        yield


@contextmanager
def unconditional_pointer() -> Iterator[None]:
    """Moves a lane whether or not another process has moved it since."""
    update = lanes.LaneStore._update

    def forced(self: lanes.LaneStore, lane: str, *, condition: str, values: Any, **more: Any) -> bool:
        if condition == "#version = :before":
            del values[":before"]
            condition = "attribute_exists(#version)"
        return update(self, lane, condition=condition, values=values, **more)

    with patch.object(lanes.LaneStore, "_update", forced):
        yield


@contextmanager
def early_acknowledgement() -> Iterator[None]:
    """Takes what follows from a state for emitted once the state is committed."""
    following = Pointer.next

    def acked(self: Pointer, link: Any, *, is_acked: bool, **more: Any) -> Pointer:
        return following(self, link, is_acked=True, **more)

    with patch.object(Pointer, "next", acked):
        yield


@contextmanager
def no_acknowledgement() -> Iterator[None]:
    """Never stores that an outbox was emitted, so that each process publishes it again."""
    following = Pointer.next

    def open_ended(self: Pointer, link: Any, *, is_acked: bool, **more: Any) -> Pointer:
        return following(self, link, is_acked=False, **more)

    with (
        patch.object(lanes.LaneStore, "acknowledge", lambda self, pointer, *, retry: None),
        patch.object(Pointer, "next", open_ended),
    ):
        yield


@contextmanager
def flood_without_message() -> Iterator[None]:
    """Stores that a flood is told, and its message only in this process, which may not live to publish it."""
    move = plants.PlantStore._move

    def bare(self: plants.PlantStore, facility: str, before: Any, made: Any, **more: Any) -> bool:
        return move(self, facility, before, (), **more)

    with patch.object(plants.PlantStore, "_move", bare):
        yield


@contextmanager
def flood_forgets() -> Iterator[None]:
    """Takes a notification for one of a flood without storing that."""
    unsaved = plants.PlantStore._move

    def heedless(self: plants.PlantStore, facility: str, before: Any, made: Any, **more: Any) -> bool:
        return bool(before.plant.floods and not made) or unsaved(self, facility, before, made, **more)

    with patch.object(plants.PlantStore, "_move", heedless):
        yield


@contextmanager
def mutable_minute_key() -> Iterator[None]:
    """Writes later revisions over the first one."""
    with patch.object(items, "revision_bucket", lambda bucket, revision: bucket):
        yield


CONTROLS: tuple[Callable[[], Any], ...] = (
    no_dedupe,
    acknowledge_before_archive,
    ignore_unprocessed,
    float_sums,
    highest_checkpoint,
    late_hours_anew,
    effects_before_commit,
    early_acknowledgement,
    mutable_minute_key,
    flood_forgets,
)
