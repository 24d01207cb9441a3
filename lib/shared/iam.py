"""Build IAM policy documents, and service roles with one inline policy each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import bindings as tf
from ..names import PlatformNames

Conditions = Mapping[str, Mapping[str, str | Sequence[str]]]
"""Operator → condition key → value or values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A policy statement; `principal` is None in identity-based policies."""

    sid: str
    actions: tuple[str, ...]
    resource: str | tuple[str, ...]
    effect: str = "Allow"
    principal: Mapping[str, str] | str | None = None
    conditions: Conditions | None = None

    def document(self) -> dict[str, Any]:
        """Return the statement with IAM's keys, without empty ones."""
        document: dict[str, Any] = {"Sid": self.sid, "Effect": self.effect}
        if self.principal is not None:
            document["Principal"] = self.principal
        document["Action"] = list(self.actions)
        document["Resource"] = self.resource if isinstance(self.resource, str) else list(self.resource)
        if self.conditions:
            document["Condition"] = self.conditions
        return document


def allow(sid: str, *actions: str, on: str | tuple[str, ...]) -> Statement:
    """Return an unconditional statement of an identity-based policy."""
    return Statement(sid=sid, actions=actions, resource=on)


def write_logs(log_stream_arns: str) -> Statement:
    """Allow writing to the log streams that the ARN pattern matches."""
    return allow("WriteLogs", "logs:CreateLogStream", "logs:PutLogEvents", on=log_stream_arns)


def policy(*statements: Statement) -> str:
    """Return the policy document as compact JSON."""
    documents = [statement.document() for statement in statements]
    return json.dumps({"Version": "2012-10-17", "Statement": documents}, separators=(",", ":"))


def trust(service: str, *, account_id: str | None = None, source_arn: str | None = None) -> str:
    """Return a trust policy for one service, limited to one account and resource (against the confused deputy).

    Lambda and CloudTrail send neither condition key when they assume a role, so their roles must not require them:
    https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-required-policy-for-cloudwatch-logs.html

    Args:
        account_id: Value of `aws:SourceAccount`.
        source_arn: Pattern for `aws:SourceArn`; may contain `*`.
    """
    statement: dict[str, Any] = {
        "Sid": "AllowServiceToAssume",
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


def iot_trust(names: PlatformNames, resource: str) -> str:
    """Return a trust policy for AWS IoT, limited to a resource of this account and region, such as `rule/*`."""
    return trust("iot.amazonaws.com", account_id=names.account_id, source_arn=names.arn("iot", resource))


def key_use(sid: str, *actions: str, key_arn: str, via: str, context: Mapping[str, str]) -> Statement:
    """Allow use of a KMS key through one service (`kms:ViaService`) and with one encryption context only."""
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


def deny_insecure_transport(action: str, *resources: str) -> Statement:
    """Deny requests without TLS."""
    return _deny("DenyInsecureTransport", action, resources, {"Bool": {"aws:SecureTransport": "false"}})


def deny_old_tls(action: str, *resources: str) -> Statement:
    """Deny TLS 1.0 and 1.1; a statement of its own, because the conditions of one statement are ANDed."""
    return _deny("DenyOldTls", action, resources, {"NumericLessThan": {"s3:TlsVersion": "1.2"}})


def _deny(sid: str, action: str, resources: tuple[str, ...], conditions: Conditions) -> Statement:
    resource = resources if len(resources) > 1 else resources[0]
    return Statement(sid=sid, effect="Deny", principal="*", actions=(action,), resource=resource, conditions=conditions)


NEXT_FIRST = {"create_before_destroy": True}
"""Lifecycle of resources that another version of the tool names otherwise: the next one is in use before the former one
is deleted, so that no message and no event of the trail is lost between the two."""


class ServiceRole:
    """A role with one inline policy; resources that need its permissions at once depend on `policy`."""

    def __init__(
        self,
        scope: tf.Construct,
        name: str,
        *,
        names: PlatformNames,
        description: str,
        trust: str,
        statements: tuple[Statement, ...],
    ) -> None:
        self.role = tf.IamRole(
            scope,
            name,
            name=names.account_wide(name),
            description=description,
            assume_role_policy=trust,
            force_detach_policies=True,
            lifecycle=NEXT_FIRST,
        )
        self.policy = tf.IamRolePolicy(
            scope,
            f"{name}-policy",
            name=names.named(name.replace("role-", "policy-", 1)),
            role=self.role.name,
            policy=policy(*statements),
            lifecycle=NEXT_FIRST,
        )

    @property
    def arn(self) -> str:
        return self.role.arn
