"""IAM policy documents as data, and the roles of services."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..bindings import Construct, IamRole, IamRolePolicy
from ..names import PlatformNames

# @@ Policy documents as data: one action list on one resource, conditions spelled out, JSON at the end.

Conditions = Mapping[str, Mapping[str, str | Sequence[str]]]
"""Operator → condition key → value or values, as IAM spells them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a policy; `principal` is None in the policies of roles."""

    sid: str
    actions: tuple[str, ...]
    resource: str | tuple[str, ...]
    effect: str = "Allow"
    principal: Mapping[str, str] | str | None = None
    conditions: Conditions | None = None

    def document(self) -> dict[str, Any]:
        """The statement with IAM's own keys, the empty ones left out."""
        document: dict[str, Any] = {"Sid": self.sid, "Effect": self.effect}
        if self.principal is not None:
            document["Principal"] = self.principal
        document["Action"] = list(self.actions)
        document["Resource"] = self.resource if isinstance(self.resource, str) else list(self.resource)
        if self.conditions:
            document["Condition"] = self.conditions
        return document


def policy(*statements: Statement) -> str:
    """The policy document of `statements`, as compact JSON."""
    documents = [statement.document() for statement in statements]
    return json.dumps({"Version": "2012-10-17", "Statement": documents}, separators=(",", ":"))


def trust(service: str, *, account_id: str | None = None, source_arn: str | None = None) -> str:
    """The trust of a role that one service assumes, for one resource of one account (no confused deputy).

    Args:
        account_id: The account that the service must act for.
        source_arn: The resource that it must act for; may hold `*`.

    Lambda and CloudTrail send neither key when they assume a role, so that their roles must not ask for them:
    https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-required-policy-for-cloudwatch-logs.html
    """
    statement: dict[str, Any] = {
        "Sid": "AssumedByService",
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sts:AssumeRole",
    }
    if account_id and source_arn:
        statement["Condition"] = {
            "StringEquals": {"aws:SourceAccount": account_id},
            "ArnLike": {"aws:SourceArn": source_arn},
        }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, separators=(",", ":"))


def key_use(sid: str, *actions: str, key_arn: str, via: str, context: Mapping[str, str]) -> Statement:
    """Use of a KMS key, through one service and for one encryption context only."""
    return Statement(
        sid=sid,
        actions=tuple(f"kms:{action}" for action in actions),
        resource=key_arn,
        conditions={
            "StringEquals": {
                "kms:ViaService": via,
                **{f"kms:EncryptionContext:{name}": value for name, value in context.items()},
            }
        },
    )


def deny_plain_transport(action: str, *resources: str) -> Statement:
    """Refuses everyone who does not come over TLS 1.2 or later."""
    return Statement(
        sid="DenyPlainTransport",
        effect="Deny",
        principal="*",
        actions=(action,),
        resource=resources if len(resources) > 1 else resources[0],
        conditions={"Bool": {"aws:SecureTransport": "false"}},
    )


def deny_old_tls(action: str, *resources: str) -> Statement:
    """Refuses TLS 1.0 and 1.1; apart from the plain-transport rule, because conditions of one statement are ANDed."""
    return Statement(
        sid="DenyOldTls",
        effect="Deny",
        principal="*",
        actions=(action,),
        resource=resources if len(resources) > 1 else resources[0],
        conditions={"NumericLessThan": {"s3:TlsVersion": "1.2"}},
    )


# @@ Makes the role of one service: its trust and the one policy that says all that it may do.


class ServiceRole:
    """A role and its inline policy; `policy` is there for resources that must wait until the role may act."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        names: PlatformNames,
        description: str,
        trust: str,
        statements: tuple[Statement, ...],
    ) -> None:
        self.role = IamRole(
            scope,
            name,
            name=names.account_wide(name),
            description=description,
            assume_role_policy=trust,
            force_detach_policies=True,
        )
        self.policy = IamRolePolicy(
            scope,
            f"{name}-policy",
            name=names.named(name.replace("role-", "policy-", 1)),
            role=self.role.name,
            policy=policy(*statements),
        )

    @property
    def arn(self) -> str:
        return self.role.arn
