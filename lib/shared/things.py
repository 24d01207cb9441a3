"""Make Terraform resource blocks of a facility's things: thing, certificate and attachments, expanded.

Not a construct for each (40 times the CPU of a block: docs/benchmarks.md), and not `for_each` (Terraform plans it
super-linearly): the blocks are written into the stack's file after CDKTF.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..record.read import ThingRow
from ..specs import FacilitySpec, suffixed
from .text import literal

Blocks = dict[str, dict[str, dict[str, Any]]]
"""Resource type → logical id → arguments, as in the `resource` of a Terraform JSON file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingBlocks:
    """The blocks of a facility's things, and the number of things with and without a certificate."""

    blocks: Blocks
    certificates: int
    without_csr: int


def thing_blocks(
    things: Iterator[ThingRow], *, facility: FacilitySpec, suffix: str, csrs: Mapping[str, str]
) -> ThingBlocks:
    """Make the blocks of `things`; those with a CSR get an active certificate and its attachments.

    Args:
        csrs: Full thing name → CSR in PEM.
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
        csr = csrs.get(name)
        if csr is None:
            without_csr += 1
            continue
        certificate = f"${{aws_iot_certificate.{id_}.arn}}"
        certificates[id_] = {"active": True, "csr": literal(csr)}
        policies[id_] = {"policy": f"${{aws_iot_policy.{group.policy}.name}}", "target": certificate}
        principals[id_] = {"thing": thing_name, "principal": certificate}
    return ThingBlocks(
        blocks={kind: blocks for kind, blocks in kinds.items() if blocks},
        certificates=len(registered) - without_csr,
        without_csr=without_csr,
    )


def logical_id(name: str) -> str:
    """Return a Terraform identifier for a thing's name, different for every name.

    A character other than letters, digits and hyphens becomes `_<hex code>_`; `_n_` precedes a first character that
    no identifier may begin with.
    """
    escaped = re.sub(r"[^A-Za-z0-9-]", lambda match: f"_{ord(match.group()):x}_", name)
    return escaped if re.match(r"[A-Za-z_]", escaped) else f"_n_{escaped}"
