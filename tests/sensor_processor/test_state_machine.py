"""A state machine of deliveries, repeats, crashes and restarts in any order: the tables equal a model of a few lines.

`FLEET_MODEL_EXAMPLES` says how many runs are tried (25; 10,000 in `make soak`).
"""

from __future__ import annotations

import base64
import os
import random
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from benchmarks.function import READINGS, Clock, Context
from fleet_iot.operations.local.event_source import StreamRecord, kinesis_event
from fleet_iot.sensor_processor import handler
from tests.integration.faults.chaos import Chaos, Crash
from tests.integration.faults.load import Sent, message, thing_of
from tests.integration.faults.oracle import highest
from tests.integration.faults.stubs import S3, DynamoDb, Sns
from tests.integration.faults.workers import new_worker

START = 1_795_445_340_000

devices = st.integers(1, 2)
minutes = st.integers(0, 2)
sequences = st.integers(0, 3)
values = st.integers(-3, 3)
crashes = st.sampled_from([None, "crash_before_write", "crash_after_write"])


class Deliveries(RuleBasedStateMachine):
    """Few devices, minutes and sequence numbers, so that repeats and conflicts are frequent."""

    def __init__(self) -> None:
        super().__init__()
        self.chaos = Chaos(seed=0, clock=Clock(now=START / 1000), begins=0, lasts=1, is_calm=True)
        self.dynamo, self.s3, self.sns = DynamoDb(self.chaos), S3(self.chaos), Sns(self.chaos)
        self.stream: list[StreamRecord] = []
        self.acknowledged = 0
        self.model: dict[tuple[str, int], dict[int, int]] = {}
        self.conflicts: dict[tuple[str, int], set[tuple[int, int]]] = {}
        self.workers = 0
        self.worker = self.new_worker()

    def new_worker(self) -> handler.Runtime:
        self.workers += 1  # two processes never draw the same nonce
        dice = random.Random(self.workers)
        return new_worker(self.dynamo, self.s3, self.sns, dice=dice, clock=self.chaos.clock)

    @rule(device=devices, minute=minutes, sequence=sequences, value=values)
    def send(self, device: int, minute: int, sequence: int, value: int) -> None:
        """A device sends a reading; perhaps one that it has sent before, perhaps with another value."""
        thing, time = thing_of(device), START + 60_000 * minute + sequence
        payload = message(time, sequence, (("temperature", abs(value) * 1_000),))
        sent = Sent(
            thing=thing,
            facility=thing[:-23],
            principal=f"{device:064x}",
            raw=base64.b64encode(payload).decode(),
            payload=payload,
            received_at=int(self.chaos.clock.now * 1000),
        )
        number = str(10_000 + len(self.stream))
        self.stream.append(StreamRecord(sequence=number, partition_key=thing, data=sent.envelope(), arrived=0.0))
        known = self.model.setdefault((thing, minute), {})
        first = known.setdefault(sequence, abs(value))
        if first != abs(value):
            self.conflicts.setdefault((thing, minute), set()).add((sequence, abs(value)))

    @rule(back=st.integers(0, 5), crash=crashes, forgets=st.booleans())
    def deliver(self, back: int, crash: str | None, forgets: bool) -> None:
        """The stream's end comes, with some records that came before; a process that crashes gets them again."""
        records = tuple(self.stream[max(self.acknowledged - back, 0) :])
        if forgets:
            self.worker = self.new_worker()
        self.chaos._crash = None if crash is None else (crash, 0)
        event = kinesis_event(records, shard="shardId-000000000000", stream_arn="s", role_arn="", region="r")
        try:
            answer = handler.respond(self.worker, event, Context())
        except Crash:
            self.worker = self.new_worker()
            answer = handler.respond(self.worker, event, Context())
        finally:
            self.chaos._crash = None
        assert answer == {"batchItemFailures": []}
        self.acknowledged = len(self.stream)

    @rule(crash=crashes, seconds=st.sampled_from([1, 70, 3_600]))
    def sweep(self, crash: str | None, seconds: int) -> None:
        """Time passes and the lanes are swept, perhaps by a process that crashes."""
        self.chaos.clock.now += seconds
        self.chaos._crash = None if crash is None else (crash, 0)
        try:
            handler.respond(self.worker, {"sweep": True}, Context())
        except Crash:
            self.worker = self.new_worker()
        finally:
            self.chaos._crash = None

    @invariant()
    def tables_equal_the_model(self) -> None:
        """Every minute has each message once, with the first value that it came with, when all was delivered."""
        if self.acknowledged < len(self.stream):
            return
        self.chaos.clock.now += 300  # whatever is open closes
        handler.respond(self.worker, {"sweep": True}, Context())
        held: dict[Any, Any] = {}
        for item in highest(self.dynamo.items(READINGS)):
            if item["bucket"]["S"].startswith("minute#"):
                minute = int(item["bucket"]["S"][-3:-1]) - 49
                sums = item["metrics"]["M"]["temperature"]["M"]
                held[item["device"]["S"], minute] = (
                    int(item["messages"]["N"]),
                    Decimal(sums["sum"]["N"]),
                    int(item["conflicts"]["N"]),
                )
        expected = {
            key: (len(known), Decimal(sum(known.values())), len(self.conflicts.get(key, ())))
            for key, known in self.model.items()
        }
        assert held == expected


Deliveries.TestCase.settings = settings(
    max_examples=int(os.environ.get("FLEET_MODEL_EXAMPLES", "25")),
    stateful_step_count=20,
    suppress_health_check=list(HealthCheck),
)
TestDeliveries = Deliveries.TestCase
