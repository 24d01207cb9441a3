"""Alarms of platform, audit trail and facilities; the facility's dashboard; the topics of alarms and anomalies."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .. import bindings as tf
from ..names import ALARM_TOPIC, ANOMALY_TOPIC, PlatformNames, alarm, silence_alarm
from ..shared import iam
from ..shared.alarms import BELOW, BREACHING, Metric, Watch, expression_alarm, log_alarm, metric_alarm
from ..shared.text import read_document
from ..specs import FacilitySpec, PlatformAlarmsSpec, ThingGroupSpec

ITERATOR_AGE_PERIODS = 5
"""Successive minutes: a batch that is retried once delays the processor for a moment."""

PENDING_PERIODS = 3
"""Periods of five minutes: a failed notification is retried with the next batches."""

UNEMITTED_S, UNEMITTED_PERIODS = 120, 3
"""Age of what was committed and not emitted, in successive periods of a minute; no value at all is as bad."""

UNKNOWN = "unknown"
"""Facility and device type of messages that the sensor processor cannot assign."""

FAILURES_OF_A_RULE = 'SELECT SUM(Failure) FROM SCHEMA("AWS/IoT", ActionType, RuleName) WHERE RuleName ='
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-metrics-insights-querylanguage.html"""

HOUR_S, DAY_S = 3600, 86_400


