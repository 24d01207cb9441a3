"""Checks the input of a REST call against botocore's model of the operation: pattern, length, range, enumeration.

AWS checks requests against the very models that botocore carries; the emulator checks few of their members.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import botocore.session

from fleet_iot.generator.aws.java_regex import matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as the model sees it: its operation and the members of its input, by their names in the model."""

    operation: str
    members: Mapping[str, Any]


class ServiceModel:
    """The operations of one service of the protocol rest-json."""

    def __init__(self, service: str) -> None:
        self._model = botocore.session.get_session().get_service_model(service)
        routes = []
        for name in self._model.operation_names:
            http = self._model.operation_model(name).http
            path = http["requestUri"].partition("?")[0]
            labels = re.split(r"\{(\w+)\+?\}", path)
            # Whatever stands in a label's place; the request's path comes decoded, an ARN with its slashes.
            pattern = "".join(f"(?P<{part}>.+)" if i % 2 else re.escape(part) for i, part in enumerate(labels))
            literal = sum(len(part) for part in labels[::2])
            routes.append((-literal, http["method"], re.compile(pattern), name))
        # The most literal first: /thing-groups/addThingToThingGroup is no group's name.
        self._routes = [route[1:] for route in sorted(routes, key=lambda route: (route[0], route[3]))]

    def call(self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, Any]) -> Call:
        """Read a request; an operation that the model does not have is named ''."""
        for verb, pattern, name in self._routes:
            found = pattern.fullmatch(path) if verb == method else None
            if found:
                return Call(operation=name, members=self._members(name, found.groupdict(), headers, body, query))
        return Call(operation="", members={})

    def misfits(self, call: Call) -> list[str]:
        """What AWS would say of each member that does not fit, in its own words."""
        shape = self._model.operation_model(call.operation).input_shape if call.operation else None
        return list(_misfits(call.members, shape, "")) if shape else []

    def _members(
        self, name: str, labels: dict[str, str], headers: Mapping[str, str], body: bytes, query: Mapping[str, Any]
    ) -> dict[str, Any]:
        shape = self._model.operation_model(name).input_shape
        if shape is None:
            return {}
        payload = shape.serialization.get("payload")
        document = _document(body)
        members: dict[str, Any] = {}
        for member, kind in shape.members.items():
            wire = kind.serialization.get("name", member)
            location = kind.serialization.get("location")
            if location == "uri":
                value: Any = labels.get(wire) or None
            elif location == "querystring":
                value = _from_text(query.get(wire), kind)
            elif location == "header":
                value = _from_text(headers.get(wire.lower()), kind)
            elif location is None and isinstance(document, dict):
                value = document if member == payload else document.get(wire)
            else:
                value = None
            if value is not None:
                members[member] = value
        return members


def _document(body: bytes) -> Any:
    try:
        return json.loads(body) if body else {}
    except ValueError:
        return None


def _from_text(value: Any, kind: Any) -> Any:
    if isinstance(value, list):
        value = value[0] if value and kind.type_name != "list" else value
    if kind.type_name in {"integer", "long"} and isinstance(value, str):
        return int(value) if re.fullmatch(r"-?[0-9]+", value) else value
    return value


def _misfits(value: Any, shape: Any, place: str) -> Iterator[str]:
    kind, rules = shape.type_name, shape.metadata
    if kind == "structure" and isinstance(value, dict):
        for name in shape.required_members:
            if value.get(_wire(shape, name)) is None and value.get(name) is None:
                yield _said(None, _joined(place, name), "Member must not be null")
        for name, member in shape.members.items():
            inner = value.get(name, value.get(_wire(shape, name)))
            if inner is not None:
                yield from _misfits(inner, member, _joined(place, name))
    elif kind == "list" and isinstance(value, list):
        yield from _range_misfits(len(value), value, rules, place, "length ")
        for number, inner in enumerate(value):
            yield from _misfits(inner, shape.member, f"{place}.{number + 1}.member")
    elif kind == "map" and isinstance(value, dict):
        yield from _range_misfits(len(value), value, rules, place, "length ")
        for key, inner in value.items():
            yield from _misfits(key, shape.key, f"{place}.{key}.key")
            yield from _misfits(inner, shape.value, f"{place}.{key}.member")
    elif kind == "string" and isinstance(value, str):
        yield from _range_misfits(len(value), value, rules, place, "length ")
        if shape.enum and value not in shape.enum:
            yield _said(value, place, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
        if "pattern" in rules and not matches(rules["pattern"], value):
            yield _said(value, place, f"Member must satisfy regular expression pattern: {rules['pattern']}")
    elif kind in {"integer", "long", "double", "float"} and isinstance(value, int | float):
        yield from _range_misfits(value, value, rules, place, "value ")


def _range_misfits(size: float, value: Any, rules: Mapping[str, Any], place: str, what: str) -> Iterator[str]:
    if "min" in rules and size < rules["min"]:
        yield _said(value, place, f"Member must have {what}greater than or equal to {rules['min']}")
    if "max" in rules and size > rules["max"]:
        yield _said(value, place, f"Member must have {what}less than or equal to {rules['max']}")


def _wire(shape: Any, name: str) -> str:
    return str(shape.members[name].serialization.get("name", name))


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _said(value: Any, place: str, constraint: str) -> str:
    given = "null" if value is None else f"'{value}'"
    return f"Value {given} at '{place}' failed to satisfy constraint: {constraint}"
