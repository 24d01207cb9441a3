"""Explains a name, with or without environment suffix: what it is, and where in the manifest it comes from."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_iot.generator import naming
from fleet_iot.generator.diagnostics import DataPath, RequestError, SourceLocation
from fleet_iot.generator.manifest.model_errors import dotted
from fleet_iot.generator.plan.build import FacilityPlan, FleetPlan, ThingGroupPlan
from fleet_iot.generator.plan.catalogue import Entry, entries, thing_facts
from fleet_iot.generator.plan.things import Thing
from fleet_iot.lib.record.place import RECORD
from fleet_iot.lib.record.read import search_things
from fleet_iot.lib.record.spelling import endings, hexadecimal, is_same
from fleet_iot.lib.specs import SUFFIX_TOKEN, suffixed

_NUMBERED = re.compile(r"(?P<prefix>.+-)(?P<number>[0-9]{4,9})(?P<rest>-[a-z0-9-]+)?", re.IGNORECASE)
_TOPIC = re.compile(r"(?:\$aws/rules/(?P<rule>[^/]+)/)?(?P<topic>(?:dt|cmd)/[^/]+/[^/]+/[^/]+/(?P<thing>[^/]+)/[a-z]+)")
_DECORATION = re.compile(r"^(arn:aws[a-z-]*:[^:]*:[^:]*:[^:]*:|s3://)(bucket-[^/]+/(?=.))?")
_ARN_RESOURCE = re.compile(
    r"^((thing|thinggroup|thingtype|policy|rule|provisioningtemplate|topic|topicfilter|client|table|stream|role|trail|"
    r"dashboard)/|(function|log-group):)"
)
_HIVE = re.compile(r"(?P<prefix>.*?[a-z_]+=[^/]+/(?:device_type=[^/]+/)?).*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A name, and its place in the manifest."""

    entry: Entry
    location: SourceLocation

    def lines(self) -> list[str]:
        """Return what a person reads."""
        entry = self.entry
        facts = [("from", f"{self.location.file}:{self.location.line}  {dotted(entry.path)}")]
        facts += [("in AWS", entry.deployed)] if entry.deployed else []
        width = max(len(label) for label, _ in (*facts, *entry.facts)) + 2
        rows = [f"  {label:<{width}}{value}" for label, value in (*facts, *entry.facts)]
        return [f"{entry.name}: {entry.kind}", f"  {entry.sentence}", *rows]

    def plain(self) -> dict[str, Any]:
        """Return what a program reads."""
        entry, place = self.entry, self.location
        return {
            "name": entry.name,
            "kind": entry.kind,
            "description": entry.sentence,
            "deployed_name": entry.deployed,
            "source": {"file": place.file, "line": place.line, "column": place.column, "key": dotted(entry.path)},
            "facts": dict(entry.facts),
        }


def explain(
    plan: FleetPlan,
    name: str,
    *,
    suffixes: Iterable[str],
    locate: Callable[[DataPath], SourceLocation],
    record: str = RECORD,
    folder: Path | None = None,
) -> tuple[Explanation, ...]:
    """Return everything that `name` is in the plan; `suffixes` are those that it may carry. Raises `RequestError`.

    What the plan does not have is searched in the record, as the serial or MAC address of a thing.
    """
    known: dict[str, list[Entry]] = {}
    for entry in entries(plan, record=record):
        for spelling in {entry.name, entry.deployed or entry.name, entry.short or entry.name}:
            known.setdefault(spelling, []).append(entry)
    bare = _ARN_RESOURCE.sub("", _DECORATION.sub("", name))
    thing = None
    while True:
        for candidate in _spellings(thing or bare, suffixes, record):
            if found := known.get(candidate) or list(_thing_or_topic(plan, candidate)):
                return tuple(Explanation(entry=entry, location=locate(entry.path)) for entry in found)
        if thing is not None or folder is None or (thing := _recorded(folder, bare)) is None:
            raise _unknown(plan, bare, known)


def _recorded(record: Path, name: str) -> str | None:
    """Return the name of the one thing in the record whose name, serial or MAC address this is, however it is spelt."""
    wanted, found = set(endings(name)), set()
    for path in sorted(record.glob("*/things.jsonl")) if wanted else ():
        for row in search_things(path, wanted):
            identities = row.attributes.values() if hexadecimal(name) else ()
            if any(is_same(name, value) for value in (row.name, row.serial, *identities)):
                found.add(row.name)
    return found.pop() if len(found) == 1 else None


