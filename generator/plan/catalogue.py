"""Lists every name of a plan, with what it is and where in the manifest it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fleet_iot.generator import naming
from fleet_iot.generator.diagnostics import DataPath
from fleet_iot.generator.plan.build import FacilityPlan, FleetPlan, ThingGroupPlan
from fleet_iot.generator.plan.things import Thing
from fleet_iot.lib.specs import ContactSpec, DeviceTypeSpec

PLATFORM_ALARMS = {
    "alarm-iterator-age": "the sensor processor is behind the stream",
    "alarm-processor-errors": "invocations of the sensor processor fail",
    "alarm-processor-throttles": "Lambda throttles the sensor processor",
    "alarm-stream-throttles": "the stream throttles writes",
    "alarm-failures-queue": "the sensor processor gave up on records: replay them before the stream expires them",
    "alarm-unplaced-messages": "messages of no known plant are in quarantine",
    "alarm-notifications-pending": "anomalies are stored but not yet published",
    "alarm-event-errors": "events of AWS IoT could not be archived",
    "alarm-certificate-expiry": "certificates expire soon",
    "alarm-unauthorised-calls": "unauthorised API calls (CIS 4.1)",
    "alarm-sign-in-without-mfa": "console sign-in without MFA (CIS 4.2)",
    "alarm-root-use": "use of the root user (CIS 4.3)",
    "alarm-iam-changes": "permissions were changed (CIS 4.4)",
    "alarm-trail-changes": "a trail was changed, started or stopped (CIS 4.5)",
    "alarm-sign-in-failures": "signing in to the console failed (CIS 4.6)",
    "alarm-key-deletions": "a key was disabled or is to be deleted (CIS 4.7)",
    "alarm-bucket-policy-changes": "the policy of a bucket was changed (CIS 4.8)",
    "alarm-config-changes": "AWS Config was changed or stopped (CIS 4.9)",
    "alarm-security-group-changes": "a security group was changed (CIS 4.10)",
    "alarm-network-acl-changes": "a network access list was changed (CIS 4.11)",
    "alarm-gateway-changes": "a network gateway was changed (CIS 4.12)",
    "alarm-route-table-changes": "a route table was changed (CIS 4.13)",
    "alarm-vpc-changes": "a network was changed (CIS 4.14)",
}
"""What all facilities share, by name without suffix; a test holds them to those of the stacks."""


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
        *(AlarmPlan(name=naming.alarm(kind, facility.id), raised=raised) for kind, raised in whole.items()),
        *(
            AlarmPlan(
                name=naming.silence_alarm(facility.id, group.device_type.id),
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
    calls it where its name holds more.
    """

    kind: str
    name: str
    sentence: str
    path: DataPath
    facts: Facts = ()
    deployed: str | None = None
    short: str | None = None


ROLE = "IAM role"
TRAIL = "CloudTrail trail"

PLATFORM: dict[str, tuple[str, str]] = {
    "stream-telemetry": ("Kinesis stream", "takes the readings of all facilities, in order for each device"),
    "table-readings": ("DynamoDB table", "holds what devices measured by the minute, hour and day, and anomalies"),
    "table-devices": ("DynamoDB table", "holds what is known of each device: first and last contact, its detectors"),
    "function-sensor-processor": ("Lambda function", "aggregates readings, finds anomalies and archives what came in"),
    "/aws/lambda/function-sensor-processor": ("log group", "is the sensor processor's"),
    "queue-processor-failures": ("SQS queue", "takes what the sensor processor could not process"),
    "trail-audit": (TRAIL, "records who changed what"),
    "log-group-audit-trail": ("log group", "is the audit trail's"),
    "alias/key-data": ("KMS alias", "is the key of readings and archive"),
    "alias/key-logs": ("KMS alias", "is the key of logs"),
    "alias/key-audit": ("KMS alias", "is the key of the audit trail"),
    "role-sensor-processor": (ROLE, "is what the sensor processor may do"),
    "role-topic-rule": (ROLE, "lets topic rules put records on the stream"),
    "role-rule-errors": (ROLE, "lets topic rules put what failed into the archive"),
    "role-trail-logs": (ROLE, "lets the audit trail write its log"),
    "role-event-archive": (ROLE, "lets topic rules put AWS IoT's events into the archive"),
    "role-event-errors": (ROLE, "lets topic rules log the events that they could not archive"),
    "topic-alarms": ("SNS topic", "hears of every alarm"),
    "topic-anomalies": ("SNS topic", "hears of every anomaly's beginning and end"),
    "log-group-event-errors": ("log group", "holds the events of AWS IoT that could not be archived"),
    "rule_events_presence": ("topic rule", "archives who connects and who goes"),
    "rule_events_thing": ("topic rule", "archives that things are made, changed and deleted"),
    "rule_events_thing_type": ("topic rule", "archives that thing types are made, changed and deleted"),
    "rule_events_thing_group": ("topic rule", "archives that thing groups are made, changed and deleted"),
    "rule_events_type_association": ("topic rule", "archives which things get which thing type"),
    "rule_events_group_membership": ("topic rule", "archives which things join and leave which groups"),
    "rule_events_group_hierarchy": ("topic rule", "archives which groups go below which"),
    "role-fleet-provisioning": (ROLE, "lets AWS IoT register devices by a provisioning template"),
    "role-bulk-registration": (ROLE, "lets AWS IoT register the devices of a parameter file"),
}
"""What all facilities share, by name without suffix."""

