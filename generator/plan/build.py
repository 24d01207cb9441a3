"""Plans a fleet from a valid manifest: every name, topic and number that the templates place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TypeVar

import msgspec

from fleet_iot.generator import naming
from fleet_iot.generator.manifest.models import (
    Contact,
    DeviceType,
    Facility,
    FleetManifest,
    Metric,
    facility_alarms,
    silence_s,
)
from fleet_iot.generator.plan.things import Attributes, Layers, NamedThings, NumberedRun, Thing, numbered_runs
from fleet_iot.lib import names as resource_names
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.lib.specs import (
    METRIC_WORDS,
    SUFFIX_TOKEN,
    AuditSpec,
    ContactSpec,
    DeviceTypeSpec,
    FacilitySpec,
    FleetSpec,
    HistorySpec,
    LineSpec,
    MetricSpec,
    ObservabilitySpec,
    ThingGroupSpec,
)

Spec = TypeVar("Spec")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPlan:
    """The ARNs that a device policy grants; the thing's own name is AWS's variable in them."""

    connect: str
    publish: tuple[str, ...]
    subscribe: str
    receive: str


def policy_plan(application: str, region: str, facility: str, device_type: str) -> PolicyPlan:
    """Grant a device of this type in this facility to publish and subscribe to topics with its own name."""
    who = (application, facility, device_type, naming.THING_NAME_VARIABLE)
    telemetry, request = naming.telemetry_topic(*who), naming.request_topic(*who)
    rule = f"{resource_names.topic_rule(facility)}_{SUFFIX_TOKEN}"
    published = (telemetry, naming.basic_ingest_topic(rule, telemetry), naming.response_topic(*who))
    return PolicyPlan(
        connect=naming.iot_arn(region, f"client/{naming.THING_NAME_VARIABLE}"),
        publish=tuple(naming.iot_arn(region, f"topic/{topic}") for topic in published),
        subscribe=naming.iot_arn(region, f"topicfilter/{request}"),
        receive=naming.iot_arn(region, f"topic/{request}"),
    )


TERRAFORM_DEFAULT_MAXIMUM = 1_000
"""Things in a facility up to which Terraform registers them unless the manifest says otherwise."""


WATCHED = {
    "limits": "limits",
    "machine": "limits, what is unusual for this machine",
    "context": "limits, unusual values for this device",
    "baseline": "limits, lasting shifts",
    "flatline": "limits, stuck sensor",
    "rate": "limits, jumps",
    "correlation": "limits, lost correlation of metrics",
    "seasonal": "limits, unusual values for the hour of the day",
}
"""Findings of each detector, in an operator's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingGroupPlan:
    """The things of one device type in one facility: numbered in `runs`, or `named`, then in the order of names.

    `attributes` are those that all of them have in common.
    """

    facility: str
    device_type: DeviceTypeSpec
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
        """Return the thing with a name, or a serial; None where there is none."""
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
        """Return all things, in the order of their numbers, or of their names."""
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
class FacilityPlan(FacilitySpec):
    """One facility as the record declares it, with what only its files name; groups sorted by device type."""

    region: str
    topic: str
    groups: tuple[ThingGroupPlan, ...]  # type: ignore[assignment]  # the record has a part of each


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan(FleetSpec):
    """The whole fleet, everything sorted by id, so that the manifest's order changes nothing."""

    facilities: tuple[FacilityPlan, ...]


def thing_rows(facility: FacilityPlan) -> Iterator[ThingRow]:
    """Yield the row of every thing of a facility, by device type, then by number or name."""
    for group in facility.groups:
        type_ = group.device_type
        for run in group.runs:  # a million things: no `Thing` of each
            attributes = dict(sorted((*run.attributes, ("serial", ""))))
            for number in range(run.first, run.last + 1):
                name, serial = f"{group.name_prefix}{number:04d}", f"{group.serial_prefix}{number:04d}"
                yield ThingRow(name, type_.thing_type, type_.id, serial, {**attributes, "serial": serial})
        for thing in group.named or ():
            own = dict(sorted((*thing.attributes, ("serial", thing.serial))))
            yield ThingRow(thing.name, type_.thing_type, type_.id, thing.serial, own)


