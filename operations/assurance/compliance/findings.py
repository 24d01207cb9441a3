"""What a check is, and what it says: of one resource's attribute, that it is right or what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure, Resource


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """What `scanner` says with `check` of an attribute of a resource; without a `problem` it has passed."""

    scanner: str
    check: str
    resource: str
    attribute: str
    problem: str = ""

    @property
    def has_passed(self) -> bool:
        return not self.problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a check saw; `resource` is an address, or a stack's name where a whole stack is meant."""

    resource: str
    attribute: str
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One of the project's own checks: what it demands, in one sentence, and how it looks at an infrastructure.

    `about` is the type without which there is nothing to see: a fleet that is registered in bulk has no certificates
    here. A check about nothing in particular must always see something.
    """

    id: str
    demand: str
    look: Callable[[PlannedInfrastructure], Iterator[Observation]]
    about: str = ""

    def run(self, planned: PlannedInfrastructure) -> tuple[Finding, ...]:
        """What it says of every resource that it is about."""
        return tuple(
            Finding(
                scanner=OWN,
                check=self.id,
                resource=seen.resource,
                attribute=seen.attribute,
                problem=seen.problem,
            )
            for seen in self.look(planned)
        )


OWN = "fleet"
CHECKOV = "checkov"
PARLIAMENT = "parliament"


def observe(subject: Resource | str, attribute: str, *problems: str) -> Observation:
    """One observation of a resource, or of a stack by its name; problems that are empty are none."""
    address = subject if isinstance(subject, str) else subject.address
    return Observation(resource=address, attribute=attribute, problem="; ".join(filter(None, problems)))


def problem_unless(is_right: object, problem: str) -> str:
    """The problem, or nothing where all is right."""
    return "" if is_right else problem
