"""A plant's thing groups and device policies: what its things are members of, and what they may do."""

from __future__ import annotations

from pathlib import Path

from ..bindings import (
    Construct,
    IotPolicy,
    IotThingGroup,
    IotThingGroupProperties,
    IotThingGroupPropertiesAttributePayload,
)
from ..names import PlatformNames
from ..shared.documents import read_document
from ..shared.text import described
from ..specs import FacilitySpec


class ThingRegistry:
    """The plant's group, and below it a group and a policy for each of its device types."""

    def __init__(self, scope: Construct, *, names: PlatformNames, facility: FacilitySpec, folder: Path) -> None:
        plant = described(facility.id, facility.name)
        self.group = IotThingGroup(
            scope,
            facility.thing_group,
            name=names.named(facility.thing_group),
            properties=_properties(plant, facility=facility.id),
        )
        for group in facility.groups:
            IotThingGroup(
                scope,
                group.thing_group,
                name=names.named(group.thing_group),
                parent_group_name=self.group.name,
                properties=_properties(
                    f"{group.device_type} at {plant}", facility=facility.id, device_type=group.device_type
                ),
            )
            IotPolicy(
                scope,
                group.policy,
                name=names.named(group.policy),
                policy=read_document(folder / group.policy_file, account_id=names.account_id, suffix=names.suffix),
            )


def _properties(description: str, **attributes: str) -> IotThingGroupProperties:
    return IotThingGroupProperties(
        description=description,
        attribute_payload=IotThingGroupPropertiesAttributePayload(attributes=attributes),
    )
