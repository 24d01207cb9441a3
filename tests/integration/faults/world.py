"""One run: devices, a stream that is resharded, the project's own event source, workers, and faults."""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from benchmarks.function import BUCKET, DEVICES, READINGS, Clock, Context
from fleet_iot.operations.local.event_source import (
    Discard,
    EventSource,
    Invoke,
    Redelivery,
    SourceSettings,
    StreamRecord,
    failure_message,
    kinesis_event,
)
from fleet_iot.operations.telemetry.redrive import FunctionError, Outcome, Processor, redrive
from fleet_iot.sensor_processor import handler
from tests.integration.faults.chaos import DEAD_SHARD_S, OUTAGE_S, RESHARD, Chaos, Crash
from tests.integration.faults.events import event_faults
from tests.integration.faults.load import SPACING_MS, Load
from tests.integration.faults.oracle import Oracle
from tests.integration.faults.stubs import S3, DynamoDb, Kinesis, Sns, Sqs
from tests.integration.faults.workers import new_worker

DAY_S = 86_400.0
BEGINS = 1_795_445_340.0
FIRST_NUMBER = 49_600_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000
STREAM = "arn:aws:kinesis:ap-southeast-1:000000000000:stream/stream-telemetry-dev"
REGION = "ap-southeast-1"
WORKERS = 6
"""Execution environments: each invocation is in one by chance, whichever its shard."""

RACERS = 3
SWEEP_S = 60.0
MAPPING = SourceSettings(batch_size=250, window_s=3.0, retries=20, bisects=True, reports_items=True)
DEAD = "shardId-000000000002"
SPLIT = "shardId-000000000001"
CHILDREN = ("shardId-000000000004", "shardId-000000000005")


