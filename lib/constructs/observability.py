"""CloudWatch alarms and dashboards: of the platform, of the audit trail and of each facility."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..bindings import (
    CloudwatchDashboard,
    CloudwatchLogMetricFilter,
    CloudwatchLogMetricFilterMetricTransformation,
    Construct,
)
from ..names import PlatformNames
from ..shared.alarms import BELOW, BREACHING, Metric, Watch, expression_alarm, metric_alarm
from ..shared.text import read_document
from ..specs import FacilitySpec, PlatformAlarmsSpec, ThingGroupSpec

# @@ Alarms of what all plants share: the stream, the sensor processor and its failure queue.

ITERATOR_AGE_PERIODS = 5
"""Minutes in a row: a single batch that is done again makes the processor late for a moment."""

PENDING_PERIODS = 3
"""Times five minutes: a topic that does not take a notification once is asked again with the next batches."""

UNKNOWN = "unknown"
"""Facility and device type of what the sensor processor cannot place."""


class PlatformAlarms:
    """One alarm each, from the manifest's thresholds on."""

    def __init__(self, scope: Construct, *, names: PlatformNames, thresholds: PlatformAlarmsSpec) -> None:
        function = {"FunctionName": names.function}
        metric_alarm(
            scope,
            "alarm-iterator-age",
            names=names,
            description="The sensor processor lies behind the stream: readings are late, and lost after a week.",
            metric=Metric(namespace="AWS/Lambda", name="IteratorAge", dimensions=function, statistic="Maximum"),
            watch=Watch(threshold=thresholds.iterator_age_s * 1000, period_s=60, periods=ITERATOR_AGE_PERIODS),
        )
        expression_alarm(
            scope,
            "alarm-processor-errors",
            names=names,
            description="Invocations of the sensor processor fail: see its log group.",
            expression="100 * errors / invocations",
            metrics={
                name.lower(): Metric(namespace="AWS/Lambda", name=name, dimensions=function)
                for name in ("Errors", "Invocations")
            },
            watch=Watch(threshold=thresholds.error_rate_percent),
        )
        metric_alarm(
            scope,
            "alarm-processor-throttles",
            names=names,
            description="Lambda turns away invocations of the sensor processor: raise its concurrency.",
            metric=Metric(namespace="AWS/Lambda", name="Throttles", dimensions=function),
            watch=Watch(threshold=thresholds.throttles),
        )
        metric_alarm(
            scope,
            "alarm-stream-throttles",
            names=names,
            description="The stream turns away records: the load has more than doubled in 15 minutes.",
            metric=Metric(
                namespace="AWS/Kinesis",
                name="WriteProvisionedThroughputExceeded",
                dimensions={"StreamName": names.stream},
            ),
            watch=Watch(threshold=thresholds.throttles),
        )
        metric_alarm(
            scope,
            "alarm-failures-queue",
            names=names,
            description="The sensor processor gave up on records: replay them while the stream holds them.",
            metric=Metric(
                namespace="AWS/SQS",
                name="ApproximateNumberOfMessagesVisible",
                dimensions={"QueueName": names.failure_queue},
                statistic="Maximum",
            ),
            watch=Watch(threshold=thresholds.failures_queue_depth),
        )
        metric_alarm(
            scope,
            "alarm-unplaced-messages",
            names=names,
            description="Messages of no known plant are in quarantine: something that is no device of ours publishes.",
            metric=Metric(
                namespace=names.metrics_namespace, name="ReadingsQuarantined", dimensions={"Facility": UNKNOWN}
            ),
            watch=Watch(threshold=1),
        )
        metric_alarm(
            scope,
            "alarm-notifications-pending",
            names=names,
            description="Anomalies are in the table and the topic does not take them: nobody is told of them.",
            metric=Metric(
                namespace=names.metrics_namespace, name="NotificationsPending", dimensions={}, statistic="Maximum"
            ),
            watch=Watch(threshold=1, periods=PENDING_PERIODS),
        )


# @@ Alarms on the audit trail: what the CIS AWS Foundations Benchmark, section 4, wants told at once.
# @@
# @@ The patterns are those that AWS Security Hub looks for:
# @@ https://docs.aws.amazon.com/securityhub/latest/userguide/cloudwatch-controls.html


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What of the trail is told: the benchmark's control, the metric that counts it, the events, and one sentence."""

    control: str
    id: str
    metric: str
    pattern: str
    what: str


def _any(*events: str) -> str:
    return " || ".join(f"($.eventName={event})" for event in events)


def _events(*events: str) -> str:
    return f"{{{_any(*events)}}}"


def _of(source: str, *events: str) -> str:
    return f"{{($.eventSource={source}.amazonaws.com) && ({_any(*events)})}}"


def _watched(control: str, id_: str, metric: str, pattern: str, what: str) -> Watched:
    return Watched(control=control, id=id_, metric=metric, pattern=pattern, what=what)


