"""Alarms on the audit trail: what the CIS AWS Foundations Benchmark, section 4, wants told at once.

The patterns are those that AWS Security Hub looks for:
https://docs.aws.amazon.com/securityhub/latest/userguide/cloudwatch-controls.html
"""

from __future__ import annotations

from dataclasses import dataclass

from ..bindings import CloudwatchLogMetricFilter, CloudwatchLogMetricFilterMetricTransformation, Construct
from ..names import PlatformNames
from ..shared.alarms import Metric, Watch, metric_alarm


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
