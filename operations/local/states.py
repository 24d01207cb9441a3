"""Reads what Terraform's states hold, from the files: Terraform itself takes a second for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fleet_iot.operations.local.aws import LocalAws


def applied_stacks(local: LocalAws) -> tuple[Path, ...]:
    """The folders of the stacks that have a Terraform state."""
    return tuple(sorted({state.parent for state in (local.output / "stacks").glob("*/*.tfstate")}))


def count_resources(stack: Path) -> int:
    """How many managed resources the stack's state holds."""
    return sum(len(resource["instances"]) for resource in _resources(stack))


def attributes_of(stack: Path, resource_type: str) -> list[dict[str, Any]]:
    """The attributes of each resource of a type that the stack's state holds."""
    return [
        instance["attributes"]
        for resource in _resources(stack)
        if resource["type"] == resource_type
        for instance in resource["instances"]
    ]


def _resources(stack: Path) -> Iterator[dict[str, Any]]:
    for state in stack.glob("*.tfstate"):
        try:
            resources = json.loads(state.read_text()).get("resources", [])
        except ValueError:
            continue  # Terraform is writing it at this moment
        yield from (resource for resource in resources if resource["mode"] == "managed")
