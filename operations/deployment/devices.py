"""Onboarded devices: no plan registers them a second time, and no plant is destroyed while they remain."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from fleet_iot.generator.diagnostics import GateError, OutcomeError
from fleet_iot.generator.text import counted
from fleet_iot.lib.shared.things import thing_of
from fleet_iot.operations.deployment.bundle import IDENTITIES, ROTATED, Bundle
from fleet_iot.operations.terraform import PlannedChange

STACK_FILE = "cdk.tf.json"
CERTIFICATE, ATTACHMENT = "aws_iot_certificate", "aws_iot_thing_principal_attachment"
OF_A_CERTIFICATE = (CERTIFICATE, ATTACHMENT, "aws_iot_policy_attachment")
THING = re.compile(r"\$\{aws_iot_thing\.(\w[\w-]*)\.name\}")


def refuse_second_certificates(
    bundle: Bundle, stack_of: Callable[[str], Path], onboarded: Callable[[Collection[str]], Collection[str]]
) -> None:
    """Raise GateError where a plan creates things, or certificates of things, that are onboarded already.

    AWS accepts the second CreateThing of the same name, and the device would have two certificates.

    Args:
        bundle: The plans.
        stack_of: Returns the folder of a synthesised stack.
        onboarded: Returns those of the things' names under which a device is onboarded.
    """
    for planned in bundle.stacks:
        created = [each for each in planned.changes if each.action == "create" and each.resource_type in IDENTITIES]
        if not created:
            continue
        names = _registered_by(stack_of(planned.name))
        again = sorted(onboarded({names[each.address] for each in created if each.address in names}))
        if again:
            facility = planned.name.removeprefix("facility-").removesuffix(f"-{bundle.binding.suffix}")
            raise GateError(
                f"nothing was applied: {planned.name} would register {counted(len(again), 'thing')} that "
                f"{'is' if len(again) == 1 else 'are'} onboarded already, such as {again[0]}, and make a second "
                f"certificate for each",
                hint=f"hand them over to Terraform first: fleet device adopt --facility {facility}; then plan it again",
            )


def _registered_by(stack: Path) -> dict[str, str]:
    """Return the name of the thing by the address of the thing, and of each of its certificates."""
    resources = json.loads((stack / STACK_FILE).read_text(encoding="utf-8")).get("resource", {})
    things = {id_: body["name"] for id_, body in resources.get("aws_iot_thing", {}).items()}
    found = {f"aws_iot_thing.{id_}": name for id_, name in things.items()}
    for id_, body in resources.get("aws_iot_thing_principal_attachment", {}).items():
        thing = THING.fullmatch(body["thing"])
        if thing and thing[1] in things:
            found[f"aws_iot_certificate.{id_}"] = things[thing[1]]
    return found


def with_rotations(stack: Path, changes: Iterable[PlannedChange]) -> tuple[PlannedChange, ...]:
    """Return a stack's changes, with ROTATED as the reason of deletions of certificates that finish a rotation.

    The synthesised stack then has the thing with another certificate, which is active, and neither of the two, nor an
    attachment of that certificate, is created, replaced or deleted by the same plan.
    """
    changes = tuple(changes)
    deleted = [each for each in changes if each.action == "delete" and each.resource_type == CERTIFICATE]
    if not deleted:
        return changes
    resources = json.loads((stack / STACK_FILE).read_text(encoding="utf-8")).get("resource", {})
    moved = {each.address for each in changes if each.action != "update"}
    kept = set()
    for id_, body in resources.get(ATTACHMENT, {}).items():
        thing = THING.fullmatch(body["thing"])
        certificate = resources.get(CERTIFICATE, {}).get(id_, {})
        if (
            thing
            and thing[1] in resources.get("aws_iot_thing", {})
            and certificate.get("active") is True
            and moved.isdisjoint({f"aws_iot_thing.{thing[1]}", *(f"{kind}.{id_}" for kind in OF_A_CERTIFICATE)})
        ):
            kept.add(thing[1])
    ended = {each.address for each in deleted if thing_of(each.address.partition(".")[2]) in kept}
    return tuple(replace(each, reason=ROTATED) if each.address in ended else each for each in changes)


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