_BUCKETS = {
    "raw-archive": "holds every reading as it came, below raw/, quarantine/ and iot-rule-errors/; and events/, "
    "bulk-registration/",
    "access-logs": "holds the access logs of the other buckets",
    "audit-trail": "holds the audit trail",
}


def entries(plan: FleetPlan) -> Iterator[Entry]:
    """Yield every name of the plan but those of things."""
    yield from _platform(plan)
    for device_type in plan.device_types:
        yield from _device_type(plan, device_type)
    for facility in plan.facilities:
        yield from _facility(plan, facility)
        for group in facility.groups:
            yield from _group(plan, facility, group)


def thing_facts(plan: FleetPlan, facility: FacilityPlan, group: ThingGroupPlan, thing: Thing) -> Facts:
    """Return what a thing of the group has to do with."""
    deployed = naming.suffixed(thing.name, plan.environment_suffix)
    who = (plan.application, facility.id, group.device_type.id, deployed)
    telemetry, suffix = naming.telemetry_topic(*who), plan.environment_suffix
    rule = naming.suffixed(facility.topic_rule, suffix)
    return (
        ("telemetry", telemetry),
        ("basic ingest", naming.basic_ingest_topic(rule, telemetry)),
        ("hears", naming.request_topic(*who)),
        ("answers", naming.response_topic(*who)),
        ("thing type", naming.suffixed(group.device_type.thing_type, suffix)),
        ("thing group", naming.suffixed(group.thing_group, suffix)),
        ("policy", naming.suffixed(group.policy, suffix)),
        ("topic rule", rule),
        ("archive", group.archive_prefix),
        *((f"attribute {name}", value) for name, value in thing.attributes),
    )


def _platform(plan: FleetPlan) -> Iterator[Entry]:
    suffix = plan.environment_suffix
    alarms = {name: ("alarm", f"tells that {what}") for name, what in PLATFORM_ALARMS.items()}
    for name, (kind, what) in (PLATFORM | alarms).items():
        full = naming.account_wide(name, plan.application, plan.region) if kind in (ROLE, TRAIL) else name
        yield Entry(
            kind=kind,
            name=full,
            sentence=f"It {what}. All facilities share it.",
            path=("environment_suffix",),
            deployed=naming.suffixed(full, suffix),
            short=name,
        )
    for purpose, what in _BUCKETS.items():
        deployed = naming.bucket(plan.application, purpose, plan.account_id, suffix)
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
        ("thing type", naming.suffixed(device_type.thing_type, plan.environment_suffix)),
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
        deployed=naming.suffixed(device_type.thing_type, plan.environment_suffix),
    )
    for metric in device_type.metrics:
        limits = ("none" if limit is None else f"{limit:g}" for limit in (metric.minimum, metric.maximum))
        low, high = limits
        yield Entry(
            kind="metric",
            name=metric.name,
            sentence=f"What every {device_type.id} measures in {metric.unit}.",
            path=(*path, "metrics", metric.name),
            facts=(("low limit", low), ("high limit", high), ("detector", metric.detector)),
        )


