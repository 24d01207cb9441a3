"""What the operations commands know of the project: its folder, its declared facilities and their things."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fleet_iot.generator.diagnostics import (
    EnvironmentFault,
    GateError,
    RequestError,
    SourceLocation,
    StaleError,
    refusal,
)
from fleet_iot.generator.manifest.project import MANIFEST_NAME
from fleet_iot.lib.faults import ExpectedError
from fleet_iot.lib.record.read import RECORD, read_record
from fleet_iot.lib.shared.things import read_things
from fleet_iot.lib.specs import FacilitySpec, FleetSpec, suffixed
from fleet_iot.lib.synthesis.settings import read_account_id, read_suffix


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One thing as this environment knows it; `name` carries the suffix and is the MQTT client id."""

    name: str
    facility: str
    device_type: str
    serial: str


class PlannedThing(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `things.jsonl` for this environment: name and thing type end in the suffix."""

    name: str
    thing_type: str
    device_type: str
    serial: str
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The approved record as declared in `lib/facilities`, for one environment."""

    root: Path
    fleet: FleetSpec
    facilities: tuple[FacilitySpec, ...]
    environment_suffix: str
    account_id: str | None = None

    def facility(self, facility_id: str) -> FacilitySpec:
        """The facility with this id. Raises RequestError where none has it."""
        for facility in self.facilities:
            if facility.id == facility_id:
                return facility
        known = ", ".join(facility.id for facility in self.facilities) or "none"
        raise RequestError(
            f"no facility {facility_id!r} in lib/facilities (declared: {known})",
            hint="add it to fleet.yaml and run `fleet generate`, or correct the id",
        )

    def thing(self, name: str) -> Thing:
        """The thing with this full name. Raises RequestError where the record has none."""
        for facility in self.facilities:
            if name.startswith(f"{facility.id}-"):
                for thing in self.things(facility):
                    if thing.name == name:
                        return thing
        raise RequestError(
            f"no thing {name!r} in lib/facilities",
            hint=f"names end in -{self.environment_suffix}; `fleet explain NAME` says what a name is",
        )

    def planned(self, facility: FacilitySpec) -> Iterator[PlannedThing]:
        """Read the facility's things in the order of its file, line by line: a facility may have a million."""
        suffix = self.environment_suffix
        with told():
            for thing in read_things(self.root / RECORD / facility.module / facility.things_file):
                yield PlannedThing(
                    name=suffixed(thing.name, suffix),
                    thing_type=suffixed(thing.thing_type, suffix),
                    device_type=thing.device_type,
                    serial=thing.serial,
                    attributes=thing.attributes,
                )

    def things(self, facility: FacilitySpec) -> Iterator[Thing]:
        """The facility's things, without thing type and attributes."""
        for each in self.planned(facility):
            yield Thing(name=each.name, facility=facility.id, device_type=each.device_type, serial=each.serial)


def load_project(root: Path) -> Project:
    """The approved record of the project in `root`, in this environment.

    `ENVIRONMENT_SUFFIX` and `FLEET_ACCOUNT_ID` override the manifest's values.

    Raises:
        StaleError: the record is not what was generated.
        EnvironmentFault: a variable holds what it cannot mean.
    """
    with told():
        record = read_record(root)
        return Project(
            root=root,
            fleet=record.fleet,
            facilities=tuple(record.facilities.values()),
            environment_suffix=read_suffix(os.environ, record.fleet),
            account_id=read_account_id(os.environ, record.fleet),
        )


@contextmanager
def told() -> Iterator[None]:
    """Raises faults of lib as the command line tells faults, with the same exit codes."""
    try:
        yield
    except ExpectedError as error:
        kinds = {kind.exit_code: kind for kind in (StaleError, GateError)}
        if error.exit_code == 3:
            place = SourceLocation(file=MANIFEST_NAME)
            raise refusal(place, error.message, error.remedy, rule="wrong-pattern") from None
        kind = kinds.get(error.exit_code, EnvironmentFault)
        raise kind(error.message.removesuffix("."), hint=error.remedy) from None
