"""What AWS IoT takes as the attributes of a thing: the one place that judges a name and a value."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_iot.generator.aws.limits import ATTRIBUTE_NAME, ATTRIBUTE_VALUE

ATTRIBUTES_MAXIMUM = 50
"""Of a thing with a thing type: https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""
RESERVED = ("facility", "serial")
"""Those that every thing has."""
SERIAL_PATTERN = r"^[a-zA-Z0-9_.,@/:#=\[\]-]{1,128}$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """Why AWS IoT would refuse an attribute; `is_name`: its name is at fault, not its value."""

    message: str
    hint: str
    is_name: bool = False


def misfits(name: str, value: str) -> tuple[Misfit, ...]:
    """Everything that is wrong with one attribute."""
    found = []
    if name in RESERVED:
        message = f"every thing has the attribute `{name}` already"
        found.append(Misfit(message=message, hint="rename it", is_name=True))
    if not ATTRIBUTE_NAME.takes(name):
        message = f"{name!r} is no attribute name: 1 to {ATTRIBUTE_NAME.max} letters, digits and any of _ . , @ / : # -"
        found.append(Misfit(message=message, hint="AWS IoT takes no spaces there", is_name=True))
    if not ATTRIBUTE_VALUE.takes(value):
        most = ATTRIBUTE_VALUE.max
        message = f"the attribute `{name}` may hold letters, digits and any of _ . , @ / : # = [ ] -, up to {most}"
        hint = "AWS IoT takes no spaces there: write north-hall, not north hall"
        found.append(Misfit(message=message, hint=hint))
    return tuple(found)
