"""Policy documents of every kind, read into statements that a check can ask about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure, Resource


class Kind(StrEnum):
    """Whose policy it is, which decides what it must say."""

    ROLE = "role"
    TRUST = "trust"
    KEY = "key"
    RESOURCE = "resource"
    DEVICE = "device"


POLICY_ATTRIBUTES: dict[str, tuple[str, Kind]] = {
    "aws_iam_role_policy": ("policy", Kind.ROLE),
    "aws_iam_policy": ("policy", Kind.ROLE),
    "aws_iam_role": ("assume_role_policy", Kind.TRUST),
    "aws_kms_key": ("policy", Kind.KEY),
    "aws_s3_bucket_policy": ("policy", Kind.RESOURCE),
    "aws_sqs_queue_policy": ("policy", Kind.RESOURCE),
    "aws_sns_topic_policy": ("policy", Kind.RESOURCE),
    "aws_cloudwatch_log_resource_policy": ("policy_document", Kind.RESOURCE),
    "aws_iot_policy": ("policy", Kind.DEVICE),
}
"""Every resource type that carries a policy, and where."""

BINDING = frozenset({"StringEquals", "StringLike", "ArnEquals", "ArnLike"})
"""Operators that restrict a request to the values of a key; the others, and any `…IfExists`, accept an absent key."""


EQUAL = frozenset({"StringEquals", "StringLike", "ArnEquals", "ArnLike", "Bool"})
UNEQUAL = frozenset({"StringNotEquals", "StringNotLike", "ArnNotEquals", "ArnNotLike"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of a statement; the key in lower case, since IAM ignores case."""

    operator: str
    key: str
    values: tuple[str, ...]

    def holds(self, request: Mapping[str, str]) -> bool:
        """Whether the condition is met by a request; a negated operator also is where the key is absent.

        https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
        """
        value = request.get(self.key)
        if self.operator == "Null":
            return str(value is None).lower() in self.values
        operator = self.operator.removesuffix("IfExists")
        if operator in EQUAL | UNEQUAL:
            is_like = value is not None and any(_matches(value, each, operator) for each in self.values)
            if operator in UNEQUAL:
                return not is_like
            return is_like or (value is None and operator != self.operator)
        raise ValueError(f"the condition operator {self.operator} is not evaluated here")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a policy; `inverted` are its elements that name what is excluded (`NotAction` and the like)."""

    sid: str
    is_allow: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    principals: tuple[tuple[str, str], ...]
    conditions: tuple[Condition, ...]
    inverted: tuple[str, ...]

    def is_about(self, key: str) -> bool:
        """Whether any condition is about `key`, whatever its operator."""
        return any(condition.key == key.lower() for condition in self.conditions)

    def bound(self, key: str) -> tuple[str, ...]:
        """Return the values to which the statement restricts `key`; none where it does not, or to anything (`*`)."""
        for condition in self.conditions:
            if condition.key == key.lower() and condition.operator in BINDING and "*" not in condition.values:
                return condition.values
        return ()

    def applies_to(self, request: Mapping[str, str]) -> bool:
        """Whether all conditions hold for a request with these condition keys, in lower case.

        Raises ValueError for an operator that is not evaluated here: a check must not guess.
        """
        return all(condition.holds(request) for condition in self.conditions)

    @property
    def encryption_context(self) -> tuple[str, ...]:
        """Return the keys of the encryption context that the statement requires."""
        return tuple(
            condition.key
            for condition in self.conditions
            if condition.key.startswith("kms:encryptioncontext:") and self.bound(condition.key)
        )

    def principals_of(self, kind: str) -> tuple[str, ...]:
        return tuple(value for each, value in self.principals if each == kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The policy of one resource; without statements where it is not literal JSON."""

    resource: Resource
    attribute: str
    kind: Kind
    statements: tuple[Statement, ...]
    text: str

    @property
    def allowed(self) -> tuple[Statement, ...]:
        return tuple(statement for statement in self.statements if statement.is_allow)


def policies(planned: PlannedInfrastructure, *kinds: Kind) -> Iterator[Policy]:
    """Read every policy of the infrastructure, or those of some kinds."""
    for type_, (attribute, kind) in POLICY_ATTRIBUTES.items():
        if kinds and kind not in kinds:
            continue
        for resource in planned.of(type_):
            text = resource.body.get(attribute)
            text = text if isinstance(text, str) else ""
            yield Policy(resource=resource, attribute=attribute, kind=kind, statements=read_statements(text), text=text)


def read_statements(text: str) -> tuple[Statement, ...]:
    """Read the statements of a policy; none where the text is no policy."""
    try:
        document = json.loads(text)
        return tuple(_statement(each) for each in _many(document["Statement"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()


def _matches(value: str, pattern: str, operator: str) -> bool:
    """Whether IAM matches the value: ARNs and `…Like` accept `*` and `?`; other texts must be equal."""
    if not operator.startswith("Arn") and not operator.endswith("Like"):
        return value == pattern
    parts = (".*" if each == "*" else "." if each == "?" else re.escape(each) for each in pattern)
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None


def _statement(document: dict[str, Any]) -> Statement:
    principal = document.get("Principal", {})
    if not isinstance(principal, dict):
        principal = {"*": principal}
    return Statement(
        sid=document.get("Sid", ""),
        is_allow=document["Effect"] == "Allow",
        actions=_many(document.get("Action", ())),
        resources=_many(document.get("Resource", ())),
        principals=tuple((kind, value) for kind, values in principal.items() for value in _many(values)),
        conditions=tuple(
            Condition(operator=operator, key=key.lower(), values=tuple(map(str, _many(values))))
            for operator, keys in document.get("Condition", {}).items()
            for key, values in keys.items()
        ),
        inverted=tuple(key for key in ("NotAction", "NotResource", "NotPrincipal") if key in document),
    )


def _many(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)
