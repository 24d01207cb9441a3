"""Seven processors that are wrong in a known way: a harness that does not find them out proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from unittest.mock import patch

import msgspec

from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.adapters import store
from fleet_iot.sensor_processor.ingest.reading import Reading
from fleet_iot.sensor_processor.numbers import minute as aggregate
from fleet_iot.sensor_processor.planning import items, planner


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
    load_page = store.Store._load_page

    class Heedless:
        def __init__(self, client: Any) -> None:
            self.batch_get_item = lambda **call: client.batch_get_item(**call) | {"UnprocessedKeys": {}}

    def heedless(self: store.Store, table: str, keys: Any, *, retry: Any) -> Any:
        client, self._client = self._client, Heedless(self._client)
        try:
            return load_page(self, table, keys, retry=retry)
        finally:
            self._client = client

    with patch.object(store.Store, "_load_page", heedless):
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
def hours_once() -> Iterator[None]:
    """Sums up an hour from what it has at hand, without asking what else lies in it."""
    with patch.object(store.Store, "load_parts", lambda self, keys, *, retry: {}):
        yield


@contextmanager
def no_outbox() -> Iterator[None]:
    """Publishes what it has just written and keeps no note of it: gone where it dies in between."""
    written = planner.device_item

    def without(device: items.Device) -> items.Item:
        return written(msgspec.structs.replace(device, outbox=()))

    with patch.object(planner, "device_item", without):
        yield


CONTROLS: tuple[Callable[[], Any], ...] = (
    no_dedupe,
    acknowledge_before_archive,
    ignore_unprocessed,
    float_sums,
    highest_checkpoint,
    hours_once,
    no_outbox,
)
