"""Lists every name of a plan, with what it is and where in the manifest it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from fleet_iot.generator import naming
from fleet_iot.generator.diagnostics import DataPath
from fleet_iot.generator.plan.build import FacilityPlan, FleetPlan, ThingGroupPlan
from fleet_iot.generator.plan.things import Thing
from fleet_iot.lib import names as resource_names
from fleet_iot.lib.record.place import RECORD
from fleet_iot.lib.specs import ContactSpec, DeviceTypeSpec, suffixed

METRIC_FACTS = {"minimum": "low limit", "maximum": "high limit"}
"""Settings of a metric whose names in the record are not what people read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmPlan:
    """An alarm of one facility: its name, when it is raised, and the group that it is about, None where all are."""

    name: str
    raised: str
    group: ThingGroupPlan | None = None


def plan_alarms(facility: FacilityPlan) -> tuple[AlarmPlan, ...]:
    """Return the alarms of a facility, those of its device types last."""
    given = facility.alarms
    failures = f"{given.rule_failures:,} within five minutes"
    whole = {
        "anomalies": f"{given.anomalies_per_hour:,} anomalies within an hour",
        "quarantine": f"{given.quarantine_percent:g} % of messages quarantined within five minutes",
        "rule-failures": f"messages that the topic rule could not deliver: {failures}",
        "rule-throttles": f"messages that AWS IoT throttled before the topic rule: {failures}",
    }
    return (
        *(AlarmPlan(name=resource_names.alarm(kind, facility.id), raised=raised) for kind, raised in whole.items()),
        *(
            AlarmPlan(
                name=resource_names.silence_alarm(facility.id, group.device_type.id),
                raised=f"no reading of any {group.device_type.id} for {group.silence_s:,} s",
                group=group,
            )
            for group in facility.groups
        ),
    )


