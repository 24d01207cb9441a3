"""AWS IoT's own events, log and certificate audit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..bindings import (
    CloudcontrolapiResource,
    CloudwatchLogGroup,
    CloudwatchLogMetricFilter,
    CloudwatchLogMetricFilterMetricTransformation,
    Construct,
    IotEventConfigurations,
    IotLoggingOptions,
    IotTopicRule,
    IotTopicRuleErrorAction,
    IotTopicRuleErrorActionCloudwatchLogs,
    IotTopicRuleS3,
)
from ..names import PlatformNames, bucket_arn
from ..shared import iam
from ..shared.alarms import Metric, Watch, metric_alarm
from ..shared.iam import ServiceRole
from ..shared.text import literal

# @@ What AWS IoT itself tells of devices, archived: who connects and goes, and every change of the registry.
# @@
# @@ Topics: https://docs.aws.amazon.com/iot/latest/developerguide/registry-events.html and life-cycle-events.html there.

SQL_VERSION = "2016-03-23"

KEY = '{prefix}/date=${{parse_time("yyyy-MM-dd", timestamp())}}/${{timestamp()}}-${{newuuid()}}.json'
"""A millisecond may hold many events, and `traceid()` is undefined for what AWS IoT publishes itself:
https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-functions.html#iot-function-traceid"""

