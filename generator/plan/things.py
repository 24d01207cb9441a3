"""Works out the things of a group, and the attributes that company, plant, line and group give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from fleet_iot.generator import naming
from fleet_iot.generator.manifest.inventory import ListedThing, name_order, read_spans
from fleet_iot.generator.manifest.models import Facility, NamedThing, ThingGroup

Attributes = tuple[tuple[str, str], ...]
"""By name, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One device; `attributes` are all but the serial."""

    name: str
    serial: str
    attributes: Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedRun:
    """The things with the numbers from `first` to `last`; `attributes` are those of each of them but the serial."""

    first: int
    last: int
    attributes: Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Sources of the attributes of a group's things: each layer overrides those before it."""

    facility: str
    company: Mapping[str, str]
    plant: Facility
    group: ThingGroup

    def attributes(self, line: str | None) -> Attributes:
        """Return the attributes of a thing on a line, or on none, that has none of its own."""
        layers: dict[str, str] = {"facility": self.facility} | dict(self.company) | self.plant.attributes
        if line is not None:
            layers |= {"line": line} | self.plant.lines[line].attributes
        return tuple(sorted((layers | self.group.attributes).items()))


def numbered_runs(group: ThingGroup, layers: Layers) -> Iterator[NumberedRun]:
    """Yield runs of numbers, split where the production line changes; without one they have the group's own."""
    spans = sorted((span, line) for line, text in group.lines.items() for span in read_spans(text))
    starts = [span.first for span, _ in spans]
    ends = [span.last + 1 for span, _ in spans]
    line_at = {span.first: line for span, line in spans}
    for first, after in pairwise(sorted({1, *starts, *ends, group.count + 1})):
        yield NumberedRun(first=first, last=after - 1, attributes=layers.attributes(line_at.get(first, group.line)))


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedThings:
    """The named things of a group, sorted by name; computed at each iteration, never stored."""

    device_type: str
    layers: Layers
    _shared: dict[str | None, Attributes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __iter__(self) -> Iterator[Thing]:
        group = self.layers.group
        if group.inventory is not None:
            return map(self._listed, group.inventory)
        return (self._named(name, group.names[name]) for name in sorted(group.names, key=name_order))

    @property
    def source(self) -> str:
        """The key of the manifest that says which they are."""
        return "names" if self.layers.group.inventory is None else "inventory"

    @property
    def last(self) -> Thing:
        """The last in the order of names."""
        group = self.layers.group
        if group.inventory is not None:
            return self._listed(group.inventory.last)
        name = max(group.names, key=name_order)
        return self._named(name, group.names[name])

    def _listed(self, row: ListedThing) -> Thing:
        return self._thing(row.name, row.serial, row.line, row.attributes)

    def _named(self, name: str, known: NamedThing) -> Thing:
        return self._thing(name, known.serial, known.line, known.attributes)

    def _thing(self, name: str, serial: str | None, line: str | None, own: Mapping[str, str]) -> Thing:
        facility = self.layers.facility
        shared = self._of_line(line or self.layers.group.line)
        return Thing(
            name=naming.named_thing(facility, self.device_type, name),
            serial=serial or naming.named_serial(facility, self.device_type, name),
            attributes=tuple(sorted((dict(shared) | dict(own)).items())) if own else shared,
        )

    def _of_line(self, line: str | None) -> Attributes:
        """Return what the things on a line have in common; thousands of things are on the same."""
        if line not in self._shared:
            self._shared[line] = self.layers.attributes(line)
        return self._shared[line]
