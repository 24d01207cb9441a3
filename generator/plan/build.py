"""Works out from a valid manifest what exists: every name, topic and number that the templates place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fleet_iot.generator import naming
from fleet_iot.generator.manifest.alarms import (
    FacilityAlarmsPlan,
    ObservabilityPlan,
    facility_alarms,
    plan_observability,
    silence_s,
)
from fleet_iot.generator.manifest.models import DeviceType, Facility, FleetManifest
from fleet_iot.generator.plan.contacts import ContactPlan, LinePlan, contact_plan, line_plan
from fleet_iot.generator.plan.history import HistoryPlan, plan_history
from fleet_iot.generator.plan.policy import PolicyPlan, policy_plan
from fleet_iot.generator.plan.things import Attributes, Layers, NamedThings, NumberedRun, Thing, numbered_runs

TERRAFORM_DEFAULT_MAXIMUM = 1_000
"""Things in a facility up to which Terraform registers them unless the manifest says otherwise."""


WATCHED = {
    "context": "what is unusual for this device",
    "baseline": "a lasting shift from where the machine ran",
    "flatline": "a sensor that is stuck",
    "rate": "jumps",
    "correlation": "metrics that no longer move together",
    "seasonal": "what is unusual for the hour of the day",
}
"""What each detector finds besides values beyond the limits, in an operator's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPlan:
    """One measured quantity with its static limits."""

    name: str
    unit: str
    minimum: float | None
    maximum: float | None
    detector: str

    @property
    def watched_by(self) -> str:
        """For operators: what besides the limits makes an anomaly."""
        besides = WATCHED.get(self.detector)
        return f"limits, and {besides}" if besides else "limits"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTypePlan:
    """A kind of device, sorted metrics."""

    id: str
    thing_type: str
    description: str
    sample_interval_s: float
    metrics: tuple[MetricPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingGroupPlan:
    """The things of one device type in one facility: numbered in `runs`, or `named`, then in the order of names.

    `attributes` are those that all of them have in common.
    """

    facility: str
    device_type: DeviceTypePlan
    thing_group: str
    policy: str
    policy_file: str
    policy_document: PolicyPlan
    archive_prefix: str
    telemetry_topic: str
    name_prefix: str
    serial_prefix: str
    count: int
    silence_s: int
    attributes: Attributes
    runs: tuple[NumberedRun, ...]
    named: NamedThings | None

    @property
    def first(self) -> Thing:
        """The thing with the lowest number, or the first by name."""
        return next(self.things())

    @property
    def last(self) -> Thing:
        """The thing with the highest number, or the last by name."""
        return self._numbered(self.runs[-1], self.count) if self.named is None else self.named.last

    def find(self, name: str) -> Thing | None:
        """The thing with a name, or a serial; None where there is none."""
        if self.named is not None:
            return next((thing for thing in self.named if name in (thing.name, thing.serial)), None)
        prefix = next((p for p in (self.name_prefix, self.serial_prefix) if name.startswith(p)), None)
        digits = name[len(prefix) :] if prefix else ""
        if not (digits.isascii() and digits.isdigit() and len(digits) < 10 and 1 <= int(digits) <= self.count):
            return None
        run = next(run for run in self.runs if run.first <= int(digits) <= run.last)
        thing = self._numbered(run, int(digits))
        return thing if name in (thing.name, thing.serial) else None

    def things(self) -> Iterator[Thing]:
        """All of them, in the order of their numbers, or of their names."""
        if self.named is not None:
            return iter(self.named)
        return (self._numbered(run, number) for run in self.runs for number in range(run.first, run.last + 1))

    def _numbered(self, run: NumberedRun, number: int) -> Thing:
        return Thing(
            name=naming.thing_name(self.facility, self.device_type.id, number),
            serial=naming.serial(self.facility, self.device_type.id, number),
            attributes=run.attributes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FacilityPlan:
    """One plant: its names, and its groups sorted by device type."""

    id: str
    module: str
    name: str
    timezone: str
    registration: str
    region: str
    thing_group: str
    topic_rule: str
    topic_rule_file: str
    topic: str
    provisioning_template: str
    dashboard: str
    things_file: str
    thing_count: int
    contact: ContactPlan | None
    tags: tuple[tuple[str, str], ...]
    lines: tuple[LinePlan, ...]
    alarms: FacilityAlarmsPlan
    groups: tuple[ThingGroupPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """The whole fleet, everything sorted by id, so that the manifest's order changes nothing."""

    application: str
    environment_suffix: str
    region: str
    account_id: str | None
    reserved_concurrency: int | None
    retention: str
    history: HistoryPlan
    observability: ObservabilityPlan
    tags: tuple[tuple[str, str], ...]
    device_types: tuple[DeviceTypePlan, ...]
    facilities: tuple[FacilityPlan, ...]


def plan_fleet(manifest: FleetManifest) -> FleetPlan:
    """The plan of a valid manifest."""
    types = {id_: _device_type(id_, type_) for id_, type_ in sorted(manifest.device_types.items())}
    return FleetPlan(
        application=manifest.application,
        environment_suffix=manifest.environment_suffix,
        region=manifest.region,
        account_id=manifest.account_id,
        reserved_concurrency=manifest.processor.reserved_concurrency,
        retention=manifest.retention,
        history=plan_history(manifest),
        observability=plan_observability(manifest),
        tags=tuple(sorted(manifest.tags.items())),
        device_types=tuple(types.values()),
        facilities=tuple(
            _facility(manifest, id_, facility, types) for id_, facility in sorted(manifest.facilities.items())
        ),
    )


def registration_of(facility: Facility) -> str:
    """Who registers a facility's things: what the manifest says, else by their count."""
    if facility.registration is not None:
        return facility.registration
    return "terraform" if facility.thing_count <= TERRAFORM_DEFAULT_MAXIMUM else "bulk"


def _device_type(id_: str, device_type: DeviceType) -> DeviceTypePlan:
    return DeviceTypePlan(
        id=id_,
        thing_type=naming.thing_type(id_),
        description=device_type.description,
        sample_interval_s=float(device_type.sample_interval_s),
        metrics=tuple(
            MetricPlan(name=name, unit=metric.unit, minimum=metric.min, maximum=metric.max, detector=metric.detector)
            for name, metric in sorted(device_type.metrics.items())
        ),
    )


def _facility(manifest: FleetManifest, id_: str, facility: Facility, types: dict[str, DeviceTypePlan]) -> FacilityPlan:
    return FacilityPlan(
        id=id_,
        module=naming.module_of(id_),
        name=facility.name,
        timezone=facility.timezone,
        registration=registration_of(facility),
        region=manifest.region,
        thing_group=naming.facility_group(id_),
        topic_rule=naming.topic_rule(id_),
        topic_rule_file=naming.topic_rule_file(id_),
        topic=naming.telemetry_filter(manifest.application, id_),
        provisioning_template=naming.provisioning_template(id_),
        dashboard=naming.dashboard(id_),
        things_file=naming.THINGS_FILE,
        thing_count=facility.thing_count,
        contact=contact_plan(facility.contact),
        tags=tuple(sorted(facility.tags.items())),
        lines=tuple(line_plan(line_id, line, facility) for line_id, line in sorted(facility.lines.items())),
        alarms=facility_alarms(manifest, facility),
        groups=tuple(_group(manifest, id_, types[type_]) for type_ in sorted(facility.things)),
    )


def _group(manifest: FleetManifest, facility: str, device_type: DeviceTypePlan) -> ThingGroupPlan:
    plant = manifest.facilities[facility]
    group = plant.things[device_type.id]
    layers = Layers(facility=facility, company=manifest.defaults.attributes, plant=plant, group=group)
    return ThingGroupPlan(
        facility=facility,
        device_type=device_type,
        thing_group=naming.thing_group(facility, device_type.id),
        policy=naming.policy(facility, device_type.id),
        policy_file=naming.policy_file(device_type.id),
        policy_document=policy_plan(manifest.application, manifest.region, facility, device_type.id),
        archive_prefix=naming.archive_prefix(facility, device_type.id),
        telemetry_topic=naming.telemetry_topic(manifest.application, facility, device_type.id, "THING"),
        name_prefix=naming.thing_prefix(facility, device_type.id),
        serial_prefix=naming.serial_prefix(facility, device_type.id),
        count=group.count,
        silence_s=silence_s(device_type.sample_interval_s, facility_alarms(manifest, plant).device_silence_intervals),
        attributes=layers.attributes(group.line),
        runs=tuple(numbered_runs(group, layers)) if group.is_numbered else (),
        named=None if group.is_numbered else NamedThings(device_type=device_type.id, layers=layers),
    )
