"""A plant in trouble: the real handler in several environments and lanes, and the messages that people get.

The machines of a plant lose power and come back. 500 of them have limits; 10 the machine detector, whose
learned state is that of one machine (500 in `make soak`, by `FLEET_FLOOD_MACHINES`).
"""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from benchmarks.aws import dynamodb, refused, s3
from benchmarks.aws.sns import Sns
from benchmarks.function import (
    BUCKETS,
    LANES,
    READINGS,
    TABLES,
    TOPIC,
    Clients,
    Clock,
    Context,
    environment,
    new_process,
)
from benchmarks.machines import power_failure
from benchmarks.readings import payload_of
from fleet_iot.operations.local.event_source import StreamRecord, kinesis_event
from fleet_iot.operations.telemetry.shelves import shelve
from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.adapters import Retry
from fleet_iot.sensor_processor.adapters.plants import WAITING
from fleet_iot.sensor_processor.detection import DeviceDetectors
from fleet_iot.sensor_processor.ingest.catalogue import parse_catalogue
from fleet_iot.sensor_processor.ingest.log import Log
from fleet_iot.sensor_processor.planning.device_state import DeviceState, pack_state
from fleet_iot.sensor_processor.planning.items import iso
from fleet_iot.sensor_processor.planning.lane import Link, Outbox, Pointer, lane_of, pack_object, state_key
from fleet_iot.sensor_processor.planning.plant import Shelf
from tests.integration.faults import controls
from tests.integration.faults.chaos import Crash
from tests.integration.faults.events import Floods, event_faults

MACHINES = int(os.environ.get("FLEET_FLOOD_MACHINES", "10"))
STARTS = 1_795_445_340_000
MINUTE, DAY = 60_000, 86_400_000
MOST = 10
"""Messages to people about a plant that loses power and comes back."""

Values = dict[str, float]
LIMITS = {"power": {"unit": "kW", "min": 2.0, "detector": "limits"}, "pressure": {"unit": "bar", "min": 1.0}}
LEARNS = {
    "casing_temperature": {"unit": "celsius", "detector": "machine"},
    "vibration": {"unit": "mm/s", "detector": "machine"},
    "pressure": {"unit": "bar", "detector": "machine"},
    "power": {"unit": "kW", "detector": "machine"},
}
ON, OFF = {"power": 14.0, "pressure": 10.0}, {"power": 0.0, "pressure": 0.0}


class DynamoDb(dynamodb.DynamoDb):
    """Tables that note what plants' items say, and refuse each `throttled` write of one."""

    def __init__(self) -> None:
        super().__init__(TABLES)
        self.floods = Floods()
        self.throttled = 0
        self._writes = 0

    def _apply(self, write: dynamodb.Write) -> None:
        item = write.after.item() if write.after else {}
        if write.name == LANES and "state" in item:
            self._writes += 1
            if self.throttled and self._writes % self.throttled:
                raise refused("ProvisionedThroughputExceededException", "UpdateItem")
            self.floods.write(item)
        super()._apply(write)


