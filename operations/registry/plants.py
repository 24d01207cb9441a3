"""What names and columns of a list say of plants: the one that is onboarded, and the others of the project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.lists.headings import canonical
from fleet_iot.operations.project import Project


@dataclass(frozen=True, slots=True, kw_only=True)
class Plants:
    """Keys are spelt without case and separators. `own`: the plant's id and name; `others`: those of the other plants,
    with their ids; `prefixes`: how names and serials of the other plants' things begin, with the plants' ids;
    `device_types`: those of the whole project."""

    own: frozenset[str] = frozenset()
    others: Mapping[str, str] = field(default_factory=dict)
    prefixes: Mapping[str, str] = field(default_factory=dict)
    device_types: frozenset[str] = frozenset()

    def owner_of(self, value: str) -> str | None:
        """The other plant whose thing has such a name or serial, planned or not."""
        return prefixed(value, self.prefixes)


def prefixed(value: str, prefixes: Mapping[str, str]) -> str | None:
    """What stands for the longest prefix that a value begins with, and does not end with."""
    key = key_of(value)
    found = [prefix for prefix in prefixes if key.startswith(prefix) and len(key) > len(prefix)]
    return prefixes[max(found, key=len)] if found else None


def key_of(value: str) -> str:
    """A value without case and separators."""
    return canonical(value)[1]


def plants_of(project: Project, facility: FacilitySpec) -> Plants:
    """The plants of a project, as one of them sees the others."""
    others = [each for each in project.facilities if each.id != facility.id]
    types = frozenset(group.device_type for each in project.facilities for group in each.groups)
    own = frozenset(map(key_of, (facility.id, facility.name)))
    return Plants(
        own=own,
        others={key_of(said): each.id for each in others for said in (each.id, each.name) if key_of(said) not in own},
        prefixes={key_of(f"{each.id}-{device_type}"): each.id for each in others for device_type in types},
        device_types=frozenset(map(key_of, types)),
    )
