"""The real processor under a hostile scheduler: each call of AWS may be followed by a pause, a kill or a lost answer.

Every invocation is a thread that runs only when the scheduler lets it, from one call to the next, so one seed is one
run. A shard's event source hands a batch to an environment by chance, and to another one, with other borders, once the
first has failed or is taken for dead, while that one may go on: a zombie.
"""

from __future__ import annotations

import base64
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from threading import Semaphore, Thread
from typing import Any

from botocore.exceptions import ReadTimeoutError

from benchmarks.aws import refused
from benchmarks.function import DEVICES as DEVICES_TABLE
from benchmarks.function import LANES, READINGS, STATES, Clock, Context
from fleet_iot.operations.local.event_source import StreamRecord, kinesis_event
from fleet_iot.sensor_processor import handler
from tests.integration.faults.chaos import Chaos, Crash
from tests.integration.faults.events import event_faults
from tests.integration.faults.load import DAY, HOUR, MINUTE, Sent, message, thing_of
from tests.integration.faults.oracle import highest
from tests.integration.faults.stubs import S3, DynamoDb, Sns
from tests.integration.faults.workers import new_worker

START = 1_795_445_340_000
DEVICES = 12
ENVIRONMENTS = 4


class Storm(Chaos):
    """Faults of calls: each pauses its thread before and after, and 1 % are not done or lose their answers."""

    pause: Callable[[], None] = staticmethod(lambda: None)
    kills: bool = True

    def strikes(self, name: str) -> bool:
        """Return whether a batch call leaves something out."""
        return not self.is_calm and name in ("unprocessed", "sns_refused") and self.random.random() < 0.03

    def is_down(self, service: str) -> bool:
        """No service is down for long."""
        return False

    def crash_if_due(self, name: str) -> None:
        """The scheduler kills."""

    @contextmanager
    def call(self, operation: str, *, is_write: bool = False) -> Iterator[None]:
        """Surround a call."""
        self.pause()
        if self._loses():
            raise refused("InternalServerError", operation, status=500)
        yield
        if self._loses():
            raise ReadTimeoutError(endpoint_url="https://aws")
        self.pause()

    def object_call(self, operation: str) -> Any:
        """Surround a call of S3's."""
        return self.call(operation)

    def _loses(self) -> bool:
        is_lost = not self.is_calm and self.random.random() < 0.01
        self.struck["lost"] += is_lost
        return is_lost


@dataclass(kw_only=True)
class Shard:
    """A shard's records, and how far its event source has come; `busy` is the invocation that it waits for."""

    records: list[StreamRecord] = field(default_factory=list)
    at: int = 0
    tries: int = 0
    busy: Invocation | None = None


class Invocation:
    """An invocation in a thread of its own, which runs from one call of AWS to the next when it is stepped."""

    def __init__(self, work: Callable[[], Any], *, shard: Shard | None = None, first: int = 0, until: int = 0) -> None:
        self.shard, self.first, self.until = shard, first, until
        self.sleeps = 0
        self.answer: Any = None
        self.error: BaseException | None = None
        self.is_over = False
        self.environment: int | None = None
        self._kill = False
        self._go, self._paused = Semaphore(0), Semaphore(0)
        self._thread = Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def step(self, *, kill: bool = False) -> None:
        """Let it run to its next call."""
        self._kill = kill
        self._go.release()
        self._paused.acquire()

    def pause(self) -> None:
        """Called in its thread: wait for the next step."""
        self._paused.release()
        self._go.acquire()
        if self._kill:
            raise Crash("killed")

    def _run(self, work: Callable[[], Any]) -> None:
        self._go.acquire()
        try:
            if not self._kill:
                self.answer = work()
        except BaseException as error:
            self.error = error
        self.is_over = True
        self._paused.release()