@dataclass(kw_only=True)
class Shard:
    """One shard: what is in it and not read yet, and its event source."""

    name: str
    source: EventSource
    parent: str | None = None
    unread: deque[StreamRecord] = field(default_factory=deque)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Outcome of a run."""

    faults: list[str]
    struck: dict[str, int]
    records: int
    unique: int
    told: int
    poison: int
    late: int
    periods: int
    discarded: int
    replay: Outcome
    seconds: float


class World:
    """Everything of one run but the code under test."""

    def __init__(self, *, seed: int, readings: int) -> None:
        self.clock = Clock(now=BEGINS)
        self.chaos = Chaos(seed=seed, clock=self.clock, begins=BEGINS, lasts=readings * SPACING_MS / 1000)
        self.dynamo, self.s3, self.sqs, self.kinesis = DynamoDb(self.chaos), S3(self.chaos), Sqs(self.chaos), Kinesis()
        self.sns = Sns(self.chaos)
        self.oracle = Oracle()
        self._load = Load(self.chaos, readings=readings)
        self._number = FIRST_NUMBER
        self._records = 0
        self._processes = 0
        self._shards: dict[str, Shard] = {}
        self._free = [self._worker() for _ in range(WORKERS)]
        self._dice = random.Random(f"{seed}:environments")
        self._swept = self.clock.now
        for place in range(4):
            self._add_shard(f"shardId-{place:012d}")

    def run(self) -> Verdict:
        """Lets everything happen, to the end of the stream, of the outages and of the failure queue."""
        begins = time.monotonic()
        tick = self.clock.now
        for sent in self._load.messages():
            arrives = sent.received_at / 1000
            if arrives >= tick + 1:
                # Sleeping has moved the clock on, perhaps: then the devices have gone on sending meanwhile.
                self.clock.now = max(self.clock.now, arrives)
                tick = arrives
                self._work()
            self._put(sent)
        self._work_off()
        self.clock.now = max(self.clock.now, BEGINS + self.chaos.lasts + max(OUTAGE_S, DEAD_SHARD_S))
        self.chaos.is_calm = True
        # A device's newest reading decides what of it is over, so each has one when all faults are over.
        for sent in self._load.farewell(int(self.clock.now * 1000)):
            self._put(sent)
        self._work_off()
        outcome = self._replay()
        # By the end of the day after, every minute, hour and day is over, and every base old.
        for seconds in (*[SWEEP_S] * 20, DAY_S, *[SWEEP_S] * 20):
            self.clock.now += seconds
            self._sweep()
        return Verdict(
            faults=[
                *self.oracle.faults(
                    readings=self.dynamo.items(READINGS),
                    devices=self.dynamo.items(DEVICES),
                    objects=self.s3.bodies(BUCKET),
                ),
                *event_faults(
                    self.dynamo.items(READINGS),
                    over=self.oracle.minutes_over(95_000),
                    told=self.sns.messages,
                    floods=self.dynamo.floods,
                ),
                *(f"another content under {key}" for key in (*self.s3.changed, *self.dynamo.changed)),
                *(f"left in the queue: {why}" for why in outcome.left),
            ],
            struck=dict(self.chaos.struck),
            records=self._records,
            unique=self.oracle.unique,
            told=len(self.sns.messages),
            poison=self.oracle.poison,
            late=self.oracle.late,
            periods=self.oracle.periods,
            discarded=len(self.oracle.discarded),
            replay=outcome,
            seconds=time.monotonic() - begins,
        )

    def _work_off(self) -> None:
        while not all(shard.source.is_idle and not shard.unread for shard in self._shards.values()):
            self.clock.now += 1.0
            self._work()

    def _add_shard(self, name: str, *, parent: str | None = None) -> None:
        redelivery = Redelivery(probability=0.02, seed=self.chaos.seed)
        shard = Shard(name=name, source=EventSource(MAPPING, redelivery=redelivery), parent=parent)
        self._shards[name] = shard

    def _worker(self) -> handler.Runtime:
        """A process that remembers nothing yet, and that draws no nonce which another one has drawn."""
        self._processes += 1
        dice = random.Random(f"{self.chaos.seed}:{self._processes}")
        return new_worker(self.dynamo, self.s3, self.sns, dice=dice, clock=self.clock)

    def _put(self, sent: Any) -> None:
        is_resharded = sent.received_at / 1000 >= BEGINS + RESHARD * self.chaos.lasts
        hashed = crc32(sent.thing.encode())
        name = f"shardId-{hashed % 4:012d}"
        if name == SPLIT and is_resharded:
            name = CHILDREN[hashed // 4 % 2]
            if name not in self._shards:
                self.chaos.struck["reshard"] = 1
                for child in CHILDREN:
                    self._add_shard(child, parent=SPLIT)
        self._number += 1
        self._records += 1
        self.oracle.put(self._number, sent)
        self._shards[name].unread.append(
            StreamRecord(
                sequence=str(self._number),
                partition_key=sent.thing,
                data=sent.envelope(),
                arrived=sent.received_at / 1000,
            )
        )

    def _work(self) -> None:
        if self.clock.now >= self._swept + SWEEP_S:
            self._swept = self.clock.now
            self.chaos.arm()
            with suppress(Crash):
                self._sweep()
        for shard in list(self._shards.values()):
            parent = None if shard.parent is None else self._shards[shard.parent]
            if parent is None or (parent.source.is_idle and not parent.unread):
                self._work_on(shard)

    def _work_on(self, shard: Shard) -> None:
        source = shard.source
        while True:
            if source.wants_records and shard.unread:
                source.receive(_taken(shard.unread, MAPPING.batch_size), now=self.clock.now)
            action = source.next_action(now=self.clock.now)
            if isinstance(action, Invoke):
                self._invoke(shard, action.records)
            elif isinstance(action, Discard):
                if not self._discard(shard, action):
                    return
            else:
                return

    def _invoke(self, shard: Shard, records: tuple[StreamRecord, ...]) -> None:
        event = kinesis_event(records, shard=shard.name, stream_arn=STREAM, role_arn="", region=REGION)
        if shard.name == DEAD and self.chaos.is_dead():
            self.chaos.struck["dead_shard"] += 1
            shard.source.failed(now=self.clock.now)
            return
        self.chaos.arm()
        racers = RACERS if self.chaos.strikes("race") else 0
        try:
            answer = self._call(event, racers=racers)
        except Crash:
            shard.source.failed(now=self.clock.now)
        else:
            shard.source.answered(answer, now=self.clock.now)

    def _sweep(self) -> None:
        self._call({"sweep": True}, racers=0)

    def _call(self, event: dict[str, Any], *, racers: int) -> Any:
        """One environment's answer; before it moves its first lane, others go through the same window."""
        worker = self._free.pop(self._dice.randrange(len(self._free)))
        self.dynamo.before_move = (lambda: self._race(event, racers - 1)) if racers else None
        try:
            return handler.respond(worker, event, Context())
        except Crash:
            worker = self._worker()
            raise
        finally:
            self.dynamo.before_move = None
            self._free.append(worker)

    def _race(self, event: dict[str, Any], racers: int) -> None:
        try:
            self._call(event, racers=racers)
        except Crash:
            return  # the racer is gone; who was overtaken goes on

    def _discard(self, shard: Shard, action: Discard) -> bool:
        body = failure_message(
            action,
            shard=shard.name,
            stream_arn=STREAM,
            function_arn="function",
            request_id="request",
            error="Unhandled",
            now=self.clock.now,
        )
        if not self.sqs.send(json.dumps(body)):
            return False
        self.kinesis.records.setdefault(shard.name, []).extend(action.records)
        self.oracle.discarded.update(int(record.sequence) for record in action.records)
        shard.source.discarded(action.records)
        return True

    def _replay(self) -> Outcome:
        def invoke(event: dict[str, Any]) -> Any:
            try:
                return self._call(event, racers=0)
            except Crash as error:
                raise FunctionError(str(error)) from error

        queue = Processor(sqs=self.sqs, kinesis=self.kinesis, invoke=invoke, queue_url="queue", region=REGION)
        return redrive(queue)


def _taken(records: deque[StreamRecord], limit: int) -> Iterable[StreamRecord]:
    return [records.popleft() for _ in range(min(limit, len(records)))]