class PlatformAlarms:
    """Alarms of stream, sensor processor, failure queue and archive compactor, with the manifest's thresholds."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, thresholds: PlatformAlarmsSpec) -> None:
        function = {"FunctionName": names.function}
        expression_alarm(
            scope,
            "alarm-processor-errors",
            names=names,
            expression="100 * errors / invocations",
            metrics={
                name.lower(): Metric(namespace="AWS/Lambda", name=name, dimensions=function)
                for name in ("Errors", "Invocations")
            },
            watch=Watch(threshold=thresholds.error_rate_percent),
        )
        compactor = {"FunctionName": names.compactor}
        expression_alarm(
            scope,
            "alarm-archive-compaction",
            names=names,
            expression="FILL(invocations, 0) - FILL(errors, 0)",
            metrics={
                name.lower(): Metric(namespace="AWS/Lambda", name=name, dimensions=compactor)
                for name in ("Errors", "Invocations")
            },
            watch=Watch(threshold=1, period_s=HOUR_S, periods=2, comparison=BELOW, missing=BREACHING),
        )
        alarms = {
            "alarm-iterator-age": (
                Metric(namespace="AWS/Lambda", name="IteratorAge", dimensions=function, statistic="Maximum"),
                Watch(threshold=thresholds.iterator_age_s * 1000, period_s=60, periods=ITERATOR_AGE_PERIODS),
            ),
            "alarm-processor-throttles": (
                Metric(namespace="AWS/Lambda", name="Throttles", dimensions=function),
                Watch(threshold=thresholds.throttles),
            ),
            "alarm-stream-throttles": (
                Metric(
                    namespace="AWS/Kinesis",
                    name="WriteProvisionedThroughputExceeded",
                    dimensions={"StreamName": names.stream},
                ),
                Watch(threshold=thresholds.throttles),
            ),
            "alarm-failures-queue": (
                Metric(
                    namespace="AWS/SQS",
                    name="ApproximateNumberOfMessagesVisible",
                    dimensions={"QueueName": names.failure_queue},
                    statistic="Maximum",
                ),
                Watch(threshold=thresholds.failures_queue_depth),
            ),
            "alarm-unplaced-messages": (
                Metric(namespace=names.metrics_namespace, name="ReadingsQuarantined", dimensions={"Facility": UNKNOWN}),
                Watch(threshold=1),
            ),
            "alarm-notifications-pending": (
                Metric(
                    namespace=names.metrics_namespace, name="NotificationsPending", dimensions={}, statistic="Maximum"
                ),
                Watch(threshold=1, periods=PENDING_PERIODS),
            ),
            "alarm-unemitted": (
                Metric(namespace=names.metrics_namespace, name="UnemittedSeconds", dimensions={}, statistic="Maximum"),
                Watch(threshold=UNEMITTED_S, period_s=60, periods=UNEMITTED_PERIODS, missing=BREACHING),
            ),
        }
        for id_, (metric, watch) in alarms.items():
            metric_alarm(scope, id_, names=names, metric=metric, watch=watch)


class TrailAlarm(NamedTuple):
    """An alarm of the CIS AWS Foundations Benchmark, section 4: its id, its metric and the events that it counts."""

    id: str
    metric: str
    pattern: str


def _any(*events: str) -> str:
    return " || ".join(f"($.eventName={event})" for event in events)


def _events(*events: str) -> str:
    return f"{{{_any(*events)}}}"


def _of(source: str, *events: str) -> str:
    return f"{{($.eventSource={source}.amazonaws.com) && ({_any(*events)})}}"


TRAIL_ALARMS = (
    TrailAlarm(
        "unauthorised-calls",
        "UnauthorisedCalls",
        '{($.errorCode="*UnauthorizedOperation") || ($.errorCode="AccessDenied*")}',
    ),
    TrailAlarm(
        "sign-in-without-mfa",
        "SignInsWithoutMfa",
        '{($.eventName="ConsoleLogin") && ($.additionalEventData.MFAUsed !="Yes") '
        '&& ($.userIdentity.type="IAMUser") && ($.responseElements.ConsoleLogin="Success")}',
    ),
    TrailAlarm(
        "root-use",
        "RootUses",
        '{$.userIdentity.type="Root" && $.userIdentity.invokedBy NOT EXISTS && $.eventType !="AwsServiceEvent"}',
    ),
    TrailAlarm(
        "iam-changes",
        "IamChanges",
        _events(
            *("DeleteGroupPolicy", "DeleteRolePolicy", "DeleteUserPolicy"),
            *("PutGroupPolicy", "PutRolePolicy", "PutUserPolicy"),
            *("CreatePolicy", "DeletePolicy", "CreatePolicyVersion", "DeletePolicyVersion"),
            *("AttachRolePolicy", "DetachRolePolicy", "AttachUserPolicy", "DetachUserPolicy"),
            *("AttachGroupPolicy", "DetachGroupPolicy"),
        ),
    ),
    TrailAlarm(
        "trail-changes",
        "TrailChanges",
        _events("CreateTrail", "UpdateTrail", "DeleteTrail", "StartLogging", "StopLogging"),
    ),
    TrailAlarm(
        "sign-in-failures", "SignInFailures", '{($.eventName=ConsoleLogin) && ($.errorMessage="Failed authentication")}'
    ),
    TrailAlarm("key-deletions", "KeyDeletions", _of("kms", "DisableKey", "ScheduleKeyDeletion")),
    TrailAlarm(
        "bucket-policy-changes",
        "BucketPolicyChanges",
        _of(
            "s3",
            *("PutBucketAcl", "PutBucketPolicy", "PutBucketCors", "PutBucketLifecycle", "PutBucketReplication"),
            *("DeleteBucketPolicy", "DeleteBucketCors", "DeleteBucketLifecycle", "DeleteBucketReplication"),
        ),
    ),
    TrailAlarm(
        "config-changes",
        "ConfigChanges",
        _of(
            "config",
            *("StopConfigurationRecorder", "DeleteDeliveryChannel", "PutDeliveryChannel", "PutConfigurationRecorder"),
        ),
    ),
    TrailAlarm(
        "security-group-changes",
        "SecurityGroupChanges",
        _events(
            *("AuthorizeSecurityGroupIngress", "AuthorizeSecurityGroupEgress", "RevokeSecurityGroupIngress"),
            *("RevokeSecurityGroupEgress", "CreateSecurityGroup", "DeleteSecurityGroup"),
        ),
    ),
    TrailAlarm(
        "network-acl-changes",
        "NetworkAclChanges",
        _events(
            *("CreateNetworkAcl", "CreateNetworkAclEntry", "DeleteNetworkAcl", "DeleteNetworkAclEntry"),
            *("ReplaceNetworkAclEntry", "ReplaceNetworkAclAssociation"),
        ),
    ),
    TrailAlarm(
        "gateway-changes",
        "GatewayChanges",
        _events(
            *("CreateCustomerGateway", "DeleteCustomerGateway", "AttachInternetGateway", "CreateInternetGateway"),
            *("DeleteInternetGateway", "DetachInternetGateway"),
        ),
    ),
    TrailAlarm(
        "route-table-changes",
        "RouteTableChanges",
        _of(
            "ec2",
            *("CreateRoute", "CreateRouteTable", "ReplaceRoute", "ReplaceRouteTableAssociation", "DeleteRouteTable"),
            *("DeleteRoute", "DisassociateRouteTable"),
        ),
    ),
    TrailAlarm(
        "vpc-changes",
        "VpcChanges",
        _events(
            *("CreateVpc", "DeleteVpc", "ModifyVpcAttribute", "AcceptVpcPeeringConnection"),
            *("CreateVpcPeeringConnection", "DeleteVpcPeeringConnection", "RejectVpcPeeringConnection"),
            *("AttachClassicLinkVpc", "DetachClassicLinkVpc", "DisableVpcClassicLink", "EnableVpcClassicLink"),
        ),
    ),
)
"""Controls 4.1 to 4.14 in order, with the patterns that AWS Security Hub looks for:
https://docs.aws.amazon.com/securityhub/latest/userguide/cloudwatch-controls.html"""


