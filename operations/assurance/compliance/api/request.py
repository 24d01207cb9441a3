"""The requests that Terraform would send: a planned body put into the members of its calls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fleet_iot.operations.assurance.compliance.api.calls import CALLS, NEVER_SENT, Call
from fleet_iot.operations.assurance.compliance.infrastructure import (
    Body,
    Estate,
    Resource,
    UnknownUntilApplied,
    resolve,
)

UNKNOWN = object()
"""Stands for a value that only an apply would know."""

PART = re.compile(r"(?P<name>\w+)(?:\[(?P<place>\d*)\]|\{(?P<pair>[\w,]*)\})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A value in a request, and the attribute that it comes from."""

    value: Any
    attribute: str


Tree = dict[str | int, Any]
"""A request: a structure or map by names, a list by places, with `Sent` at its leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute that a plan sets: its path without places, its path with them, the places, and the value."""

    path: str
    name: str
    places: tuple[tuple[str, int], ...]
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A resource's requests by operation, the attributes that its call knows nothing of, and those that it has no room
    for: of a second block where it takes one.
    """

    requests: dict[str, Tree]
    attributes: tuple[Attribute, ...]
    unknown: tuple[Attribute, ...]
    crowded: tuple[Attribute, ...]


def map_resource(resource: Resource, *, estate: Estate) -> Mapped | None:
    """The requests that make a resource of `estate`; None where its type has no call."""
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
        value = Sent(value=_resolved(estate, resource, attribute.value), attribute=attribute.name)
        for target in targets:
            operation, member = _operation(call, target)
            if not _put(requests.setdefault(operation, {}), member, value, _places(attribute, path)):
                crowded.append(attribute)
    # Another operation is called for by an attribute that goes to it alone.
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
    """Every attribute that a body sets. A dict is a map where its path is known, else a block; a null sets nothing."""

    def walk(value: Any, path: str, name: str, places: tuple[tuple[str, int], ...]) -> Iterator[Attribute]:
        is_block = isinstance(value, dict) or (
            isinstance(value, list) and any(isinstance(each, dict) for each in value)
        )
        if value is None or (value in ([], {}) and not name.endswith("]")):
            return
        if path in known or not is_block or value == {}:
            yield Attribute(path=path, name=name, places=places, value=value)
        elif isinstance(value, dict):
            for key, each in value.items():
                dot = "." if path else ""
                yield from walk(each, f"{path}{dot}{key}", f"{name}{dot}{key}", places)
        else:
            for place, each in enumerate(value):
                yield from walk(each, path, f"{name}[{place}]", (*places, (path, place)))

    yield from walk(body, "", "", ())


def _places(attribute: Attribute, path: str) -> tuple[int, ...]:
    """The places of the blocks of which the call takes a list."""
    lists = {path[: match.start()].replace("[]", "") for match in re.finditer(r"\[\]", path)}
    return tuple(place for block, place in attribute.places if block in lists)


def _resolved(estate: Estate, resource: Resource, value: Any) -> Any:
    try:
        return resolve(estate, resource, value)
    except UnknownUntilApplied:
        return UNKNOWN


def _operation(call: Call, target: str) -> tuple[str, str]:
    operation, _, member = target.rpartition(":")
    return operation or call.operation, member


def _put(tree: Tree, member: str, sent: Sent, places: tuple[int, ...]) -> bool:
    """Puts a value at a member's path, and tells whether it is free.

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
    """Sets a member that the provider sets itself, where what it is a part of is sent at all."""
    *way, last = re.sub(r"\[(\d+)\]", r".\1", member).split(".")
    for part in way if member != "Code.ZipFile" else ():
        step = int(part) if part.isdigit() else part
        if step not in tree:
            return
        tree = tree[step]
    if member == "Code.ZipFile":
        tree = tree.setdefault("Code", {})
    tree[last] = sent
