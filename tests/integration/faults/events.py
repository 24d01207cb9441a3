"""Expected events and the expected notifications of them. It shares no code with the processor."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime
from typing import Any

from tests.integration.faults.load import MINUTE

KINDS = {"anomaly": "begin", "escalated": "escalated", "ended": "end"}
SHOWN = 5


def event_faults(items: list[Any], *, over: set[tuple[str, int]], told: list[str]) -> list[str]:
    """Everything that is not as it must be, the first of each kind.

    `over` are the things and starts of minutes in which a limit was passed, `told` the messages of the topic.
    """
    events = {
        (item["device"]["S"], item["bucket"]["S"]): item
        for item in items
        if item["bucket"]["S"].partition("#")[0] in KINDS
    }
    contents: dict[str, set[str]] = defaultdict(set)
    for message in told:
        contents[json.loads(message)["event_id"]].add(message)
    found = [
        *(f"told in {len(each)} ways: {name}" for name, each in contents.items() if len(each) > 1),
        *(f"nobody was told of {thing}#{bucket}" for thing, bucket in events if f"{thing}#{bucket}" not in contents),
        *(f"told of what is not there: {name}" for name in contents if tuple(name.split("#", 1)) not in events),
        *(f"told otherwise than written: {name}" for name, each in contents.items() if not _agrees(events, name, each)),
        *(f"ended without a beginning: {place}" for place in events if not _has_begun(events, place)),
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
    return (thing, f"anomaly#{bucket.partition('#')[2]}") in events


def _limit_faults(events: dict[tuple[str, ...], Any], over: set[tuple[str, int]]) -> list[str]:
    """Return the minutes over the limit that are in no event, and the events that have no such minute."""
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    found = []
    for (thing, bucket), item in events.items():
        kind, moment, metric, detector = bucket.split("#")
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
