"""Checks of who may come in: services that act for this account only, and everybody over TLS only."""

from __future__ import annotations

from collections.abc import Iterator

from fleet_iot.operations.assurance.compliance.findings import Check, Observation, saw, unless
from fleet_iot.operations.assurance.compliance.infrastructure import Estate, Resource
from fleet_iot.operations.assurance.compliance.policies import (
    POLICY_ATTRIBUTES,
    Kind,
    Statement,
    policies,
    read_statements,
)

WITHOUT_SOURCE = frozenset({"lambda.amazonaws.com", "cloudtrail.amazonaws.com"})
"""Services that send neither source nor source account when they assume a role: a trust that asks for them shuts the
service out. CreateTrail then answers InvalidCloudWatchLogsRoleArnException.
https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-required-policy-for-cloudwatch-logs.html
"""

SOURCE_KEYS = ("aws:SourceAccount", "aws:SourceArn")

POLICY_OF = {
    "aws_s3_bucket": ("aws_s3_bucket_policy", "bucket"),
    "aws_sqs_queue": ("aws_sqs_queue_policy", "queue_url"),
    "aws_sns_topic": ("aws_sns_topic_policy", "arn"),
}
"""What anyone could reach over the network, the type of its policy, and what ties the two."""

WHOLE = {"aws_sns_topic": "sns:Publish"}
"""What stands for everything where a service takes no wildcard: SNS refuses one in a topic's policy, and all but
publishing is for the account's own administrators, whose calls come over TLS."""

TLS_ENDPOINTS = ("IoTSecurityPolicy_TLS13_1_3_", "IoTSecurityPolicy_TLS13_1_2_", "IoTSecurityPolicy_TLS12_1_2_")
"""Policies without TLS 1.0 and 1.1: https://docs.aws.amazon.com/iot/latest/developerguide/transport-security.html"""


def _trust_is_bound(estate: Estate) -> Iterator[Observation]:
    for policy in policies(estate, Kind.TRUST):
        for statement in policy.allowed:
            services = statement.principals_of("Service")
            others = [f"{kind}: {value}" for kind, value in statement.principals if kind != "Service"]
            is_open = set(services) - WITHOUT_SOURCE
            asked = [key for key in SOURCE_KEYS if statement.is_about(key)]
            shut_out = sorted(set(services) & WITHOUT_SOURCE) if asked else []
            yield saw(
                policy.resource,
                f"{policy.attribute}/{statement.sid}",
                unless(not others, f"trusts {', '.join(others)}"),
                unless(not is_open or statement.bound("aws:SourceAccount"), "does not name the source account"),
                unless(not is_open or statement.bound("aws:SourceArn"), "does not name the source"),
                unless(not shut_out, f"asks {', '.join(shut_out)} for {', '.join(asked)}, which it does not send"),
                unless(set(statement.actions) == {"sts:AssumeRole"}, "allows more than sts:AssumeRole"),
            )


def _services_are_bound(estate: Estate) -> Iterator[Observation]:
    for policy in policies(estate, Kind.RESOURCE):
        for statement in policy.allowed:
            for service in statement.principals_of("Service"):
                yield saw(
                    policy.resource,
                    f"{policy.attribute}/{statement.sid}",
                    unless(statement.bound("aws:SourceArn"), f"lets {service} in for any source"),
                    unless(statement.bound("aws:SourceAccount"), f"lets {service} in for any account"),
                )


def _tls_only(estate: Estate) -> Iterator[Observation]:
    for type_ in POLICY_OF:
        for resource in estate.of(type_):
            denials = _denials(estate, resource)
            yield saw(
                resource,
                "policy",
                unless(
                    any(_holds(each, "Bool", "aws:securetransport", "false") for each in denials),
                    "has no policy that denies plain transport to everyone",
                ),
            )


def _tls_1_2(estate: Estate) -> Iterator[Observation]:
    for bucket in estate.of("aws_s3_bucket"):
        denials = _denials(estate, bucket)
        yield saw(
            bucket,
            "policy",
            unless(
                any(_holds(each, "NumericLessThan", "s3:tlsversion", "1.2") for each in denials),
                "has no policy that denies TLS 1.0 and 1.1 to everyone",
            ),
        )
    for endpoint in estate.of("aws_iot_domain_configuration"):
        policy = str(endpoint.block("tls_config").get("security_policy", ""))
        yield saw(endpoint, "tls_config", unless(policy.startswith(TLS_ENDPOINTS), f"takes '{policy}'"))


def _denials(estate: Estate, resource: Resource) -> list[Statement]:
    """The statements that deny everybody everything on `resource` and, of a bucket, on all its objects."""
    type_, attribute = POLICY_OF[resource.type]
    belonging = estate.belonging(type_, attribute, resource)
    policy_attribute = POLICY_ATTRIBUTES[type_][0]
    return [
        statement
        for policy in belonging
        for statement in read_statements(str(policy.body.get(policy_attribute, "")))
        if not statement.is_allow
        and not statement.inverted
        and "*" in [value for _, value in statement.principals]
        and any(action.endswith(":*") or action == WHOLE.get(resource.type) for action in statement.actions)
        and (resource.type != "aws_s3_bucket" or {each.endswith("/*") for each in statement.resources} == {True, False})
    ]


def _holds(statement: Statement, operator: str, key: str, value: str) -> bool:
    """Whether this is the statement's only condition: conditions of one statement are ANDed."""
    return [(each.operator, each.key, each.values) for each in statement.conditions] == [(operator, key, (value,))]


CHECKS = (
    Check(
        id="trust-bound",
        demand="Every role trusts one service: for one account and source, where that service sends them",
        look=_trust_is_bound,
    ),
    Check(
        id="services-bound",
        demand="A resource's policy lets a service in for this account and one source only",
        look=_services_are_bound,
    ),
    Check(id="tls-only", demand="Buckets, queues and topics refuse plain transport", look=_tls_only),
    Check(id="tls-1.2", demand="Buckets and the devices' endpoint refuse TLS 1.0 and 1.1", look=_tls_1_2),
)
