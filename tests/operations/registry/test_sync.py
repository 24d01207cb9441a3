"""Registered things become what the record says: what differs is updated, what does not is left alone."""

# ruff: noqa: N803 - the API's words
from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.operations.project import Project, load_project
from fleet_iot.operations.registry.calls import IotCalls, Pacer
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.runner import groups_of
from fleet_iot.operations.registry.steps import Work
from fleet_iot.operations.registry.sync import Synced, sync
from tests.places import SAMPLE

PRESS, PUMP = "press-monitor", "compressor"


def error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "X")


class Registry:
    """Things and groups as AWS IoT has them: pages, versions, no attribute without a value."""

    def __init__(self, *, page: int = 2, searchable: bool = True) -> None:
        self.things: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, list[str]] = {
            f"thing-group-sg-01-{type_}-dev": [] for type_ in (PRESS, PUMP, "cnc-spindle", "conveyor")
        }
        self.updates: list[str] = []
        self.before_update: list[Any] = []
        self._page, self._searchable = page, searchable

    def add(self, name: str, attributes: dict[str, str], *, device_type: str = PRESS, group: bool = True) -> None:
        thing = {"thingName": name, "thingTypeName": f"thing-type-{device_type}-dev", "attributes": attributes}
        self.things[name] = thing | {"version": 1}
        if group:
            self.groups[f"thing-group-sg-01-{device_type}-dev"].append(name)

    def _slice(self, key: str, found: list[Any], token: str | None) -> dict[str, Any]:
        at = int(token or 0)
        more = {"nextToken": str(at + self._page)} if at + self._page < len(found) else {}
        return {key: found[at : at + self._page]} | more

    def list_things(
        self, *, maxResults: int, attributeName: str, attributeValue: str, nextToken: str | None = None
    ) -> Any:
        assert maxResults <= 250
        found = [it for it in self.things.values() if it["attributes"].get(attributeName) == attributeValue]
        return self._slice("things", found if self._searchable else [], nextToken)

    def list_things_in_thing_group(self, *, maxResults: int, thingGroupName: str, nextToken: str | None = None) -> Any:
        assert maxResults <= 250
        if thingGroupName not in self.groups:
            raise error("ResourceNotFoundException")
        return self._slice("things", self.groups[thingGroupName], nextToken)

    def describe_thing(self, *, thingName: str) -> Any:
        if thingName not in self.things:
            raise error("ResourceNotFoundException")
        return dict(self.things[thingName])

    def update_thing(
        self, *, thingName: str, attributePayload: dict[str, Any], expectedVersion: int, thingTypeName: str = ""
    ) -> Any:
        happening = self.before_update.pop(0) if self.before_update else None
        if callable(happening):
            happening()
        thing = self.things[thingName]
        if thing["version"] != expectedVersion:
            raise error("VersionConflictException")
        if isinstance(happening, ClientError):
            raise happening
        kept = {} if not attributePayload["merge"] else thing["attributes"]
        thing["attributes"] = {name: value for name, value in (kept | attributePayload["attributes"]).items() if value}
        thing["thingTypeName"], thing["version"] = thingTypeName or thing["thingTypeName"], expectedVersion + 1
        self.updates.append(thingName)
        if isinstance(happening, ReadTimeoutError):
            raise happening
        return {}

    def add_thing_to_thing_group(self, *, thingGroupName: str, thingName: str) -> Any:
        self.groups[thingGroupName].append(thingName)
        return {}

    def remove_thing_from_thing_group(self, *, thingGroupName: str, thingName: str) -> Any:
        self.groups[thingGroupName].remove(thingName)
        return {}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


def name_of(number: int, device_type: str = PRESS) -> str:
    return f"sg-01-{device_type}-{number:04d}-dev"


def attributes_of(number: int, device_type: str = PRESS, **more: str) -> dict[str, str]:
    return {"facility": "sg-01", "serial": f"SG01-{device_type.upper()}-{number:04d}"} | more


