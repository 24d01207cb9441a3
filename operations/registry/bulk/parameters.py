"""What AWS IoT's own bulk registration is given: the template, and one line of parameters for each device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.operations.registry.planned import PlannedThing
from fleet_iot.operations.registry.steps import Group, pem_of

TEMPLATE_FILE = "bulk_registration_template.json"
TEMPLATE_LIMIT = 10_240
"""Characters: https://docs.aws.amazon.com/iot/latest/apireference/API_StartThingRegistrationTask.html"""

PREFIX = "Attribute."
"""Before an attribute's name, in the name of its parameter."""
_OWN = ("facility", "serial")
"""Attributes that the template has already."""


def attributes_of(thing: PlannedThing) -> tuple[str, ...]:
    """The names of the attributes that the template gets besides its own: those of all devices of one task."""
    return tuple(sorted(thing.attributes.keys() - set(_OWN)))


def template_body(path: Path, attributes: Sequence[str], *, is_staged: bool) -> str:
    """The approved template with further attributes, and with certificates that are INACTIVE where devices are staged.

    Raises EnvironmentFault where there is none, RequestError where it would be longer than AWS IoT takes.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise EnvironmentFault(
            f"{path} is missing or damaged", hint="run `fleet generate`, then review and commit it"
        ) from None
    payload = document["Resources"]["thing"]["Properties"]["AttributePayload"]
    for name in attributes:
        document["Parameters"][PREFIX + name] = {"Type": "String"}
        payload[name] = {"Ref": PREFIX + name}
    if is_staged:
        document["Resources"]["certificate"]["Properties"]["Status"] = "INACTIVE"
    body = json.dumps(document, separators=(",", ":"))
    if len(body) > TEMPLATE_LIMIT:
        raise RequestError(
            f"with all attributes of the things the template has {len(body)} characters, more than {TEMPLATE_LIMIT}",
            hint="onboard them with --via api",
        )
    return body


def parameter_line(thing: PlannedThing, request: bytes, group: Group) -> bytes:
    """The parameters of one device; `request` is its CSR as DER. All values are strings."""
    parameters = {
        "ThingName": thing.name,
        "ThingTypeName": thing.thing_type,
        "ThingGroupName": group.thing_group,
        "PolicyName": group.policy,
        "SerialNumber": thing.serial,
        "CSR": pem_of(request, "CERTIFICATE REQUEST"),
        **{PREFIX + name: thing.attributes[name] for name in attributes_of(thing)},
    }
    return msgspec.json.encode(parameters) + b"\n"
