"""Checks of what policies allow: each action and each resource spelled out, each use of a key bound."""

from __future__ import annotations

from collections.abc import Iterator

from fleet_iot.operations.assurance.compliance.findings import Check, Observation, saw, unless
from fleet_iot.operations.assurance.compliance.infrastructure import Estate
from fleet_iot.operations.assurance.compliance.policies import (
    POLICY_ATTRIBUTES,
    Kind,
    Policy,
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
"""What has no resource to name, each set alone in its statement: traces, the list that an audit of certificates needs,
and what a template makes, attaches and looks up as it registers a device.
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
"""What uses a key, or lets another use it; the rest administers it."""

POLICIES_ASIDE = ("inline_policy", "managed_policy_arns")
"""Where a role could carry policies other than its own one."""

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
"""Users and their keys, and policies that are kept elsewhere than with their role."""


def _policies_are_whole(estate: Estate) -> Iterator[Observation]:
    for policy in policies(estate):
        yield saw(
            policy.resource,
            policy.attribute,
            unless(policy.statements, "is no literal policy"),
            unless("${aws_" not in policy.text, "holds a reference that references.ARNS does not know"),
        )
    for resource in estate.resources:
        known = POLICY_ATTRIBUTES.get(resource.type, ("",))[0]
        for attribute, value in resource.body.items():
            is_policy = isinstance(value, str) and bool(read_statements(value))
            if attribute != known and value and (is_policy or attribute in POLICIES_ASIDE):
                yield saw(resource, attribute, "carries a policy where no check reads it")


def _no_wildcard_action(estate: Estate) -> Iterator[Observation]:
    for policy in policies(estate):
        for statement in policy.allowed:
            wild = [action for action in statement.actions if "*" in action or "?" in action]
            yield _seen(policy, statement, unless(not wild, f"allows {', '.join(wild)}"))


def _no_wildcard_resource(estate: Estate) -> Iterator[Observation]:
    """In the policy of a key, `*` is that key; everywhere else it is everything."""
    for policy in policies(estate, Kind.ROLE, Kind.RESOURCE, Kind.DEVICE):
        for statement in policy.allowed:
            wild = [each for each in statement.resources if each.split(":", 5)[-1] == "*"]
            has_none = policy.kind is Kind.ROLE and any(set(statement.actions) <= each for each in WITHOUT_RESOURCE)
            yield _seen(policy, statement, unless(not wild or has_none, f"allows it on {', '.join(wild)}"))


def _nothing_inverted(estate: Estate) -> Iterator[Observation]:
    for policy in policies(estate):
        for statement in policy.allowed:
            yield _seen(policy, statement, unless(not statement.inverted, f"uses {', '.join(statement.inverted)}"))


def _no_public_principal(estate: Estate) -> Iterator[Observation]:
    for policy in policies(estate, Kind.TRUST, Kind.KEY, Kind.RESOURCE):
        for statement in policy.allowed:
            values = [value for _, value in statement.principals]
            yield _seen(policy, statement, unless("*" not in values, "allows it to everyone"))


def _roles_bind_key_use(estate: Estate) -> Iterator[Observation]:
    for policy in policies(estate, Kind.ROLE):
        for statement in policy.allowed:
            if _uses_key(statement):
                yield _seen(
                    policy,
                    statement,
                    unless(statement.bound("kms:ViaService"), "does not name the service (kms:ViaService)"),
                    unless(statement.encryption_context, "is not bound to an encryption context"),
                )


def _keys_bind_their_use(estate: Estate) -> Iterator[Observation]:
    for policy in policies(estate, Kind.KEY):
        for statement in policy.allowed:
            if not _uses_key(statement):
                continue
            for _ in statement.principals_of("AWS"):
                yield _seen(
                    policy,
                    statement,
                    unless(statement.bound("kms:ViaService"), "lets roles use the key without a service"),
                    unless(statement.bound("kms:CallerAccount"), "lets other accounts use the key"),
                )
            for service in statement.principals_of("Service"):
                is_bound = statement.encryption_context or statement.bound("aws:SourceArn")
                yield _seen(policy, statement, unless(is_bound, f"lets {service} use the key for anybody"))


def _no_long_lived_credentials(estate: Estate) -> Iterator[Observation]:
    for stack in estate.stacks:
        found = [each.address for each in estate.of(*LONG_LIVED) if each.stack == stack.name]
        yield saw(stack.name, "users, access keys, attached policies", unless(not found, f"holds {', '.join(found)}"))


def _uses_key(statement: Statement) -> bool:
    return any(action.lower() in KEY_USE or action.lower() in {"kms:*", "*"} for action in statement.actions)


def _seen(policy: Policy, statement: Statement, *problems: str) -> Observation:
    return saw(policy.resource, f"{policy.attribute}/{statement.sid or 'statement without Sid'}", *problems)


CHECKS = (
    Check(id="policies-whole", demand="Every policy is known before it is applied", look=_policies_are_whole),
    Check(id="no-wildcard-action", demand="No policy allows an action by wildcard", look=_no_wildcard_action),
    Check(
        id="no-wildcard-resource",
        demand="No policy allows anything on every resource, but what has none to name",
        look=_no_wildcard_resource,
    ),
    Check(
        id="nothing-inverted",
        demand="No policy allows what it does not name (NotAction, NotResource, NotPrincipal)",
        look=_nothing_inverted,
    ),
    Check(id="no-public-principal", demand="No policy allows anything to everyone", look=_no_public_principal),
    Check(
        id="key-use-bound",
        demand="A role uses a key through one service and for one encryption context",
        look=_roles_bind_key_use,
    ),
    Check(
        id="key-policy-bound",
        demand="A key lets itself be used through its services, for its account and its purpose",
        look=_keys_bind_their_use,
    ),
    Check(
        id="no-long-lived-credentials",
        demand="No user, no access key, no policy attached from elsewhere",
        look=_no_long_lived_credentials,
    ),
)