class Hostile:
    """One run by seed; `gives_up`: a batch that failed thrice is dropped and replayed at the end."""

    def __init__(self, seed: int, *, steps: int = 700, gives_up: bool = False, loses_base: bool = False) -> None:
        self.random = random.Random(seed)
        self.clock = Clock(now=START / 1000)
        self.chaos = Storm(seed=seed, clock=self.clock, begins=0, lasts=1)
        self.chaos.pause = self._pause
        self.dynamo, self.s3, self.sns = DynamoDb(self.chaos), S3(self.chaos), Sns(self.chaos)
        self.shards = [Shard(), Shard()]
        self.route = {device: device % 2 for device in range(1, DEVICES + 1)}
        self.sent: list[Sent] = []
        self.given_up: list[tuple[StreamRecord, ...]] = []
        self.counts: Counter[str] = Counter()
        self._steps, self._gives_up, self._loses_base = steps, gives_up, loses_base
        self._number = 0
        self._processes = 0
        self._running: list[Invocation] = []
        self._current: Invocation | None = None
        self._environments = [self._process() for _ in range(ENVIRONMENTS)]

    def run(self) -> list[str]:
        """Run to the end of the stream and of all that is left, and return what is wrong."""
        for step in range(self._steps):
            if step % 5 == 0:
                self._produce()
            if step % 12 == 0:
                self.clock.now += 10
            if step in (self._steps // 3, self._steps // 2):  # parent and child are read at once
                self.shards.append(Shard())
                self.route |= {d: len(self.shards) - 1 for d in self.route if self.random.random() < 0.4}
            if step % 40 == 39:
                self._start({"sweep": True})
            if self._loses_base and step % 100 == 99 and (states := self.s3.bodies(STATES)):
                self.s3.delete_object(Bucket=STATES, Key=self.random.choice(list(states)))
                self.counts["gone"] += 1
            self._schedule()
        self.chaos.is_calm = True
        while self._running or any(shard.at < len(shard.records) for shard in self.shards):
            self._schedule()
        for records in self.given_up:
            self._finish(self._start(self._event(records)))
        for seconds in (60, 60, 1_200, 60, 86_400, 60, 60):
            self.clock.now += seconds
            self._finish(self._start({"sweep": True}))
        return self._faults()

    # The stream.

    def _produce(self) -> None:
        for device in self.route:
            if self.random.random() < 0.35:
                draw = self.random.random()
                if draw < 0.08 and self.sent:
                    sent = self.random.choice(self.sent)
                else:
                    sent = self._reading(device, is_late=draw > 0.85)
                    self.sent.append(sent)
                self._number += 1
                self.shards[self.route[int(sent.thing[-8:-4])]].records.append(
                    StreamRecord(
                        sequence=str(10**20 + self._number),
                        partition_key=sent.thing,
                        data=replace(sent, received_at=int(self.clock.now * 1000)).envelope(),
                        arrived=self.clock.now,
                    )
                )

    def _reading(self, device: int, *, is_late: bool) -> Sent:
        time = int(self.clock.now * 1000) + len(self.sent) % 1_000
        if is_late:
            time -= self.random.choice([MINUTE, 5 * MINUTE, HOUR, 2 * HOUR, DAY])
        value = 97_000 if self.random.random() < 0.05 else self.random.randrange(60_000, 80_000)
        values = (("temperature", value),)
        payload = message(time, len(self.sent), values)
        return Sent(
            thing=thing_of(device),
            facility="my-jb-01" if device % 3 == 0 else "sg-01",
            principal=f"{device:064x}",
            raw=base64.b64encode(payload).decode(),
            payload=payload,
            received_at=0,
            time=time,
            sequence=len(self.sent),
            values=values,
        )

    def _event(self, records: tuple[StreamRecord, ...]) -> dict[str, Any]:
        return kinesis_event(records, shard="shardId-000000000000", stream_arn="s", role_arn="", region="r")

    # The scheduler.

    def _process(self) -> handler.Runtime:
        self._processes += 1
        worker = new_worker(
            self.dynamo,
            self.s3,
            self.sns,
            dice=random.Random(f"{self.random.random()}:{self._processes}"),
            clock=self.clock,
        )
        # Time passes for the world, not for the invocation: a zombie goes on as if it had none lost.
        return replace(worker, clock=lambda: 0.0, sleep=lambda seconds: None)

    def _pause(self) -> None:
        if self._current is not None:
            self._current.pause()

    def _start(
        self, event: dict[str, Any], *, shard: Shard | None = None, first: int = 0, until: int = 0
    ) -> Invocation:
        used = {each.environment for each in self._running}
        free = [place for place in range(ENVIRONMENTS) if place not in used]
        place = self.random.choice(free) if free else None
        process = self._process() if place is None else self._environments[place]
        invocation = Invocation(
            lambda: handler.respond(process, event, Context()), shard=shard, first=first, until=until
        )
        invocation.environment = place
        self._running.append(invocation)
        return invocation

    def _finish(self, invocation: Invocation) -> None:
        while not invocation.is_over:
            self._step(invocation)
        self._end(invocation)

    def _schedule(self) -> None:
        for shard in self.shards:
            if shard.busy is None and shard.at < len(shard.records) and self.random.random() < 0.6:
                most = max(1, 12 >> shard.tries)
                until = min(len(shard.records), shard.at + self.random.randint(1, most))
                records = tuple(shard.records[shard.at : until])
                if self._gives_up and shard.tries > 2 and not self.chaos.is_calm:
                    self.given_up.append(records)
                    shard.at, shard.tries = until, 0
                    continue
                shard.busy = self._start(self._event(records), shard=shard, first=shard.at, until=until)
        for _ in range(4):
            if not self._running:
                return
            invocation = self.random.choice(self._running)
            if invocation.sleeps:
                invocation.sleeps -= 1
                continue
            draw = self.random.random() if not self.chaos.is_calm else 1.0
            if draw < 0.006:
                self.counts["kills"] += 1
                self._abandon(invocation)
                self._step(invocation, kill=True)
            elif draw < 0.014:
                self.counts["zombies"] += 1
                self._abandon(invocation)
                invocation.sleeps = self.random.randint(20, 120)
            else:
                self._step(invocation)
            if invocation.is_over:
                self._end(invocation)

    def _step(self, invocation: Invocation, *, kill: bool = False) -> None:
        self._current = invocation
        invocation.step(kill=kill)
        self._current = None

    def _abandon(self, invocation: Invocation) -> None:
        """Take an invocation for dead: its environment is gone, and its shard tries again."""
        if invocation.environment is not None:
            self._environments[invocation.environment] = self._process()
            invocation.environment = None
        shard = invocation.shard
        if shard is not None and shard.busy is invocation:
            shard.busy, shard.tries = None, shard.tries + 1

    def _end(self, invocation: Invocation) -> None:
        self._running.remove(invocation)
        if invocation.error is not None and not isinstance(invocation.error, Crash):
            raise invocation.error
        shard = invocation.shard
        if shard is None or shard.busy is not invocation:
            return
        shard.busy = None
        is_heard = self.chaos.is_calm or self.random.random() > 0.03
        if invocation.answer is None or not is_heard:
            shard.tries += 1
            return
        failed = {each["itemIdentifier"] for each in invocation.answer["batchItemFailures"]}
        places = [
            place for place in range(invocation.first, invocation.until) if shard.records[place].sequence in failed
        ]
        shard.at = min(places, default=invocation.until)
        shard.tries = shard.tries + 1 if places else 0

    # What must be true at the end.

    def _faults(self) -> list[str]:
        items = highest(self.dynamo.items(READINGS))
        held = {(item["device"]["S"], item["bucket"]["S"]): _sums(item) for item in items if "messages" in item}
        expected: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        counted: Counter[str] = Counter()
        over = set()
        for sent in self.sent:
            value = sent.values[0][1]
            if not any(record.partition_key == sent.thing for shard in self.shards for record in shard.records):
                continue
            counted[sent.thing] += 1
            for length, pattern in (
                (MINUTE, "minute#%Y-%m-%dT%H:%MZ"),
                (HOUR, "hour#%Y-%m-%dT%HZ"),
                (DAY, "day#%Y-%m-%d"),
            ):
                start = sent.time // length * length / 1000
                sums = expected[sent.thing, datetime.fromtimestamp(start, UTC).strftime(pattern)]
                sums[0] += 1
                sums[1] += value
            if value > 95_000:
                over.add((sent.thing, sent.time // MINUTE * MINUTE))
        found = [
            f"{key}: {held.get(key)} instead of {expected.get(key)}"
            for key in sorted({*held, *expected})
            if held.get(key) != expected.get(key)
        ]
        described = {item["device"]["S"]: int(item["messages"]["N"]) for item in self.dynamo.items(DEVICES_TABLE)}
        found += [
            f"{name} counts {described.get(name)}, not {n}" for name, n in counted.items() if described.get(name) != n
        ]
        found += [f"another content under {key}" for key in (*self.dynamo.changed, *self.s3.changed)]
        lanes = [item for item in self.dynamo.items(LANES) if "acked" in item]
        found += [f"not emitted: {item['lane']}" for item in lanes if item["acked"] != item["version"]]
        # A reading that arrives out of order may belong to an event that began later, so not all minutes are in one.
        events = event_faults(items, over=over, told=self.sns.messages, floods=self.dynamo.floods)
        return found + [fault for fault in events if not fault.startswith("over its limit and in no event")]


def _sums(item: Any) -> list[int]:
    total = Decimal(item["metrics"]["M"]["temperature"]["M"]["sum"]["N"]) * 1000
    return [int(item["messages"]["N"]), int(total)]
