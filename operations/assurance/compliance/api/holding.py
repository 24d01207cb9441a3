"""Holds a planned resource against the models of the calls that would make it."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_iot.operations.assurance.compliance.api.calls import CALLS
from fleet_iot.operations.assurance.compliance.api.model import Held, judge
from fleet_iot.operations.assurance.compliance.api.request import map_resource
from fleet_iot.operations.assurance.compliance.infrastructure import Estate, Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a resource was held against, and what is wrong with it: each attribute with its problem."""

    resource: Resource
    attributes: int
    constraints: tuple[Held, ...]
    problems: tuple[tuple[str, str], ...]


def hold(resource: Resource, *, estate: Estate) -> Holding:
    """Hold every attribute of a resource of `estate`. A type or an attribute that no call is known for is a problem."""
    mapped = map_resource(resource, estate=estate)
    if mapped is None:
        why = "is a type that no AWS call is known for: add it to operations/assurance/compliance/api/calls.py"
        return Holding(resource=resource, attributes=0, constraints=(), problems=(("type", why),))
    service = CALLS[resource.type].service
    constraints = tuple(
        held for operation, request in mapped.requests.items() for held in judge(service, operation, request)
    )
    unlisted = "is in no AWS call: map it, or say why it is not sent, in operations/assurance/compliance/api/calls.py"
    return Holding(
        resource=resource,
        attributes=len(mapped.attributes),
        constraints=constraints,
        problems=(
            *((each.name, unlisted) for each in mapped.unknown),
            *((each.name, "is of a second block, where the call takes one") for each in mapped.crowded),
            *((held.attribute, f"{held.problem} ({held.member})") for held in constraints if held.problem),
        ),
    )


def figures(estate: Estate) -> dict[str, int]:
    """Count what there is to hold: attributes, constraints, and how many different ones those are."""
    holdings = [hold(resource, estate=estate) for resource in estate.resources]
    constraints = [held for holding in holdings for held in holding.constraints]
    return {
        "attributes": sum(holding.attributes for holding in holdings),
        "constraints": len(constraints),
        "different_constraints": len({(held.member, held.kind) for held in constraints}),
    }
