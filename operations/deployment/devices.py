"""Before plants are destroyed: refuse where onboarded devices remain, and detach what onboarding attached."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from fleet_iot.generator.diagnostics import OutcomeError
from fleet_iot.generator.text import counted

STACK_FILE = "cdk.tf.json"


def release_policies(iot: Any, stacks: Iterable[Path], *, otherwise: str = "") -> None:
    """Detach the plants' policies from their thing groups, where onboarding attaches them.

    AWS deletes no policy that is attached, and Terraform destroys only the attachments that it made.
    https://docs.aws.amazon.com/iot/latest/apireference/API_DeletePolicy.html

    Args:
        iot: A client of AWS IoT.
        stacks: Folders of synthesised stacks.
        otherwise: Another remedy than to retire the devices.

    Raises:
        OutcomeError: a group contains things that no stack declares: their certificates would keep the policies.
    """
    stacks = tuple(stacks)
    declared = set(_names(stacks, "aws_iot_thing"))
    groups = list(_names(stacks, "aws_iot_thing_group"))
    registered = {thing for group in groups for thing in _things(iot, group)} - declared
    if registered:
        verb = "are" if len(registered) > 1 else "is"
        raise OutcomeError(
            f"{counted(len(registered), 'onboarded device')} {verb} registered, such as {min(registered)}",
            hint=f"retire them first: fleet device retire THING...{otherwise}",
        )
    for policy in _names(stacks, "aws_iot_policy"):
        for target in _targets(iot, policy):
            if target.rpartition(":thinggroup/")[2] in groups:
                iot.detach_policy(policyName=policy, target=target)


def _names(stacks: Iterable[Path], resource_type: str) -> Iterator[str]:
    """Yield the names of the resources of a type that the stacks declare."""
    for stack in stacks:
        resources = json.loads((stack / STACK_FILE).read_text(encoding="utf-8")).get("resource", {})
        yield from (body["name"] for body in resources.get(resource_type, {}).values())


def _things(iot: Any, group: str) -> list[str]:
    pages = iot.get_paginator("list_things_in_thing_group").paginate(thingGroupName=group)
    try:
        return [thing for page in pages for thing in page["things"]]
    except ClientError as error:
        if _is_missing(error):
            return []
        raise


def _targets(iot: Any, policy: str) -> list[str]:
    try:
        return list(iot.list_targets_for_policy(policyName=policy)["targets"])
    except ClientError as error:
        if _is_missing(error):
            return []
        raise


def _is_missing(error: ClientError) -> bool:
    return bool(error.response["Error"]["Code"] == "ResourceNotFoundException")
