"""A plant decides which events are notified by themselves: the same again for a retry, and within bounds."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from fleet_iot.sensor_processor.adapters.plants import WAITING
from fleet_iot.sensor_processor.planning.plant import (
    BEGUN,
    FLOODS,
    FOLLOWED_MS,
    GROWTH,
    HELD,
    MACHINES,
    ON,
    OVER,
    RECENT,
    WINDOW_MS,
    Decision,
    Known,
    Plant,
    Shelf,
    known_of,
    pack_plant,
    unpack_plant,
)

NOW = 1_795_445_343_000
DYNAMODB_ITEM = 400 * 1024


def notice(
    machine: int | str, kind: str = "begin", *, metric: str = "power", of: str | None = None, severity: str = "warning"
) -> Known:
    """A notification of an event of a machine, which began at NOW, with the metric `of` where that is another one."""
    thing, event = f"sg-01-pump-{machine:>04}-dev", f"anomaly#2026-11-23T14:49:03.000Z#{of or metric}#limits"
    content = {
        "event_id": f"{thing}#{event}#{kind}",
        "kind": kind,
        "severity": severity,
        "text": f"{thing}: {metric} {kind}",
        "facility": "sg-01",
        "device_type": "pump",
        "thing": thing,
        "metric": metric,
        "detector": "limits",
        "anomaly_id": event,
        "began_at": "2026-11-23T14:49:03.000Z",
    }
    known = known_of(json.dumps(content))
    assert known is not None
    return known


class Site:
    """A plant whose every decision is stored and read again."""

    def __init__(self, *shelves: Shelf) -> None:
        self.plant, self.now, self.shelves = Plant(), NOW, list(shelves)
        self.made: list[dict[str, Any]] = []

    def decide(self, *notices: Known, minutes: float = 0) -> list[bool]:
        """Decide, some minutes later; without notices, sweep."""
        self.now += round(minutes * 60_000)
        self.plant = unpack_plant(pack_plant(self.plant))
        decision = Decision(facility="sg-01", plant=self.plant, shelves=self.shelves, now=self.now)
        alone: list[bool] = []
        if notices:
            alone = decision.decide(notices)
        else:
            decision.sweep()
        self.made += map(json.loads, decision.made)
        self.is_changed = decision.is_changed
        return alone

    def told(self) -> Sequence[tuple[str, str, Any]]:
        """Kind, severity and machines of the messages that the plant made."""
        return [(each["kind"], each["severity"], each.get("machines")) for each in self.made]


def test_a_decision_that_is_made_again_is_the_same() -> None:
    """A repeated outbox changes nothing: singles are singles, members are members, and no message is made twice."""
    site = Site()
    first, second = [notice(n) for n in range(2)], [notice(n) for n in range(2, 9)]
    assert [True, True] == site.decide(*first)
    assert [True, *[False] * 6] == site.decide(*second, minutes=1)
    before = pack_plant(site.plant)
    for _ in range(2):
        assert ([True, True], False) == (site.decide(*first), site.is_changed)
        assert ([True, *[False] * 6], False) == (site.decide(*second), site.is_changed)
    assert (before, [("begin", "warning", 9)]) == (pack_plant(site.plant), site.told())


def test_events_of_few_machines_are_no_flood() -> None:
    """Many metrics of as many machines as may be, and machines that fail one after the other, with time between."""
    site = Site()
    several = [notice(machine, metric=f"m{metric}") for machine in range(MACHINES) for metric in range(30)]
    assert all(site.decide(*several))
    assert RECENT == len(site.plant.recent)
    site = Site()
    assert all(all(site.decide(notice(number), minutes=4)) for number in range(50))
    assert [] == site.made


def test_a_flood_is_told_as_it_grows_and_when_it_is_over() -> None:
    """Tenfold, and when the last event is over for a while; ends of those that were told by themselves are in it."""
    site = Site()
    site.decide(*map(notice, range(4)))
    for start in range(4, 4 * GROWTH**2, 18):
        site.decide(*map(notice, range(start, min(start + 18, 4 * GROWTH**2))), minutes=0.1)
    kinds = [("begin", "warning", 4), ("escalated", "warning", 40), ("escalated", "warning", 400)]
    assert kinds == site.told()
    ends = [notice(number, "end") for number in range(400)]
    assert not any(site.decide(*ends, minutes=20))
    site.decide(minutes=9)
    assert kinds == site.told()
    site.decide(minutes=2)
    assert [*kinds, ("end", "warning", 400)] == site.told()
    assert [] == site.plant.floods
    assert "power: over on all 400 machines of sg-01, since 2026-11-23 14:49 UTC" == site.made[-1]["text"]


def test_stragglers_do_not_keep_a_flood_from_being_over() -> None:
    """One in ten may be on; their end is a message more. What begins after it is judged afresh."""
    site = Site()
    site.decide(*map(notice, range(40)))
    site.decide(*[notice(number, "end") for number in range(37)])
    site.decide(minutes=11)
    assert ("end", "still on: 3; list them") == (site.made[-1]["kind"], site.made[-1]["text"].split("UTC; ")[1][:22])
    assert [True] == site.decide(notice(77), minutes=1)
    site.decide(*[notice(number, "end") for number in range(37, 40)])
    site.decide(minutes=11)
    assert [("begin", "warning", 40), ("end", "warning", 40), ("end", "warning", 40)] == site.told()


def test_a_critical_event_in_a_flood_reaches_people() -> None:
    """The first at once, by the name of its machine; 500 more as one message within ten minutes."""
    site = Site()
    site.decide(*map(notice, range(10)))
    assert [False] == site.decide(notice(3, "escalated", severity="critical"), minutes=1)
    assert ("escalated", "critical", 10) == site.told()[-1]
    assert "; 1 critical event, first on sg-01-pump-0003-dev" in site.made[-1]["text"]
    for number in range(10, 90):
        site.decide(notice(number, severity="critical"), minutes=0.1)
    assert 2 == len(site.made)
    site.decide(minutes=2.1)
    assert ("escalated", "critical", 90) == site.told()[-1]
    site = Site()
    assert [False, True, True, False, True] == site.decide(
        *[notice(number, severity="critical" if number in (1, 2, 4) else "warning") for number in range(5)]
    )


def test_each_new_critical_event_of_a_flood_reaches_people() -> None:
    """Of a machine that had one before, too; at most ten minutes later, also when the flood is given up."""
    site = Site()
    site.decide(notice(0, severity="critical"), *map(notice, range(1, 9)))
    site.decide(*[notice(number, "end") for number in range(9)], minutes=1)
    for minute in range(9):
        site.decide(*[notice(100 + 10 * minute + number) for number in range(4)], minutes=1)
    assert [False] == site.decide(notice(0, metric="heat", severity="critical"), minutes=1)
    site.decide(notice(0, "end", metric="heat", severity="critical"))
    site.decide(minutes=0.1)
    assert ("escalated", "critical") == site.told()[-1][:2]
    assert "; 2 critical events, 1 of them new, first on sg-01-pump-0000-dev; list" in site.made[-1]["text"]
    assert [False] == site.decide(notice(100, "escalated", severity="critical"), minutes=1)
    messages = len(site.made)
    site.decide(notice(100, "escalated", severity="critical"), minutes=8)
    assert messages == len(site.made)
    site.now = NOW + FOLLOWED_MS
    site.decide()
    assert ["escalated", "end"] == [each["kind"] for each in site.made[messages:]]
    assert "; 3 critical events, 1 of them new, first on sg-01-pump-0100-dev; list" in site.made[-2]["text"]


def test_floods_that_never_end_are_given_up() -> None:
    """After a week, or for a newer one; what ends then is told by itself."""
    site = Site()
    for flood in range(FLOODS + 1):
        site.decide(*[notice(10 * flood + number) for number in range(6)], minutes=15)
    assert (FLOODS, ("end", "warning", 6)) == (len(site.plant.floods), site.told()[-2])
    assert [True] == site.decide(notice(1, "end"))
    site.decide(minutes=FOLLOWED_MS / 60_000)
    assert [] == site.plant.floods


def test_what_is_usual_in_a_large_plant_is_no_flood() -> None:
    """20,000 machines with a false alarm a month each: 4.6 begin in ten minutes. 500 more at once are a flood."""
    dice, site, alone = random.Random(1), Site(), []
    for number in range(4 * 667):
        alone += site.decide(notice(number), minutes=dice.expovariate(0.463))
        site.decide(notice(number, "end"))
    assert 0.98 < sum(alone[667:]) / len(alone[667:])
    assert 11 < (most := site.plant.most) < 15
    site.made = []
    trouble = [notice(number) for number in range(5_000, 5_500)]
    assert sum(site.decide(*trouble)) <= 3
    site.decide(*[notice(number, "end") for number in range(5_000, 5_500)], minutes=5)
    alone = []
    for number in range(6_000, 6_040):
        alone += site.decide(notice(number), minutes=dice.expovariate(0.463))
        site.decide(notice(number, "end"))
    assert 30 < sum(alone) < 40  # few of the first ten minutes are in the flood
    assert [("begin", "warning"), ("end", "warning")] == [each[:2] for each in site.told()]
    assert most == pytest.approx(site.plant.most, rel=0.02)


def test_a_flood_is_not_taken_for_what_is_usual() -> None:
    """Five machines are a flood an hour after 500 failed again and again for an hour."""
    site = Site()
    for _ in range(6):
        site.decide(*map(notice, range(500)), minutes=10)
        site.decide(*[notice(number, "end") for number in range(500)])
    site.decide(minutes=60)
    site.made = []
    site.decide(*map(notice, range(600, 605)))
    assert [("begin", "warning", 5)] == site.told()


def test_the_item_is_bounded() -> None:
    """However many machines and events: less than an item may have, in each of as many floods as are followed."""
    site = Site(*[Shelf(thing=f"sg-01-pump-s{number:03}-dev", until=NOW + 10**12) for number in range(HELD + 5)])
    assert 3 == sum(site.decide(*[notice(f"s{number:03}") for number in range(HELD + 5)]))
    for place in range(FLOODS):
        site.decide(*[notice(10 * place + number) for number in range(6)], minutes=15)
    site.plant.begun = [(site.now, number.to_bytes(3)) for number in range(BEGUN)]
    for place, flood in enumerate(site.plant.floods):
        flood.machines = {number.to_bytes(3) for number in range(ON)}
        flood.critical, flood.worst = [number.to_bytes(8) for number in range(OVER)], flood.first
        flood.over = [number.to_bytes(8) for number in range(OVER)]
        flood.on = {number.to_bytes(8) for number in range(ON - 50 if place == 0 else 3)}
        flood.metrics = {f"metric_{number:03}": 1 for number in range(50)}
    events = [notice(1_000 + number, severity="critical") for number in range(100)]
    assert not any(site.decide(*events))
    assert 200_000 < len(pack_plant(site.plant)) < DYNAMODB_ITEM - WAITING * 1_000
    assert (ON, True) == (sum(len(flood.on) for flood in site.plant.floods), site.plant.floods[-1].is_full)
    assert not any(site.decide(*events[90:]))
    assert not any(site.decide(*[notice(1_000 + number, "end", severity="critical") for number in range(100)]))
    assert [False] == site.decide(notice(9_999, "escalated", severity="critical"))  # of an event that is not followed
    assert 101 == site.plant.floods[-1].criticals


@pytest.mark.parametrize("shelf", [None, "power"])
def test_a_shelved_event_waits_for_the_end_of_its_shelf(shelf: str | None) -> None:
    """An event that lasts is notified then, by its last text; one that ended is not, and one notified before ends."""
    until = NOW + 60 * 60_000
    site = Site()
    assert [True] == site.decide(notice(1))
    site.shelves = [Shelf(thing=f"sg-01-pump-{n:04}-dev", metric=shelf, until=until) for n in (1, 2, 3)]
    late = [notice(2), notice(3), notice(1, "end"), notice(2, "end"), notice(3, "escalated", severity="critical")]
    assert not any(site.decide(*late, minutes=20))
    assert not any(site.decide(*late))  # again
    assert [False, True] == site.decide(notice(3, metric="heat"), notice(4)) or shelf == "power"
    site.decide(minutes=30)
    assert [] == site.made
    site.decide(minutes=11)
    assert {"end sg-01-pump-0001-dev", "escalated sg-01-pump-0003-dev"} <= {
        f"{each['kind']} {each['thing']}" for each in site.made
    }
    assert not any(each["thing"] == "sg-01-pump-0002-dev" for each in site.made)
    assert ([], []) == (site.plant.held, site.plant.silent)


def test_a_shelved_metric_hides_no_other_one() -> None:
    """A metric that joins an event of a shelved one is published; so is the end of what had begun with another one."""
    until = NOW + 60 * 60_000
    site = Site(Shelf(thing="sg-01-pump-0001-dev", metric="power", until=until))
    heat = notice(1, "escalated", metric="heat", of="power")
    assert [False] == site.decide(notice(1))
    assert [True, False] == site.decide(heat, notice(1), minutes=1)
    assert [False] == site.decide(notice(1, "end"), minutes=1)
    assert [] == site.made
    site.decide(minutes=60)
    assert ["end"] == [each["kind"] for each in site.made]  # its escalation was published
    site = Site(Shelf(thing="sg-01-pump-0001-dev", metric="heat", until=until))
    assert [True, False, True] == site.decide(notice(1), heat, notice(1), minutes=1)
    assert [True, False] == site.decide(notice(1, "end"), heat, minutes=1)
    site.decide(minutes=60)
    assert ([], [], []) == (site.made, site.plant.held, site.plant.silent)


def test_what_shelves_held_back_can_be_a_flood() -> None:
    """Shelves of many machines that end at once are few messages, too."""
    things = [f"sg-01-pump-{number:04}-dev" for number in range(20)]
    site = Site(*[Shelf(thing=thing, until=NOW + WINDOW_MS) for thing in things])
    assert not any(site.decide(*map(notice, range(20))))
    site.decide(minutes=11)
    assert [None, None, None, 20] == [machines for _, _, machines in site.told()]


def test_what_another_version_wrote_is_published_by_itself() -> None:
    """A notification without what is needed to decide is no reason to lose it."""
    assert None is known_of("not json")
    assert None is known_of("[1]")
    assert None is known_of('{"thing": "a", "kind": "begin"}')