class Topic(Sns):
    """A topic, which may be down, or whose next caller may die before a message of a flood is there."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.published = self.messages.append
        self.is_down = self.kills = False

    def publish_batch(self, **request: Any) -> dict[str, Any]:
        """Publish, or fail."""
        if self.is_down:
            raise refused("InternalError", "PublishBatch", status=500)
        if self.kills and any('"flood"' in each["Message"] for each in request["PublishBatchRequestEntries"]):
            self.kills = False
            raise Crash("killed")
        return super().publish_batch(**request)


@dataclass(kw_only=True)
class Site:
    """Devices, four environments that take batches in random turn, and what is stored and published.

    In a minute there are `parts` batches of each lane, and after `sweeps` minutes a sweep.
    """

    metrics: Mapping[str, Any]
    seed: int = 1
    clock: Clock = field(default_factory=lambda: Clock(now=STARTS / 1000))
    number: int = 10**20
    passed: int = 0
    parts: int = 6
    sweeps: int = 1

    def __post_init__(self) -> None:
        self.dynamo, self.sns = DynamoDb(), Topic()
        self.dice = random.Random(self.seed)
        self._clients = Clients(dynamodb=self.dynamo, s3=s3.S3(buckets=BUCKETS), sns=self.sns)
        self._catalogue = {"application": "mfg", "device_types": {"pump": {"metrics": dict(self.metrics)}}}
        self.processes = [self.process() for _ in range(4)]

    def process(self) -> handler.Runtime:
        """Start an environment."""
        with environment(self._catalogue, ANOMALY_TOPIC_ARN=TOPIC, LOG_LEVEL="ERROR"):
            return new_process(
                self._clients, dice=random.Random(self.dice.random()), clock=self.clock, sleep=self.clock.sleep
            )

    def send(self, readings: Iterable[tuple[str, Values]]) -> None:
        """Send one reading each of some things, now: a batch of each lane, in random turn."""
        time = int(self.clock.now * 1000)
        batches: dict[str, list[StreamRecord]] = {}
        for thing, values in readings:
            self.number += 1
            batches.setdefault(lane_of(thing, 4), []).append(_record(thing, values, time=time, number=self.number))
        for lane in self.dice.sample(sorted(batches), len(batches)):
            event = kinesis_event(tuple(batches[lane]), shard="s", stream_arn="s", role_arn="", region="r")
            self.handle(event)

    def handle(self, event: dict[str, Any]) -> None:
        """Handle an event in some environment; where it dies, in another one."""
        for _ in range(2):
            place = self.dice.randrange(len(self.processes))
            try:
                assert handler.respond(self.processes[place], event, Context()) == {"batchItemFailures": []}
            except Crash:
                self.processes[place] = self.process()
            else:
                return

    def minute(self, values: Mapping[str, Values]) -> None:
        """Let a minute pass, in which each of some things sends a reading, and a sweep follows."""
        things = sorted(values)
        for part in range(self.parts):
            self.clock.now += 60 / self.parts
            if batch := [(thing, values[thing]) for thing in things[part :: self.parts]]:
                self.send(batch)
        self.passed += 1
        if self.passed % self.sweeps == 0:
            self.sweep()

    def sweep(self, *, minutes: int = 0) -> None:
        """Sweep, now or each minute of some that pass."""
        for _ in range(minutes or 1):
            self.clock.now += 60 if minutes else 0
            self.handle({"sweep": True})

    def run(
        self, course: Callable[[str, int], Values], things: Iterable[str], *, minutes: int, silent: Iterable[int] = ()
    ) -> None:
        """Let minutes pass; `course` gives the values of a thing at a minute since the beginning."""
        things, silent = list(things), set(silent)
        for _ in range(minutes):
            self.minute({} if self.passed in silent else {thing: course(thing, self.passed) for thing in things})

    def stored(self, kind: str) -> set[str]:
        """Return the things that have an event of a kind in the table."""
        items = self.dynamo.items(READINGS)
        return {item["device"]["S"] for item in items if item["bucket"]["S"].startswith(f"{kind}#")}

    def told(self) -> list[dict[str, Any]]:
        """Return the messages."""
        return [json.loads(message) for message in self.sns.messages]

    def faults(self) -> list[str]:
        """Return what is wrong between the events in the table and the messages."""
        items = self.dynamo.items(READINGS)
        return event_faults(items, over=set(), told=self.sns.messages, floods=self.dynamo.floods)


def _record(thing: str, values: Values, *, time: int, number: int) -> StreamRecord:
    envelope = {
        "raw": base64.b64encode(payload_of(time, number - 10**20, values)).decode(),
        "facility": thing.rsplit("-pump", 1)[0],
        "device_type": "pump",
        "thing": thing,
        "client_id": thing,
        "principal": "a" * 64,
        "received_at": time,
        "trace_id": "00000000-0000-0000-0000-000000000000",
    }
    data = json.dumps(envelope).encode()
    return StreamRecord(sequence=str(number), partition_key=thing, data=data, arrived=time / 1000)


def pumps(count: int, facility: str = "sg-01") -> list[str]:
    return [f"{facility}-pump-{number:04d}-dev" for number in range(1, count + 1)]


def fails(*, at: int = 1, minutes: int = 4) -> Callable[[str, int], Values]:
    """All stop at a minute and start again some minutes later."""
    return lambda thing, minute: OFF if at <= minute < at + minutes else ON


def test_500_machines_that_lose_power_are_few_messages() -> None:
    """Each has a begin and an end of its own in the table; people get at most ten messages, the last at the end."""
    site = Site(metrics=LIMITS)
    things = pumps(500)
    site.run(fails(), things, minutes=17, silent=[2, 3, 4, *range(6, 16)])  # which is quicker here
    site.sweep(minutes=15)

    assert (set(things), set(things)) == (site.stored("anomaly"), site.stored("ended"))
    assert [] == site.faults()
    told = site.told()
    assert len(told) <= MOST
    alone, flood = [[each for each in told if ("machines" in each) is is_flood] for is_flood in (False, True)]
    assert (3, ["begin"]) == (len(alone), sorted({each["kind"] for each in alone}))
    assert ("begin", "end", 500) == (flood[0]["kind"], flood[-1]["kind"], flood[-1]["machines"])
    assert flood[-1]["text"].startswith("power and 1 other metric: over on all 500 machines of sg-01, since 2026-11-23")
    assert ("critical", "sg-01", "sg-01") == tuple(flood[0][name] for name in ("severity", "facility", "thing"))


@pytest.mark.slow
def test_machines_that_lose_power_are_few_messages_of_the_machine_detector() -> None:
    """Machines that were learned for a week: one event each in the table, at most ten messages, none critical."""
    catalogue = parse_catalogue(
        json.dumps({"application": "mfg", "device_types": {"pump": {"metrics": LEARNS}}}).encode()
    )
    metrics = catalogue.device_types["pump"]
    readings = [(time, values) for _, time, values in power_failure(machines=1, days=8.0, minutes=20.0)]
    learned = [each for each in readings if each[0] < readings[0][0] + 8 * DAY - 5 * MINUTE]
    detectors = DeviceDetectors()
    for number, (time, values) in enumerate(learned):
        detectors.learn((time, number), values, metrics=metrics, ahead=0, most=100)
    site = Site(metrics=LEARNS, clock=Clock(now=learned[-1][0] / 1000 + 10), parts=1, sweeps=10)
    things = pumps(MACHINES)
    _restore(site, things, detectors.pack(), time=learned[-1][0])
    site.number += len(learned)
    later = [values for _, values in readings[len(learned) :]]
    for values in [*later, *(values for _, values in learned[len(later) - 1440 :])]:
        site.minute(dict.fromkeys(things, values))
        if site.passed % 30 == 0 and set(things) == site.stored("ended"):
            break
    site.sweep(minutes=15)

    assert (set(things), set(things)) == (site.stored("anomaly"), site.stored("ended"))
    assert [] == site.faults()
    told = site.told()
    assert len(told) <= MOST
    assert {"warning"} == {each["severity"] for each in told}
    assert (MACHINES, "end") == (told[-1]["machines"], told[-1]["kind"])


def _retry(site: Site) -> Retry:
    return Retry(
        deadline=1e12, is_transient=lambda error: False, clock=site.clock, sleep=site.clock.sleep, random=site.dice
    )


def _restore(site: Site, things: Iterable[str], detectors: bytes, *, time: int) -> None:
    """Give things one learned state, in lanes that have committed it."""
    store = site.processes[0].log.lanes
    retry = _retry(site)
    store.number(fixes=True, retry=retry)
    lanes: dict[str, dict[str, Any]] = {}
    for thing in things:
        state = DeviceState(
            facility="sg-01",
            device_type="pump",
            certificate_id="a" * 64,
            first_contact=time,
            last_contact=time,
            newest=time,
            detectors=detectors,
            minutes_through=time - time % MINUTE,
            hours_through=time - time % (60 * MINUTE),
            days_through=time - time % DAY,
        )
        lanes.setdefault(lane_of(thing, 4), {})[thing] = pack_state(thing, state)
    for lane, devices in lanes.items():
        body = pack_object(devices, Outbox(), is_base=True)
        before = Pointer(lane=lane, version=time, acked=time, is_stored=False)
        after = before.next(Link(store.nonce(), len(body)), is_base=True, is_acked=True, now=time)
        store.put(state_key(lane, after.version, after.chain[-1].nonce), body, retry=retry)
        assert store.move(before, after, retry=retry)


def test_one_machine_after_the_other_is_one_flood() -> None:
    """Every two minutes a machine fails, for an hour, and is on again half an hour later: nobody meant a flood."""
    site, things = Site(metrics={"power": LIMITS["power"]}, parts=1), pumps(30)
    course = lambda thing, minute: OFF if 2 * int(thing[-8:-4]) <= minute < 2 * int(thing[-8:-4]) + 30 else ON  # noqa: E731
    site.run(course, things, minutes=105)
    site.sweep(minutes=15)

    assert (set(things), set(things)) == (site.stored("anomaly"), site.stored("ended"))
    assert [] == site.faults()
    told = site.told()
    assert len(told) <= MOST + 2  # of critical ones, which become more, within ten minutes
    assert (30, "end") == (told[-1]["machines"], told[-1]["kind"])


def test_plants_are_floods_of_their_own() -> None:
    """Two plants fail at once, and two machines of a third one, which are notified one by one, begin and end.

    A plant may have the name of an attribute.
    """
    site = Site(metrics={"power": LIMITS["power"]})
    things = {plant: pumps(count, plant) for plant, count in (("sg-01", 40), ("lane", 20), ("th-ry-01", 2))}
    site.run(fails(), [thing for each in things.values() for thing in each], minutes=17)
    site.sweep(minutes=15)

    assert [] == site.faults()
    last = {each["facility"]: each for each in site.told()}
    assert {"sg-01": 40, "lane": 20, "th-ry-01": None} == {plant: each.get("machines") for plant, each in last.items()}
    two = [(kind, thing) for kind in ("begin", "end") for thing in things["th-ry-01"]]
    assert two == [(each["kind"], each["thing"]) for each in site.told() if each["facility"] == "th-ry-01"]


@contextmanager
def _trouble(site: Site, what: str) -> Iterator[None]:
    """Let something else be in trouble as well."""
    site.sns.is_down, site.sns.kills = what == "topic", what == "killed"
    site.dynamo.throttled = 3 if what == "table" else 0
    yield
    site.sns.is_down = False
    site.dynamo.throttled = 0


@pytest.mark.parametrize("what", ["topic", "table", "killed"])
def test_a_flood_is_notified_whatever_else_fails(what: str) -> None:
    """The topic is down for ten minutes, two of three writes are throttled, or who decided a flood dies then."""
    site, things = Site(metrics={"power": LIMITS["power"]}), pumps(40)
    with _trouble(site, what):
        site.run(fails(minutes=20), things, minutes=11)
    site.run(fails(minutes=20), things, minutes=22)
    site.sweep(minutes=25)

    assert (set(things), set(things)) == (site.stored("anomaly"), site.stored("ended"))
    assert [] == site.faults()
    told = site.told()
    assert len(told) <= MOST
    assert (40, "end") == (told[-1]["machines"], told[-1]["kind"])
    assert (0, 0) == (len(told) - len({each["event_id"] for each in told}), len(_waiting(site)))


def test_a_message_that_only_its_process_has_is_missed() -> None:
    """A processor that stores a flood without its message loses that message with the process, and is found out."""
    with controls.flood_without_message():
        site = Site(metrics={"power": LIMITS["power"]})
        with _trouble(site, "killed"):
            site.run(fails(), pumps(40), minutes=17)
        site.sweep(minutes=15)

    assert any("a flood whose messages" in fault for fault in site.faults())


def _message(thing: str, *, at: int, kind: str = "begin") -> str:
    event = f"anomaly#{iso(at)}#power#limits"
    content = {
        "event_id": f"{thing}#{event}#{kind}",
        "kind": kind,
        "severity": "critical",
        "facility": "sg-01",
        "device_type": "pump",
        "thing": thing,
        "metric": "power",
        "detector": "limits",
        "anomaly_id": event,
        "began_at": iso(at),
    }
    return json.dumps(content | ({"ended_at": iso(at)} if kind == "end" else {}))


def test_messages_that_wait_for_the_topic_are_bounded() -> None:
    """Of a flood one of each kind, of all floods the latest ones; when the topic is back, all go at once."""
    site, things = Site(metrics={"power": LIMITS["power"]}), pumps(8)
    lines: list[str] = []
    notifier, log = site.processes[0].log.notifier, Log(level="ERROR", request_id="r", write=lines.append)

    def decide(*messages: str, minutes: int = 0) -> None:
        site.clock.now += minutes * 60
        now, retry = int(site.clock.now * 1000), _retry(site)
        if messages:
            notifier.publish(messages, now=now, retry=retry, log=log)
        else:
            notifier.sweep(now=now, retry=retry, log=log)

    site.sns.is_down = True
    for _ in range(4):  # one flood, since not all of it ends
        at = int(site.clock.now * 1000)
        decide(*[_message(thing, at=at) for thing in things], minutes=5)
    decide(minutes=6)
    assert [1, 3] == sorted(int(json.loads(each)["event_id"][-1]) for each in _waiting(site).values())
    for _ in range(WAITING // 2):
        at = int(site.clock.now * 1000)
        decide(*[_message(thing, at=at) for thing in things], minutes=20)
        decide(*[_message(thing, at=at, kind="end") for thing in things], minutes=1)
        decide(minutes=11)
    assert WAITING == len(_waiting(site))
    assert any("given up" in line for line in lines)

    for number in range(5 * WAITING):
        site.dynamo.update_item(
            TableName=LANES,
            Key={"lane": {"S": "plant#sg-01"}},
            UpdateExpression="SET #message = :message",
            ExpressionAttributeNames={"#message": f"message {STARTS} {number}"},
            ExpressionAttributeValues={":message": {"S": _message(f"other-{number}", at=STARTS)}},
        )
    site.sns.is_down = False
    decide(minutes=1)
    assert (6 * WAITING, {}) == (len(site.sns.messages), _waiting(site))


def _waiting(site: Site) -> dict[str, str]:
    """Messages in the items of plants that were not published, by name."""
    items = site.dynamo.items(LANES)
    return {name: value["S"] for item in items for name, value in item.items() if name.startswith("message ")}


def _shelve(site: Site, thing: str, *, minutes: int, metric: str | None = None) -> None:
    now = datetime.fromtimestamp(site.clock.now, UTC)
    until = int(site.clock.now * 1000) + minutes * MINUTE
    shelf = Shelf(thing=thing, metric=metric, until=until, by="mei", at="now", note="bearing is changed")
    shelve(site.dynamo, LANES, facility="sg-01", shelf=shelf, now=now)


def test_what_outlasts_its_shelf_is_notified_then() -> None:
    """While a thing is shelved nobody is notified of it; at the end of the shelf, of what still lasts."""
    site, (first, second, third) = Site(metrics=LIMITS), pumps(3)
    _shelve(site, first, minutes=30)
    _shelve(site, second, minutes=30)
    _shelve(site, third, minutes=30, metric="pressure")
    course = lambda thing, minute: ON if minute < 2 or (thing == second and minute > 5) else OFF  # noqa: E731
    site.run(course, [first, second, third], minutes=29)

    assert {first, second, third} == site.stored("anomaly")
    assert {second} == site.stored("ended")
    assert [("begin", third, "power")] == [(each["kind"], each["thing"], each["metric"]) for each in site.told()]
    site.run(course, [first, second, third], minutes=3)
    assert [("begin", first, "power"), ("begin", first, "pressure"), ("begin", third, "pressure")] == sorted(
        (each["kind"], each["thing"], each["metric"]) for each in site.told()[1:]
    )
    assert [] == [name for item in site.dynamo.items(LANES) for name in item if name.startswith("shelf ")]
    assert {} == _waiting(site)


def test_a_shelved_machine_is_no_part_of_a_flood() -> None:
    """The others are; it is notified when its shelf is over, since it has not come back."""
    site, things = Site(metrics={"power": LIMITS["power"]}), pumps(40)
    _shelve(site, things[7], minutes=60)
    course = lambda thing, minute: OFF if minute >= 1 and (minute < 5 or thing == things[7]) else ON  # noqa: E731
    site.run(course, things, minutes=17)
    site.sweep(minutes=60)

    assert set(things) == site.stored("anomaly")
    flood, own = site.told()[-2:]
    assert (39, "end") == (flood["machines"], flood["kind"])
    assert ("begin", things[7]) == (own["kind"], own["thing"])
