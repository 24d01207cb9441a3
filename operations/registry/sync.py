"""Update a bulk plant's registered things from the approved record: attributes, thing type, groups.

The record wins: an attribute set by hand that is not in the record is removed. Registry and groups are read page by
page into a temporary SQLite database, so that a million things fit into constant memory. Each update gives the version
of the thing that it was compared with, so it never overwrites a concurrent change. An interrupted run is repeated:
what equals the record is skipped.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.calls import code_of, message_of
from fleet_iot.operations.registry.steps import THREADS, Work
from fleet_iot.operations.storage import temporary

PAGE = 250
"""Most things in one answer: https://docs.aws.amazon.com/iot/latest/apireference/API_ListThings.html"""
_ATTEMPTS = 3
"""Attempts on a thing that is changed concurrently."""
_TOLD = 20
_TYPE = "thing type: "
_SLICE = 1_000

_SCHEMA = """
CREATE TABLE things (name TEXT PRIMARY KEY, thing_type TEXT, attributes TEXT, version INTEGER, is_planned INTEGER);
CREATE TABLE members (name TEXT, thing_group TEXT, PRIMARY KEY (name, thing_group)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference between a registered thing and the record; `version` is the registry's."""

    thing: ThingRow
    fields: tuple[str, ...]
    version: int
    add_to: str | None = None
    remove_from: tuple[str, ...] = ()

    def __str__(self) -> str:
        groups = [f"into {self.add_to}"] if self.add_to else []
        return f"{self.thing.name}: {', '.join([*self.fields, *groups, *(f'out of {it}' for it in self.remove_from)])}"


@dataclass(slots=True, kw_only=True)
class Synced:
    """The result of a run. `differing` things were not as in the record, `updated` of them are now.

    `left` things are registered and not in the record any more; `unregistered` ones are planned and not onboarded.
    The lists name the first of each.
    """

    facility: str
    registered: int = 0
    unregistered: int = 0
    differing: int = 0
    updated: int = 0
    failed: int = 0
    left: int = 0
    differences: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    left_things: list[str] = field(default_factory=list)
    calls: Mapping[str, int] = field(default_factory=dict)


