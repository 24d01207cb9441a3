"""Checks of permissions: policies of roles, and who may assume or call."""

from __future__ import annotations

from collections.abc import Iterator

from fleet_iot.operations.assurance.compliance.findings import Observation, check, observe, problem_unless
from fleet_iot.operations.assurance.compliance.infrastructure import (
    POLICY_ATTRIBUTES,
    Kind,
    PlannedInfrastructure,
    Policy,
    Resource,
    Statement,
    policies,
    read_statements,
)

WITHOUT_RESOURCE = (
    frozenset({"xray:PutTraceSegments", "xray:PutTelemetryRecords"}),
    frozenset({"iot:ListCertificates"}),
    frozenset(
        {
            "iot:RegisterThing",
            "iot:CreateCertificateFromCsr",
            "iot:AttachThingPrincipal",
            "iot:ListThingPrincipals",
            "iot:ListPrincipalThings",
            "iot:ListPrincipalPolicies",
            "iot:ListPolicyPrincipals",
            "iot:ListAttachedPolicies",
        }
    ),
)
"""Actions without a resource to name, each set in a statement of its own: traces, the list that an audit of
certificates needs, and what a template makes, attaches and looks up when it registers a device.
https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsx-ray.html and list_awsiot.html
"""

KEY_USE = frozenset(
    f"kms:{action}".lower()
    for action in (
        "Decrypt",
        "Encrypt",
        "ReEncryptFrom",
        "ReEncryptTo",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "CreateGrant",
    )
)
"""Actions that use a key, or allow another to use it; the rest administers it."""

POLICIES_ASIDE = ("inline_policy", "managed_policy_arns")
"""Attributes in which a role could carry policies other than its own one."""

LONG_LIVED = (
    "aws_iam_user",
    "aws_iam_access_key",
    "aws_iam_user_login_profile",
    "aws_iam_user_policy",
    "aws_iam_user_policy_attachment",
    "aws_iam_group",
    "aws_iam_group_policy",
    "aws_iam_policy_attachment",
    "aws_iam_role_policy_attachment",
)
"""Users and their keys, and policies outside their role."""


