"""The project's own fleet, and the same with one policy replaced."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest

from fleet_iot.lib.specs import fill
from fleet_iot.operations.assurance.isolation.fleet import PLACEHOLDER_ACCOUNT, Fleet, Group, gather_fleet
from fleet_iot.operations.assurance.isolation.policy import read_policy
from fleet_iot.operations.project import load_project
from tests.operations.assurance.isolation.mutations import Mutation
from tests.places import SAMPLE

VICTIM_OF_MUTATION = ("sg-01", "press-monitor")
PART = {f"{facility}/{kind}" for facility in ("sg-01", "th-ry-01") for kind in ("conveyor", "press-monitor")}
POLICY = SAMPLE / "lib" / "facilities" / "sg_01" / "press-monitor.policy.json"

Break = Callable[[Mutation], Fleet]


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return gather_fleet(load_project(SAMPLE))


@pytest.fixture(scope="session")
def broken(fleet: Fleet) -> Break:
    """A part of the fleet with one policy of it broken: two facilities, two device types, three things of each."""

    def replaced(group: Group, mutation: Mutation) -> Group:
        small = dataclasses.replace(group, things=group.things[:3])
        if (group.facility, group.device_type) != VICTIM_OF_MUTATION:
            return small
        document = json.loads(POLICY.read_text(encoding="utf-8"))
        mutation(document)
        text = fill(json.dumps(document), account_id=PLACEHOLDER_ACCOUNT, suffix="dev")
        return dataclasses.replace(small, policy=read_policy(group.policy.name, text))

    def make(mutation: Mutation) -> Fleet:
        groups = tuple(replaced(group, mutation) for group in fleet.groups if group.name in PART)
        return dataclasses.replace(fleet, groups=groups)

    return make