NOT_ARCHIVED = "EventsNotArchived"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Events of one kind: their topics, and the level at which these name the thing, type or group concerned."""

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

REGISTRY_EVENTS = (
    *("THING", "THING_TYPE", "THING_GROUP"),
    *("THING_TYPE_ASSOCIATION", "THING_GROUP_MEMBERSHIP", "THING_GROUP_HIERARCHY"),
)
"""What AWS IoT has to be told to tell; presence it tells of itself."""


class EventArchive:
    """A topic rule each, into the raw archive; what cannot be put there goes to a log group, which raises an alarm."""

    def __init__(
        self,
        scope: Construct,
        *,
        names: PlatformNames,
        data_key_arn: str,
        logs_key_arn: str,
        log_days: int,
        has_registry_events: bool,
    ) -> None:
        self.role = _archive_role(scope, names, data_key_arn)
        self.errors = CloudwatchLogGroup(
            scope,
            "log-group-event-errors",
            name=names.event_errors_log_group,
            retention_in_days=log_days,
            kms_key_id=logs_key_arn,
        )
        self.errors_role = _errors_role(scope, names)
        for event in EVENTS:
            IotTopicRule(
                scope,
                f"rule_events_{event.id}",
                name=names.named(f"rule_events_{event.id}"),
                description=f"Archives AWS IoT's events: {event.id.replace('_', ' ')}",
                enabled=True,
                sql=_statement(event, names),
                sql_version=SQL_VERSION,
                s3=[
                    IotTopicRuleS3(
                        bucket_name=names.raw_archive,
                        key=literal(KEY.format(prefix=event.prefix)),
                        role_arn=self.role.arn,
                    )
                ],
                error_action=IotTopicRuleErrorAction(
                    cloudwatch_logs=IotTopicRuleErrorActionCloudwatchLogs(
                        log_group_name=self.errors.name, role_arn=self.errors_role.arn
                    )
                ),
                depends_on=[self.role.policy, self.errors_role.policy],
            )
        _errors_alarm(scope, names, self.errors)
        if has_registry_events:
            # Of the account's other events nothing is said: whoever has them on keeps them, and no plan shows them.
            IotEventConfigurations(
                scope,
                "registry-events",
                event_configurations=dict.fromkeys(REGISTRY_EVENTS, True),
                lifecycle={"ignore_changes": ["event_configurations"]},
            )


def _statement(event: Event, names: PlatformNames) -> str:
    """Those of this environment: its names end in the suffix."""
    where = f"regexp_matches(topic({event.level}), '-{names.suffix}$')"
    return f"SELECT *, topic() AS topic, timestamp() AS received_at FROM '{event.topic}' WHERE {where}"  # noqa: S608 - no input


def _archive_role(scope: Construct, names: PlatformNames, key_arn: str) -> ServiceRole:
    archive = bucket_arn(names.raw_archive)
    return ServiceRole(
        scope,
        names.event_archive_role,
        names=names,
        description="Topic rules archive the events of AWS IoT",
        trust=_trust(names),
        statements=(
            iam.Statement(sid="ArchiveEvents", actions=("s3:PutObject",), resource=f"{archive}/events/*"),
            iam.key_use(
                "EncryptEvents",
                "GenerateDataKey",
                key_arn=key_arn,
                via=names.service("s3"),
                context={"aws:s3:arn": archive},
            ),
        ),
    )


def _errors_role(scope: Construct, names: PlatformNames) -> ServiceRole:
    log_group = names.log_group_arn(names.event_errors_log_group)
    return ServiceRole(
        scope,
        names.event_errors_role,
        names=names,
        description="Topic rules log the events that they could not archive",
        trust=_trust(names),
        statements=(
            iam.Statement(
                sid="WriteTheLog",
                actions=("logs:CreateLogStream", "logs:PutLogEvents"),
                resource=f"{log_group}:log-stream:*",
            ),
            iam.Statement(sid="FindItsStreams", actions=("logs:DescribeLogStreams",), resource=f"{log_group}:*"),
        ),
    )


def _trust(names: PlatformNames) -> str:
    rules = names.arn("iot", f"rule/{names.named('rule_events_*')}")
    return iam.trust("iot.amazonaws.com", account_id=names.account_id, source_arn=rules)


def _errors_alarm(scope: Construct, names: PlatformNames, log_group: CloudwatchLogGroup) -> None:
    CloudwatchLogMetricFilter(
        scope,
        "filter-event-errors",
        name=names.named("filter-event-errors"),
        log_group_name=log_group.name,
        pattern="",  # every line
        metric_transformation=CloudwatchLogMetricFilterMetricTransformation(
            namespace=names.filter_namespace, name=NOT_ARCHIVED, value="1"
        ),
    )
    metric_alarm(
        scope,
        "alarm-event-errors",
        names=names,
        description="Events of AWS IoT could not be archived: see log-group-event-errors.",
        metric=Metric(namespace=names.filter_namespace, name=NOT_ARCHIVED, dimensions={}),
        watch=Watch(threshold=1),
    )


# @@ AWS IoT's own log, for the whole account: made only where the manifest asks for it.


class IotLogging:
    """The log group that AWS IoT writes to, ours so that it is encrypted and ages, and the level of what it writes."""

    def __init__(self, scope: Construct, *, names: PlatformNames, level: str, logs_key_arn: str, log_days: int) -> None:
        self.log_group = CloudwatchLogGroup(
            scope,
            "log-group-iot",
            name=names.iot_log_group,
            retention_in_days=log_days,
            kms_key_id=logs_key_arn,
        )
        self.role = ServiceRole(
            scope,
            names.iot_logging_role,
            names=names,
            description="AWS IoT writes its log",
            trust=iam.trust("iot.amazonaws.com", account_id=names.account_id, source_arn=names.arn("iot", "*")),
            statements=(
                iam.Statement(
                    sid="WriteTheLog",
                    actions=("logs:CreateLogStream", "logs:PutLogEvents"),
                    resource=f"{names.log_group_arn(names.iot_log_group)}:log-stream:*",
                ),
            ),
        )
        IotLoggingOptions(
            scope,
            "iot-logging",
            default_log_level=level,
            role_arn=self.role.arn,
            depends_on=[self.log_group, self.role.policy],
        )


# @@ A daily look at every certificate of the account, and an alarm where one runs out: made where the manifest asks.
# @@
# @@ AWS IoT Device Defender audits a whole account. The AWS provider has no resource for it; Cloud Control, which it has,
# @@ makes what CloudFormation can: https://docs.aws.amazon.com/cloudcontrolapi/latest/userguide/supported-resources.html

CHECK = "DEVICE_CERTIFICATE_EXPIRING_CHECK"
DAY_S = 86_400

ACCOUNT_AUDIT = "AWS::IoT::AccountAuditConfiguration"
SCHEDULED_AUDIT = "AWS::IoT::ScheduledAudit"

IDENTIFIERS = {ACCOUNT_AUDIT: "AccountId", SCHEDULED_AUDIT: "ScheduledAuditName"}
"""What names one of each type; it cannot be changed."""


class CertificateAudit:
    """The account's audit settings with one check, its daily run, and the alarm on what it finds."""

    def __init__(self, scope: Construct, *, names: PlatformNames, expiry_days: int) -> None:
        self.role = ServiceRole(
            scope,
            names.audit_role,
            names=names,
            description="AWS IoT Device Defender looks at the certificates of the account",
            trust=iam.trust("iot.amazonaws.com", account_id=names.account_id, source_arn=names.arn("iot", "*")),
            statements=(
                # Listing certificates has no resource to name.
                iam.Statement(sid="ListCertificates", actions=("iot:ListCertificates",), resource="*"),
                iam.Statement(
                    sid="ReadCertificates", actions=("iot:DescribeCertificate",), resource=names.arn("iot", "cert/*")
                ),
            ),
        )
        check = {"Enabled": True, "Configuration": {"CertExpirationThresholdInDays": str(expiry_days)}}
        settings = _resource(
            scope,
            "certificate-audit",
            ACCOUNT_AUDIT,
            AccountId=names.account_id,
            RoleArn=names.role_arn(names.audit_role),  # literal: what is known at plan is checked there
            AuditCheckConfigurations={"DeviceCertificateExpiringCheck": check},
        )
        settings.node.add_dependency(self.role.policy)
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
            description=f"Certificates run out within {expiry_days} days: see the audit's findings, device by device.",
            metric=Metric(
                namespace="AWS/IoT",
                name="NonCompliantResources",
                dimensions={"CheckName": CHECK, "ScheduledAuditName": name},
                statistic="Maximum",
            ),
            watch=Watch(threshold=1, period_s=DAY_S),
        )


def _resource(scope: Construct, id_: str, type_: str, **state: Any) -> CloudcontrolapiResource:
    """With a schema of what is used, as without one Terraform would ask AWS for it to plan."""
    identifier = IDENTIFIERS[type_]
    schema = {
        "typeName": type_,
        "description": "As far as it is used here",
        "properties": {name: {"type": _TYPES[type(value)]} for name, value in state.items()},
        "additionalProperties": False,
        "primaryIdentifier": [f"/properties/{identifier}"],
        "createOnlyProperties": [f"/properties/{identifier}"],
    }
    return CloudcontrolapiResource(
        scope, id_, type_name=type_, desired_state=json.dumps(state), schema=json.dumps(schema)
    )


_TYPES: dict[type, str] = {str: "string", dict: "object", list: "array"}
