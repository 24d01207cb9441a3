"""Checks of every attribute against the service model of the call that it is sent in."""

from __future__ import annotations

from collections.abc import Iterator

from fleet_iot.operations.assurance.compliance.api.holding import hold
from fleet_iot.operations.assurance.compliance.findings import Check, Observation, saw
from fleet_iot.operations.assurance.compliance.infrastructure import Estate


def _api_takes_it(estate: Estate) -> Iterator[Observation]:
    """One observation a resource where all is well, else one for each attribute that is not."""
    for resource in estate.resources:
        held = hold(resource, estate=estate)
        if not held.problems:
            yield saw(resource, f"{held.attributes} attributes")
        for attribute, problem in held.problems:
            yield saw(resource, attribute, problem)


CHECKS = (
    Check(
        id="api-takes-it",
        demand="Every attribute is mapped to a member of an AWS call, and is what its service model takes",
        look=_api_takes_it,
    ),
)
