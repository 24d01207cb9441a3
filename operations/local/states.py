"""Reads what Terraform's states hold, from the files: Terraform itself takes a second for each."""

from __future__ import annotations

import json
from pathlib import Path

from operations.local.aws import LocalAws


def applied_stacks(local: LocalAws) -> tuple[Path, ...]:
    """The folders of the stacks that have a Terraform state."""
    return tuple(sorted({state.parent for state in (local.output / "stacks").glob("*/*.tfstate")}))


def count_resources(stack: Path) -> int:
    """How many managed resources the stack's state holds."""
    count = 0
    for state in stack.glob("*.tfstate"):
        try:
            resources = json.loads(state.read_text()).get("resources", [])
        except ValueError:
            continue  # Terraform is writing it at this moment
        count += sum(len(resource["instances"]) for resource in resources if resource["mode"] == "managed")
    return count