WATCHED = (
    _watched(
        "4.1",
        "unauthorised-calls",
        "UnauthorisedCalls",
        '{($.errorCode="*UnauthorizedOperation") || ($.errorCode="AccessDenied*")}',
        "Somebody tried what they may not do",
    ),
    _watched(
        "4.2",
        "sign-in-without-mfa",
        "SignInsWithoutMfa",
        '{($.eventName="ConsoleLogin") && ($.additionalEventData.MFAUsed !="Yes") '
        '&& ($.userIdentity.type="IAMUser") && ($.responseElements.ConsoleLogin="Success")}',
        "Somebody signed in to the console without a second factor",
    ),
    _watched(
        "4.3",
        "root-use",
        "RootUses",
        '{$.userIdentity.type="Root" && $.userIdentity.invokedBy NOT EXISTS && $.eventType !="AwsServiceEvent"}',
        "Somebody used the account's root user",
    ),
    _watched(
        "4.4",
        "iam-changes",
        "IamChanges",
        _events(
            *("DeleteGroupPolicy", "DeleteRolePolicy", "DeleteUserPolicy"),
            *("PutGroupPolicy", "PutRolePolicy", "PutUserPolicy"),
            *("CreatePolicy", "DeletePolicy", "CreatePolicyVersion", "DeletePolicyVersion"),
            *("AttachRolePolicy", "DetachRolePolicy", "AttachUserPolicy", "DetachUserPolicy"),
            *("AttachGroupPolicy", "DetachGroupPolicy"),
        ),
        "Permissions were changed",
    ),
    _watched(
        "4.5",
        "trail-changes",
        "TrailChanges",
        _events("CreateTrail", "UpdateTrail", "DeleteTrail", "StartLogging", "StopLogging"),
        "A trail was changed, started or stopped",
    ),
    _watched(
        "4.6",
        "sign-in-failures",
        "SignInFailures",
        '{($.eventName=ConsoleLogin) && ($.errorMessage="Failed authentication")}',
        "Signing in to the console failed",
    ),
    _watched(
        "4.7",
        "key-deletions",
        "KeyDeletions",
        _of("kms", "DisableKey", "ScheduleKeyDeletion"),
        "A key was disabled or is to be deleted",
    ),
    _watched(
        "4.8",
        "bucket-policy-changes",
        "BucketPolicyChanges",
        _of(
            "s3",
            *("PutBucketAcl", "PutBucketPolicy", "PutBucketCors", "PutBucketLifecycle", "PutBucketReplication"),
            *("DeleteBucketPolicy", "DeleteBucketCors", "DeleteBucketLifecycle", "DeleteBucketReplication"),
        ),
        "The policy of a bucket was changed",
    ),
    _watched(
        "4.9",
        "config-changes",
        "ConfigChanges",
        _of(
            "config",
            *("StopConfigurationRecorder", "DeleteDeliveryChannel", "PutDeliveryChannel", "PutConfigurationRecorder"),
        ),
        "AWS Config was changed or stopped",
    ),
    _watched(
        "4.10",
        "security-group-changes",
        "SecurityGroupChanges",
        _events(
            *("AuthorizeSecurityGroupIngress", "AuthorizeSecurityGroupEgress", "RevokeSecurityGroupIngress"),
            *("RevokeSecurityGroupEgress", "CreateSecurityGroup", "DeleteSecurityGroup"),
        ),
        "A security group was changed",
    ),
    _watched(
        "4.11",
        "network-acl-changes",
        "NetworkAclChanges",
        _events(
            *("CreateNetworkAcl", "CreateNetworkAclEntry", "DeleteNetworkAcl", "DeleteNetworkAclEntry"),
            *("ReplaceNetworkAclEntry", "ReplaceNetworkAclAssociation"),
        ),
        "A network access list was changed",
    ),
    _watched(
        "4.12",
        "gateway-changes",
        "GatewayChanges",
        _events(
            *("CreateCustomerGateway", "DeleteCustomerGateway", "AttachInternetGateway", "CreateInternetGateway"),
            *("DeleteInternetGateway", "DetachInternetGateway"),
        ),
        "A network gateway was changed",
    ),
    _watched(
        "4.13",
        "route-table-changes",
        "RouteTableChanges",
        _of(
            "ec2",
            *("CreateRoute", "CreateRouteTable", "ReplaceRoute", "ReplaceRouteTableAssociation", "DeleteRouteTable"),
            *("DeleteRoute", "DisassociateRouteTable"),
        ),
        "A route table was changed",
    ),
    _watched(
        "4.14",
        "vpc-changes",
        "VpcChanges",
        _events(
            *("CreateVpc", "DeleteVpc", "ModifyVpcAttribute", "AcceptVpcPeeringConnection"),
            *("CreateVpcPeeringConnection", "DeleteVpcPeeringConnection", "RejectVpcPeeringConnection"),
            *("AttachClassicLinkVpc", "DetachClassicLinkVpc", "DisableVpcClassicLink", "EnableVpcClassicLink"),
        ),
        "A network was changed",
    ),
)


