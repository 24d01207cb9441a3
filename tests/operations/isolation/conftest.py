"""The project's own fleet, and the same with one policy replaced."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.specs import fill
from operations.isolation.policy import read_policy
from operations.isolation.principals import PLACEHOLDER_ACCOUNT, Fleet, Group, gather_fleet
from operations.project import load_project
from tests.operations.isolation.mutations import Mutation

ROOT = Path(__file__).parents[3]
VICTIM_OF_MUTATION = ("sg-01", "press-monitor")
POLICY = ROOT / "lib" / "facilities" / "sg_01" / "press-monitor.policy.json"

Break = Callable[[Mutation], Fleet]


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return gather_fleet(load_project(ROOT))


@pytest.fixture(scope="session")
def broken(fleet: Fleet) -> Break:
    """The fleet with one policy of it broken; six things a group will do."""

    def replaced(group: Group, mutation: Mutation) -> Group:
        small = dataclasses.replace(group, things=group.things[:6])
        if (group.facility, group.device_type) != VICTIM_OF_MUTATION:
            return small
        document = json.loads(POLICY.read_text(encoding="utf-8"))
        mutation(document)
        text = fill(json.dumps(document), account_id=PLACEHOLDER_ACCOUNT, suffix="dev")
        return dataclasses.replace(small, policy=read_policy(group.policy.name, text))

    def make(mutation: Mutation) -> Fleet:
        return dataclasses.replace(fleet, groups=tuple(replaced(group, mutation) for group in fleet.groups))

    return make