# Names of a plan. Things are left out: there may be millions, and each follows from its group and its number.

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One name: its kind, one sentence on it, what else there is to know, and the part of the manifest it comes from.

    `deployed` is the name in an environment; None for what carries no suffix. `short` is what the documentation
    calls it where its name contains more.
    """

    kind: str
    name: str
    sentence: str
    path: DataPath
    facts: Facts = ()
    deployed: str | None = None
    short: str | None = None


def entries(plan: FleetPlan, *, record: str = RECORD) -> Iterator[Entry]:
    """Yield every name of the plan but those of things."""
    yield from _platform(plan)
    for device_type in plan.device_types:
        yield from _device_type(plan, device_type)
    for facility in plan.facilities:
        yield from _facility(plan, facility, record)
        for group in facility.groups:
            yield from _group(plan, facility, group, record)


def thing_facts(plan: FleetPlan, facility: FacilityPlan, group: ThingGroupPlan, thing: Thing) -> Facts:
    """Return what a thing of the group has to do with."""
    deployed = suffixed(thing.name, plan.environment_suffix)
    who = (plan.application, facility.id, group.device_type.id, deployed)
    telemetry, suffix = naming.telemetry_topic(*who), plan.environment_suffix
    rule = suffixed(facility.topic_rule, suffix)
    return (
        ("telemetry", telemetry),
        ("basic ingest", naming.basic_ingest_topic(rule, telemetry)),
        ("hears", naming.request_topic(*who)),
        ("answers", naming.response_topic(*who)),
        ("thing type", suffixed(group.device_type.thing_type, suffix)),
        ("thing group", suffixed(group.thing_group, suffix)),
        ("policy", suffixed(group.policy, suffix)),
        ("topic rule", rule),
        ("archive", group.archive_prefix),
        *((f"attribute {name}", value) for name, value in thing.attributes),
    )


def _platform(plan: FleetPlan) -> Iterator[Entry]:
    suffix = plan.environment_suffix
    alarms = {name: ("alarm", f"is raised when {what}") for name, what in resource_names.PLATFORM_ALARMS.items()}
    for name, (kind, what) in {**resource_names.PLATFORM_RESOURCES, **alarms}.items():
        full = (
            resource_names.account_wide(name, plan.application, plan.region)
            if kind in resource_names.ACCOUNT_WIDE_KINDS
            else name
        )
        yield Entry(
            kind=kind,
            name=full,
            sentence=f"It {what}. All facilities share it.",
            path=("environment_suffix",),
            deployed=suffixed(full, suffix),
            short=name,
        )
    for purpose, what in resource_names.BUCKETS.items():
        deployed = resource_names.bucket(plan.application, purpose, plan.account_id, suffix)
        yield Entry(
            kind="S3 bucket",
            name=deployed.removesuffix(f"-{suffix}"),
            sentence=f"It {what}. All facilities share it.",
            path=("application",),
            deployed=deployed,
        )


def _device_type(plan: FleetPlan, device_type: DeviceTypeSpec) -> Iterator[Entry]:
    path: DataPath = ("device_types", device_type.id)
    users = [group for facility in plan.facilities for group in facility.groups if group.device_type.id == path[1]]
    count = sum(group.count for group in users)
    facts = (
        ("thing type", suffixed(device_type.thing_type, plan.environment_suffix)),
        ("reads every", f"{device_type.sample_interval_s:g} s"),
        ("metrics", ", ".join(metric.name for metric in device_type.metrics)),
        ("in", ", ".join(f"{group.facility} ({group.count:,})" for group in users) or "no facility"),
    )
    sentence = f"{device_type.description}; {count:,} of them in {len(users)} facilities."
    yield Entry(kind="device type", name=device_type.id, sentence=sentence, path=path, facts=facts)
    yield Entry(
        kind="thing type",
        name=device_type.thing_type,
        sentence=f"AWS IoT's thing type of the device type {device_type.id}: {sentence}",
        path=path,
        facts=facts[1:],
        deployed=suffixed(device_type.thing_type, plan.environment_suffix),
    )
    for metric in device_type.metrics:
        settings = {key: value for key, value in asdict(metric).items() if key not in ("name", "unit")}
        yield Entry(
            kind="metric",
            name=metric.name,
            sentence=f"A metric of every {device_type.id}, in {metric.unit}.",
            path=(*path, "metrics", metric.name),
            facts=tuple(
                (
                    METRIC_FACTS.get(key, key),
                    "none" if value is None else f"{value:g}" if isinstance(value, float) else value,
                )
                for key, value in settings.items()
            ),
        )


def _facility(plan: FleetPlan, facility: FacilityPlan, record: str) -> Iterator[Entry]:
    path: DataPath = ("facilities", facility.id)
    suffix, whose = plan.environment_suffix, f"of {facility.id}, {facility.name}"
    folder = f"{record}/{facility.module}/"
    dashboard = resource_names.account_wide(facility.dashboard, plan.application, plan.region)
    names = (
        ("thing group", facility.thing_group, f"The group {whose}, with a group for each of its device types."),
        ("topic rule", facility.topic_rule, f"The rule that hands the readings {whose}, to the stream."),
        ("provisioning template", facility.provisioning_template, f"The template by which devices register {whose}."),
        ("dashboard", dashboard, f"The CloudWatch dashboard {whose}."),
    )
    things = ", ".join(f"{group.device_type.id} ({group.count:,})" for group in facility.groups)
    yield Entry(
        kind="facility",
        name=facility.id,
        sentence=f"{facility.name}: {facility.thing_count:,} things, registered by {facility.registration}.",
        path=path,
        facts=(
            ("things", things),
            ("timezone", facility.timezone),
            *_contact_facts(facility.contact),
            ("folder", folder),
            *((kind, suffixed(name, suffix)) for kind, name, _ in names),
        ),
    )
    files = {facility.topic_rule: facility.topic_rule_file, dashboard: "dashboard.json"}
    files[facility.provisioning_template] = "provisioning_template.json"
    for kind, name, sentence in names:
        file = (("file", folder + files[name]),) if name in files else ()
        deployed = suffixed(name, suffix)
        short = facility.dashboard if name == dashboard else None
        yield Entry(kind=kind, name=name, sentence=sentence, path=path, facts=file, deployed=deployed, short=short)
        if name in files:
            sentence = f"The document of the {kind} {name}."
            yield Entry(kind="file", name=folder + files[name], sentence=sentence, path=path)
    sentence = f"The template of AWS IoT's bulk registration {whose}."
    yield Entry(kind="file", name=f"{folder}bulk_registration_template.json", sentence=sentence, path=path)
    for alarm in plan_alarms(facility):
        of_group: DataPath = (*path, "things", alarm.group.device_type.id) if alarm.group else path
        deployed, sentence = (
            suffixed(alarm.name, suffix),
            f"Of {facility.name}. It is raised at: {alarm.raised}.",
        )
        yield Entry(kind="alarm", name=alarm.name, sentence=sentence, path=of_group, deployed=deployed)
    yield Entry(kind="topic filter", name=facility.topic, sentence=f"Matches all readings {whose}.", path=path)
    for prefix, what in naming.FACILITY_PREFIXES.items():
        sentence = f"The archive prefix of {what} {whose}."
        yield Entry(kind="prefix", name=f"{prefix}/facility={facility.id}/", sentence=sentence, path=path)
    for line in facility.lines:
        yield Entry(
            kind="line",
            name=line.id,
            sentence=f"The production line {line.name} {whose}.",
            path=(*path, "lines", line.id),
            facts=_contact_facts(line.contact),
        )
    sentence = f"The folder of what is generated for {facility.id}."
    yield Entry(kind="folder", name=folder, sentence=sentence, path=path)


def _contact_facts(contact: ContactSpec | None) -> Facts:
    told = " ".join(filter(None, (contact.name, contact.email, contact.phone))) if contact else ""
    return (("contact", told),) if told else ()


def _group(plan: FleetPlan, facility: FacilityPlan, group: ThingGroupPlan, record: str) -> Iterator[Entry]:
    path: DataPath = ("facilities", facility.id, "things", group.device_type.id)
    suffix = plan.environment_suffix
    whose = f"{group.count:,} {group.device_type.id} of {facility.id}"
    things = ("things", f"{group.first.name} to {group.last.name}")
    file = ("file", f"{record}/{facility.module}/{group.policy_file}")
    for kind, name, sentence, facts in (
        ("thing group", group.thing_group, f"The group of the {whose}.", (things,)),
        (
            "policy",
            group.policy,
            f"Allows the {whose} to publish and subscribe to topics of their own.",
            (things, file),
        ),
    ):
        deployed = suffixed(name, suffix)
        yield Entry(kind=kind, name=name, sentence=sentence, path=path, facts=facts, deployed=deployed)
    sentence = f"The policy document of the {whose}."
    yield Entry(kind="file", name=file[1], sentence=sentence, path=path)
    who = (plan.application, facility.id, group.device_type.id, naming.THING_NAME_VARIABLE)
    for topic, verb in (
        (naming.telemetry_topic(*who), "publishes its readings"),
        (naming.request_topic(*who), "receives its commands"),
        (naming.response_topic(*who), "answers its commands"),
    ):
        yield Entry(kind="topic", name=topic, sentence=f"Where each of the {whose} {verb}.", path=path, facts=(things,))
    sentence = f"The archive prefix of the readings of the {whose}."
    yield Entry(kind="prefix", name=group.archive_prefix, sentence=sentence, path=path, facts=(things,))
