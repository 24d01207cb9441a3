"""Judges values by the constraints of botocore's service models, which are those that AWS checks requests against.

Two programs ask: the strict local AWS about the members of a request, and the compliance gate about the attributes of
a planned resource, which it wraps in `Sent` to learn which attribute breaks a constraint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import botocore.session

from fleet_iot.generator.aws.java_regex import matches

UNKNOWN = object()
"""A value that only AWS can make: it is not judged."""

Tree = dict[str | int, Any]
"""A request: a structure or map by names, a list by indices, with `Sent` or plain values at its leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A value in a request, and the attribute that it comes from."""

    value: Any
    attribute: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """One constraint that a value was judged by.

    Args:
        member: The path of the member, as `iot.CreateThing:thingName`, lists as `[]`; map keys as `{key}`.
        path: The path as AWS's messages write it, list entries numbered from 1.
        kind: `type`, `required`, `member`, `min`, `max`, `pattern` or `enum`.
        value: The value; None for a required member that is missing.
        limit: What the model says: a number, a pattern, the choices, a type's name.
        unit: What `min` and `max` count: `characters`, `entries`, or '' for the number itself.
        attribute: The attribute that the value comes from; '' where none was given.
        is_whole: Whether the attribute's value, or its key in a map, is the whole of the member's.
    """

    member: str
    path: str
    kind: str
    value: Any
    is_met: bool
    limit: Any = None
    unit: str = ""
    attribute: str = ""
    is_whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    member: str
    path: str = ""
    attribute: str = ""
    is_whole: bool = False

    def within(self, step: str, path: str = "") -> _Place:
        joined = f"{self.path}.{path}" if self.path else path
        return _Place(member=f"{self.member}{step}", path=joined, attribute=self.attribute)

    def judged(self, kind: str, value: Any, is_met: bool, *, limit: Any = None, unit: str = "") -> Constraint:
        return Constraint(
            member=self.member,
            path=self.path,
            kind=kind,
            value=value,
            is_met=is_met,
            limit=limit,
            unit=unit,
            attribute=self.attribute,
            is_whole=self.is_whole,
        )


@lru_cache
def service_model(service: str) -> Any:
    """Return botocore's model of a service."""
    return botocore.session.get_session().get_service_model(service)


@lru_cache
def input_of(service: str, operation: str) -> Any:
    """Return the shape of an operation's input; None where it has none."""
    return service_model(service).operation_model(operation).input_shape


def judge(service: str, operation: str, request: Mapping[Any, Any]) -> Iterator[Constraint]:
    """Judge a request by every constraint on what it contains, and on what it must contain.

    A value of the wrong type is judged no further.
    """
    shape = input_of(service, operation)
    if shape is not None:
        yield from _judge(shape, request, _Place(member=f"{service}.{operation}:"))


def _judge(shape: Any, value: Any, place: _Place) -> Iterator[Constraint]:
    if isinstance(value, Sent):
        place, value = replace(place, attribute=value.attribute, is_whole=True), value.value
    kind = shape.type_name
    if value is UNKNOWN or kind not in _TYPES:
        return
    if kind == "string" and isinstance(value, bool | int | float):
        value = str(value).lower()  # as Terraform writes numbers and truths where a service accepts text
    is_right = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    yield place.judged("type", value, is_right, limit=kind)
    if not is_right:
        return
    if kind == "structure":
        yield from _structure(shape, value, place)
    elif kind == "list":
        entries = [value[number] for number in sorted(value)] if isinstance(value, dict) else value
        yield from _size(shape, value, len(entries), place, "entries")
        for number, entry in enumerate(entries, 1):
            yield from _judge(shape.member, entry, place.within("[]", f"{number}.member"))
    elif kind == "map":
        yield from _size(shape, value, len(value), place, "entries")
        for key, entry in value.items():
            name = next(_attributes(entry), f"{place.attribute}.{key}")
            sent = entry if isinstance(entry, Sent | dict) else Sent(value=entry, attribute=name)
            yield from _judge(shape.key, Sent(value=key, attribute=name), place.within("{key}", f"{key}.key"))
            is_ours = isinstance(entry, Sent) and not name.endswith(f".{key}")
            step = f".{key}" if is_ours else "{value}"
            yield from _judge(shape.value, sent, place.within(step, f"{key}.member"))
    elif kind in ("string", "blob"):
        yield from _size(shape, value, len(value), place, "characters")
        pattern, choices = shape.metadata.get("pattern"), shape.metadata.get("enum")
        if choices:
            yield place.judged("enum", value, value in choices, limit=tuple(choices))
        if pattern is not None:
            yield place.judged("pattern", value, _matches(pattern, value), limit=pattern)
    elif kind != "boolean":
        yield from _size(shape, value, value, place, "")


def _structure(shape: Any, value: Tree, place: _Place) -> Iterator[Constraint]:
    dot = "" if place.member.endswith(":") else "."
    place = replace(place, attribute=place.attribute or next(_attributes(value), ""))
    for name in shape.required_members:
        yield place.within(f"{dot}{name}", name).judged("required", None, value.get(name) is not None)
    for name, each in value.items():
        if each is None or (isinstance(each, Sent) and each.value == "" and name not in shape.required_members):
            continue  # empty text is how Terraform says that an attribute is not set
        within = place.within(f"{dot}{name}", str(name))
        if name in shape.members:
            yield from _judge(shape.members[name], each, within)
        else:
            yield within.judged("member", each, is_met=False)


def _size(shape: Any, value: Any, size: float, place: _Place, unit: str) -> Iterator[Constraint]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None:
        yield place.judged("min", value, size >= least, limit=least, unit=unit)
    if most is not None:
        yield place.judged("max", value, size <= most, limit=most, unit=unit)


@lru_cache(maxsize=65_536)
def _matches(pattern: str, value: str) -> bool:
    return matches(pattern, value)


def _attributes(value: Any) -> Iterator[str]:
    if isinstance(value, Sent):
        yield value.attribute
    elif isinstance(value, dict):
        for each in value.values():
            yield from _attributes(each)


# What a value of a shape's type is in a plan or in JSON; a request keeps its lists by their indices. Shapes of other
# types (timestamps) are not judged.
_TYPES: Mapping[str, tuple[type, ...]] = {
    "structure": (dict,),
    "list": (list, dict),
    "map": (dict,),
    "string": (str,),
    "blob": (bytes,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
}
