"""Chooses which things of the fleet a simulation runs: spread evenly over facilities and device types."""

from __future__ import annotations

from itertools import zip_longest

from fleet_iot.lib.specs import DeviceTypeSpec, FacilitySpec
from fleet_iot.operations.project import Project, Thing


def choose_things(
    project: Project, facilities: tuple[FacilitySpec, ...], count: int | None
) -> list[tuple[Thing, DeviceTypeSpec]]:
    """`count` things with their types (all where None), one of each facility and device type in turn."""
    types = {device_type.id: device_type for device_type in project.fleet.device_types}
    queues: dict[tuple[str, str], list[Thing]] = {}
    for facility in facilities:
        for thing in project.things(facility):
            queue = queues.setdefault((thing.facility, thing.device_type), [])
            if count is None or len(queue) < count:
                queue.append(thing)
    in_turn = [thing for row in zip_longest(*queues.values()) for thing in row if thing is not None]
    return [(thing, types[thing.device_type]) for thing in in_turn[:count]]
