"""The estate: every resource of every stack, as Terraform would make it; what the checks look at.

A resource's body is its planned values. Where only an apply would know a value, the reference that was synthesised
stands in for it (`${aws_kms_key.key-data.arn}`), so that a check sees which key, not "unknown". What a plan leaves out
(`lifecycle`) is taken from the synthesised stack, too.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

Body = dict[str, Any]

CREDENTIAL = "made-up-credential-that-must-not-appear"
"""The secret key by which the stacks are planned; the checks look for it in what was planned."""

REFERENCE = re.compile(r"(?<!\$)\$\{([a-z0-9_]+)\.([^.}]+)\.[^}]+\}")
"""A reference to another resource's attribute, as CDKTF writes it: its type and its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource of one stack."""

    stack: str
    type: str
    id: str
    body: Body

    @property
    def address(self) -> str:
        return f"{self.type}.{self.id}"

    def block(self, name: str) -> Body:
        """The nested block `name`, of which there is one at most; empty where there is none."""
        blocks = self.blocks(name)
        return blocks[0] if blocks else {}

    def blocks(self, name: str) -> list[Body]:
        return blocks_of(self.body, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What a stack says beside its resources: backend and provider as synthesised, and its whole plan as text."""

    name: str
    backend: Body
    provider: Body
    plan_text: str


@dataclass(frozen=True, kw_only=True)
class Estate:
    """All stacks of one environment; `retention` is what the manifest asks for, `short` or `records`."""

    environment_suffix: str
    stacks: tuple[Stack, ...]
    resources: tuple[Resource, ...]
    retention: str = "short"

    @cached_property
    def _by_type(self) -> dict[str, list[Resource]]:
        found: dict[str, list[Resource]] = {}
        for resource in self.resources:
            found.setdefault(resource.type, []).append(resource)
        return found

    @cached_property
    def _by_address(self) -> dict[tuple[str, str], Resource]:
        return {(resource.stack, resource.address): resource for resource in self.resources}

    @property
    def platform(self) -> str:
        """The stack that things missing from the whole estate are missing from."""
        return next((stack.name for stack in self.stacks if stack.name.startswith("tap-")), self.stacks[0].name)

    def of(self, *types: str) -> Iterator[Resource]:
        """All resources of these types."""
        for type_ in types:
            yield from self._by_type.get(type_, ())

    def target(self, origin: Resource, value: Any) -> Resource | None:
        """The resource that `value` in the body of `origin` refers to, where it is a reference within its stack."""
        match = REFERENCE.match(value) if isinstance(value, str) else None
        return self._by_address.get((origin.stack, f"{match[1]}.{match[2]}")) if match else None

    def found(self, type_: str, origin: Resource, value: Any) -> Resource | None:
        """The resource of `type_` that `value` in the body of `origin` refers to, or names."""
        return next((each for each in self.of(type_) if self.refers(origin, value, each)), None)

    def refers(self, origin: Resource, value: Any, to: Resource) -> bool:
        """Whether `value` is a reference to `to`, or its literal name."""
        return self.target(origin, value) is to or (isinstance(value, str) and value == name_of(to))

    def belonging(self, type_: str, attribute: str, to: Resource) -> list[Resource]:
        """The resources of `type_` whose `attribute` refers to `to`: a bucket's policy, a queue's policy, …"""
        return [each for each in self.of(type_) if self.refers(each, each.body.get(attribute), to)]

    def with_body(self, resource: Resource, body: Body) -> Estate:
        """The estate with another body for `resource`."""
        changed = replace(resource, body=body)
        return replace(self, resources=tuple(changed if each is resource else each for each in self.resources))

    def without(self, gone: Iterable[Resource]) -> Estate:
        """The estate without some of its resources."""
        ids = {id(resource) for resource in gone}
        return replace(self, resources=tuple(each for each in self.resources if id(each) not in ids))


def blocks_of(body: Body, name: str) -> list[Body]:
    """The nested blocks `name` of a body or block."""
    value = body.get(name)
    blocks = value if isinstance(value, list) else [value]
    return [block for block in blocks if isinstance(block, dict)]


def block_of(body: Body, name: str) -> Body:
    """The nested block `name`, of which there is one at most; empty where there is none."""
    blocks = blocks_of(body, name)
    return blocks[0] if blocks else {}


def name_of(resource: Resource) -> str | None:
    """The name that AWS knows the resource by, where it has one of its own."""
    for attribute in ("name", "bucket", "function_name", "dashboard_name", "alarm_name"):
        value = resource.body.get(attribute)
        if isinstance(value, str) and not REFERENCE.match(value):
            return value
    return None


def made_up_id(resource: str) -> uuid.UUID:
    """The id that stands for the one which AWS would give to `resource`, as `aws_kms_key.key-data`: always the same."""
    return uuid.uuid5(uuid.NAMESPACE_URL, resource)


def read_stack(name: str, *, synthesised: Body, plan: Body, plan_text: str) -> tuple[Stack, tuple[Resource, ...]]:
    """A stack and its resources, from what was synthesised and what Terraform planned of it."""
    declared = synthesised.get("resource", {})
    resources = []
    for change in plan["resource_changes"]:
        if change["mode"] != "managed":
            continue
        type_, id_ = change["type"], change["name"]
        body = declared.get(type_, {}).get(id_, {})
        planned = _merged(change["change"]["after"] or {}, change["change"]["after_unknown"], body)
        if "lifecycle" in body:
            planned["lifecycle"] = body["lifecycle"]
        resources.append(Resource(stack=name, type=type_, id=id_, body=planned))
    providers = synthesised.get("provider", {}).get("aws", [{}])
    stack = Stack(
        name=name,
        backend=synthesised.get("terraform", {}).get("backend", {}),
        provider=providers[0] if isinstance(providers, list) else providers,
        plan_text=plan_text,
    )
    return stack, tuple(sorted(resources, key=lambda each: each.address))


def _merged(known: Any, unknown: Any, declared: Any) -> Any:
    """What is known of a value, and what was declared where it is unknown."""
    if unknown is True:
        return declared
    if isinstance(known, dict):
        unknown = unknown if isinstance(unknown, dict) else {}
        declared = declared if isinstance(declared, dict) else {}
        keys = [*known, *(key for key in unknown if key not in known)]
        merged = {key: _merged(known.get(key), unknown.get(key), declared.get(key)) for key in keys}
        return {key: value for key, value in merged.items() if value is not None}
    if isinstance(known, list):
        unknown = unknown if isinstance(unknown, list) else []
        declared = declared if isinstance(declared, list) else [declared]  # one block may be written without its list
        return [
            _merged(value, unknown[n] if n < len(unknown) else None, _counterpart(value, declared, n))
            for n, value in enumerate(known)
        ]
    return known


def _counterpart(value: Any, declared: list[Any], place: int) -> Any:
    """The declared block that a planned one comes from: the one that agrees with it, for Terraform sorts sets anew."""
    if isinstance(value, dict):
        plain = {key: each for key, each in value.items() if isinstance(each, str | int | float | bool)}
        for block in (each for each in declared if isinstance(each, dict) and plain.keys() & each.keys()):
            if all(block.get(key, each) == each for key, each in plain.items()):
                return block
    return declared[place] if place < len(declared) else None
