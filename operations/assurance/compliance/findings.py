"""Checks and findings: a check looks at one attribute of a resource and says that it is right, or what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure, Resource

OWN = "fleet"
CHECKOV = "checkov"
PARLIAMENT = "parliament"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """The result of one check on one attribute of a resource; it has passed where `problem` is empty."""

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


Look = Callable[..., Iterator[Observation]]
"""Yields what it observes in a planned infrastructure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One of the project's own checks.

    Args:
        id: Its name in the report, the catalogue and the skips.
        demand: What it demands, in one sentence.
        look: Observes every resource that the check is about.
        about: The type without which there is nothing to observe: a fleet that is registered in bulk has no
            certificates. A check without it must always observe something.
    """

    id: str
    demand: str
    look: Look
    about: str = ""

    def run(self, planned: PlannedInfrastructure) -> tuple[Finding, ...]:
        """Return what the check finds on every resource that it is about."""
        return tuple(
            Finding(scanner=OWN, check=self.id, resource=seen.resource, attribute=seen.attribute, problem=seen.problem)
            for seen in self.look(planned)
        )


def check(id_: str, demand: str, *, about: str = "") -> Callable[[Look], Check]:
    """Make a check of the function that looks."""
    return lambda look: Check(id=id_, demand=demand, look=look, about=about)


def observe(subject: Resource | str, attribute: str, *problems: str) -> Observation:
    """Return one observation of a resource, or of a stack by its name; empty problems are none."""
    address = subject if isinstance(subject, str) else subject.address
    return Observation(resource=address, attribute=attribute, problem="; ".join(filter(None, problems)))


def problem_unless(is_right: object, problem: str) -> str:
    """Return the problem, or nothing where all is right."""
    return "" if is_right else problem
