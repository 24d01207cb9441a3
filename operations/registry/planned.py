"""The things that the approved record plans for a facility, with all that their registration needs."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.lib.specs import FacilitySpec, suffixed
from fleet_iot.operations.project import Project


class PlannedThing(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `things.jsonl`, as this environment knows it: name and thing type carry the suffix."""

    name: str
    thing_type: str
    device_type: str
    serial: str
    attributes: dict[str, str]


def read_planned(project: Project, facility: FacilitySpec) -> Iterator[PlannedThing]:
    """The facility's things in the order of its file, line by line. Raises EnvironmentFault with the bad line."""
    path = project.root / "lib" / "facilities" / facility.module / facility.things_file
    decoder = msgspec.json.Decoder(PlannedThing)
    suffix = project.environment_suffix
    shown = path.relative_to(project.root)
    if not path.is_file():
        raise EnvironmentFault(f"{shown} is missing", hint="run `fleet generate`, then review and commit it")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                thing = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise EnvironmentFault(f"{shown}:{number}: not a thing", hint="run `fleet generate`") from None
            yield PlannedThing(
                name=suffixed(thing.name, suffix),
                thing_type=suffixed(thing.thing_type, suffix),
                device_type=thing.device_type,
                serial=thing.serial,
                attributes=thing.attributes,
            )
