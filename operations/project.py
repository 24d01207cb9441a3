"""Load the project that a command works on: its approved record, its facilities and their things."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.generator.diagnostics import (
    EnvironmentFault,
    GateError,
    RequestError,
    SourceLocation,
    StaleError,
    refusal,
)
from fleet_iot.lib import names
from fleet_iot.lib.faults import ExpectedError
from fleet_iot.lib.names import PlatformNames
from fleet_iot.lib.record.place import MANIFEST, record_name
from fleet_iot.lib.record.read import ThingRow, read_record, read_things, refuse_claimed_suffix, search_things
from fleet_iot.lib.specs import DeviceTypeSpec, FacilityAlarmsSpec, FacilitySpec, FleetSpec, suffixed
from fleet_iot.lib.synthesis.settings import read_account_id, read_suffix


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One thing of this environment; `name` ends in the suffix and is the MQTT client id."""

    name: str
    facility: str
    device_type: str
    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The approved record of one environment; `account_id` is None where none is set.

    `environment` is None where it has no overlay: then the suffix alone says which one it is.
    """

    root: Path
    fleet: FleetSpec
    facilities: tuple[FacilitySpec, ...]
    environment_suffix: str
    account_id: str | None = None
    environment: str | None = None

    @property
    def record(self) -> Path:
        """Return the folder of the approved record."""
        return self.root / self.record_name

    @property
    def record_name(self) -> str:
        """Return how messages name that folder."""
        return record_name(self.environment)

    @property
    def build(self) -> Path:
        """Return the folder of what commands make for this environment."""
        return build_folder(self.root, self.environment)

    @property
    def names(self) -> PlatformNames:
        """Return the names of the shared platform's resources; ARNs and bucket names need the account."""
        return PlatformNames(
            application=self.fleet.application,
            suffix=self.environment_suffix,
            region=self.fleet.region,
            account_id=self.account_id or "",
            bucket_account_id=self.account_id,
        )

    def facility(self, facility_id: str) -> FacilitySpec:
        """Return the facility with this id. Raises RequestError where none has it."""
        for facility in self.facilities:
            if facility.id == facility_id:
                return facility
        known = ", ".join(facility.id for facility in self.facilities) or "none"
        raise RequestError(
            f"no facility {facility_id!r} in {self.record_name} (declared: {known})",
            hint="add it to fleet.yaml and run `fleet generate`, or correct the id",
        )

    def facility_of(self, facility_id: str) -> FacilitySpec:
        """Return the facility of a registered device: also one that left the record, with its names and no things."""
        known = next((each for each in self.facilities if each.id == facility_id), None)
        return known or FacilitySpec(
            id=facility_id,
            module=facility_id.replace("-", "_"),
            name="left the record",
            timezone="UTC",
            registration="bulk",
            thing_group=names.facility_group(facility_id),
            topic_rule=names.topic_rule(facility_id),
            topic_rule_file="",
            provisioning_template=names.provisioning_template(facility_id),
            dashboard=names.dashboard(facility_id),
            things_file="",
            thing_count=0,
            contact=None,
            tags={},
            lines=(),
            alarms=FacilityAlarmsSpec(
                quarantine_percent=0, rule_failures=0, device_silence_intervals=0, anomalies_per_hour=0
            ),
            groups=(),
        )

    def device_type(self, device_type: str) -> DeviceTypeSpec:
        """Return the device type with this id. Raises RequestError where none has it."""
        known = {each.id: each for each in self.fleet.device_types}
        if device_type not in known:
            names = ", ".join(sorted(known)) or "none"
            raise RequestError(
                f"no device type {device_type!r} in {self.record_name} (declared: {names})",
                hint="add it to fleet.yaml and run `fleet generate`, or correct the id",
            )
        return known[device_type]

    def check_metric(self, device_type: str, metric: str | None) -> None:
        """Raise RequestError for a metric that the device type does not have; None is any metric."""
        names = [each.name for each in self.device_type(device_type).metrics]
        if metric not in (None, *names):
            raise RequestError(f"{device_type} has no metric {metric!r}", hint=f"there are: {', '.join(names)}")

    def planned_thing(self, name: str) -> tuple[FacilitySpec, ThingRow] | None:
        """Return the planned thing with this full name, and its facility; None where the record has none."""
        for facility in self.facilities:
            if name.startswith(f"{facility.id}-"):
                for thing in self.search(facility, {name.removesuffix(f"-{self.environment_suffix}")}):
                    if thing.name == name:
                        return facility, thing
        return None

    def search(self, facility: FacilitySpec, endings: Collection[str]) -> Iterator[ThingRow]:
        """Yield the facility's things of which a value ends with one of the texts; see `search_things`."""
        with reporting_record_faults():
            yield from map(self._deployed, search_things(self._things_file(facility), endings))

    def planned(self, facility: FacilitySpec) -> Iterator[ThingRow]:
        """Read the facility's things in the order of its file, line by line: a facility may have a million."""
        with reporting_record_faults():
            yield from map(self._deployed, read_things(self._things_file(facility)))

    def things(self, facility: FacilitySpec) -> Iterator[Thing]:
        """Read the facility's things, without thing type and attributes."""
        for each in self.planned(facility):
            yield Thing(name=each.name, facility=facility.id, device_type=each.device_type, serial=each.serial)

    def short_names(self, facility: FacilitySpec) -> Iterator[tuple[str, str]]:
        """Read name, without suffix, and serial of each of the facility's things."""
        with reporting_record_faults():
            yield from ((thing.name, thing.serial) for thing in read_things(self._things_file(facility)))

    def _things_file(self, facility: FacilitySpec) -> Path:
        return self.record / facility.module / facility.things_file

    def _deployed(self, thing: ThingRow) -> ThingRow:
        """Return the thing under the names of this environment."""
        return ThingRow(
            name=suffixed(thing.name, self.environment_suffix),
            thing_type=suffixed(thing.thing_type, self.environment_suffix),
            device_type=thing.device_type,
            serial=thing.serial,
            attributes=thing.attributes,
        )


