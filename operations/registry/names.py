"""Resolve a thing as people name it: by full or short name, serial, MAC address, or another identity.

A full name is always that thing. Everything else is compared with the record and with the journals, however it is
spelt: a device that left the record is found too. What may be several things is refused, with the candidates.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from string import ascii_lowercase, digits

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.lib.record.spelling import endings, is_same
from fleet_iot.lib.specs import FacilitySpec, suffixed
from fleet_iot.operations.lists.headings import IDENTITIES, meaning_of, normalised
from fleet_iot.operations.project import Project, Thing
from fleet_iot.operations.registry.known import KnownDevice, KnownDevices, known_devices

NAME, SERIAL = "name", "serial"
"""The means of resolving a thing, apart from the attributes that identify it."""
_FURTHER = ("vendorid", "vendordeviceid", "manufacturerid")
"""Attributes that identify a thing here; in a list, a column of that name is the maker's own id more often."""
_SHOWN = 4
"""Candidates and near names in a message."""
_POOL = 2_000
"""Names that are compared letter by letter, some 30 ms."""
_LONGEST_SUFFIX = 16


class UnknownThingError(RequestError):
    """Neither the record nor a journal has such a thing."""


def resolve(
    project: Project, said: str, *, journals: Iterable[Path] = (), facility: FacilitySpec | None = None
) -> Thing:
    """Return the one thing that is meant.

    Args:
        project: The record.
        said: What a person calls the thing.
        journals: Journals of this environment; those that are not there have no devices.
        facility: The plant that it must be a thing of.

    Raises:
        UnknownThingError: There is none.
        RequestError: It may be several things, or is another plant's.
    """
    with known_devices(journals) as registries:
        found = _by_full_name(project, registries, said)
        if found is None:
            candidates = list(_candidates(project, registries, said))
            here = [each for each in candidates if facility is not None and each[0].facility == facility.id]
            found = _agreed(project, said, here or candidates)
        if found is None:
            raise _unknown(project, registries, said)
    if facility is not None and found.facility != facility.id:
        raise RequestError(
            f"{facility.id} has no thing {said!r}: {found.name} is a thing of {found.facility}",
            hint=f"name that plant, or see: fleet device list --facility {facility.id}",
        )
    return found


def _by_full_name(project: Project, registries: Sequence[KnownDevices], said: str) -> Thing | None:
    devices = [device for registry in registries for device in registry.by_name([said])]
    if (planned := project.planned_thing(said)) is not None:
        devices.append(KnownDevice(row=planned[1], facility=planned[0].id))
    return min(devices, key=lambda device: device.is_gone).thing if devices else None


def _candidates(project: Project, registries: Sequence[KnownDevices], said: str) -> Iterator[tuple[KnownDevice, str]]:
    """Yield the devices that may be meant, and by what."""
    ending = f"-{project.environment_suffix}"
    names = {said, said[: -len(ending)]} if said.casefold().endswith(ending) else {said}
    wanted = {each for name in names for each in endings(name)}
    for facility in project.facilities if wanted else ():
        for row in project.search(facility, wanted):
            if by := _means(row, said, names, ending):
                known = [device for registry in registries for device in registry.by_name([row.name])]
                is_gone = bool(known) and all(device.is_gone for device in known)
                yield KnownDevice(row=row, facility=facility.id, state="retired" if is_gone else None), by
    for registry in registries if wanted else ():
        for device in registry.by_ending(wanted | {each + ending for each in wanted}):
            if by := _means(device.row, said, names, ending):
                yield device, by


def _means(row: ThingRow, said: str, names: Iterable[str], ending: str) -> str | None:
    """Return by what the thing is meant; None where it is not."""
    if any(is_same(name, row.name.removesuffix(ending)) for name in names):
        return NAME
    identities = {key: value for key, value in row.attributes.items() if key != SERIAL and _identifies(key)}
    return next((by for by, value in ({SERIAL: row.serial} | identities).items() if is_same(said, value)), None)


def _identifies(attribute: str) -> bool:
    meaning = meaning_of(attribute)
    return normalised(attribute) in _FURTHER or (meaning is not None and meaning.kind in IDENTITIES)


