"""Shards as they are: hash ranges that split and merge, and batches of all of them in environments in random turn.

Every call to AWS is a point at which another invocation may go on, so that invocations overlap there as they do in
Lambda; one may be killed there, or be given up by the event source and go on later. One seed is one run.

`run(seed=…, readings=…)` is all that a test needs.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from unittest.mock import patch

from botocore.exceptions import ReadTimeoutError

from benchmarks.function import BUCKET, DEVICES, LANES, READINGS, REGION, STATES, Clock, Context
from benchmarks.kinesis import HashRange, even_ranges, hash_key
from fleet_iot.archive_compactor.layout import RAW, column_of
from fleet_iot.archive_compactor.reader import archived_dates, load_state
from fleet_iot.archive_compactor.rows import from_parquet
from fleet_iot.operations.local.event_source import (
    EventSource,
    Invoke,
    Redelivery,
    SourceSettings,
    StreamRecord,
    kinesis_event,
)
from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.adapters import lanes as lane_items
from fleet_iot.sensor_processor.planning import lane as lane_objects
from fleet_iot.sensor_processor.planning.lane import lane_name, lane_of
from tests.archive_compactor.plants import MemoryS3, compactor
from tests.integration.faults.chaos import Chaos, Crash
from tests.integration.faults.events import event_faults
from tests.integration.faults.load import CATALOGUE, SPACING_MS, Load
from tests.integration.faults.oracle import Oracle, highest
from tests.integration.faults.stubs import S3, DynamoDb, Sns
from tests.integration.faults.workers import new_worker
from tests.integration.faults.world import BEGINS, FIRST_NUMBER, STREAM

SHARDS, ENVIRONMENTS = 4, 4
MAPPING = SourceSettings(batch_size=120, window_s=3.0, bisects=True, reports_items=True)

SPLIT, MERGE = 0.3, 0.6
"""After these parts of a run the second shard is split, and the last two are merged."""

DEPLOYS, DEPLOYED = 0.45, 0.55
"""Between these parts of a run an environment may be of the next version as well as of this one; later all are."""

FORMAT, NEXT_FORMAT = lane_objects.FORMAT, lane_objects.FORMAT + 1
"""Of the lanes that this version writes, and that the next one writes. This one cannot read those: its records come
again."""

NEXT_CATALOGUE = {
    "application": "mfg",
    "device_types": {
        "press-monitor": {
            "metrics": {
                "temperature": CATALOGUE["device_types"]["press-monitor"]["metrics"]["temperature"]  # type: ignore[index]
                | {"detector": "flatline"},
                "vibration": {"unit": "mm/s", "max": 11.2, "detector": "context"},
            }
        }
    },
}
"""Of the next version, whose manifest names other detectors."""

SILENT = (0.75, 0.85)
SILENT_S = 300.0
"""Between these parts of a run, where that is so long, the devices of one lane send nothing."""

KILLED, GIVEN_UP, LOST, COLD = 0.002, 0.003, 0.004, 0.03
"""Of the points at a call the first two, of the calls on either side the third, and of the invocations the last."""

RESUMES_S = 60.0
"""An invocation that was given up goes on within so long."""

STEPS = 80
"""Most points at a call that are passed in a second of the run."""

SWEEP_S = 60.0
GONE_S = 30.0
"""Once in so long an object of a lane's state is deleted, of which the bucket keeps the version."""

DAY_S = 86_400.0
SWEEP = {"sweep": True}
SHOWN = 5

ORDERLY = frozenset({"conflict", "race"})
"""Faults of the other harness that assume one order of a device's records, or do what overlapping does here."""


