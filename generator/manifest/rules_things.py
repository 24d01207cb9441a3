"""Checks what the manifest says of single things: their lines, their attributes and their serial numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, pairwise

from fleet_iot.generator import naming
from fleet_iot.generator.manifest.attributes import ATTRIBUTES_MAXIMUM, misfits
from fleet_iot.generator.manifest.model_errors import Draft, Fault, suggestion
from fleet_iot.generator.manifest.models import Facility, FleetManifest, ThingGroup
from fleet_iot.generator.manifest.sources import DataPath
from fleet_iot.generator.manifest.spans import read_spans

LINE = "line"
"""The attribute that says on which production line a thing is."""


def known_lines(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """The production lines of things are those that the facility has."""
    for facility_id, facility in manifest.facilities.items():
        for type_id, group in facility.things.items():
            path: DataPath = ("facilities", facility_id, "things", type_id)
            for place, line, is_key in _lines_of(group):
                if line not in facility.lines:
                    hint = suggestion(line, facility.lines) or f"describe it in `facilities.{facility_id}.lines`"
                    message = f"`{facility_id}` has no line `{line}`"
                    yield Fault(path=(*path, *place), message=message, hint=hint, is_key=is_key)


def _lines_of(group: ThingGroup) -> Iterator[tuple[DataPath, str, bool]]:
    """Every line that a group names: where, which, whether it is a key there; those of listed devices are checked."""
    if group.line is not None:
        yield ("line",), group.line, False
    for line in group.lines:
        yield ("lines", line), line, True
    for name, thing in group.names.items():
        if thing.line is not None:
            yield ("names", name, "line"), thing.line, False


def line_numbers(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """Each number is on one line at most, and is one that the group has."""
    for facility_id, facility in manifest.facilities.items():
        for type_id, group in facility.things.items():
            if group.lines:
                yield from _line_numbers(group, ("facilities", facility_id, "things", type_id))


def _line_numbers(group: ThingGroup, path: DataPath) -> Iterator[Fault]:
    if not group.is_numbered:
        message, hint = "`lines` goes by number, and these things have names", "give each thing its `line`"
        yield Fault(path=(*path, "lines"), message=message, hint=hint, is_key=True)
        return
    if group.line is not None:
        yield Fault(path=(*path, "line"), message="`line` and `lines` together", hint="keep one of them", is_key=True)
    taken = sorted((span, line) for line, text in group.lines.items() for span in read_spans(text))
    for span, line in taken:
        if not 1 <= span.first <= span.last <= group.count:
            message = f"`{line}` has {span}, and the things are numbered from 1 to {group.count:,}"
            yield Fault(path=(*path, "lines", line), message=message, hint="the lower number first, within the count")
    for (before, one), (after, other) in pairwise(taken):
        if after.first <= before.last:
            message = f"the number {after.first} is on `{one}` ({before}) and on `{other}` ({after})"
            yield Fault(path=(*path, "lines", other), message=message, hint="a thing is on one line")


def attributes(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """AWS IoT attributes: a narrow alphabet without spaces, two names taken, fifty in all."""
    for path, given in _attributes(manifest):
        for name, value in given.items():
            for found in misfits(name, value):
                yield Fault(path=(*path, name), message=found.message, hint=found.hint, is_key=found.is_name)
    for facility_id, facility in manifest.facilities.items():
        for type_id, group in facility.things.items():
            path = ("facilities", facility_id, "things", type_id)
            yield from _line_twice(group, path)
            if _most_attributes(manifest, facility, group) > ATTRIBUTES_MAXIMUM:
                message = f"a thing has at most {ATTRIBUTES_MAXIMUM} attributes, facility and serial included"
                place = (*path, "attributes") if group.attributes else path
                yield Fault(path=place, message=message, is_key=True)


def _attributes(manifest: FleetManifest) -> Iterator[tuple[DataPath, Mapping[str, str]]]:
    """All attributes that stand in the manifest, where they stand."""
    yield ("defaults", "attributes"), manifest.defaults.attributes
    for facility_id, facility in manifest.facilities.items():
        plant: DataPath = ("facilities", facility_id)
        yield (*plant, "attributes"), facility.attributes
        for line_id, line in facility.lines.items():
            yield (*plant, "lines", line_id, "attributes"), line.attributes
        for type_id, group in facility.things.items():
            path = (*plant, "things", type_id)
            yield (*path, "attributes"), group.attributes
            for name, thing in group.names.items():
                yield (*path, "names", name, "attributes"), thing.attributes


def _line_twice(group: ThingGroup, path: DataPath) -> Iterator[Fault]:
    has_line = group.line is not None or group.lines or any(thing.line for thing in group.names.values())
    if has_line and LINE in group.attributes:
        message = "the attribute `line` is that of the production line already"
        yield Fault(path=(*path, "attributes", LINE), message=message, hint="take it away", is_key=True)


def _most_attributes(manifest: FleetManifest, facility: Facility, group: ThingGroup) -> int:
    """The most attributes that a thing of the group has."""
    shared = {"facility", "serial", *manifest.defaults.attributes, *facility.attributes, *group.attributes}
    most = 0
    kinds: set[tuple[str | None, tuple[str, ...]]] = {(line, ()) for line in (group.line, *group.lines)}
    kinds |= {(thing.line or group.line, tuple(thing.attributes)) for thing in group.names.values()}
    kinds |= {(line or group.line, own) for line, own in (group.inventory.kinds if group.inventory else ())}
    for line, own in kinds:
        names = {LINE, *facility.lines[line].attributes} if line in facility.lines else set()
        most = max(most, len(shared | names | set(own)))
    return most


def unique_serials(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """A serial number is that of one device."""
    numbered = {
        naming.serial_prefix(facility_id, type_id): (facility_id, type_id, group.count)
        for facility_id, facility in manifest.facilities.items()
        for type_id, group in facility.things.items()
        if group.is_numbered
    }
    hashes = sorted(hash(serial) for _, _, serial in _serials(manifest))
    repeated = {one for one, other in pairwise(hashes) if one == other}
    owners: dict[str, str] = {}
    for path, thing, serial in _serials(manifest):
        owner = owners.setdefault(serial, thing) if hash(serial) in repeated else thing
        if owner == thing:
            owner = _numbered_owner(serial, numbered) or thing
        if owner != thing:
            message = f"the serial `{serial}` of {thing} is that of {owner} too"
            yield Fault(path=path, message=message, hint="a serial number is that of one device")


def _serials(manifest: FleetManifest) -> Iterator[tuple[DataPath, str, str]]:
    """Where each thing with a name of its own stands, its whole name, and its serial."""
    for facility_id, facility in manifest.facilities.items():
        for type_id, group in facility.things.items():
            path: DataPath = ("facilities", facility_id, "things", type_id)
            named = [("names", name, known.serial) for name, known in group.names.items()]
            listed = (("inventory", thing.name, thing.serial) for thing in group.inventory or ())
            for source, name, serial in chain(named, listed):
                thing = naming.named_thing(facility_id, type_id, name)
                yield (*path, source, name), thing, serial or naming.named_serial(facility_id, type_id, name)


def _numbered_owner(serial: str, numbered: Mapping[str, tuple[str, str, int]]) -> str | None:
    """The numbered thing that has a serial; `numbered`: facility, type and count by the prefix of their serials."""
    prefix, _, digits = serial.rpartition("-")
    facility, device_type, count = numbered.get(f"{prefix}-", ("", "", 0))
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10 and 1 <= int(digits) <= count):
        return None
    is_same = naming.serial(facility, device_type, int(digits)) == serial
    return naming.thing_name(facility, device_type, int(digits)) if is_same else None
