"""Lanes: which things are in which, chains of bases and deltas, bounds of memory, objects that cannot be read."""

from __future__ import annotations

import hashlib
import json
import threading
from random import Random
from typing import Any

import pytest

from benchmarks.function import DEVICES, LANES, STATES, Clock
from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.adapters import Threads
from fleet_iot.sensor_processor.planning.lane import (
    LONGEST_CHAIN,
    Lane,
    LaneError,
    LaneMemory,
    Outbox,
    Pointer,
    Resident,
    lane_of,
    pack_object,
    unpack_objects,
)
from tests.integration.faults.chaos import Chaos
from tests.integration.faults.stubs import S3, DynamoDb, Sns
from tests.integration.faults.workers import new_worker
from tests.sensor_processor.conftest import RECEIVED_AT, make_event, make_payload, make_record


class Plant:
    """A process on stubs without faults, and its clock."""

    def __init__(self) -> None:
        self.clock = Clock(now=RECEIVED_AT / 1000)
        chaos = Chaos(seed=1, clock=self.clock, begins=0, lasts=1, is_calm=True)
        self.dynamo, self.s3, self.sns = DynamoDb(chaos), S3(chaos), Sns(chaos)
        self.processes = 0
        self.process = self.new_process()

    def new_process(self) -> handler.Runtime:
        """A process that remembers nothing."""
        self.processes += 1
        return new_worker(self.dynamo, self.s3, self.sns, dice=Random(self.processes), clock=self.clock)

    def send(self, sequence: int) -> None:
        """Process one reading, ten seconds after the last one."""
        self.clock.now += 10
        now = int(self.clock.now * 1000)
        record = make_record(payload=make_payload(time=now - 100, sequence=sequence), received_at=now)
        assert handler.respond(self.process, make_event(record), None) == {"batchItemFailures": []}

    def sweep(self, seconds: float) -> None:
        """Sweep after a while."""
        self.clock.now += seconds
        handler.respond(self.process, {"sweep": True}, None)

    def lane(self) -> dict[str, Any]:
        """Return the one lane's item."""
        (item,) = [each for each in self.dynamo.items(LANES) if "version" in each]
        return item

    def chain(self) -> list[str]:
        """Return the nonces of the chain."""
        return [link.partition(":")[0] for link in self.lane()["chain"]["S"].split()]


def test_a_lane_is_a_range_of_the_hash_that_kinesis_uses() -> None:
    """A lane lies within one shard while shards are even halves, and as many things are in each."""
    things = [f"sg-01-press-monitor-{number:04d}-dev" for number in range(2_000)]
    for thing in things:
        shard = int(hashlib.md5(thing.encode()).hexdigest(), 16) * 4 >> 128  # noqa: S324 - as Kinesis does
        assert lane_of(thing, 8) in {f"{2 * shard:04d}-of-0008", f"{2 * shard + 1:04d}-of-0008"}
    assert all(400 < sum(lane_of(thing, 4) == f"{lane:04d}-of-0004" for thing in things) < 600 for lane in range(4))


def test_a_base_is_written_after_twelve_deltas() -> None:
    """So a lane's item stays below a kilobyte, and a new process reads few objects."""
    plant = Plant()
    lengths = []
    for sequence in range(30):
        plant.send(sequence)
        lengths.append(len(plant.chain()))

    assert lengths == [*range(1, LONGEST_CHAIN + 1), *range(1, LONGEST_CHAIN + 1), 1, 2, 3, 4]
    assert len(json.dumps(plant.lane())) < 1_000


def test_an_old_base_of_a_silent_lane_is_written_again() -> None:
    """The bucket's lifecycle deletes objects after a week; a sweep writes a base again after a day."""
    plant = Plant()
    plant.send(1)
    for _ in range(20):
        plant.sweep(60)
    quiet = plant.chain()
    for hours in (1, 22):
        plant.sweep(hours * 3_600)
    settled = plant.chain()
    plant.sweep(3 * 3_600)

    assert len(quiet) > 1
    (base,) = plant.chain()
    assert base not in settled
    plant.process = plant.new_process()
    for place in [place for place in plant.s3.objects if place[0] == STATES and base not in place[1]]:
        del plant.s3.objects[place]
    plant.send(2)
    plant.sweep(1_000)
    (device,) = plant.dynamo.items(DEVICES)
    assert device["messages"]["N"] == "2"


def test_a_state_that_is_gone_for_good_fails_its_records() -> None:
    """Nothing is counted on a state that cannot be read: the records come again, and the log names the object."""
    plant = Plant()
    plant.send(1)
    for key in plant.s3.bodies(STATES):
        del plant.s3.objects[STATES, key]
    plant.process = plant.new_process()
    record = make_record(sequence_number="77")

    assert handler.respond(plant.process, make_event(record), None) == {"batchItemFailures": [{"itemIdentifier": "77"}]}


def test_a_batch_of_known_readings_moves_nothing() -> None:
    """Neither an object nor the lane's item is written."""
    plant = Plant()
    plant.send(1)
    before = plant.lane(), set(plant.s3.bodies(STATES))
    plant.clock.now -= 10

    plant.send(1)

    assert (plant.lane(), set(plant.s3.bodies(STATES))) == before


def test_another_process_reads_only_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that knows an earlier version of the chain fetches the deltas since."""
    plant = Plant()
    other = plant.process
    plant.send(1)
    plant.process = plant.new_process()
    plant.send(2)
    plant.send(3)
    read: list[str] = []
    get = plant.s3.get_object
    monkeypatch.setattr(plant.s3, "get_object", lambda **call: (read.append(call["Key"]), get(**call))[1])
    plant.process = other
    plant.send(4)

    assert [key.rpartition("-")[2] for key in read] == plant.chain()[1:3]


def test_memory_forgets_the_lanes_used_least_recently() -> None:
    """At most so many bytes of packed states stay, and always the newest lane."""
    memory = LaneMemory(capacity=100)
    for number in range(4):
        lane = Lane(pointer=Pointer(lane=str(number), version=1, acked=1))
        lane.apply({"a": Resident(0, bytes(40))})
        memory.put(lane)

    assert [memory.pop(str(number)) is not None for number in range(4)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda body: b"junk" + body, "is no state"),
        (lambda body: body[:4] + b"\x02" + body[5:], "has format 2, of a newer version"),
        (lambda body: body[:-9], "is damaged"),
        (lambda body: body[:30] + bytes(8) + body[38:], "is damaged"),
    ],
)
def test_an_object_that_cannot_be_read_is_named(damage: Any, message: str) -> None:
    """Never fewer devices than were written."""
    devices = {str(number): Resident(number, Random(number).randbytes(100)) for number in range(50)}
    body = pack_object(devices, Outbox(since=1, notices=["x"]), is_base=True)
    lane = Lane(pointer=Pointer(lane="0", version=1, acked=0))
    unpack_objects([body], into=lane)
    assert (lane.devices, lane.outbox.notices, lane.size) == (devices, ["x"], 5_000)

    with pytest.raises(LaneError, match=message):
        unpack_objects([damage(body)], into=lane)


def test_the_first_of_several_calls_goes_by_itself() -> None:
    """Two threads that connect a client first can crash the process; later ones run at once."""
    threads, barrier, order = Threads(3), threading.Barrier(3, timeout=10), []

    def call(number: int) -> int:
        if number:
            barrier.wait()
        order.append(number)
        return number

    assert list(threads.map(call, [0, 1, 2, 3])) == [0, 1, 2, 3]
    assert order[0] == 0
    assert list(threads.map(call, [1, 2, 3])) == [1, 2, 3]
