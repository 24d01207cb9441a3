"""Judges planned resources by the requests that Terraform would send to make them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from fleet_iot.operations.assurance.compliance.calls import CALLS, DOCUMENTED, NEVER_SENT, Call
from fleet_iot.operations.assurance.compliance.infrastructure import (
    Body,
    PlannedInfrastructure,
    Resource,
    UnknownUntilApplied,
    resolve,
)
from fleet_iot.operations.local.service_model import UNKNOWN, Constraint, Sent, Tree, judge

PART = re.compile(r"(?P<name>\w+)(?:\[(?P<place>\d*)\]|\{(?P<pair>[\w,]*)\})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute that a plan sets: its path without places, its path with them, the places, and the value."""

    path: str
    name: str
    places: tuple[tuple[str, int], ...]
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A resource's requests by operation, the attributes that are mapped to no call, and those of a second block where
    the call accepts one.
    """

    requests: dict[str, Tree]
    attributes: tuple[Attribute, ...]
    unknown: tuple[Attribute, ...]
    crowded: tuple[Attribute, ...]


def map_resource(resource: Resource, *, planned: PlannedInfrastructure) -> Mapped | None:
    """Build the requests that make a resource of `planned`; None where its type has no call."""
    call = CALLS.get(resource.type)
    if call is None:
        return None
    members = {path.replace("[]", ""): (path, member.split()) for path, member in call.members.items()}
    not_sent = {**call.not_sent, **NEVER_SENT}
    attributes = tuple(attributes_of(resource.body, known=members.keys() | not_sent.keys()))
    sent = [each for each in attributes if each.path in members and call.unset.get(each.path) != each.value]
    requests: dict[str, Tree] = {call.operation: {}}
    crowded = []
    for attribute in sent:
        path, targets = members[attribute.path]
        value = Sent(value=_resolved(planned, resource, attribute.value), attribute=attribute.name)
        for target in targets:
            operation, member = _operation(call, target)
            if not _put(requests.setdefault(operation, {}), member, value, _places(attribute, path)):
                crowded.append(attribute)
    # An attribute that goes to one other operation only calls for that operation.
    made = {_operation(call, members[each.path][1][0])[0] for each in sent if len(members[each.path][1]) == 1}
    made |= {call.operation}
    if any(each.path in call.instead for each in sent):
        made -= {call.operation}
    for target, value in call.given.items():
        operation, member = _operation(call, target)
        if operation in requests:
            _give(requests[operation], member, Sent(value=value, attribute=member))
    return Mapped(
        requests={operation: tree for operation, tree in requests.items() if operation in made},
        attributes=attributes,
        unknown=tuple(each for each in attributes if each.path not in members and each.path not in not_sent),
        crowded=tuple(crowded),
    )


def attributes_of(body: Body, *, known: frozenset[str] | set[str]) -> Iterator[Attribute]:
    """List every attribute that a body sets: a dict is a map where its path is known, else a block; null sets none."""

    def walk(value: Any, path: str, name: str, places: tuple[tuple[str, int], ...]) -> Iterator[Attribute]:
        is_block = isinstance(value, dict) or (
            isinstance(value, list) and any(isinstance(each, dict) for each in value)
        )
        if value is None or (value in ([], {}) and not name.endswith("]")):
            return
        if path in known or not is_block or value == {}:
            yield Attribute(path=path, name=name, places=places, value=value)
        elif isinstance(value, dict):
            if path and (not places or places[-1][0] != path):
                places = (*places, (path, 0))  # one block, written without its list
            for key, each in value.items():
                dot = "." if path else ""
                yield from walk(each, f"{path}{dot}{key}", f"{name}{dot}{key}", places)
        else:
            for place, each in enumerate(value):
                yield from walk(each, path, f"{name}[{place}]", (*places, (path, place)))

    yield from walk(body, "", "", ())


def _places(attribute: Attribute, path: str) -> tuple[int, ...]:
    """Return the indices of the blocks of which the call accepts a list."""
    lists = {path[: match.start()].replace("[]", "") for match in re.finditer(r"\[\]", path)}
    return tuple(place for block, place in attribute.places if block in lists)


def _resolved(planned: PlannedInfrastructure, resource: Resource, value: Any) -> Any:
    try:
        return resolve(planned, resource, value)
    except UnknownUntilApplied:
        return UNKNOWN


def _operation(call: Call, target: str) -> tuple[str, str]:
    operation, _, member = target.rpartition(":")
    return operation or call.operation, member


def _put(tree: Tree, member: str, sent: Sent, places: tuple[int, ...]) -> bool:
    """Put a value at a member's path; return whether it was free.

    A map may become a list of pairs, or a map of structures.
    """
    remaining = list(places)
    *way, last = member.split(".")
    for n, part in enumerate(way):
        match = PART.fullmatch(part)
        assert match is not None, part  # noqa: S101 - our own table
        if match["pair"] is not None:
            entries: Tree = tree.setdefault(match["name"], {})
            for key, value in sent.value.items():
                one = Sent(value=value, attribute=f"{sent.attribute}.{key}")
                _put(entries.setdefault(key, {}), ".".join([*way[n + 1 :], last]), one, tuple(remaining))
            return True
        tree = tree.setdefault(match["name"], {})
        if match["place"] is not None:
            tree = tree.setdefault(int(match["place"]) if match["place"] else remaining.pop(0), {})
    match = PART.fullmatch(last)
    assert match is not None, last  # noqa: S101 - our own table
    if match["name"] in tree:
        return False
    if match["pair"]:
        key_name, value_name = match["pair"].split(",")
        tree[match["name"]] = {
            place: {
                key_name: Sent(value=key, attribute=f"{sent.attribute}.{key}"),
                value_name: Sent(value=value, attribute=f"{sent.attribute}.{key}"),
            }
            for place, (key, value) in enumerate(sorted(sent.value.items()))
        }
    else:
        tree[match["name"]] = sent
    return True


def _give(tree: Tree, member: str, sent: Sent) -> None:
    """Set a member that the provider sets itself, where the structure around it is sent at all; `[]` is each one."""
    if member == "Code.ZipFile":
        tree.setdefault("Code", {})
    *way, last = re.sub(r"\[(\d*)\]", r".\1", member).split(".")
    trees = [tree]
    for part in way:
        step = int(part) if part.isdigit() else part
        trees = [
            found for each in trees for found in (each.values() if part == "" else [each[step]] if step in each else ())
        ]
    for each in trees:
        each[last] = sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The constraints that a resource was judged by, and its problems: each attribute with what is wrong with it."""

    resource: Resource
    attributes: int
    constraints: tuple[Constraint, ...]
    problems: tuple[tuple[str, str], ...]