class TrailAlarms:
    """A metric filter on the trail's log group and an alarm for each; the first event raises it."""

    def __init__(self, scope: Construct, *, names: PlatformNames, log_group: str) -> None:
        for watched in WATCHED:
            filter_ = CloudwatchLogMetricFilter(
                scope,
                f"filter-{watched.id}",
                name=names.named(f"filter-{watched.id}"),
                log_group_name=log_group,
                pattern=watched.pattern,
                metric_transformation=CloudwatchLogMetricFilterMetricTransformation(
                    namespace=names.filter_namespace, name=watched.metric, value="1"
                ),
            )
            metric_alarm(
                scope,
                f"alarm-{watched.id}",
                names=names,
                description=f"{watched.what}: see the audit trail (CIS {watched.control}).",
                metric=Metric(namespace=names.filter_namespace, name=watched.metric, dimensions={}),
                watch=Watch(threshold=1, tells_recovery=False),
            ).node.add_dependency(filter_)


# @@ Alarms of one plant: its topic rule, its quarantine, its anomalies, and device types that fall silent.

FAILURES_OF_A_RULE = 'SELECT SUM(Failure) FROM SCHEMA("AWS/IoT", ActionType, RuleName) WHERE RuleName ='
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-metrics-insights-querylanguage.html"""

HOUR_S, DAY_S = 3600, 86_400


class FacilityAlarms:
    """Thresholds are those that the plant declares; the topic is the platform's, by name."""

    def __init__(self, scope: Construct, *, names: PlatformNames, facility: FacilitySpec) -> None:
        thresholds, where = facility.alarms, {"Facility": facility.id}
        rule = names.named(facility.topic_rule)
        expression_alarm(
            scope,
            f"alarm-rule-failures-{facility.id}",
            names=names,
            description=f"The topic rule of {facility.id} cannot hand messages on: see iot-rule-errors in the archive.",
            # A query and no metric: whatever the type of the action is called, the rule's failures are its own.
            expression=f"{FAILURES_OF_A_RULE} '{rule}'",
            metrics={},
            watch=Watch(threshold=thresholds.rule_failures),
        )
        metric_alarm(
            scope,
            f"alarm-rule-throttles-{facility.id}",
            names=names,
            description=f"AWS IoT turns away messages of {facility.id}: the account's quota for rules is too low.",
            metric=Metric(namespace="AWS/IoT", name="RuleMessageThrottled", dimensions={"RuleName": rule}),
            watch=Watch(threshold=thresholds.rule_failures),
        )
        expression_alarm(
            scope,
            f"alarm-quarantine-{facility.id}",
            names=names,
            description=f"Messages of {facility.id} cannot be read: see quarantine in the archive, reason by reason.",
            expression="100 * quarantined / (quarantined + processed)",
            metrics={
                "quarantined": Metric(namespace=names.metrics_namespace, name="ReadingsQuarantined", dimensions=where),
                "processed": Metric(namespace=names.metrics_namespace, name="ReadingsProcessed", dimensions=where),
            },
            watch=Watch(threshold=thresholds.quarantine_percent),
        )
        metric_alarm(
            scope,
            f"alarm-anomalies-{facility.id}",
            names=names,
            description=f"Anomalies at {facility.id}: see its runbook.",
            metric=Metric(namespace=names.metrics_namespace, name="AnomaliesDetected", dimensions=where),
            watch=Watch(threshold=thresholds.anomalies_per_hour, period_s=HOUR_S),
        )
        for group in facility.groups:
            metric_alarm(
                scope,
                f"alarm-silence-{facility.id}-{group.device_type}",
                names=names,
                description=f"No reading of any {group.device_type} at {facility.id}: network, power or certificates.",
                metric=Metric(
                    namespace=names.metrics_namespace,
                    name="ReadingsProcessed",
                    dimensions=where | {"DeviceType": group.device_type},
                ),
                watch=_silence(group),
            )


def _silence(group: ThingGroupSpec) -> Watch:
    """One period, or whole days where it is longer than one, the longest period that there is."""
    period_s = min(group.silence_s, DAY_S)
    return Watch(
        threshold=1,
        period_s=period_s,
        periods=group.silence_s // period_s,
        comparison=BELOW,
        missing=BREACHING,
    )


# @@ What the people of a plant look at: its dashboard.


class FacilityDashboard:
    """The generated dashboard, under the plant's name for it."""

    def __init__(self, scope: Construct, *, names: PlatformNames, facility: FacilitySpec, folder: Path) -> None:
        self.dashboard = CloudwatchDashboard(
            scope,
            facility.dashboard,
            dashboard_name=names.account_wide(facility.dashboard),
            dashboard_body=read_document(folder / "dashboard.json", account_id=names.account_id, suffix=names.suffix),
        )