class TrailAlarms:
    """A metric filter on the trail's log group and an alarm for each control; the first event raises it."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, log_group: str) -> None:
        watch = Watch(threshold=1, notifies_recovery=False)
        for id_, metric, pattern in TRAIL_ALARMS:
            log_alarm(scope, id_, names=names, log_group=log_group, pattern=pattern, metric=metric, watch=watch)


class FacilityAlarms:
    """Alarms of a facility with the thresholds that it declares; they publish to the platform's topic."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, facility: FacilitySpec) -> None:
        thresholds, id_ = facility.alarms, facility.id
        dimensions = {"Facility": id_}
        rule = names.named(facility.topic_rule)

        def counted(name: str, **more: str) -> Metric:
            return Metric(namespace=names.metrics_namespace, name=name, dimensions=dimensions | more)

        expression_alarm(
            scope,
            alarm("rule-failures", id_),
            names=names,
            description=f"The topic rule of {id_} fails to forward messages: see iot-rule-errors in the archive.",
            # A query over all action types, whose names differ by the rule's action.
            expression=f"{FAILURES_OF_A_RULE} '{rule}'",
            metrics={},
            watch=Watch(threshold=thresholds.rule_failures),
        )
        metric_alarm(
            scope,
            alarm("rule-throttles", id_),
            names=names,
            description=f"AWS IoT throttles messages of {id_}: the account's quota for rules is too low.",
            metric=Metric(namespace="AWS/IoT", name="RuleMessageThrottled", dimensions={"RuleName": rule}),
            watch=Watch(threshold=thresholds.rule_failures),
        )
        expression_alarm(
            scope,
            alarm("quarantine", id_),
            names=names,
            description=f"Messages of {id_} are unreadable: see quarantine in the archive, by reason.",
            expression="100 * quarantined / (quarantined + processed)",
            metrics={"quarantined": counted("ReadingsQuarantined"), "processed": counted("ReadingsProcessed")},
            watch=Watch(threshold=thresholds.quarantine_percent),
        )
        metric_alarm(
            scope,
            alarm("anomalies", id_),
            names=names,
            description=f"Anomalies at {id_}: see its runbook.",
            metric=counted("AnomaliesDetected"),
            watch=Watch(threshold=thresholds.anomalies_per_hour, period_s=HOUR_S),
        )
        for group in facility.groups:
            metric_alarm(
                scope,
                silence_alarm(id_, group.device_type),
                names=names,
                description=f"No reading of any {group.device_type} at {id_}: network, power or certificates.",
                metric=counted("ReadingsProcessed", DeviceType=group.device_type),
                watch=_silence(group),
            )


def _silence(group: ThingGroupSpec) -> Watch:
    """Watch one period, or whole days where the silence is longer than a day, the longest period of CloudWatch."""
    period_s = min(group.silence_s, DAY_S)
    periods = group.silence_s // period_s
    return Watch(threshold=1, period_s=period_s, periods=periods, comparison=BELOW, missing=BREACHING)


class FacilityDashboard:
    """The facility's generated dashboard."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, facility: FacilitySpec, folder: Path) -> None:
        tf.CloudwatchDashboard(
            scope,
            facility.dashboard,
            dashboard_name=names.account_wide(facility.dashboard),
            dashboard_body=read_document(folder / "dashboard.json", account_id=names.account_id, suffix=names.suffix),
        )


class AlarmTopic:
    """Receives every alarm; on-call staff subscribe to it. Of all services, only this platform's alarms may publish."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, key_arn: str) -> None:
        publishers = iam.Statement(
            sid="AllowAlarmsToPublish",
            principal={"Service": "cloudwatch.amazonaws.com"},
            actions=("sns:Publish",),
            resource=names.alarm_topic_arn,
            conditions={
                "StringEquals": {"aws:SourceAccount": names.account_id},
                "ArnLike": {"aws:SourceArn": names.alarm_arns},
            },
        )
        _topic(scope, ALARM_TOPIC, names, key_arn, names.alarm_topic_arn, publishers)


class AnomalyTopic:
    """Receives every anomaly's begin and end. No service may publish: the sensor processor does by its own role."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, key_arn: str) -> None:
        self.topic = _topic(scope, ANOMALY_TOPIC, names, key_arn, names.anomaly_topic_arn)


def _topic(
    scope: tf.Construct, id_: str, names: PlatformNames, key_arn: str, arn: str, *statements: iam.Statement
) -> tf.SnsTopic:
    topic = tf.SnsTopic(scope, id_, name=names.named(id_), kms_master_key_id=key_arn)
    tf.SnsTopicPolicy(
        scope,
        f"{id_}-policy",
        arn=topic.arn,
        # SNS accepts no wildcard action here; subscribing and administration require TLS anyway.
        policy=iam.policy(iam.deny_insecure_transport("sns:Publish", arn), *statements),
    )
    return topic