def sync(
    project: Project,
    facility: FacilitySpec,
    work: Work,
    *,
    reason: str,
    is_dry: bool,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Synced:
    """Compare the registry with the record, and update what differs.

    Raises:
        RequestError: the plant's things are Terraform's.
        EnvironmentFault: a group is missing, or AWS refuses or does not answer.
    """
    if facility.registration != "bulk":
        raise RequestError(
            f"Terraform registers the things of {facility.id}, and updates them",
            hint="apply its stack: fleet local apply, or terraform apply",
        )
    registry = temporary(_SCHEMA)
    try:
        _read_registry(registry, project, facility, work)
        done = Synced(facility=facility.id)
        found = _differences(registry, project, facility, work, done)
        while part := list(islice(found, _SLICE)):
            done.differing += len(part)
            done.differences += [str(each) for each in part[: _TOLD - len(done.differences)]]
            if not is_dry:
                _update_all(work, part, reason=reason, done=done)
            on_progress(done.differing, done.differing)
        _count_left(registry, project, done)
    finally:
        registry.close()
    done.calls = dict(sorted(work.calls.pacer.calls.items()))
    return done


def _read_registry(registry: sqlite3.Connection, project: Project, facility: FacilitySpec, work: Work) -> None:
    suffix = f"-{project.environment_suffix}"
    registry.execute("BEGIN")
    for thing in _pages(work, "ListThings", "things", attributeName="facility", attributeValue=facility.id):
        if str(thing["thingName"]).endswith(suffix):
            _store(registry, thing)
    for group in work.groups.values():
        try:
            for name in _pages(work, "ListThingsInThingGroup", "things", thingGroupName=group.thing_group):
                registry.execute("INSERT OR IGNORE INTO members VALUES (?, ?)", (name, group.thing_group))
        except ClientError as error:
            raise EnvironmentFault(
                f"{group.thing_group} cannot be listed: {code_of(error)}: {message_of(error)}",
                hint="apply the facility's stack first",
            ) from None
    registry.execute("COMMIT")


def _pages(work: Work, api: str, key: str, **arguments: Any) -> Iterator[Any]:
    for page in work.calls.pages(api, maxResults=PAGE, **arguments):
        yield from page.get(key, ())


def _store(registry: sqlite3.Connection, thing: Mapping[str, Any]) -> None:
    registry.execute(
        "INSERT OR REPLACE INTO things VALUES (?, ?, ?, ?, 0)",
        (
            *(thing["thingName"], thing.get("thingTypeName"), json.dumps(thing.get("attributes") or {})),
            int(thing.get("version", 1)),
        ),
    )


def _differences(
    registry: sqlite3.Connection, project: Project, facility: FacilitySpec, work: Work, done: Synced
) -> Iterator[Difference]:
    """Yield the differences, in the order of the record; count in `done` what needs no update."""
    moving = work.journal.moving()
    for thing in project.planned(facility):
        have = _registered(registry, work, thing.name)
        if have is None:
            done.unregistered += 1
            continue
        done.registered += 1
        if thing.name in moving:
            continue
        own = work.groups[thing.device_type].thing_group
        groups = {
            group for (group,) in registry.execute("SELECT thing_group FROM members WHERE name = ?", (thing.name,))
        }
        thing_type, attributes, version = have
        fields = _fields(thing, thing_type, attributes)
        if fields or groups != {own}:
            yield Difference(
                thing=thing,
                fields=fields,
                version=version,
                add_to=None if own in groups else own,
                remove_from=tuple(sorted(groups - {own})),
            )


def _registered(registry: sqlite3.Connection, work: Work, name: str) -> tuple[str | None, dict[str, str], int] | None:
    """Return thing type, attributes and version in AWS IoT; describe a thing missing from the listing if it should
    exist."""
    query = "SELECT thing_type, attributes, version FROM things WHERE name = ?"
    found = registry.execute(query, (name,)).fetchone()
    if found is None:
        is_member = registry.execute("SELECT 1 FROM members WHERE name = ?", (name,)).fetchone()
        if (
            not (is_member or work.journal.has_certificate(name))
            or (described := work.calls.call_if_exists("DescribeThing", thingName=name)) is None
        ):
            return None
        _store(registry, described)
        found = registry.execute(query, (name,)).fetchone()
    registry.execute("UPDATE things SET is_planned = 1 WHERE name = ?", (name,))
    return found[0], json.loads(found[1]), found[2]


def _fields(thing: ThingRow, thing_type: str | None, attributes: Mapping[str, str]) -> tuple[str, ...]:
    """Return the differences in words: `firmware: 1.0 → 1.1`."""
    lines = [] if thing_type == thing.thing_type else [f"{_TYPE}{thing_type or 'none'} → {thing.thing_type}"]
    for name in sorted({*attributes, *thing.attributes}):
        have, want = attributes.get(name), thing.attributes.get(name)
        # AWS IoT keeps no attribute without a value.
        if (have or "") != (want or ""):
            lines.append(f"{name}: {have or 'none'} → {want or 'none'}")
    return tuple(lines)


def _update_all(work: Work, part: Iterable[Difference], *, reason: str, done: Synced) -> None:
    def update(difference: Difference) -> str | None:
        try:
            return _update(work, difference, reason=reason)
        except ClientError as error:
            return f"AWS IoT refuses it: {code_of(error)}: {message_of(error)}"

    part = list(part)
    with ThreadPoolExecutor(THREADS) as pool:
        for difference, failure in zip(part, pool.map(update, part), strict=True):
            done.updated += failure is None
            done.failed += failure is not None
            if failure is not None and len(done.failures) < _TOLD:
                done.failures.append(f"{difference.thing.name}: {failure}")


def _update(work: Work, difference: Difference, *, reason: str) -> str | None:
    """Update the thing; return why it still differs from the record, or None."""
    thing = difference.thing
    if difference.fields and (failure := _update_thing(work, difference)):
        return failure
    for group in difference.remove_from:
        work.calls.call("RemoveThingFromThingGroup", thingGroupName=group, thingName=thing.name)
    if difference.add_to:
        work.calls.call("AddThingToThingGroup", thingGroupName=difference.add_to, thingName=thing.name)
    changes = str(difference).removeprefix(f"{thing.name}: ")
    work.journal.write(
        entries.planned(thing.name, msgspec.json.encode(thing)),
        entries.history(thing.name, f"updated: {changes}", at=work.clock(), certificate_id=None, reason=reason),
    )
    return None


def _update_thing(work: Work, difference: Difference) -> str | None:
    """Overwrite the thing's attributes, for `merge` is false; why that was not possible, or None.

    Source: https://docs.aws.amazon.com/iot/latest/apireference/API_AttributePayload.html
    """
    thing, version, fields = difference.thing, difference.version, difference.fields
    for _ in range(_ATTEMPTS):
        # Given only where it changes: a deprecated thing type accepts no more things.
        # https://docs.aws.amazon.com/iot/latest/apireference/API_DeprecateThingType.html
        thing_type = {"thingTypeName": thing.thing_type} if any(it.startswith(_TYPE) for it in fields) else {}
        try:
            work.calls.call(
                "UpdateThing",
                thingName=thing.name,
                **thing_type,
                attributePayload={"attributes": thing.attributes, "merge": False},
                expectedVersion=version,
            )
        except ClientError as error:
            if code_of(error) != "VersionConflictException":
                raise
        else:
            return None
        # Somebody else has changed it, or an earlier try of this call whose answer was lost.
        described = work.calls.call_if_exists("DescribeThing", thingName=thing.name)
        if described is None:
            return "it was deleted meanwhile"
        fields = _fields(thing, described.get("thingTypeName"), described.get("attributes") or {})
        if not fields:
            return None
        version = int(described["version"])
    return "it is being changed concurrently: run the command again"


def _count_left(registry: sqlite3.Connection, project: Project, done: Synced) -> None:
    """Count what is registered and not in the record."""
    suffix = f"%-{project.environment_suffix}"
    query = """SELECT name FROM things WHERE NOT is_planned UNION SELECT name FROM members
        WHERE name LIKE ? AND name NOT IN (SELECT name FROM things WHERE is_planned) ORDER BY name"""
    for (name,) in registry.execute(query, (suffix,)):
        done.left += 1
        if len(done.left_things) < _TOLD:
            done.left_things.append(name)
