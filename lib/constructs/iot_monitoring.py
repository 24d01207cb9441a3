"""AWS IoT's own monitoring: lifecycle and registry events, its log, and the audit of certificates.

Log, audit and the switch for registry events are settings of the whole account, made only where the manifest asks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .. import bindings as tf
from ..names import (
    AUDIT_ROLE,
    EVENT_ARCHIVE_ROLE,
    EVENT_ERRORS_LOG_GROUP,
    EVENT_ERRORS_ROLE,
    IOT_LOG_GROUP,
    IOT_LOGGING_ROLE,
    PlatformNames,
    bucket_arn,
)
from ..shared import iam
from ..shared.alarms import Metric, Watch, log_alarm, metric_alarm
from ..shared.iam import ServiceRole
from ..shared.text import literal

SQL_VERSION = "2016-03-23"

KEY = '{prefix}/date=${{parse_time("yyyy-MM-dd", timestamp())}}/${{timestamp()}}-${{newuuid()}}.json'
"""Several events may share a millisecond, and `traceid()` is undefined for what AWS IoT publishes itself:
https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-functions.html#iot-function-traceid"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One kind of event.

    Args:
        level: Level of the topic, from 1, that is the name of the thing, thing type or group.
    """

    id: str
    topic: str
    level: int
    prefix: str = "events/registry"


EVENTS = (
    Event(id="presence", topic="$aws/events/presence/+/+", level=5, prefix="events/presence"),
    Event(id="thing", topic="$aws/events/thing/+/+", level=4),
    Event(id="thing_type", topic="$aws/events/thingType/+/+", level=4),
    Event(id="thing_group", topic="$aws/events/thingGroup/+/+", level=4),
    Event(id="type_association", topic="$aws/events/thingTypeAssociation/thing/#", level=5),
    Event(id="group_membership", topic="$aws/events/thingGroupMembership/thingGroup/#", level=5),
    Event(id="group_hierarchy", topic="$aws/events/thingGroupHierarchy/thingGroup/#", level=5),
)
"""https://docs.aws.amazon.com/iot/latest/developerguide/registry-events.html and life-cycle-events.html there"""

REGISTRY_EVENTS = (
    *("THING", "THING_TYPE", "THING_GROUP"),
    *("THING_TYPE_ASSOCIATION", "THING_GROUP_MEMBERSHIP", "THING_GROUP_HIERARCHY"),
)
"""Event types to be switched on; presence is always on."""


class EventArchive:
    """A topic rule for each kind of event, to the raw archive; failures go to a log group with an alarm."""

    def __init__(
        self,
        scope: tf.Construct,
        *,
        names: PlatformNames,
        data_key_arn: str,
        logs_key_arn: str,
        log_days: int,
        has_registry_events: bool,
    ) -> None:
        role = _archive_role(scope, names, data_key_arn)
        errors = tf.CloudwatchLogGroup(
            scope,
            EVENT_ERRORS_LOG_GROUP,
            name=names.event_errors_log_group,
            retention_in_days=log_days,
            kms_key_id=logs_key_arn,
        )
        errors_role = _errors_role(scope, names)
        for event in EVENTS:
            tf.IotTopicRule(
                scope,
                f"rule_events_{event.id}",
                name=names.named(f"rule_events_{event.id}"),
                description=f"Archive AWS IoT's events: {event.id.replace('_', ' ')}",
                enabled=True,
                sql=_statement(event, names),
                sql_version=SQL_VERSION,
                s3=[
                    tf.IotTopicRuleS3(
                        bucket_name=names.raw_archive,
                        key=literal(KEY.format(prefix=event.prefix)),
                        role_arn=role.arn,
                    )
                ],
                error_action=tf.IotTopicRuleErrorAction(
                    cloudwatch_logs=tf.IotTopicRuleErrorActionCloudwatchLogs(
                        log_group_name=errors.name, role_arn=errors_role.arn
                    )
                ),
                depends_on=[role.policy, errors_role.policy],
            )
        log_alarm(
            scope,
            "event-errors",
            names=names,
            log_group=errors.name,
            pattern="",
            metric="EventsNotArchived",
            watch=Watch(threshold=1),
        )
        if has_registry_events:
            # The account's other event types keep their setting, and no plan shows them.
            tf.IotEventConfigurations(
                scope,
                "registry-events",
                event_configurations=dict.fromkeys(REGISTRY_EVENTS, True),
                lifecycle={"ignore_changes": ["event_configurations"]},
            )


def _statement(event: Event, names: PlatformNames) -> str:
    """Select the events of this environment, whose names end in the suffix."""
    where = f"regexp_matches(topic({event.level}), '-{names.suffix}$')"
    return f"SELECT *, topic() AS topic, timestamp() AS received_at FROM '{event.topic}' WHERE {where}"  # noqa: S608 - no input


def _archive_role(scope: tf.Construct, names: PlatformNames, key_arn: str) -> ServiceRole:
    archive = bucket_arn(names.raw_archive)
    return ServiceRole(
        scope,
        EVENT_ARCHIVE_ROLE,
        names=names,
        description="Topic rules store the events of AWS IoT",
        trust=iam.iot_trust(names, f"rule/{names.named('rule_events_*')}"),
        statements=(
            iam.allow("PutEvents", "s3:PutObject", on=f"{archive}/events/*"),
            iam.key_use(
                "EncryptEvents",
                "GenerateDataKey",
                key_arn=key_arn,
                via=names.service("s3"),
                context={"aws:s3:arn": archive},
            ),
        ),
    )