def _spellings(name: str, suffixes: Iterable[str], record: str) -> Iterator[str]:
    yield name
    yield f"{name}/"
    yield f"{record}/{name}/"
    if hive := _HIVE.fullmatch(name):
        yield hive["prefix"]
    if name.startswith(f"{record}/"):
        yield f"{name.rpartition('/')[0]}/"
    for suffix in (*suffixes, SUFFIX_TOKEN):
        for ending in (f"-{suffix}", f"_{suffix.replace('-', '_')}"):
            if name.endswith(ending):
                yield name.removesuffix(ending)


def _thing_or_topic(plan: FleetPlan, name: str) -> Iterator[Entry]:
    topic = _TOPIC.fullmatch(name)
    if topic is None:
        yield from (_thing(plan, *found) for found in _things(plan, name))
        return
    for facility, group, thing in _things(plan, topic["thing"]):
        who = (plan.application, facility.id, group.device_type.id, topic["thing"])
        verbs = {
            naming.telemetry_topic(*who): "publishes its readings",
            naming.request_topic(*who): "receives its commands",
            naming.response_topic(*who): "answers its commands",
        }
        if topic["topic"] in verbs and (topic["rule"] or facility.topic_rule).startswith(facility.topic_rule):
            entry = _thing(plan, facility, group, thing)
            sentence = f"The topic on which {entry.name} {verbs[topic['topic']]}. {entry.sentence}"
            yield Entry(kind="topic", name=name, sentence=sentence, path=entry.path, facts=entry.facts)


def _things(plan: FleetPlan, name: str) -> Iterator[tuple[FacilityPlan, ThingGroupPlan, Thing]]:
    for facility in plan.facilities:
        for group in facility.groups:
            thing = group.find(_bare(group, name))
            if thing is not None:
                yield facility, group, thing


def _bare(group: ThingGroupPlan, name: str) -> str:
    """Return the name or serial of a thing without any environment's suffix: the thing's own part has no hyphen."""
    prefix = next((prefix for prefix in (group.name_prefix, group.serial_prefix) if name.startswith(prefix)), None)
    return name if prefix is None else prefix + name.removeprefix(prefix).partition("-")[0]


def _thing(plan: FleetPlan, facility: FacilityPlan, group: ThingGroupPlan, thing: Thing) -> Entry:
    own_name = thing.name.removeprefix(group.name_prefix)
    which = f"Number {int(own_name):,}" if group.named is None else "One"
    path: DataPath = ("facilities", facility.id, "things", group.device_type.id)
    return Entry(
        kind="thing",
        name=thing.name,
        sentence=f"{which} of {group.count:,} {group.device_type.id} ({group.device_type.description}) "
        f"in {facility.id}, {facility.name}.",
        path=path if group.named is None else (*path, group.named.source, own_name),
        facts=(("serial", thing.serial), *thing_facts(plan, facility, group, thing)),
        deployed=suffixed(thing.name, plan.environment_suffix),
    )


def _unknown(plan: FleetPlan, name: str, known: Iterable[str]) -> RequestError:
    message = f"nothing in this fleet is called `{name}`"
    if topic := _TOPIC.fullmatch(name):
        for facility, group, thing in _things(plan, topic["thing"]):
            own = naming.telemetry_topic(plan.application, facility.id, group.device_type.id, thing.name)
            return RequestError(message, hint=f"did you mean `{own}`?")
    numbered = _NUMBERED.fullmatch(name)
    groups = [group for facility in plan.facilities for group in facility.groups]
    if numbered is None:
        near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
        hint = f"did you mean `{near[0]}`?" if near else "facilities: " + ", ".join(f.id for f in plan.facilities)
        return RequestError(message, hint=hint)
    prefixes = {prefix: group for group in groups for prefix in (group.name_prefix, group.serial_prefix)}
    if numbered["prefix"] in prefixes:
        group = prefixes[numbered["prefix"]]
        message += f": {group.facility} has {group.count:,}, {group.first.name} to {group.last.name}"
        return RequestError(message, hint="raise the count to add" if group.named is None else "name it to add it")
    near = difflib.get_close_matches(numbered["prefix"], list(prefixes), n=1, cutoff=0.6)
    hint = f"did you mean `{near[0]}{numbered['number']}`?" if near else f"things are such as `{groups[0].first.name}`"
    return RequestError(message, hint=hint)
