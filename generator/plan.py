"""Works out from a valid manifest what exists: every name, topic and number that the templates place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from generator import naming
from generator.manifest import DeviceType, Facility, FleetManifest, ThingGroup

TERRAFORM_DEFAULT_MAXIMUM = 1_000
"""Things in a facility up to which Terraform registers them unless the manifest says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPlan:
    """One measured quantity with its static limits."""

    name: str
    unit: str
    minimum: float | None
    maximum: float | None
    detector: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTypePlan:
    """A kind of device, sorted metrics."""

    id: str
    thing_type: str
    description: str
    sample_interval_s: float
    metrics: tuple[MetricPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPlan:
    """The ARNs that a device policy grants; the thing's own name is AWS's variable in them."""

    connect: str
    publish: tuple[str, ...]
    subscribe: str
    receive: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One device, computed from its group and its number."""

    name: str
    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingGroupPlan:
    """The things of one device type in one facility; `attributes` are those of each of them but the serial."""

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
    attributes: tuple[tuple[str, str], ...]

    def thing(self, number: int) -> Thing:
        """The thing with a number from 1 to `count`."""
        return Thing(
            name=naming.thing_name(self.facility, self.device_type.id, number),
            serial=naming.serial(self.facility, self.device_type.id, number),
        )

    @property
    def first(self) -> Thing:
        """The thing with the lowest number."""
        return self.thing(1)

    @property
    def last(self) -> Thing:
        """The thing with the highest number."""
        return self.thing(self.count)

    def things(self) -> Iterator[Thing]:
        """All of them, in the order of their numbers."""
        return (self.thing(number) for number in range(1, self.count + 1))


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
    groups: tuple[ThingGroupPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """The whole fleet, everything sorted by id, so that the manifest's order changes nothing."""

    application: str
    environment_suffix: str
    region: str
    account_id: str | None
    reserved_concurrency: int | None
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
        groups=tuple(_group(manifest, id_, types[type_], group) for type_, group in sorted(facility.things.items())),
    )


def _group(manifest: FleetManifest, facility: str, device_type: DeviceTypePlan, group: ThingGroup) -> ThingGroupPlan:
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
        attributes=tuple(sorted({"facility": facility, **group.attributes}.items())),
    )


def policy_plan(application: str, region: str, facility: str, device_type: str) -> PolicyPlan:
    """What a device of this type in this facility may do: speak and listen on topics that hold its own name."""
    who = (application, facility, device_type, naming.THING_NAME_VARIABLE)
    telemetry, request = naming.telemetry_topic(*who), naming.request_topic(*who)
    rule = f"{naming.topic_rule(facility)}_{naming.SUFFIX_TOKEN}"
    published = (telemetry, naming.basic_ingest_topic(rule, telemetry), naming.response_topic(*who))
    return PolicyPlan(
        connect=naming.iot_arn(region, f"client/{naming.THING_NAME_VARIABLE}"),
        publish=tuple(naming.iot_arn(region, f"topic/{topic}") for topic in published),
        subscribe=naming.iot_arn(region, f"topicfilter/{request}"),
        receive=naming.iot_arn(region, f"topic/{request}"),
    )