@check("policies-whole", "Every policy is known before it is applied")
def policies_are_whole(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for policy in policies(planned):
        yield observe(
            policy.resource,
            policy.attribute,
            problem_unless(policy.statements, "is no literal policy"),
            problem_unless("${aws_" not in policy.text, "holds a reference that infrastructure.ARNS does not have"),
        )
    for resource in planned.resources:
        known = POLICY_ATTRIBUTES.get(resource.type, ("",))[0]
        for attribute, value in resource.body.items():
            is_policy = isinstance(value, str) and bool(read_statements(value))
            if attribute != known and value and (is_policy or attribute in POLICIES_ASIDE):
                yield observe(resource, attribute, "carries a policy where no check reads it")


@check("no-wildcard-action", "No policy allows an action by wildcard")
def no_wildcard_action(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for policy in policies(planned):
        for statement in policy.allowed:
            wild = [action for action in statement.actions if "*" in action or "?" in action]
            yield _seen(policy, statement, problem_unless(not wild, f"allows {', '.join(wild)}"))


@check("no-wildcard-resource", "No policy allows anything on every resource, except actions without a resource")
def no_wildcard_resource(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """In the policy of a key, `*` is that key; everywhere else it is everything."""
    for policy in policies(planned, Kind.ROLE, Kind.RESOURCE, Kind.DEVICE):
        for statement in policy.allowed:
            wild = [each for each in statement.resources if each.split(":", 5)[-1] == "*"]
            has_none = policy.kind is Kind.ROLE and any(set(statement.actions) <= each for each in WITHOUT_RESOURCE)
            yield _seen(policy, statement, problem_unless(not wild or has_none, f"allows it on {', '.join(wild)}"))


@check("nothing-inverted", "No policy allows what it does not name (NotAction, NotResource, NotPrincipal)")
def nothing_inverted(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for policy in policies(planned):
        for statement in policy.allowed:
            yield _seen(
                policy, statement, problem_unless(not statement.inverted, f"uses {', '.join(statement.inverted)}")
            )


@check("no-public-principal", "No policy allows anything to everyone")
def no_public_principal(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for policy in policies(planned, Kind.TRUST, Kind.KEY, Kind.RESOURCE):
        for statement in policy.allowed:
            values = [value for _, value in statement.principals]
            yield _seen(policy, statement, problem_unless("*" not in values, "allows it to everyone"))


@check("key-use-bound", "A role uses a key through one service and for one encryption context")
def roles_bind_key_use(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for policy in policies(planned, Kind.ROLE):
        for statement in policy.allowed:
            if _uses_key(statement):
                yield _seen(
                    policy,
                    statement,
                    problem_unless(statement.bound("kms:ViaService"), "does not name the service (kms:ViaService)"),
                    problem_unless(statement.encryption_context, "is not bound to an encryption context"),
                )


@check("key-policy-bound", "A key can be used only through its services, for its account and its purpose")
def keys_bind_their_use(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for policy in policies(planned, Kind.KEY):
        for statement in policy.allowed:
            if not _uses_key(statement):
                continue
            for _ in statement.principals_of("AWS"):
                yield _seen(
                    policy,
                    statement,
                    problem_unless(statement.bound("kms:ViaService"), "allows roles to use the key without a service"),
                    problem_unless(statement.bound("kms:CallerAccount"), "allows other accounts to use the key"),
                )
            for service in statement.principals_of("Service"):
                is_bound = statement.encryption_context or statement.bound("aws:SourceArn")
                yield _seen(policy, statement, problem_unless(is_bound, f"allows {service} to use the key for anybody"))


@check("no-long-lived-credentials", "No user, no access key, no policy attached from elsewhere")
def no_long_lived_credentials(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for stack in planned.stacks:
        found = [each.address for each in planned.of(*LONG_LIVED) if each.stack == stack.name]
        yield observe(
            stack.name, "users, access keys, attached policies", problem_unless(not found, f"holds {', '.join(found)}")
        )


def _uses_key(statement: Statement) -> bool:
    return any(action.lower() in KEY_USE or action.lower() in {"kms:*", "*"} for action in statement.actions)


def _seen(policy: Policy, statement: Statement, *problems: str) -> Observation:
    return observe(policy.resource, f"{policy.attribute}/{statement.sid or 'statement without Sid'}", *problems)


WITHOUT_SOURCE = frozenset({"lambda.amazonaws.com", "cloudtrail.amazonaws.com"})
"""Services that send neither source nor source account when they assume a role: a trust that requires them excludes
the service. CreateTrail then answers InvalidCloudWatchLogsRoleArnException.
https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-required-policy-for-cloudwatch-logs.html
"""

SOURCE_KEYS = ("aws:SourceAccount", "aws:SourceArn")

POLICY_OF = {
    "aws_s3_bucket": ("aws_s3_bucket_policy", "bucket"),
    "aws_sqs_queue": ("aws_sqs_queue_policy", "queue_url"),
    "aws_sns_topic": ("aws_sns_topic_policy", "arn"),
}
"""Type that can be reached over the network → the type of its policy, and the attribute that connects them."""

WHOLE = {"aws_sns_topic": "sns:Publish"}
"""The action that means everything where a service accepts no wildcard: SNS refuses one in a topic's policy, and
everything but publishing is for the account's own administrators, whose calls come over TLS."""

TLS_ENDPOINTS = ("IoTSecurityPolicy_TLS13_1_3_", "IoTSecurityPolicy_TLS13_1_2_", "IoTSecurityPolicy_TLS12_1_2_")
"""Policies without TLS 1.0 and 1.1: https://docs.aws.amazon.com/iot/latest/developerguide/transport-security.html"""


@check("trust-bound", "Every role trusts one service: for one account and source, where that service sends them")
def trust_is_bound(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for policy in policies(planned, Kind.TRUST):
        for statement in policy.allowed:
            services = statement.principals_of("Service")
            others = [f"{kind}: {value}" for kind, value in statement.principals if kind != "Service"]
            is_open = set(services) - WITHOUT_SOURCE
            asked = [key for key in SOURCE_KEYS if statement.is_about(key)]
            shut_out = sorted(set(services) & WITHOUT_SOURCE) if asked else []
            yield observe(
                policy.resource,
                f"{policy.attribute}/{statement.sid}",
                problem_unless(not others, f"trusts {', '.join(others)}"),
                problem_unless(not is_open or statement.bound("aws:SourceAccount"), "does not name the source account"),
                problem_unless(not is_open or statement.bound("aws:SourceArn"), "does not name the source"),
                problem_unless(
                    not shut_out, f"asks {', '.join(shut_out)} for {', '.join(asked)}, which it does not send"
                ),
                problem_unless(set(statement.actions) == {"sts:AssumeRole"}, "allows more than sts:AssumeRole"),
            )


@check("services-bound", "A resource's policy allows a service for this account and one source only")
def services_are_bound(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for policy in policies(planned, Kind.RESOURCE):
        for statement in policy.allowed:
            for service in statement.principals_of("Service"):
                yield observe(
                    policy.resource,
                    f"{policy.attribute}/{statement.sid}",
                    problem_unless(statement.bound("aws:SourceArn"), f"allows {service} for any source"),
                    problem_unless(statement.bound("aws:SourceAccount"), f"allows {service} for any account"),
                )


@check("tls-only", "Buckets, queues and topics refuse plain transport")
def tls_only(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for type_ in POLICY_OF:
        for resource in planned.of(type_):
            denials = _denials(planned, resource)
            yield observe(
                resource,
                "policy",
                problem_unless(
                    any(_holds(each, "Bool", "aws:securetransport", "false") for each in denials),
                    "has no policy that denies plain transport to everyone",
                ),
            )


@check("tls-1.2", "Buckets and the devices' endpoint refuse TLS 1.0 and 1.1")
def tls_1_2(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for bucket in planned.of("aws_s3_bucket"):
        denials = _denials(planned, bucket)
        yield observe(
            bucket,
            "policy",
            problem_unless(
                any(_holds(each, "NumericLessThan", "s3:tlsversion", "1.2") for each in denials),
                "has no policy that denies TLS 1.0 and 1.1 to everyone",
            ),
        )
    for endpoint in planned.of("aws_iot_domain_configuration"):
        policy = str(endpoint.block("tls_config").get("security_policy", ""))
        yield observe(endpoint, "tls_config", problem_unless(policy.startswith(TLS_ENDPOINTS), f"accepts '{policy}'"))


def _denials(planned: PlannedInfrastructure, resource: Resource) -> list[Statement]:
    """Return the statements that deny everybody everything on `resource` and, of a bucket, on all its objects."""
    type_, attribute = POLICY_OF[resource.type]
    belonging = planned.belonging(type_, attribute, resource)
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
    """Return whether this is the statement's only condition: conditions of one statement are ANDed."""
    return [(each.operator, each.key, each.values) for each in statement.conditions] == [(operator, key, (value,))]
