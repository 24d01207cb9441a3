"""The IoT thing types of the fleet: shared by all plants, so that they belong to the platform."""

from __future__ import annotations

from ..bindings import Construct, IotThingType, IotThingTypeProperties
from ..names import PlatformNames
from ..shared.text import ascii_form
from ..specs import DeviceTypeSpec


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
