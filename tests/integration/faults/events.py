"""Expected events and the expected notifications of them. It shares no code with the processor."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec

from tests.integration.faults.load import MINUTE

KINDS = {"anomaly": "begin", "escalated": "escalated", "ended": "end"}
SHOWN = 5


@dataclass(kw_only=True)
class Floods:
    """Keys of the events of each flood, from all that was ever written to the items of plants; by id of the flood.

    `kinds` are those of their messages, by number.
    """

    events: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    on: dict[str, set[bytes]] = field(default_factory=dict)
    kinds: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))

    def write(self, item: Any) -> None:
        """Note what an item of a plant says."""
        facility = item["lane"]["S"].removeprefix("plant#")
        for flood in msgspec.msgpack.decode(b64decode(item["state"]["B"]))["floods"]:
            started = datetime.fromtimestamp(flood["started"] / 1000, UTC).isoformat(timespec="milliseconds")
            name = f"{facility}#flood#{started[:23]}Z"
            self.on[name] = set(flood["on"])
            self.events[name] |= {*flood["on"], *flood["over"]}
        for attribute, value in item.items():
            if attribute.startswith("message "):
                message = json.loads(value["S"])
                name, _, number = message["event_id"].rpartition("#")
                if message["detector"] == "flood":
                    self.kinds[name][int(number)] = message["kind"]

    def faults(self, events: dict[tuple[str, ...], Any], messages: dict[str, Any]) -> list[str]:
        """Return what is wrong in the messages of floods, by event id."""
        things = {_key(*place): place[0] for place in events}
        found = [f"told of a flood that is not there: {name}" for name in messages if _flood(name) not in self.events]
        for name, keys in self.events.items():
            told = {int(each.rpartition("#")[2]): message for each, message in messages.items() if _flood(each) == name}
            # One that waits for the topic gives way to a later one of its kind.
            needed = {kind: number for number, kind in sorted(self.kinds[name].items())}
            if not told or not {*needed.values()} <= told.keys() <= self.kinds[name].keys():
                found.append(f"a flood whose messages {sorted(told)} were told: {name}")
                continue
            kinds, last = [told[number]["kind"] for number in sorted(told)], told[max(told)]
            if kinds[0] != "begin" or (not self.on[name] and kinds[-1] != "end"):
                found.append(f"a flood that was told as {kinds}: {name}")
            machines = len({things[key] for key in keys if key in things})
            if kinds[-1] == "end" and (last["machines"], last["value"]) != (machines, machines):
                found.append(f"a flood of {machines} machines that was told as: {last['text']}")
        return found

    def covers(self, thing: str, bucket: str) -> bool:
        """Return whether an event is in a flood."""
        return any(_key(thing, bucket) in keys for keys in self.events.values())


def _flood(event_id: str) -> str:
    return event_id.rpartition("#")[0]


def _key(thing: str, bucket: str) -> bytes:
    """The key of an event by the item of its begin, its escalation or its end."""
    event = "#".join(["anomaly", *bucket.split("#")[1:4]])
    machine = blake2b(thing.encode(), digest_size=3).digest()
    return machine + blake2b(f"{thing}#{event}".encode(), digest_size=5).digest()


def event_faults(items: list[Any], *, over: set[tuple[str, int]], told: list[str], floods: Floods) -> list[str]:
    """Everything that is not as it must be, the first of each kind.

    `over` are the things and starts of minutes in which a limit was passed, `told` the messages of the topic. An event
    is told by itself, or is one of a flood that is told.
    """
    events = {
        (item["device"]["S"], item["bucket"]["S"]): item
        for item in items
        if item["bucket"]["S"].partition("#")[0] in KINDS
    }
    contents: dict[str, set[str]] = defaultdict(set)
    of_floods: dict[str, Any] = {}
    for message in told:
        content = json.loads(message)
        contents[content["event_id"]].add(message)
        if content["detector"] == "flood":
            of_floods[content["event_id"]] = content
    found = [
        *(f"told in {len(each)} ways: {name}" for name, each in contents.items() if len(each) > 1),
        *(
            f"nobody was told of {thing}#{bucket}"
            for thing, bucket in events
            if f"{thing}#{bucket}" not in contents and not floods.covers(thing, bucket)
        ),
        *(
            f"told of what is not there: {name}"
            for name in contents
            if name not in of_floods and tuple(name.split("#", 1)) not in events
        ),
        *(f"told otherwise than written: {name}" for name, each in contents.items() if not _agrees(events, name, each)),
        *(f"ended without a beginning: {place}" for place in events if not _has_begun(events, place)),
        *floods.faults(events, of_floods),
    ]
    return [*found[:SHOWN], *_limit_faults(events, over)[:SHOWN]]


def _agrees(events: dict[tuple[str, ...], Any], name: str, messages: set[str]) -> bool:
    item = events.get(tuple(name.split("#", 1)))
    if item is None:
        return True
    for message in map(json.loads, messages):
        said = (message["kind"], message["severity"], message["text"], message["value"], message.get("ended_at"))
        if said != (
            KINDS[item["bucket"]["S"].partition("#")[0]],
            item["severity"]["S"],
            f"{item['device']['S']}: {item['reason']['S']}",
            float(item["value"]["N"]),
            item.get("ended_at", {"S": None})["S"],
        ):
            return False
    return True


def _has_begun(events: dict[tuple[str, ...], Any], place: tuple[str, ...]) -> bool:
    thing, bucket = place
    # Another metric that joins an event is named after it.
    return (thing, "#".join(["anomaly", *bucket.split("#")[1:4]])) in events


def _limit_faults(events: dict[tuple[str, ...], Any], over: set[tuple[str, int]]) -> list[str]:
    """Return the minutes over the limit that are in no event, and the events that have no such minute."""
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    found = []
    for (thing, bucket), item in events.items():
        kind, moment, metric, detector, *_ = bucket.split("#")
        if kind != "anomaly" or metric != "temperature" or not detector.startswith("limits"):
            continue
        began = _milliseconds(moment)
        if (thing, began - began % MINUTE) not in over:
            found.append(f"an event without cause: {thing} {bucket}")
        end = item.get("ended_at") or events.get((thing, f"ended#{bucket.partition('#')[2]}"), {}).get("ended_at")
        spans[thing].append((began, _milliseconds(end["S"]) if end else 1 << 62))
    return found + [
        f"over its limit and in no event: {thing} {start}"
        for thing, start in over
        if not any(began < start + MINUTE and ended >= start for began, ended in spans[thing])
    ]


def _milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