def judge_resource(resource: Resource, *, planned: PlannedInfrastructure) -> Judgement:
    """Judge every attribute of a resource of `planned`. A type or attribute that is mapped to no call is a problem."""
    mapped = map_resource(resource, planned=planned)
    if mapped is None:
        why = "is a type that no AWS call is known for: add it to operations/assurance/compliance/calls.py"
        return Judgement(resource=resource, attributes=0, constraints=(), problems=(("type", why),))
    service = CALLS[resource.type].service
    constraints = tuple(
        constraint
        for operation, request in mapped.requests.items()
        for judged in judge(service, operation, request)
        for constraint in (judged, *_documented(judged))
    )
    unlisted = "is in no AWS call: map it, or say why it is not sent, in operations/assurance/compliance/calls.py"
    return Judgement(
        resource=resource,
        attributes=len(mapped.attributes),
        constraints=constraints,
        problems=(
            *((each.name, unlisted) for each in mapped.unknown),
            *((each.name, "is of a second block, where the call accepts one") for each in mapped.crowded),
            *((each.attribute, f"{problem_of(each)} ({each.member})") for each in constraints if not each.is_met),
        ),
    )


def figures(planned: PlannedInfrastructure) -> dict[str, int]:
    """Count the attributes, the constraints that they are judged by, and how many different ones those are."""
    judgements = [judge_resource(resource, planned=planned) for resource in planned.resources]
    constraints = [each for judgement in judgements for each in judgement.constraints]
    return {
        "attributes": sum(judgement.attributes for judgement in judgements),
        "constraints": len(constraints),
        "different_constraints": len({(each.member, each.kind) for each in constraints}),
    }


def _documented(judged: Constraint) -> Iterator[Constraint]:
    """Yield the limits of a member that only AWS's pages give, where its value has the right type."""
    if judged.kind == "type" and judged.is_met:
        for limit in DOCUMENTED.get(judged.member, ()):
            is_met = not limit.problem(judged.value)
            yield replace(judged, kind="documented", limit=limit, is_met=is_met)


def problem_of(broken: Constraint) -> str:
    """Say how a value breaks a constraint."""
    value, limit, name = broken.value, broken.limit, broken.path.rpartition(".")[2]
    match broken.kind:
        case "type":
            return f"is {value!r:.40}, not of the type {limit}"
        case "required":
            return f"needs {name}"
        case "member":
            return f"{name} is no member"
        case "min" | "max":
            size = len(value) if broken.unit else value
            bound = "at least" if broken.kind == "min" else "at most"
            return f"is {_shown(size, broken.unit)}; AWS accepts {bound} {_shown(limit, broken.unit)}"
        case "pattern":
            return f"is {value!r:.80}, which AWS's pattern {limit} does not accept"
        case "enum":
            return f"is {value!r:.80}, none of {', '.join(limit)}"
    return f"{limit.problem(value)} ({limit.page})"


def _shown(number: float, unit: str) -> str:
    return f"{number:,} {unit}".strip()