@dataclass(kw_only=True)
class Telling:
    """Counts how often each event was published, beside the faults that struck its lane since it was under way.

    An invocation that overlaps another one on a lane counts as a fault of that lane.
    """

    faults: Counter[str] = field(default_factory=Counter)
    excess: list[str] = field(default_factory=list)
    _times: Counter[str] = field(default_factory=Counter)
    _before: dict[str, int] = field(default_factory=dict)

    def struck(self, lanes: frozenset[str]) -> None:
        """Note a fault of these lanes."""
        self.faults.update(lanes)

    def published(self, event: str, lanes: frozenset[str], *, running: list[Invocation]) -> None:
        """Note that an event of `lanes` was published, while these invocations had not ended."""

        def count(faults: Counter[str]) -> int:
            return sum(faults[lane] for lane in lanes)

        if event not in self._before:
            self._before[event] = min(
                (count(each.faults_before) for each in running if lanes & each.lanes), default=count(self.faults)
            )
        elif self._times[event] > count(self.faults) - self._before[event]:
            self.excess.append(f"told {self._times[event] + 1} times without as many faults: {event}")
        self._times[event] += 1


class ShardChaos(Chaos):
    """Faults of messages and services, and those of invocations."""

    struck_in: Callable[[], None] = staticmethod(lambda: None)
    """Called after each fault that strikes within an invocation."""

    def strikes(self, name: str) -> bool:
        """Return whether the fault strikes here."""
        if name in ORDERLY or not super().strikes(name):
            return False
        self.struck_in()
        return True

    def is_down(self, service: str) -> bool:
        """Return that no service is: outages last longer than a run here."""
        return False

    def happens(self, name: str, rate: float) -> bool:
        """Return whether something that is no fault of a service happens here."""
        if self.is_calm or self.random.random() >= rate:
            return False
        self.struck[name] += 1
        self.struck_in()
        return True


class LocalClock(Clock):
    """The time of one process, which stands still while it is given up."""

    def __init__(self, shared: Clock) -> None:
        self._shared, self.behind = shared, 0.0

    def __call__(self) -> float:
        return self._shared() - self.behind

    def sleep(self, seconds: float) -> None:
        self._shared.sleep(seconds)


class Invocation:
    """A call of the function in a thread of its own, of which one at a time runs: from one call to AWS to the next.

    `lanes` are those that it may change, `faults_before` the faults that had struck each before it began, `writes` the
    format of lanes of its version.
    """

    _running = threading.local()

    def __init__(
        self, work: Callable[[], Any], *, lanes: frozenset[str], faults_before: Counter[str], writes: int
    ) -> None:
        self.lanes, self.faults_before = lanes, faults_before
        self._work, self._writes = work, writes
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._is_killed = False
        self.is_done = False
        self.answer: Any = None
        self.error: BaseException | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def step(self) -> None:
        """Let it go on to the next call, or to its end."""
        lane_objects.FORMAT = lane_items.FORMAT = self._writes
        self._go.release()
        self._stopped.acquire()

    def kill(self) -> None:
        """End it where it is: nothing in it gets to handle that."""
        self._is_killed = True
        while not self.is_done:
            self.step()

    @classmethod
    def current(cls) -> Invocation | None:
        """Return the invocation of this thread."""
        return getattr(cls._running, "invocation", None)

    @classmethod
    def pause(cls) -> None:
        """Wait for the next turn, where an invocation calls; any other thread goes on."""
        invocation = cls.current()
        if invocation is not None:
            invocation._stopped.release()
            invocation._go.acquire()
            if invocation._is_killed:
                raise Crash("killed")

    def _run(self) -> None:
        self._running.invocation = self
        self._go.acquire()
        try:
            if self._is_killed:
                raise Crash("killed before it began")
            self.answer = self._work()
        except BaseException as error:
            self.error = error
        self.is_done = True
        self._stopped.release()


class Door:
    """A client whose every call is a point where others go on, before and after it, and whose answers get lost."""

    def __init__(self, client: Any, chaos: ShardChaos) -> None:
        self._client, self._chaos = client, chaos

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(**request: Any) -> Any:
            Invocation.pause()
            if self._chaos.happens("lost_before", LOST):
                raise ReadTimeoutError(endpoint_url=f"https://{name}")
            answer = method(**request)
            Invocation.pause()
            if self._chaos.happens("lost_after", LOST):
                raise ReadTimeoutError(endpoint_url=f"https://{name}")
            return answer

        return call