def _agreed(project: Project, said: str, candidates: Sequence[tuple[KnownDevice, str]]) -> Thing | None:
    """Return the one thing that is meant; raises RequestError where it may be several.

    An identity goes with its device: the thing that the device left gives way.
    """
    present = [each for each in candidates if each[1] == NAME or not each[0].is_gone] or candidates
    things = {device.thing.name: (device.thing, by) for device, by in present}
    if len(things) > 1:
        plants = {facility.id: facility.name for facility in project.facilities}
        shown = [
            f"{name} (by its {by}; of {thing.facility}, {plants.get(thing.facility, 'which left the record')})"
            for name, (thing, by) in sorted(things.items())
        ]
        more = f" and {len(shown) - _SHOWN:,} more" if len(shown) > _SHOWN else ""
        message = f"{said!r} may be {len(shown):,} things: {'; '.join(shown[:_SHOWN])}{more}"
        raise RequestError(message, hint="say the full name")
    return next((thing for thing, _ in things.values()), None)


def _unknown(project: Project, registries: Sequence[KnownDevices], said: str) -> UnknownThingError:
    """Return the error for a name of no thing: what is near, or where else it is."""
    suffix = project.environment_suffix
    bare = said.strip().casefold().removesuffix(f"-{suffix}")
    cut = [bare[: dash.start()] for dash in re.finditer("-", bare) if len(bare) - dash.end() <= _LONGEST_SUFFIX]
    near = _nearest(project, bare, also=cut)
    elsewhere = max((name for name in cut if name in near), key=len, default=None)
    if elsewhere is not None:
        return UnknownThingError(
            f"there is no thing {said!r}: names of this environment end in -{suffix}",
            hint=f"did you mean {suffixed(elsewhere, suffix)}? For another environment: --env, or ENVIRONMENT_SUFFIX",
        )
    likely = [f"{each}-{suffix}" for each in _edits(bare)]
    left = [device.row.name for registry in registries for device in registry.by_name(likely)]
    shown = list(dict.fromkeys([*(suffixed(name, suffix) for name in near), *left]))[:_SHOWN]
    message = f"there is no thing {said!r}"
    for facility in project.facilities:
        for group in facility.groups:
            if bare.startswith(f"{facility.id}-{group.device_type}-"):
                message = f"there is no thing {said!r}: {facility.id} has {group.count:,} {group.device_type}"
    hint = f"did you mean {', '.join(shown)}?" if shown else "`fleet device list` shows the things of a plant"
    return UnknownThingError(message, hint=hint)


def _nearest(project: Project, bare: str, *, also: Iterable[str]) -> list[str]:
    """Return the names nearest to one, without suffix, and those of `also` that there are, in one pass over the record.

    Names and serials one letter away are found wherever they are; of the others that begin or end alike, the first are
    compared.
    """
    own = bare.rpartition("-")[2]
    prefixes = [f"{facility.id}-{group.device_type}-" for facility in project.facilities for group in facility.groups]
    likely = {prefix + own for prefix in difflib.get_close_matches(bare.removesuffix(own), prefixes, n=_SHOWN)}
    likely |= _edits(bare) | {*also, re.sub("[0-9]+$", lambda number: number[0].zfill(4), bare)}
    begin, end = bare[: max(3, len(bare) // 2)], bare[-max(3, len(bare) // 2) :]
    found: list[str] = []
    alike: list[str] = []
    for facility in project.facilities:
        for name, serial in project.short_names(facility):
            if (
                name in likely
                or serial.casefold() in likely
                or (bare and len(found) < _POOL and name.endswith(f"-{bare}"))
            ):
                found.append(name)
            elif len(alike) < _POOL and (name.startswith(begin) or name.endswith(end)):
                alike.append(name)
    found.sort(key=lambda name: -difflib.SequenceMatcher(None, bare, name).ratio())
    return [*found, *difflib.get_close_matches(bare, alike, n=_SHOWN, cutoff=0.7)]


def _edits(text: str) -> set[str]:
    """Return what is one letter away from a text: one more, one less, another, or two swapped."""
    if len(text) > 128:  # no thing has such a name
        return set()
    halves = [(text[:at], text[at:]) for at in range(len(text) + 1)]
    letters = ascii_lowercase + digits + "_-"
    return (
        {a + b[1:] for a, b in halves if b}
        | {a + b[1] + b[0] + b[2:] for a, b in halves if len(b) > 1}
        | {a + letter + b for a, b in halves for letter in letters}
        | {a + letter + b[1:] for a, b in halves if b for letter in letters}
    )