def build_folder(root: Path, environment: str | None) -> Path:
    """Return `build` of a project, or the folder below it of an environment with an overlay."""
    return root / "build" / "environments" / environment if environment else root / "build"


def load_project(root: Path, environment: str | None = None) -> Project:
    """Load the approved record of the project in `root`, or that of an environment with an overlay.

    `ENVIRONMENT_SUFFIX` and `FLEET_ACCOUNT_ID` override the manifest's values.

    Raises:
        RequestError: The environment has no overlay.
        StaleError: The record was changed after it was generated.
        EnvironmentFault: A variable has a value that is not allowed, or the suffix is another environment's.
    """
    with reporting_record_faults():
        record = read_record(root, environment)
        suffix, account_id = read_suffix(os.environ, record.fleet), read_account_id(os.environ, record.fleet)
        refuse_claimed_suffix(root / MANIFEST, environment, record.fleet, suffix=suffix, account_id=account_id)
        return Project(
            root=root,
            environment=environment,
            fleet=record.fleet,
            facilities=tuple(record.facilities.values()),
            environment_suffix=suffix,
            account_id=account_id,
        )


@contextmanager
def reporting_record_faults() -> Iterator[None]:
    """Raise the faults of lib as those of the command line, with the same exit codes."""
    try:
        yield
    except ExpectedError as error:
        kinds = {kind.exit_code: kind for kind in (RequestError, StaleError, GateError)}
        if error.exit_code == 3:
            place = SourceLocation(file=MANIFEST)
            raise refusal(place, error.message, error.remedy, rule="wrong-pattern") from None
        kind = kinds.get(error.exit_code, EnvironmentFault)
        raise kind(error.message.removesuffix("."), hint=error.remedy) from None
