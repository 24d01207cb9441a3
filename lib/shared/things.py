"""Make Terraform resource blocks of a facility's things: thing, certificate and attachments, expanded.

Not a construct for each (40 times the CPU of a block: docs/benchmarks.md), and not `for_each` (Terraform plans it
super-linearly): the blocks are written into the stack's file after CDKTF.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..record.identities import Requests, Status
from ..record.read import ThingRow
from ..specs import FacilitySpec, suffixed
from .text import literal

Blocks = dict[str, dict[str, dict[str, Any]]]
"""Resource type → logical id → arguments, as in the `resource` of a Terraform JSON file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingBlocks:
    """The blocks of a facility's things, and the numbers of certificates, and of things without any CSR."""

    blocks: Blocks
    certificates: int
    without_csr: int


def thing_blocks(things: Iterator[ThingRow], *, facility: FacilitySpec, suffix: str, requests: Requests) -> ThingBlocks:
    """Make the blocks of `things`; each CSR gets a certificate and its attachments, unless its key was retired.

    That of a revoked key is inactive: an apply would fail to activate it.
    """
    groups = {group.device_type: group for group in facility.groups}
    kinds: Blocks = {
        "aws_iot_thing": {},
        "aws_iot_thing_group_membership": {},
        "aws_iot_certificate": {},
        "aws_iot_policy_attachment": {},
        "aws_iot_thing_principal_attachment": {},
    }
    registered, memberships, certificates, policies, principals = kinds.values()
    without_csr = 0
    for thing in things:
        name = suffixed(thing.name, suffix)
        group = groups[thing.device_type]
        id_ = logical_id(thing.name)
        thing_name = f"${{aws_iot_thing.{id_}.name}}"
        registered[id_] = {
            "name": name,
            "thing_type_name": suffixed(thing.thing_type, suffix),
            "attributes": literal(thing.attributes),
        }
        memberships[id_] = {
            "thing_name": thing_name,
            "thing_group_name": f"${{aws_iot_thing_group.{group.thing_group}.name}}",
        }
        without_csr += name not in requests
        for request in requests.get(name, ()):
            if request.status is Status.RETIRED:
                continue
            own_id = certificate_id(id_, request.generation)
            certificate = f"${{aws_iot_certificate.{own_id}.arn}}"
            certificates[own_id] = {"active": request.status is None, "csr": literal(request.csr)}
            policies[own_id] = {"policy": f"${{aws_iot_policy.{group.policy}.name}}", "target": certificate}
            principals[own_id] = {"thing": thing_name, "principal": certificate}
    return ThingBlocks(
        blocks={kind: blocks for kind, blocks in kinds.items() if blocks},
        certificates=len(certificates),
        without_csr=without_csr,
    )


def logical_id(name: str) -> str:
    """Return a Terraform identifier for a thing's name, different for every name.

    A character other than letters, digits and hyphens becomes `_<hex code>_`; `_n_` precedes a first character that
    no identifier may begin with.
    """
    escaped = re.sub(r"[^A-Za-z0-9-]", lambda match: f"_{ord(match.group()):x}_", name)
    return escaped if re.match(r"[A-Za-z_]", escaped) else f"_n_{escaped}"


def certificate_id(thing_id: str, generation: int) -> str:
    """Return the Terraform identifier of a thing's certificate and its attachments.

    `thing_id` contains an even number of underscores, so this is no other thing's.
    """
    return thing_id if generation == 1 else f"{thing_id}_{generation}"


def thing_of(certificate: str) -> str:
    """Return the Terraform identifier of the thing whose certificate has this one."""
    return certificate.rpartition("_")[0] if certificate.count("_") % 2 else certificate