def plant(root: Path, *things: tuple[int, str, dict[str, str]]) -> Project:
    """A project whose plant `sg-01`, in bulk, plans these things: number, type, further attributes."""
    project = load_project(SAMPLE)
    facility = replace(project.facility("sg-01"), registration="bulk")
    path = root / "lib" / "facilities" / facility.module / facility.things_file
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, device_type, more in things:
        attributes = attributes_of(number, device_type, **more)
        rows.append(
            {
                "name": name_of(number, device_type).removesuffix("-dev"),
                "thing_type": f"thing-type-{device_type}",
                "device_type": device_type,
                "serial": attributes["serial"],
                "attributes": attributes,
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    groups = tuple(
        group for group in facility.groups if f"thing-group-sg-01-{group.device_type}-dev" in Registry().groups
    )
    return Project(
        root=root, fleet=project.fleet, facilities=(replace(facility, groups=groups),), environment_suffix="dev"
    )


def run(project: Project, registry: Registry, journal: Journal, *, is_dry: bool = False) -> Synced:
    facility = project.facilities[0]
    calls = IotCalls(registry, Pacer(None, account="1", rates={}), sleep=lambda _: None)
    groups = groups_of(project, facility)
    work = Work(calls=calls, journal=journal, groups=groups, is_staged=False, policy_on="group", clock=lambda: 1.0)
    return sync(project, facility, work, reason="new firmware", is_dry=is_dry)


def three(root: Path, registry: Registry, **more: str) -> Project:
    """Three presses with firmware 1.0; the record has 1.1 for the first two."""
    for number in (1, 2, 3):
        registry.add(name_of(number), attributes_of(number, firmware="1.0") | more)
    return plant(root, *((n, PRESS, {"firmware": "1.0" if n == 3 else "1.1"} | more) for n in (1, 2, 3)))


@pytest.mark.parametrize("searchable", [True, False])
def test_what_differs_is_updated_once(tmp_path: Path, journal: Journal, searchable: bool) -> None:
    """Also where AWS IoT does not search by the attribute, and things are found by their groups."""
    registry = Registry(searchable=searchable)
    project = three(tmp_path, registry)

    told = run(project, registry, journal, is_dry=True)
    assert ([], 2, 0) == (registry.updates, told.differing, told.updated)
    assert f"{name_of(1)}: firmware: 1.0 → 1.1" == told.differences[0]
    done = run(project, registry, journal)
    assert (3, 2, 2, 0) == (done.registered, done.differing, done.updated, done.failed)
    assert [name_of(1), name_of(2)] == sorted(registry.updates)
    assert {"1.1", "1.0"} == {thing["attributes"]["firmware"] for thing in registry.things.values()}
    assert (0, 2) == (run(project, registry, journal).differing, len(registry.updates))
    history = journal.read("SELECT thing, what, reason FROM history ORDER BY thing")
    assert (name_of(1), "updated: firmware: 1.0 → 1.1", "new firmware") == history[0]


def test_the_record_wins_over_what_was_set_by_hand(tmp_path: Path, journal: Journal) -> None:
    """An attribute that the record lacks goes; one that is empty in the record is none; the type comes back."""
    registry = Registry()
    registry.add(name_of(1), attributes_of(1, owner="bob"))
    registry.add(name_of(2), attributes_of(2))
    registry.things[name_of(2)]["thingTypeName"] = None
    registry.add(name_of(3), attributes_of(3))
    project = plant(tmp_path, (1, PRESS, {}), (2, PRESS, {}), (3, PRESS, {"line": ""}))

    done = run(project, registry, journal)
    assert [
        f"{name_of(1)}: owner: bob → none",
        f"{name_of(2)}: thing type: none → thing-type-{PRESS}-dev",
    ] == done.differences
    assert attributes_of(1) == registry.things[name_of(1)]["attributes"]
    assert f"thing-type-{PRESS}-dev" == registry.things[name_of(2)]["thingTypeName"]


def test_things_come_into_their_own_group_alone(tmp_path: Path, journal: Journal) -> None:
    """A thing in no group, and one in another group of the plant; a thing that carries another facility's id too."""
    registry = Registry()
    registry.add(name_of(1), attributes_of(1), group=False)
    registry.add(name_of(2), attributes_of(2))
    registry.groups[f"thing-group-sg-01-{PUMP}-dev"].append(name_of(2))
    registry.add(name_of(3), attributes_of(3) | {"facility": "th-ry-01"})
    project = plant(tmp_path, *((number, PRESS, {}) for number in (1, 2, 3)))

    done = run(project, registry, journal)
    assert (3, 3, 0) == (done.differing, done.updated, done.failed)
    group = registry.groups[f"thing-group-sg-01-{PRESS}-dev"]
    assert [name_of(1), name_of(2), name_of(3)] == sorted(group) and not registry.groups[
        f"thing-group-sg-01-{PUMP}-dev"
    ]
    assert "sg-01" == registry.things[name_of(3)]["attributes"]["facility"]


def test_what_left_the_record_and_what_is_not_onboarded_is_told(tmp_path: Path, journal: Journal) -> None:
    """Neither is touched: one is to be retired, the other onboarded; other environments are not looked at."""
    registry = Registry()
    for number in (1, 8, 9):
        registry.add(name_of(number), attributes_of(number))
    registry.add("sg-01-press-monitor-0001-prod", attributes_of(1))
    project = plant(tmp_path, (1, PRESS, {}), (2, PRESS, {}))

    done = run(project, registry, journal)
    assert (1, 1, 0, 2, [name_of(8), name_of(9)]) == (
        *(done.registered, done.unregistered, done.updated, done.left),
        done.left_things,
    )


def test_a_thing_that_changes_meanwhile_is_compared_anew(tmp_path: Path, journal: Journal) -> None:
    """The version is that which was compared: what somebody else did in between is seen, not overwritten unread."""
    registry = Registry()
    three(tmp_path, registry)

    def by_hand() -> None:
        registry.things[name_of(1)]["attributes"] = attributes_of(1, firmware="0.9")
        registry.things[name_of(1)]["version"] += 1

    registry.before_update = [by_hand]
    done = run(plant(tmp_path, (1, PRESS, {"firmware": "1.1"})), registry, journal)
    assert (1, 0, "1.1") == (done.updated, done.failed, registry.things[name_of(1)]["attributes"]["firmware"])
    registry.before_update = [by_hand] * 9
    done = run(plant(tmp_path, (1, PRESS, {"firmware": "1.2"})), registry, journal)
    assert (0, 1) == (done.updated, done.failed)
    assert "it is being changed concurrently" in done.failures[0]


def test_an_answer_that_is_lost_is_no_failure(tmp_path: Path, journal: Journal) -> None:
    """The second try finds another version, and the thing as it should be."""
    registry = Registry()
    registry.before_update = [ReadTimeoutError(endpoint_url="https://iot")]
    done = run(three(tmp_path, registry), registry, journal)
    assert (2, 0, 2) == (done.updated, done.failed, len(registry.updates))


def test_one_refusal_does_not_stop_the_others(tmp_path: Path, journal: Journal) -> None:
    """The thing is named with AWS IoT's reason, and is left as it was."""
    registry = Registry()
    registry.before_update = [error("InvalidRequestException")]
    done = run(three(tmp_path, registry), registry, journal)
    assert (1, 1) == (done.updated, done.failed)
    assert "AWS IoT refuses it: InvalidRequestException" in done.failures[0]


def test_devices_on_the_move_are_left_alone(tmp_path: Path, journal: Journal) -> None:
    """Their move brings them to what the record says."""
    registry = Registry()
    project = three(tmp_path, registry)
    journal.write(("INSERT INTO devices (thing, facility, state) VALUES (?, 'sg-01', 'moving')", (name_of(1),)))
    assert 1 == run(project, registry, journal).differing


def test_no_group_and_no_bulk_plant_are_refused(tmp_path: Path, journal: Journal) -> None:
    """A plant whose stack was not applied, and one whose things are Terraform's."""
    registry = Registry()
    registry.groups.clear()
    with pytest.raises(EnvironmentFault, match="cannot be listed"):
        run(plant(tmp_path, (1, PRESS, {})), registry, journal)
    project = plant(tmp_path, (1, PRESS, {}))
    terraform = replace(project, facilities=(replace(project.facilities[0], registration="terraform"),))
    with pytest.raises(RequestError, match="Terraform registers"):
        run(terraform, registry, journal)


def test_a_run_that_was_cut_off_is_run_again(tmp_path: Path, journal: Journal) -> None:
    """AWS takes the rights away in the middle: what was updated is left alone afterwards, the rest is done."""
    registry = Registry()
    for number in range(1, 41):
        registry.add(name_of(number), attributes_of(number))
    project = plant(tmp_path, *((number, PRESS, {"firmware": "2"}) for number in range(1, 41)))
    registry.before_update = [None] * 15 + [error("AccessDeniedException")] * 25
    with pytest.raises(EnvironmentFault, match="AWS refuses UpdateThing"):
        run(project, registry, journal)
    done_before = len(registry.updates)
    assert 0 < done_before < 40
    registry.before_update = []
    done = run(project, registry, journal)
    assert (40 - done_before, 40, {"2"}) == (
        done.updated,
        len(set(registry.updates)),
        {thing["attributes"]["firmware"] for thing in registry.things.values()},
    )
    assert len(registry.updates) == 40
