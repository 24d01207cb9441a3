"""Thing types, thing groups and device policies."""

from __future__ import annotations

from pathlib import Path

from ..bindings import (
    Construct,
    IotPolicy,
    IotThingGroup,
    IotThingGroupProperties,
    IotThingGroupPropertiesAttributePayload,
    IotThingType,
    IotThingTypeProperties,
)
from ..names import PlatformNames
from ..shared.text import ascii_form, described, read_document
from ..specs import DeviceTypeSpec, FacilitySpec

# @@ A plant's thing groups and device policies: what its things are members of, and what they may do.


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


# @@ The IoT thing types of the fleet: shared by all plants, so that they belong to the platform.


class ThingTypes:
    """One thing type a device type, by its id in `types`."""

    def __init__(self, scope: Construct, *, names: PlatformNames, device_types: tuple[DeviceTypeSpec, ...]) -> None:
        self.types = {
            device_type.id: IotThingType(
                scope,
                device_type.thing_type,
                name=names.named(device_type.thing_type),
                properties=IotThingTypeProperties(description=ascii_form(device_type.description) or device_type.id),
            )
            for device_type in device_types
        }