def _facility(plan: FleetPlan, facility: FacilityPlan) -> Iterator[Entry]:
    path: DataPath = ("facilities", facility.id)
    suffix, whose = plan.environment_suffix, f"of {facility.id}, {facility.name}"
    folder = f"{naming.OUTPUT_FOLDER}/{facility.module}/"
    dashboard = naming.account_wide(facility.dashboard, plan.application, plan.region)
    names = (
        ("thing group", facility.thing_group, f"The group {whose}: holds a group for each of its device types."),
        ("topic rule", facility.topic_rule, f"The rule that hands the readings {whose}, to the stream."),
        ("provisioning template", facility.provisioning_template, f"What registers the devices {whose}, in bulk."),
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
            *((kind, naming.suffixed(name, suffix)) for kind, name, _ in names),
        ),
    )
    files = {facility.topic_rule: facility.topic_rule_file, dashboard: "dashboard.json"}
    files[facility.provisioning_template] = "provisioning_template.json"
    for kind, name, sentence in names:
        file = (("file", folder + files[name]),) if name in files else ()
        deployed = naming.suffixed(name, suffix)
        short = facility.dashboard if name == dashboard else None
        yield Entry(kind=kind, name=name, sentence=sentence, path=path, facts=file, deployed=deployed, short=short)
        if name in files:
            sentence = f"What AWS gets for the {kind} {name}."
            yield Entry(kind="file", name=folder + files[name], sentence=sentence, path=path)
    sentence = f"What AWS IoT's own bulk registration makes of each device {whose}."
    yield Entry(kind="file", name=f"{folder}bulk_registration_template.json", sentence=sentence, path=path)
    for alarm in plan_alarms(facility):
        of_group: DataPath = (*path, "things", alarm.group.device_type.id) if alarm.group else path
        deployed, sentence = (
            naming.suffixed(alarm.name, suffix),
            f"Of {facility.name}. It is raised at: {alarm.raised}.",
        )
        yield Entry(kind="alarm", name=alarm.name, sentence=sentence, path=of_group, deployed=deployed)
    yield Entry(kind="topic filter", name=facility.topic, sentence=f"Matches all readings {whose}.", path=path)
    for prefix, what in naming.FACILITY_PREFIXES.items():
        sentence = f"Where in the raw archive {what} {whose}, lie."
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


def _group(plan: FleetPlan, facility: FacilityPlan, group: ThingGroupPlan) -> Iterator[Entry]:
    path: DataPath = ("facilities", facility.id, "things", group.device_type.id)
    suffix = plan.environment_suffix
    whose = f"{group.count:,} {group.device_type.id} of {facility.id}"
    things = ("things", f"{group.first.name} to {group.last.name}")
    file = ("file", f"{naming.OUTPUT_FOLDER}/{facility.module}/{group.policy_file}")
    for kind, name, sentence, facts in (
        ("thing group", group.thing_group, f"The group of the {whose}.", (things,)),
        (
            "policy",
            group.policy,
            f"What the {whose} may do: publish and subscribe to topics of their own.",
            (things, file),
        ),
    ):
        deployed = naming.suffixed(name, suffix)
        yield Entry(kind=kind, name=name, sentence=sentence, path=path, facts=facts, deployed=deployed)
    sentence = f"What the {whose} may do, as AWS IoT gets it."
    yield Entry(kind="file", name=file[1], sentence=sentence, path=path)
    who = (plan.application, facility.id, group.device_type.id, naming.THING_NAME_VARIABLE)
    for topic, verb in (
        (naming.telemetry_topic(*who), "publishes its readings"),
        (naming.request_topic(*who), "receives its commands"),
        (naming.response_topic(*who), "answers its commands"),
    ):
        yield Entry(kind="topic", name=topic, sentence=f"Where each of the {whose} {verb}.", path=path, facts=(things,))
    sentence = f"Where in the raw archive the readings of the {whose} lie."
    yield Entry(kind="prefix", name=group.archive_prefix, sentence=sentence, path=path, facts=(things,))
