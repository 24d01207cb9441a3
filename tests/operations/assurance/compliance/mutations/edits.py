"""Forms of a mutation: the resource that it changes, and the change."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from fleet_iot.operations.assurance.compliance.infrastructure import (
    POLICY_ATTRIBUTES,
    Body,
    PlannedInfrastructure,
    Resource,
)

Edit = Callable[[Body], None]
"""Changes a body in place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A possible fault, and the check that must find it."""

    check: str
    name: str
    apply: Callable[[PlannedInfrastructure], PlannedInfrastructure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One mutation tried: what its check said of it, which is nothing where it was not caught."""

    check: str
    mutation: str
    noticed: str

    @property
    def is_caught(self) -> bool:
        return bool(self.noticed)


def with_body(planned: PlannedInfrastructure, resource: Resource, body: Body) -> PlannedInfrastructure:
    """The infrastructure with another body for `resource`."""
    changed = replace(resource, body=body)
    return replace(planned, resources=tuple(changed if each is resource else each for each in planned.resources))


def without(planned: PlannedInfrastructure, gone: Iterable[Resource]) -> PlannedInfrastructure:
    """The infrastructure without some of its resources."""
    ids = {id(resource) for resource in gone}
    return replace(planned, resources=tuple(each for each in planned.resources if id(each) not in ids))


def mutation(check: str, name: str, apply: Callable[[PlannedInfrastructure], PlannedInfrastructure]) -> Mutation:
    return Mutation(check=check, name=name, apply=apply)


def edited(
    type_: str, *edits: Edit, id_: str | None = None
) -> Callable[[PlannedInfrastructure], PlannedInfrastructure]:
    """The infrastructure with one resource of a type edited: the one with that id, else the first."""

    def apply(planned: PlannedInfrastructure) -> PlannedInfrastructure:
        resource = pick(planned, type_, id_)
        body = copy.deepcopy(resource.body)
        for edit in edits:
            edit(body)
        return with_body(planned, resource, body)

    return apply


def replaced(attribute: str, old: str, new: str) -> Edit:
    """A part of a text put otherwise."""

    def edit(body: Body) -> None:
        assert old in body[attribute]
        body[attribute] = body[attribute].replace(old, new)

    return edit


def turned(attribute: str) -> Edit:
    """A switch the other way."""

    def edit(body: Body) -> None:
        body[attribute] = not body.get(attribute)

    return edit


def removed(type_: str, id_: str | None = None) -> Callable[[PlannedInfrastructure], PlannedInfrastructure]:
    """The infrastructure without one resource of a type."""
    return lambda planned: without(planned, [pick(planned, type_, id_)])


def all_removed(type_: str) -> Callable[[PlannedInfrastructure], PlannedInfrastructure]:
    """The infrastructure without any resource of a type."""

    def apply(planned: PlannedInfrastructure) -> PlannedInfrastructure:
        pick(planned, type_, None)
        return without(planned, planned.of(type_))

    return apply


def added(type_: str, body: Body, *, id_: str = "added") -> Callable[[PlannedInfrastructure], PlannedInfrastructure]:
    """The infrastructure with one more resource in the platform's stack."""

    def apply(planned: PlannedInfrastructure) -> PlannedInfrastructure:
        resource = Resource(stack=planned.platform, type=type_, id=id_, body=body)
        return replace(planned, resources=(*planned.resources, resource))

    return apply


def stack_edited(**changes: Any) -> Callable[[PlannedInfrastructure], PlannedInfrastructure]:
    """The infrastructure with the first stack said otherwise."""
    return lambda planned: replace(planned, stacks=(replace(planned.stacks[0], **changes), *planned.stacks[1:]))


def put(path: str, value: Any) -> Edit:
    """Sets what lies at a path such as `rule.0.status`; numbers are places in a list."""

    def edit(body: Body) -> None:
        *way, last = path.split(".")
        _inside(body, way)[last] = value

    return edit


def drop(path: str) -> Edit:
    """Takes away what lies at a path. Raises KeyError where nothing does: such a mutation would prove nothing."""

    def edit(body: Body) -> None:
        *way, last = path.split(".")
        holder = _inside(body, way)
        if isinstance(holder, list):
            del holder[int(last)]
        else:
            del holder[last]

    return edit


def in_statement(
    type_: str, change: Edit, *, where: Callable[[Body], bool], id_: str | None = None
) -> Callable[[PlannedInfrastructure], PlannedInfrastructure]:
    """The infrastructure with one statement changed: of the first policy of a type that has a statement like that."""

    def apply(planned: PlannedInfrastructure) -> PlannedInfrastructure:
        attribute = POLICY_ATTRIBUTES[type_][0]
        pick(planned, type_, id_)
        for resource in planned.of(type_):
            document = json.loads(resource.body[attribute])
            for statement in document["Statement"]:
                if where(statement) and id_ in (None, resource.id):
                    change(statement)
                    return with_body(planned, resource, {**resource.body, attribute: json.dumps(document)})
        raise LookupError(f"no {type_} has such a statement")

    return apply


def without_statement(
    type_: str, *, where: Callable[[Body], bool]
) -> Callable[[PlannedInfrastructure], PlannedInfrastructure]:
    """The infrastructure in which one statement is made void: it denies an action that does not exist."""

    def void(statement: Body) -> None:
        statement.clear()
        statement.update({"Effect": "Deny", "Principal": "*", "Action": "none:None", "Resource": "none"})

    return in_statement(type_, void, where=where)


class NothingToBreakError(LookupError):
    """The infrastructure has no resource of the type that a mutation is about."""


def pick(planned: PlannedInfrastructure, type_: str, id_: str | None) -> Resource:
    """The resource of a type with that id, else the first. Raises LookupError where there is none."""
    resources = list(planned.of(type_))
    if not resources:
        raise NothingToBreakError(f"the infrastructure has no {type_}")
    for resource in resources:
        if id_ in (None, resource.id):
            return resource
    raise LookupError(f"the infrastructure has no {type_}.{id_}")


def any_statement(statement: Body) -> bool:
    return True


def bound_service(statement: Body) -> bool:
    """A statement that allows a service, if it names its source."""
    return "Service" in statement.get("Principal", {}) and "Condition" in statement


def allows(action: str) -> Callable[[Body], bool]:
    """Statements that allow an action, or any of a service (`kms:`)."""
    return lambda statement: (
        statement["Effect"] == "Allow" and any(each.startswith(action) for each in _many(statement["Action"]))
    )


def denies(key: str) -> Callable[[Body], bool]:
    """Statements that deny by a condition key."""
    return lambda statement: statement["Effect"] == "Deny" and key in json.dumps(statement.get("Condition", {}))


def denied(sid: str) -> Callable[[Body], bool]:
    """The denial of that name."""
    return lambda statement: statement["Effect"] == "Deny" and statement.get("Sid") == sid


def condition_dropped(key: str) -> Edit:
    """Takes a condition key away from a statement, whatever its operator."""

    def edit(statement: Body) -> None:
        for keys in statement["Condition"].values():
            for name in [name for name in keys if name.lower().startswith(key.lower())]:
                del keys[name]

    return edit


def _inside(body: Any, way: list[str]) -> Any:
    for step in way:
        body = body[int(step)] if isinstance(body, list) else body[step]
    return body


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
