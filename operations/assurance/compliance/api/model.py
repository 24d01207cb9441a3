"""What botocore's service models say of a value: type, required members, pattern, length, range, enumeration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import botocore.session

from fleet_iot.generator.aws.java_regex import matches
from fleet_iot.operations.assurance.compliance.api.documented import DOCUMENTED
from fleet_iot.operations.assurance.compliance.api.request import UNKNOWN, Sent, Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One constraint that an attribute was held against, and what is wrong with it, if anything.

    `member` is the path of the member, without the places in lists; `kind` says what of it was looked at, `limit` what
    the model says there. `is_whole`: the attribute's value, or its key in a map, is the whole of the member's.
    """

    attribute: str
    member: str
    kind: str
    value: Any
    problem: str = ""
    limit: Any = None
    is_whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a value is: the member that it is sent as, and the attribute that it comes from."""

    member: str
    attribute: str
    is_whole: bool = False

    def within(self, step: str) -> _Place:
        return _Place(member=f"{self.member}{step}", attribute=self.attribute)

    def held(self, kind: str, value: Any, problem: str = "", *, limit: Any = None) -> Held:
        return Held(
            attribute=self.attribute,
            member=self.member,
            kind=kind,
            value=value,
            problem=problem,
            limit=limit,
            is_whole=self.is_whole,
        )


@lru_cache
def input_of(service: str, operation: str) -> Any:
    """The shape of an operation's input."""
    return _model(service).operation_model(operation).input_shape


@lru_cache
def _model(service: str) -> Any:
    return _session().get_service_model(service)


@lru_cache
def _session() -> Any:
    return botocore.session.get_session()


def judge(service: str, operation: str, request: Tree) -> Iterator[Held]:
    """Everything that a request is held against."""
    yield from _shape(input_of(service, operation), request, _Place(member=f"{service}.{operation}:", attribute=""))


def _shape(shape: Any, value: Any, place: _Place) -> Iterator[Held]:
    if isinstance(value, Sent):
        place, value = replace(place, attribute=value.attribute, is_whole=True), value.value
    if value is UNKNOWN:
        return
    kind = shape.type_name
    if kind == "string" and isinstance(value, bool | int | float):
        value = str(value).lower()  # as Terraform writes numbers and truths where a service takes text
    is_right = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    yield place.held("type", value, "" if is_right else f"is {value!r:.40}, not of the type {kind}")
    if not is_right:
        return
    if kind == "structure":
        yield from _structure(shape, value, place)
    elif kind == "list":
        entries = [value[number] for number in sorted(value)] if isinstance(value, dict) else value
        yield from _size(shape, value, len(entries), place, "entries")
        for entry in entries:
            yield from _shape(shape.member, entry, place.within("[]"))
    elif kind == "map":
        yield from _size(shape, value, len(value), place, "entries")
        for key, entry in value.items():
            name = next(_attributes(entry), f"{place.attribute}.{key}")
            sent = entry if isinstance(entry, Sent | dict) else Sent(value=entry, attribute=name)
            yield from _shape(shape.key, Sent(value=key, attribute=name), place.within("{key}"))
            is_ours = isinstance(entry, Sent) and not name.endswith(f".{key}")
            yield from _shape(shape.value, sent, place.within(f".{key}" if is_ours else "{value}"))
    elif kind in ("string", "blob"):
        yield from _size(shape, value, len(value), place, "characters")
        yield from _text(shape, value, place)
    elif kind != "boolean":
        yield from _size(shape, value, value, place, "")
    for limit in DOCUMENTED.get(place.member, ()):
        problem = limit.problem(value)
        yield place.held("documented", value, problem and f"{problem} ({limit.page})", limit=limit)


def _structure(shape: Any, value: Tree, place: _Place) -> Iterator[Held]:
    dot = "" if place.member.endswith(":") else "."
    place = replace(place, attribute=place.attribute or next(_attributes(value), ""))
    for name in shape.required_members:
        yield place.within(f"{dot}{name}").held("required", None, "" if name in value else f"needs {name}")
    for name, each in value.items():
        if isinstance(each, Sent) and each.value == "" and name not in shape.required_members:
            continue  # how Terraform says that an attribute is not set
        within = place.within(f"{dot}{name}")
        if name not in shape.members:
            yield within.held("member", each, f"{name} is no member")
        else:
            yield from _shape(shape.members[name], each, within)


def _size(shape: Any, value: Any, size: float, place: _Place, unit: str) -> Iterator[Held]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None:
        problem = f"is {_shown(size, unit)}; AWS takes at least {_shown(least, unit)}" if size < least else ""
        yield place.held("min", value, problem, limit=least)
    if most is not None:
        problem = f"is {_shown(size, unit)}; AWS takes at most {_shown(most, unit)}" if size > most else ""
        yield place.held("max", value, problem, limit=most)


def _shown(number: float, unit: str) -> str:
    return f"{number:,} {unit}".strip()


def _text(shape: Any, value: Any, place: _Place) -> Iterator[Held]:
    pattern, choices = shape.metadata.get("pattern"), shape.metadata.get("enum")
    if pattern is not None:
        problem = "" if _matches(pattern, value) else f"is {value!r:.80}, which AWS's pattern {pattern} does not take"
        yield place.held("pattern", value, problem, limit=pattern)
    if choices:
        problem = "" if value in choices else f"is {value!r:.80}, none of {', '.join(choices)}"
        yield place.held("enum", value, problem, limit=tuple(choices))


@lru_cache(maxsize=65_536)
def _matches(pattern: str, value: str) -> bool:
    return matches(pattern, value)


def _attributes(value: Any) -> Iterator[str]:
    if isinstance(value, Sent):
        yield value.attribute
    elif isinstance(value, dict):
        for each in value.values():
            yield from _attributes(each)


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
"""What a value of a shape's type is in a plan; a request keeps its lists by their places."""
