"""Builders of small estates, findings and verdicts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fleet_iot.operations.assurance.compliance.findings import Finding, Skip
from fleet_iot.operations.assurance.compliance.gate import Count, Verdict
from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure, Resource, Stack

REASON = "accepted in this test, for a reason that is long enough"


@pytest.fixture
def stack() -> Callable[..., Stack]:
    def build(name: str = "tap-dev", **changes: Any) -> Stack:
        values: dict[str, Any] = {
            "backend": {"local": {"path": "x.tfstate"}},
            "provider": {"region": "eu-west-1", "allowed_account_ids": ["123456789012"]},
            "plan_text": "{}",
        }
        return Stack(name=name, **{**values, **changes})

    return build


@pytest.fixture
def planned(stack: Callable[..., Stack]) -> Callable[..., PlannedInfrastructure]:
    """A planned infrastructure of resources given as `type.id` and body."""

    def build(bodies: dict[str, dict[str, Any]], *, of_stack: str = "tap-dev", **changes: Any) -> PlannedInfrastructure:
        resources = tuple(
            Resource(stack=of_stack, type=address.partition(".")[0], id=address.partition(".")[2], body=body)
            for address, body in bodies.items()
        )
        values: dict[str, Any] = {"environment_suffix": "dev", "stacks": (stack(of_stack),), "resources": resources}
        return PlannedInfrastructure(**{**values, **changes})

    return build


@pytest.fixture
def policy() -> Callable[..., str]:
    """A policy of one statement, which allows by default."""

    def build(**elements: Any) -> str:
        return json.dumps({"Version": "2012-10-17", "Statement": [{"Sid": "It", "Effect": "Allow", **elements}]})

    return build


@pytest.fixture
def finding() -> Callable[..., Finding]:
    def build(problem: str = "", **changes: str) -> Finding:
        values = {
            "scanner": "fleet",
            "check": "key-rotation",
            "resource": "aws_kms_key.key-data",
            "attribute": "enable_key_rotation",
            "problem": problem,
        }
        return Finding(**{**values, **changes})

    return build


@pytest.fixture
def skip() -> Callable[..., Skip]:
    def build(**changes: str) -> Skip:
        values = {"check": "fleet key-rotation", "resource": "aws_kms_key.key-data", "reason": REASON}
        return Skip(**{**values, **changes})

    return build


@pytest.fixture
def verdict(finding: Callable[..., Finding]) -> Callable[..., Verdict]:
    """A verdict in which all is well."""

    def build(**changes: Any) -> Verdict:
        values: dict[str, Any] = {
            "findings": (finding(),),
            "skips": (),
            "counts": (Count(what="resources", expected=1, seen=1),),
            "parse_errors": 0,
            "resources": 1,
            "figures": {"attributes": 12, "constraints": 34, "different_constraints": 5},
            "titles": {"fleet key-rotation": "Every key rotates"},
        }
        return Verdict(**{**values, **changes})

    return build
