"""Thing types of the fleet; thing groups and device policies of a facility."""

from __future__ import annotations

from pathlib import Path

from .. import bindings as tf
from ..names import PlatformNames
from ..shared.text import ascii_form, described, read_document
from ..specs import DeviceTypeSpec, FacilitySpec


class ThingTypes:
    """One thing type for each device type. All facilities share them, hence they belong to the platform."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, device_types: tuple[DeviceTypeSpec, ...]) -> None:
        for device_type in device_types:
            tf.IotThingType(
                scope,
                device_type.thing_type,
                name=names.named(device_type.thing_type),
                properties=tf.IotThingTypeProperties(description=ascii_form(device_type.description) or device_type.id),
            )


class ThingRegistry:
    """The facility's thing group, and below it a group and a policy for each of its device types."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, facility: FacilitySpec, folder: Path) -> None:
        description = described(facility.id, facility.name)
        parent = tf.IotThingGroup(
            scope,
            facility.thing_group,
            name=names.named(facility.thing_group),
            properties=_properties(description, facility=facility.id),
        )
        for group in facility.groups:
            tf.IotThingGroup(
                scope,
                group.thing_group,
                name=names.named(group.thing_group),
                parent_group_name=parent.name,
                properties=_properties(
                    f"{group.device_type} at {description}", facility=facility.id, device_type=group.device_type
                ),
            )
            tf.IotPolicy(
                scope,
                group.policy,
                name=names.named(group.policy),
                policy=read_document(folder / group.policy_file, account_id=names.account_id, suffix=names.suffix),
            )


def _properties(description: str, **attributes: str) -> tf.IotThingGroupProperties:
    return tf.IotThingGroupProperties(
        description=description,
        attribute_payload=tf.IotThingGroupPropertiesAttributePayload(attributes=attributes),
    )