def plan_fleet(manifest: FleetManifest) -> FleetPlan:
    """Plan a valid manifest."""
    types = {id_: _device_type(id_, type_) for id_, type_ in sorted(manifest.device_types.items())}
    return FleetPlan(
        application=manifest.application,
        environment_suffix=manifest.environment_suffix,
        region=manifest.region,
        account_id=manifest.account_id,
        reserved_concurrency=manifest.processor.reserved_concurrency,
        window_s=manifest.processor.window_s,
        retention=manifest.retention,
        audit=_spec(AuditSpec, manifest.audit),
        history=_spec(HistorySpec, manifest.history),
        observability=_spec(ObservabilitySpec, manifest.observability),
        tags=dict(sorted(manifest.tags.items())),
        device_types=tuple(types.values()),
        facilities=tuple(
            _facility(manifest, id_, facility, types) for id_, facility in sorted(manifest.facilities.items())
        ),
    )


def fleet_record(plan: FleetPlan) -> FleetSpec:
    """Return what `fleet.py` declares."""
    return _declared(FleetSpec, plan)


def facility_record(plan: FacilityPlan) -> FacilitySpec:
    """Return what the `__init__.py` of a facility declares."""
    groups = tuple(_declared(ThingGroupSpec, group, device_type=group.device_type.id) for group in plan.groups)
    return _declared(FacilitySpec, plan, groups=groups)


def _declared(kind: type[Spec], plan: object, **given: object) -> Spec:
    """Return a record of this class, with what the plan has under the names of its fields."""
    names = (field.name for field in fields(kind))  # type: ignore[arg-type]  # a dataclass
    return kind(**{name: given[name] if name in given else getattr(plan, name) for name in names})


def _spec(kind: type[Spec], model: object) -> Spec:
    """Return a record of this class, with what a model of the manifest has under the names of its fields."""
    return msgspec.convert(model, kind, from_attributes=True)


def registration_of(facility: Facility) -> str:
    """Return who registers a facility's things: as the manifest says, else by their count."""
    if facility.registration is not None:
        return facility.registration
    return "terraform" if facility.thing_count <= TERRAFORM_DEFAULT_MAXIMUM else "bulk"


def _device_type(id_: str, device_type: DeviceType) -> DeviceTypeSpec:
    return DeviceTypeSpec(
        id=id_,
        thing_type=resource_names.thing_type(id_),
        description=device_type.description,
        sample_interval_s=float(device_type.sample_interval_s),
        metrics=tuple(_metric(name, metric, device_type) for name, metric in sorted(device_type.metrics.items())),
    )


def _metric(name: str, metric: Metric, device_type: DeviceType) -> MetricSpec:
    values = {_RECORDED.get(key, key): value for key, value in metric.model_dump().items()}
    values["false_alarm_budget"] = metric.false_alarm_budget or device_type.false_alarm_budget
    running = device_type.running
    values["running_above"] = running.above if running is not None and running.metric == name else None
    return msgspec.convert({"name": name, **values}, MetricSpec)


_RECORDED = {word: name for name, word in METRIC_WORDS.items()}


def _facility(manifest: FleetManifest, id_: str, facility: Facility, types: dict[str, DeviceTypeSpec]) -> FacilityPlan:
    return FacilityPlan(
        id=id_,
        module=naming.module_of(id_),
        name=facility.name,
        timezone=facility.timezone,
        registration=registration_of(facility),
        region=manifest.region,
        thing_group=resource_names.facility_group(id_),
        topic_rule=resource_names.topic_rule(id_),
        topic_rule_file=naming.topic_rule_file(id_),
        topic=naming.telemetry_filter(manifest.application, id_),
        provisioning_template=resource_names.provisioning_template(id_),
        dashboard=resource_names.dashboard(id_),
        things_file=naming.THINGS_FILE,
        thing_count=facility.thing_count,
        contact=_contact(facility.contact),
        tags=dict(sorted(facility.tags.items())),
        lines=tuple(
            LineSpec(id=line_id, name=line.name or line_id, contact=_contact(line.contact or facility.contact))
            for line_id, line in sorted(facility.lines.items())
        ),
        alarms=facility_alarms(manifest, facility),
        groups=tuple(_group(manifest, id_, types[type_]) for type_ in sorted(facility.things)),
    )


def _contact(contact: Contact | None) -> ContactSpec | None:
    return None if contact is None else _spec(ContactSpec, contact)


def _group(manifest: FleetManifest, facility: str, device_type: DeviceTypeSpec) -> ThingGroupPlan:
    plant = manifest.facilities[facility]
    group = plant.things[device_type.id]
    layers = Layers(facility=facility, company=manifest.defaults.attributes, plant=plant, group=group)
    return ThingGroupPlan(
        facility=facility,
        device_type=device_type,
        thing_group=resource_names.thing_group(facility, device_type.id),
        policy=resource_names.policy(facility, device_type.id),
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