@dataclass(eq=False, kw_only=True)
class Environment:
    """An execution environment: a process, whether it is at work, and the format of lanes that its version writes."""

    process: handler.Runtime
    clock: LocalClock
    writes: int
    is_busy: bool = False


@dataclass(eq=False, kw_only=True)
class Shard:
    """One shard; a closed one has no range any more, and records that are still to be read."""

    name: str
    range: HashRange | None
    source: EventSource
    unread: deque[StreamRecord] = field(default_factory=deque)
    is_busy: bool = False
    last_environment: Environment | None = None

    @property
    def is_empty(self) -> bool:
        """Return whether everything in it was handled."""
        return self.source.is_idle and not self.unread


@dataclass(eq=False, kw_only=True)
class Running:
    """An invocation, and what waits for it; one that was given up has no shard and goes on at `resumes`."""

    invocation: Invocation
    environment: Environment
    shard: Shard | None
    resumes: float = 0.0
    given_up_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Outcome of a run; `struck` counts faults, hops, overlapping invocations and reshards."""

    faults: list[str]
    struck: dict[str, int]
    records: int
    invocations: int


class Fleet:
    """Devices, shards, environments, and the stubs of AWS behind doors."""

    def __init__(self, *, seed: int, readings: int, killed: float) -> None:
        self.clock = Clock(now=BEGINS)
        self.chaos = ShardChaos(seed=seed, clock=self.clock, begins=BEGINS, lasts=readings * SPACING_MS / 1000)
        self.dynamo, self.s3, self.sns = DynamoDb(self.chaos), S3(self.chaos), Sns(self.chaos)
        self.telling = Telling()
        self.chaos.struck_in = self._struck
        self.sns.published = self._published
        self.oracle = Oracle()
        self.errors: list[str] = []
        self.records = self.invocations = 0
        self._doors = [Door(client, self.chaos) for client in (self.dynamo, self.s3, self.sns)]
        self._load = Load(self.chaos, readings=readings)
        self._dice = random.Random(f"{seed}:shards")
        self._sweeps_at, self._loses_at = BEGINS + SWEEP_S, BEGINS + GONE_S
        self._killed = killed
        self._processes = 0
        self._part = 0.0
        self._is_heard = False
        self._number = FIRST_NUMBER
        self._running: list[Running] = []
        self._shards: list[Shard] = []
        for each in even_ranges(SHARDS):
            self._open(each)
        self._environments = [self._environment() for _ in range(ENVIRONMENTS)]
        self._lanes = self._environments[0].process.settings.lanes

    def run(self) -> None:
        """Let everything happen, to the end of the stream and of every invocation."""
        tick = self.clock.now
        for sent in self._load.messages():
            if sent.received_at / 1000 >= tick + 1:
                self.clock.now = max(self.clock.now, sent.received_at / 1000)
                tick = sent.received_at / 1000
                self._work()
            self._put(sent)
        self._finish()
        self.chaos.is_calm = True
        # A device's newest reading decides what of it is over, so each has one when all faults are over.
        for sent in self._load.farewell(int(self.clock.now * 1000) + 600_000):
            self._put(sent)
        self.clock.now += 601.0
        self._finish()
        # By the end of the day after, every minute, hour and day is over, and every base old.
        for seconds in (*[SWEEP_S] * 20, DAY_S, *[SWEEP_S] * 20):
            self.clock.now += seconds
            self._start(None, SWEEP)
            self._finish()

    def _finish(self) -> None:
        while self._running or not all(shard.is_empty for shard in self._shards):
            self.clock.now += 1.0
            self._work()

    def _put(self, sent: Any) -> None:
        part = self._part = (sent.received_at / 1000 - BEGINS) / self.chaos.lasts
        self._deploy()
        if self._is_silent(sent):
            return
        if part >= SPLIT and "split" not in self.chaos.struck:
            self._reshard("split", [self._shards[1]])
        if part >= MERGE and "merge" not in self.chaos.struck:
            self._reshard("merge", self._shards[2:4])
        self._number += 1
        self.records += 1
        self.oracle.put(self._number, sent)
        key = hash_key(sent.thing)
        shard = next(each for each in self._shards if each.range is not None and key in each.range)
        shard.unread.append(
            StreamRecord(
                sequence=str(self._number),
                partition_key=sent.thing,
                data=sent.envelope(),
                arrived=sent.received_at / 1000,
            )
        )

    def _open(self, hashes: HashRange) -> None:
        redelivery = Redelivery(probability=0.02, seed=self.chaos.seed + len(self._shards))
        name = f"shardId-{len(self._shards):012d}"
        self._shards.append(Shard(name=name, range=hashes, source=EventSource(MAPPING, redelivery=redelivery)))

    def _reshard(self, what: str, parents: list[Shard]) -> None:
        """Close shards and open their children, which are read at once, while the parents still have records."""
        self.chaos.struck[what] += 1
        ranges = [parent.range for parent in parents if parent.range is not None]
        for parent in parents:
            parent.range = None
        for child in ranges[0].split() if what == "split" else (ranges[0].merge(ranges[1]),):
            self._open(child)

    def _environment(self) -> Environment:
        self._processes += 1
        dice = random.Random(f"{self.chaos.seed}:process:{self._processes}")
        clock = LocalClock(self.clock)
        is_next = self._part >= DEPLOYED or (self._part >= DEPLOYS and self._dice.random() < 0.5)
        catalogue = NEXT_CATALOGUE if is_next else CATALOGUE
        process = replace(new_worker(*self._doors, dice=dice, clock=clock, catalogue=catalogue), now=self.clock)
        return Environment(process=process, clock=clock, writes=NEXT_FORMAT if is_next else FORMAT)

    def _is_silent(self, sent: Any) -> bool:
        """Return whether the thing sends nothing now; at the end of that, its lane's minutes must have been stored."""
        (first, last), lane = SILENT, lane_name(0, self._lanes)
        if (last - first) * self.chaos.lasts < SILENT_S or lane_of(sent.thing, self._lanes) != lane:
            return False
        if first <= self._part < last:
            self.chaos.struck["silent"] += 1
            return True
        if self._part >= last and not self._is_heard:
            self._is_heard = True
            stored = {(item["device"]["S"], item["bucket"]["S"]) for item in self.dynamo.items(READINGS)}
            self.errors += [
                f"not stored while its lane was silent: {thing} {bucket}"
                for thing, bucket in self.oracle.minutes()
                if lane_of(thing, self._lanes) == lane and (thing, bucket) not in stored
            ]
        return False

    def _struck(self) -> None:
        invocation = Invocation.current()
        if invocation is not None:
            self.telling.struck(invocation.lanes)

    def _published(self, message: str) -> None:
        self.sns.messages.append(message)
        notice = json.loads(message)
        # A flood is of all lanes.
        is_flood = notice["detector"] == "flood"
        lanes = self._lanes_of(SWEEP) if is_flood else frozenset({lane_of(notice["thing"], self._lanes)})
        self.telling.published(notice["event_id"], lanes, running=[each.invocation for each in self._running])

    def _replace(self, environment: Environment) -> None:
        """Start another one, where this one was not replaced by a deployment before."""
        if environment in self._environments:
            self._environments[self._environments.index(environment)] = self._environment()

    def _deploy(self) -> None:
        """Start the next version in half of the environments, and later in all."""
        if self._part >= DEPLOYS and "deploy" not in self.chaos.struck:
            self.chaos.struck["deploy"] += 1
            for environment in self._environments[: ENVIRONMENTS // 2]:
                self._replace(environment)
        if self._part >= DEPLOYED:
            for environment in [each for each in self._environments if each.writes == FORMAT]:
                self._replace(environment)

    def _work(self) -> None:
        """Start what can be started, and let those that run go on in random turn."""
        if self.clock.now >= self._sweeps_at:
            self._sweeps_at = self.clock.now + SWEEP_S
            self._start(None, SWEEP)
        if self.clock.now >= self._loses_at and not self.chaos.is_calm:
            self._loses_at = self.clock.now + GONE_S
            self._lose_state()
        for _ in range(STEPS):
            for shard in self._dice.sample(self._shards, len(self._shards)):
                self._feed(shard)
            able = [each for each in self._running if each.resumes <= self.clock.now]
            if not able:
                return
            self._step(self._dice.choice(able))

    def _lose_state(self) -> None:
        """Delete an object that a lane's state is made of."""
        chains = [lane["chain"]["S"] for lane in self.dynamo.items(LANES) if "version" in lane]
        nonce = self._dice.choice(self._dice.choice(chains).split()).partition(":")[0]
        for key in [key for key in self.s3.bodies(STATES) if key.endswith(nonce)]:
            self.s3.delete_object(Bucket=STATES, Key=key)
            self.chaos.struck["gone"] += 1

    def _feed(self, shard: Shard) -> None:
        if shard.is_busy or all(environment.is_busy for environment in self._environments):
            return
        if shard.source.wants_records and shard.unread:
            taken = [shard.unread.popleft() for _ in range(min(MAPPING.batch_size, len(shard.unread)))]
            shard.source.receive(taken, now=self.clock.now)
        action = shard.source.next_action(now=self.clock.now)
        if isinstance(action, Invoke):
            event = kinesis_event(action.records, shard=shard.name, stream_arn=STREAM, role_arn="", region=REGION)
            self._start(shard, event)

    def _start(self, shard: Shard | None, event: dict[str, Any]) -> None:
        """Start an invocation in an environment by chance; a sweep has a process of its own."""
        if shard is None:
            environment = self._environment()
        else:
            self.invocations += 1
            environment = self._dice.choice([each for each in self._environments if not each.is_busy])
            if self.chaos.happens("cold", COLD):
                self._replace(environment)
                environment = next(each for each in self._environments if not each.is_busy)
            self.chaos.struck["hop"] += shard.last_environment not in (None, environment)
            shard.last_environment, shard.is_busy = environment, True
        environment.is_busy = True
        self.chaos.struck["overlap"] += bool(self._running)
        self.chaos.struck["two_versions"] += DEPLOYS <= self._part < DEPLOYED and environment.writes == FORMAT
        lanes = self._lanes_of(event)
        invocation = Invocation(
            lambda: handler.respond(environment.process, event, Context()),
            lanes=lanes,
            faults_before=Counter(self.telling.faults),
            writes=environment.writes,
        )
        for other in self._running:
            self.telling.struck(lanes & other.invocation.lanes)
        self._running.append(Running(invocation=invocation, environment=environment, shard=shard))

    def _lanes_of(self, event: dict[str, Any]) -> frozenset[str]:
        if event is SWEEP:
            return frozenset(lane_name(place, self._lanes) for place in range(self._lanes))
        return frozenset(lane_of(each["kinesis"]["partitionKey"], self._lanes) for each in event["Records"])

    def _step(self, running: Running) -> None:
        if running.given_up_at is not None:
            running.environment.clock.behind += self.clock.now - running.given_up_at
            running.given_up_at = None
            self.chaos.struck["resumed"] += 1
        if self.chaos.happens("killed", self._killed):
            self.telling.struck(running.invocation.lanes)
            running.invocation.kill()
        elif running.shard is not None and self.chaos.happens("given_up", GIVEN_UP):
            self.telling.struck(running.invocation.lanes)
            self._lose(running)
            running.given_up_at = self.clock.now
            running.resumes = self.clock.now + self._dice.uniform(0, RESUMES_S)
            return
        else:
            running.invocation.step()
        if running.invocation.is_done:
            self._end(running)

    def _lose(self, running: Running) -> None:
        """The event source no longer waits for an invocation, and its environment gets no other."""
        shard = running.shard
        if shard is not None:
            shard.source.failed(now=self.clock.now)
            shard.is_busy = False
            self._replace(running.environment)
        running.shard = None

    def _end(self, running: Running) -> None:
        self._running.remove(running)
        error = running.invocation.error
        if error is not None:
            if not isinstance(error, Crash):
                self.errors.append(f"the function raised {error!r}")
            self._lose(running)
            return
        running.environment.is_busy = False
        if running.shard is not None:
            running.shard.is_busy = False
            running.shard.source.answered(running.invocation.answer, now=self.clock.now)


def _faults(fleet: Fleet) -> list[str]:
    """Return everything that is not as it must be in tables, archive, lanes and notifications."""
    readings = fleet.dynamo.items(READINGS)
    lanes = [item for item in fleet.dynamo.items(LANES) if "version" in item]
    return [
        *fleet.oracle.faults(readings=readings, devices=fleet.dynamo.items(DEVICES), objects=fleet.s3.bodies(BUCKET)),
        *event_faults(
            readings,
            over=fleet.oracle.minutes_over(95_000),
            told=fleet.sns.messages,
            floods=fleet.dynamo.floods,
        ),
        *_archive_faults(fleet.s3.bodies(BUCKET), highest(readings), now=int(fleet.clock.now * 1000)),
        *(f"another content under {key}" for key in (*fleet.s3.changed, *fleet.dynamo.changed)),
        *(f"not emitted: {lane['lane']['S']}" for lane in lanes if lane["acked"] != lane["version"]),
    ]


def _archive_faults(objects: dict[str, bytes], items: list[Any], *, now: int) -> list[str]:
    """Return records that the compacted archive has twice, and its sums that are not those of the table's minutes."""
    s3 = MemoryS3(objects={key: body for key, body in objects.items() if key.startswith(RAW)})
    report = compactor(s3, now=now + 2 * 86_400_000, expires=False).run()
    readings: dict[Any, tuple[str, dict[str, float]]] = {}
    records: Counter[str] = Counter()
    for day in archived_dates(s3.bucket()):
        for output in load_state(s3.bucket(), day).outputs:
            for batch in from_parquet(s3.objects[output.key]):
                columns = {name: batch.column(name).to_pylist() for name in batch.column_names}
                for row in zip(*columns.values(), strict=True):
                    line = dict(zip(columns, row, strict=True))
                    records[line["sequence_number"]] += line["reading"] == 0
                    message = line["raw"] if line["sequence"] is None else line["sequence"]
                    values = {
                        name: line[name]
                        for name in columns
                        if name.startswith(column_of("")) and line[name] is not None
                    }
                    readings.setdefault((line["thing"], line["taken_at"], message), (line["thing"], values))
    archived: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for thing, values in readings.values():
        for column, value in values.items():
            archived[thing, column] += Decimal(repr(value))
    stored: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for item in items:
        if item["bucket"]["S"].startswith("minute#"):
            for metric, numbers in item["metrics"]["M"].items():
                stored[item["device"]["S"], column_of(metric)] += Decimal(numbers["M"]["sum"]["N"])
    differ = [place for place in archived.keys() | stored.keys() if archived[place] != stored[place]]
    repeated = [f"{count} times in the archive: {number}" for number, count in records.items() if count != 1]
    return [
        *report.failed,
        *repeated[:SHOWN],
        *(f"archive {archived[place]}, table {stored[place]}: {place}" for place in differ[:SHOWN]),
    ]


def run(
    *,
    seed: int,
    readings: int,
    killed: float = KILLED,
) -> Verdict:
    """Run a fleet by seed; an invocation is killed at a share `killed` of its calls."""
    with patch.object(lane_objects, "FORMAT", FORMAT), patch.object(lane_items, "FORMAT", FORMAT):
        fleet = Fleet(seed=seed, readings=readings, killed=killed)
        fleet.run()
    return Verdict(
        faults=[*fleet.errors[:SHOWN], *fleet.telling.excess[:SHOWN], *_faults(fleet)],
        struck=dict(fleet.chaos.struck),
        records=fleet.records,
        invocations=fleet.invocations,
    )