def _errors_role(scope: tf.Construct, names: PlatformNames) -> ServiceRole:
    log_group = names.log_group_arn(names.event_errors_log_group)
    return ServiceRole(
        scope,
        EVENT_ERRORS_ROLE,
        names=names,
        description="Topic rules log the events that they could not archive",
        trust=iam.iot_trust(names, f"rule/{names.named('rule_events_*')}"),
        statements=(
            iam.write_logs(f"{log_group}:log-stream:*"),
            iam.allow("DescribeLogStreams", "logs:DescribeLogStreams", on=f"{log_group}:*"),
        ),
    )


class IotLogging:
    """AWS IoT's log: its level, and its log group, made here so that it is encrypted and expires."""

    def __init__(
        self, scope: tf.Construct, *, names: PlatformNames, level: str, logs_key_arn: str, log_days: int
    ) -> None:
        log_group = tf.CloudwatchLogGroup(
            scope,
            "log-group-iot",
            name=IOT_LOG_GROUP,
            retention_in_days=log_days,
            kms_key_id=logs_key_arn,
        )
        role = ServiceRole(
            scope,
            IOT_LOGGING_ROLE,
            names=names,
            description="AWS IoT writes its log",
            trust=iam.iot_trust(names, "*"),
            statements=(iam.write_logs(f"{names.log_group_arn(IOT_LOG_GROUP)}:log-stream:*"),),
        )
        tf.IotLoggingOptions(
            scope, "iot-logging", default_log_level=level, role_arn=role.arn, depends_on=[log_group, role.policy]
        )


CHECK = "DEVICE_CERTIFICATE_EXPIRING_CHECK"
DAY_S = 86_400

ACCOUNT_AUDIT = "AWS::IoT::AccountAuditConfiguration"
SCHEDULED_AUDIT = "AWS::IoT::ScheduledAudit"

IDENTIFIERS = {ACCOUNT_AUDIT: "AccountId", SCHEDULED_AUDIT: "ScheduledAuditName"}
"""Resource type → the property that identifies a resource, which cannot be changed."""


class CertificateAudit:
    """The account's audit settings with one check, its daily run, and the alarm on its findings.

    The AWS provider has no resource for Device Defender; its Cloud Control resource makes what CloudFormation can:
    https://docs.aws.amazon.com/cloudcontrolapi/latest/userguide/supported-resources.html

    Args:
        expiry_days: Days before the expiry of a certificate from which on it is a finding.
    """

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, expiry_days: int) -> None:
        role = ServiceRole(
            scope,
            AUDIT_ROLE,
            names=names,
            description="AWS IoT Device Defender audits the certificates of the account",
            trust=iam.iot_trust(names, "*"),
            statements=(
                iam.allow("ListCertificates", "iot:ListCertificates", on="*"),  # it has no resource type
                iam.allow("DescribeCertificates", "iot:DescribeCertificate", on=names.arn("iot", "cert/*")),
            ),
        )
        check = {"Enabled": True, "Configuration": {"CertExpirationThresholdInDays": str(expiry_days)}}
        settings = _resource(
            scope,
            "certificate-audit",
            ACCOUNT_AUDIT,
            AccountId=names.account_id,
            RoleArn=names.role_arn(AUDIT_ROLE),  # a literal, which the plan can check
            AuditCheckConfigurations={"DeviceCertificateExpiringCheck": check},
        )
        settings.node.add_dependency(role.policy)
        name = names.named("audit-certificates")
        schedule = _resource(
            scope,
            "certificate-audit-daily",
            SCHEDULED_AUDIT,
            ScheduledAuditName=name,
            Frequency="DAILY",
            TargetCheckNames=[CHECK],
        )
        schedule.node.add_dependency(settings)
        metric_alarm(
            scope,
            "alarm-certificate-expiry",
            names=names,
            description=f"Certificates expire within {expiry_days} days: see the audit's findings, device by device.",
            metric=Metric(
                namespace="AWS/IoT",
                name="NonCompliantResources",
                dimensions={"CheckName": CHECK, "ScheduledAuditName": name},
                statistic="Maximum",
            ),
            watch=Watch(threshold=1, period_s=DAY_S),
        )


def _resource(scope: tf.Construct, id_: str, type_: str, **state: Any) -> tf.CloudcontrolapiResource:
    """Make a Cloud Control resource with a schema of the used properties: without one a plan would call AWS."""
    identifier = IDENTIFIERS[type_]
    schema = {
        "typeName": type_,
        "description": "The properties in use",
        "properties": {name: {"type": _TYPES[type(value)]} for name, value in state.items()},
        "additionalProperties": False,
        "primaryIdentifier": [f"/properties/{identifier}"],
        "createOnlyProperties": [f"/properties/{identifier}"],
    }
    return tf.CloudcontrolapiResource(
        scope, id_, type_name=type_, desired_state=json.dumps(state), schema=json.dumps(schema)
    )


_TYPES: dict[type, str] = {str: "string", dict: "object", list: "array"}
