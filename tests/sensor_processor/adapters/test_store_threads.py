"""Calls that need not wait for each other are made at once, over real sockets, and come to the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from random import Random
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError

from benchmarks.aws.server import running_server
from fleet_iot.sensor_processor.adapters import Retry
from fleet_iot.sensor_processor.adapters.store import Store, install_json_codec
from fleet_iot.sensor_processor.commit import Outcome, commit
from fleet_iot.sensor_processor.handler import is_transient
from fleet_iot.sensor_processor.ingest.catalogue import Catalogue
from fleet_iot.sensor_processor.planning.device_cache import DeviceCache
from fleet_iot.sensor_processor.planning.items import Retention

THREADS = 3
DEVICES = 150
"""Of two items each, a hundred items to a transaction: three of them."""


class Gate:
    """Block calls until as many have arrived as may run at once."""

    def __init__(self) -> None:
        self.calls = 0
        self._barrier = threading.Barrier(THREADS, timeout=10)

    def __call__(self, **_: Any) -> None:
        self.calls += 1
        self._barrier.wait()


@pytest.fixture
def client() -> Iterator[Any]:
    """A client of a stub in a process of its own, which keeps what is written."""
    with running_server({"r": ("device", "bucket"), "d": ("device",)}) as address:
        yield install_json_codec(
            boto3.client(
                "dynamodb",
                endpoint_url=address,
                region_name="ap-southeast-1",
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries={"mode": "standard", "total_max_attempts": 1}, parameter_validation=False),
            )
        )


def bring_in(client: Any, readings: list[Any], catalogue: Catalogue, *, threads: int) -> Outcome:
    """Commit the readings as a process that remembers nothing, and return the outcome."""
    store = Store(client=client, readings_table="r", devices_table="d", random=Random(1), threads=threads)
    retry = Retry(deadline=60, is_transient=is_transient, clock=lambda: 0.0, sleep=lambda _: None, random=Random(1))
    retention = Retention(minutes=90, hours=400, days=3650, anomalies=400)
    return commit(readings, store=store, catalogue=catalogue, retention=retention, cache=DeviceCache(), retry=retry)


def test_transactions_are_under_way_at_once(client: Any, reading: Any, catalogue: Catalogue) -> None:
    """Three transactions meet at a gate that one after the other would never pass; a second delivery finds all."""
    readings = [reading(number=number) for number in range(DEVICES)]
    gate = Gate()
    client.meta.events.register_first("before-send.dynamodb.TransactWriteItems", gate)

    outcome = bring_in(client, readings, catalogue, threads=THREADS)

    assert (THREADS, [], set()) == (gate.calls, outcome.failed, outcome.faults)
    again = bring_in(client, readings, catalogue, threads=THREADS)
    (tally,) = again.tallies.values()
    assert (DEVICES, 0, THREADS) == (tally.duplicates, tally.processed, gate.calls)


def test_the_first_call_of_a_process_is_alone(client: Any, reading: Any, catalogue: Catalogue) -> None:
    """The first page of devices is loaded, with the connection that this opens, before a thread asks for another."""
    events: list[str] = []
    client.meta.events.register_first(
        "before-send.dynamodb", lambda **_: events.append(threading.current_thread().name)
    )
    client.meta.events.register("after-call.dynamodb", lambda **_: events.append("answered"))

    bring_in(client, [reading(number=number) for number in range(DEVICES)], catalogue, threads=THREADS)

    assert events[:2] == ["MainThread", "answered"]
    assert events[2].startswith("store")


def test_one_that_fails_fails_alone(client: Any, reading: Any, catalogue: Catalogue) -> None:
    """A transaction without an answer fails the records of its own devices, and no others."""

    def stay_silent(*, request: Any, **_: Any) -> None:
        if b"press-monitor-0007-dev" in request.body:
            raise ReadTimeoutError(endpoint_url=request.url)

    client.meta.events.register_first("before-send.dynamodb.TransactWriteItems", stay_silent)

    outcome = bring_in(client, [reading(number=number) for number in range(DEVICES)], catalogue, threads=THREADS)

    failed = {reading.envelope.thing for reading in outcome.failed}
    (tally,) = outcome.tallies.values()
    assert (50, 100) == (len(failed), tally.processed)
    assert "sg-01-press-monitor-0007-dev" in failed
