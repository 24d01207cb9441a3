"""The planned infrastructure that the checks look at: every resource of every stack, and the policy documents in it.

A resource's body is its planned values. Where only an apply would know a value, the body has the reference that was
synthesised (`${aws_kms_key.key-data.arn}`), so that a check sees which key, not "unknown". What a plan leaves out
(`lifecycle`) is read from the synthesised stack, too.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from fleet_iot.lib.names import BUCKETS

Body = dict[str, Any]

CREDENTIAL = "made-up-credential-that-must-not-appear"
"""The secret key with which the stacks are planned; a check searches the plans for it."""

REFERENCE = re.compile(r"(?<!\$)\$\{([a-z0-9_]+)\.([^.}]+)\.[^}]+\}")
"""A reference to another resource's attribute, as CDKTF writes it: its type and its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource of one stack."""

    stack: str
    type: str
    id: str
    body: Body

    @property
    def address(self) -> str:
        return f"{self.type}.{self.id}"

    def block(self, name: str) -> Body:
        """Return the nested block `name`, of which there is at most one; empty where there is none."""
        blocks = self.blocks(name)
        return blocks[0] if blocks else {}

    def blocks(self, name: str) -> list[Body]:
        return blocks_of(self.body, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A stack without its resources: backend and provider as synthesised, and its whole plan as text."""

    name: str
    backend: Body
    provider: Body
    plan_text: str


@dataclass(frozen=True, kw_only=True)
class PlannedInfrastructure:
    """All stacks of one environment; `retention` and `data_events` are the manifest's, which checks expect."""

    environment_suffix: str
    stacks: tuple[Stack, ...]
    resources: tuple[Resource, ...]
    retention: str = "short"
    data_events: str = "all"

    @cached_property
    def _by_type(self) -> dict[str, list[Resource]]:
        found: dict[str, list[Resource]] = {}
        for resource in self.resources:
            found.setdefault(resource.type, []).append(resource)
        return found

    @cached_property
    def _by_address(self) -> dict[tuple[str, str], Resource]:
        return {(resource.stack, resource.address): resource for resource in self.resources}

    @property
    def platform(self) -> str:
        """The platform's stack, to which findings about missing resources are attributed."""
        return next((stack.name for stack in self.stacks if stack.name.startswith("tap-")), self.stacks[0].name)

    def of(self, *types: str) -> Iterator[Resource]:
        """Yield all resources of these types."""
        for type_ in types:
            yield from self._by_type.get(type_, ())

    def target(self, origin: Resource, value: Any) -> Resource | None:
        """Return the resource of the same stack that `value` in the body of `origin` refers to, if any."""
        match = REFERENCE.match(value) if isinstance(value, str) else None
        return self._by_address.get((origin.stack, f"{match[1]}.{match[2]}")) if match else None

    def found(self, type_: str, origin: Resource, value: Any) -> Resource | None:
        """Return the resource of `type_` that `value` in the body of `origin` refers to, or names."""
        return next((each for each in self.of(type_) if self.refers(origin, value, each)), None)

    def refers(self, origin: Resource, value: Any, to: Resource) -> bool:
        """Return whether `value` is a reference to `to`, or its literal name."""
        return self.target(origin, value) is to or (isinstance(value, str) and value == name_of(to))

    def belonging(self, type_: str, attribute: str, to: Resource) -> list[Resource]:
        """Return the resources of `type_` whose `attribute` refers to `to`: a bucket's policy, a queue's policy, …"""
        return [each for each in self.of(type_) if self.refers(each, each.body.get(attribute), to)]


def blocks_of(body: Body, name: str) -> list[Body]:
    """Return the nested blocks `name` of a body or block."""
    value = body.get(name)
    blocks = value if isinstance(value, list) else [value]
    return [block for block in blocks if isinstance(block, dict)]


def block_of(body: Body, name: str) -> Body:
    """Return the nested block `name`, of which there is at most one; empty where there is none."""
    blocks = blocks_of(body, name)
    return blocks[0] if blocks else {}


def name_of(resource: Resource) -> str | None:
    """Return the name by which AWS knows the resource, where it has one of its own."""
    for attribute in ("name", "bucket", "function_name", "dashboard_name", "alarm_name"):
        value = resource.body.get(attribute)
        if isinstance(value, str) and not REFERENCE.match(value):
            return value
    return None


def kind_of(bucket: Resource) -> str:
    """Return which of the platform's buckets it is, by its name; empty for none."""
    name = str(name_of(bucket))
    kinds = [kind for kind in BUCKETS if f"-{kind}-" in name]
    return max(kinds, key=lambda kind: name.rfind(f"-{kind}-"), default="")  # an application may have the name of one


def made_up_id(resource: str) -> uuid.UUID:
    """Return an id in place of AWS's for `resource`, such as `aws_kms_key.key-data`: always the same one."""
    return uuid.uuid5(uuid.NAMESPACE_URL, resource)


def read_stack(name: str, *, synthesised: Body, plan: Body, plan_text: str) -> tuple[Stack, tuple[Resource, ...]]:
    """Read a stack and its resources from the synthesised document and Terraform's plan of it."""
    declared = synthesised.get("resource", {})
    resources = []
    for change in plan["resource_changes"]:
        if change["mode"] != "managed":
            continue
        type_, id_ = change["type"], change["name"]
        body = declared.get(type_, {}).get(id_, {})
        after = _merged(change["change"]["after"] or {}, change["change"]["after_unknown"], body)
        if "lifecycle" in body:
            after["lifecycle"] = body["lifecycle"]
        resources.append(Resource(stack=name, type=type_, id=id_, body=after))
    stack = _stack(name, synthesised, plan_text=plan_text)
    return stack, tuple(sorted(resources, key=lambda each: each.address))


def _stack(name: str, synthesised: Body, *, plan_text: str) -> Stack:
    providers = synthesised.get("provider", {}).get("aws", [{}])
    return Stack(
        name=name,
        backend=synthesised.get("terraform", {}).get("backend", {}),
        provider=providers[0] if isinstance(providers, list) else providers,
        plan_text=plan_text,
    )


def read_synthesised(name: str, synthesised: Body, *, tagged: Container[str]) -> tuple[Stack, tuple[Resource, ...]]:
    """Read a stack and its resources from the synthesised document only, in a second and without Terraform.

    The bodies lack what the provider adds to a plan, but for the provider's default tags.

    Args:
        name: The stack's name.
        synthesised: Its `cdk.tf.json`.
        tagged: The types of resources that have tags.
    """
    stack = _stack(name, synthesised, plan_text=json.dumps(synthesised))
    default = block_of(stack.provider, "default_tags").get("tags", {})
    resources = []
    for type_, bodies in synthesised.get("resource", {}).items():
        for id_, declared in bodies.items():
            body = {key: _evaluated(value) for key, value in declared.items() if key not in META_ARGUMENTS}
            if type_ in tagged and "override_provider" not in body:
                body["tags_all"] = default | (body.get("tags") or {})
            resources.append(Resource(stack=name, type=type_, id=id_, body=body))
    return stack, tuple(sorted(resources, key=lambda each: each.address))


META_ARGUMENTS = ("//", "depends_on", "provider")
"""Keys of a synthesised resource that are no attributes."""

_ESCAPE = re.compile(r'\$\$(?=\{)|%%(?=\{)|\$\{"(fToken\[)"\}')
"""Texts that Terraform does not evaluate: a doubled sign before a brace, and the one that CDKTF reads as a token."""


def _evaluated(value: Any) -> Any:
    """Return a synthesised value with its texts as Terraform reads them; references stay."""
    if isinstance(value, dict):
        return {key: _evaluated(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_evaluated(each) for each in value]
    return _ESCAPE.sub(lambda found: found[1] or found[0][0], value) if isinstance(value, str) else value


def _merged(known: Any, unknown: Any, declared: Any) -> Any:
    """Merge the known values of a plan with the declared ones where they are unknown."""
    if unknown is True:
        return declared
    if isinstance(known, dict):
        unknown = unknown if isinstance(unknown, dict) else {}
        declared = declared if isinstance(declared, dict) else {}
        keys = [*known, *(key for key in unknown if key not in known)]
        merged = {key: _merged(known.get(key), unknown.get(key), declared.get(key)) for key in keys}
        return {key: value for key, value in merged.items() if value is not None}
    if isinstance(known, list):
        unknown = unknown if isinstance(unknown, list) else []
        declared = declared if isinstance(declared, list) else [declared]  # one block may be written without its list
        return [
            _merged(value, unknown[n] if n < len(unknown) else None, _counterpart(value, declared, n))
            for n, value in enumerate(known)
        ]
    return known


def _counterpart(value: Any, declared: list[Any], place: int) -> Any:
    """Find the declared block of a planned one by its values, since Terraform reorders sets."""
    if isinstance(value, dict):
        plain = {key: each for key, each in value.items() if isinstance(each, str | int | float | bool)}
        for block in (each for each in declared if isinstance(each, dict) and plain.keys() & each.keys()):
            if all(block.get(key, each) == each for key, each in plain.items()):
                return block
    return declared[place] if place < len(declared) else None


# References between resources are resolved to the ARNs and names that AWS would make.

ARNS = {
    "aws_kms_key": "arn:aws:kms:{region}:{account}:key/{uuid}",
    "aws_sns_topic": "arn:aws:sns:{region}:{account}:{name}",
    "aws_sqs_queue": "arn:aws:sqs:{region}:{account}:{name}",
    "aws_kinesis_stream": "arn:aws:kinesis:{region}:{account}:stream/{name}",
    "aws_dynamodb_table": "arn:aws:dynamodb:{region}:{account}:table/{name}",
    "aws_lambda_function": "arn:aws:lambda:{region}:{account}:function:{function_name}",
    "aws_cloudwatch_log_group": "arn:aws:logs:{region}:{account}:log-group:{name}",
    "aws_iam_role": "arn:aws:iam::{account}:role/{name}",
    "aws_s3_bucket": "arn:aws:s3:::{bucket}",
    "aws_cloudtrail": "arn:aws:cloudtrail:{region}:{account}:trail/{name}",
}
"""The format of the ARNs that only an apply would know."""


NAMES = ("name", "bucket", "function_name", "key_id", "id")
"""Attributes by which a resource is referred to that are literal in its own body, or its name."""


class UnknownUntilApplied(Exception):  # noqa: N818 - not an error: what only an apply knows
    """A value refers to something that only AWS can make."""


def literal(policy: str, resources: dict[str, dict[str, Body]], *, region: str, account_id: str) -> str:
    """Replace each reference to an ARN in a policy by the ARN that AWS would make.

    A key's id is invented, but always the same. References of other types stay, and a check refuses them.
    """
    for match in list(REFERENCE.finditer(policy)):
        type_, id_ = match[1], match[2]
        body = resources.get(type_, {}).get(id_)
        if type_ in ARNS and body is not None and match[0].endswith(".arn}"):
            policy = policy.replace(match[0], _arn(type_, id_, body, region=region, account_id=account_id))
    return policy


def resolve(planned: PlannedInfrastructure, origin: Resource, value: Any) -> Any:
    """Replace each reference in a value by what AWS would make. Raises UnknownUntilApplied where that is unknown."""
    if isinstance(value, dict):
        return {key: resolve(planned, origin, each) for key, each in value.items()}
    if isinstance(value, list):
        return [resolve(planned, origin, each) for each in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    for match in list(REFERENCE.finditer(value)):
        if match[1].startswith("aws_"):
            target = planned.target(origin, match[0])
            if target is None:
                raise UnknownUntilApplied(match[0])
            value = value.replace(match[0], _referred(planned, target, match[0].rpartition(".")[2].rstrip("}")))
    return value


def account_of(planned: PlannedInfrastructure, resource: Resource) -> str:
    """Return the account that the resource's stack is planned for."""
    return str((_provider(planned, resource).get("allowed_account_ids") or [""])[0])


def arn_of(planned: PlannedInfrastructure, resource: Resource) -> str:
    """Return the ARN that AWS would make for a resource of a type in `ARNS`."""
    region = _provider(planned, resource).get("region", "")
    return _arn(resource.type, resource.id, resource.body, region=region, account_id=account_of(planned, resource))


def _provider(planned: PlannedInfrastructure, resource: Resource) -> Body:
    return next(stack.provider for stack in planned.stacks if stack.name == resource.stack)


def _referred(planned: PlannedInfrastructure, target: Resource, attribute: str) -> str:
    if attribute == "arn" and target.type in ARNS:
        return arn_of(planned, target)
    if attribute == "key_id":
        return str(made_up_id(target.address))
    named = [attribute, *NAMES] if attribute == "id" else [attribute]
    for name in named:
        known = target.body.get(name)
        if isinstance(known, str) and not REFERENCE.search(known):
            return known
    raise UnknownUntilApplied(f"{target.address}.{attribute}")


def _arn(type_: str, id_: str, body: Body, *, region: str, account_id: str) -> str:
    made_up = made_up_id(f"{type_}.{id_}")
    return ARNS[type_].format_map({**body, "region": region, "account": account_id, "uuid": made_up})


# Every resource type that the gate knows, and how its resources are named. A type that is not here fails the gate:
# add how it is named, and see whether a check must know it (`checks.encryption.KEY_OF`, `POLICY_ATTRIBUTES`,
# `checks.records.DATA_EVENTS`, …).

NAMED: dict[str, tuple[str, str]] = {
    "aws_cloudtrail": ("name", "trail-{purpose}-{suffix}"),
    "aws_cloudwatch_composite_alarm": ("alarm_name", "alarm-{purpose}-{suffix}"),
    "aws_cloudwatch_dashboard": ("dashboard_name", "dashboard-{purpose}-{suffix}"),
    "aws_cloudwatch_log_group": ("name", "log-group-{purpose}-{suffix}"),
    "aws_cloudwatch_log_metric_filter": ("name", "filter-{purpose}-{suffix}"),
    "aws_cloudwatch_metric_alarm": ("alarm_name", "alarm-{purpose}-{suffix}"),
    "aws_dynamodb_table": ("name", "table-{purpose}-{suffix}"),
    "aws_iam_policy": ("name", "policy-{purpose}-{suffix}"),
    "aws_iam_role": ("name", "role-{purpose}-{suffix}"),
    "aws_iam_role_policy": ("name", "policy-{purpose}-{suffix}"),
    "aws_iot_domain_configuration": ("name", "endpoint-{purpose}-{suffix}"),
    "aws_iot_policy": ("name", "policy-{purpose}-{suffix}"),
    "aws_iot_provisioning_template": ("name", "template-{purpose}-{suffix}"),
    "aws_iot_thing": ("name", "{purpose}-{suffix}"),
    "aws_iot_thing_group": ("name", "thing-group-{purpose}-{suffix}"),
    "aws_iot_thing_type": ("name", "thing-type-{purpose}-{suffix}"),
    "aws_iot_topic_rule": ("name", "rule_{purpose}_{suffix}"),
    "aws_kinesis_stream": ("name", "stream-{purpose}-{suffix}"),
    "aws_kms_alias": ("name", "alias/key-{purpose}-{suffix}"),
    "aws_lambda_function": ("function_name", "function-{purpose}-{suffix}"),
    "aws_s3_bucket": ("bucket", "bucket-{purpose}-{suffix}"),
    "aws_s3_bucket_intelligent_tiering_configuration": ("name", "tiering-{purpose}-{suffix}"),
    "aws_scheduler_schedule": ("name", "schedule-{purpose}-{suffix}"),
    "aws_sns_topic": ("name", "topic-{purpose}-{suffix}"),
    "aws_sqs_queue": ("name", "queue-{purpose}-{suffix}"),
}
"""Type → the attribute that names it, and its pattern. IoT topic rules allow no hyphen."""

LAMBDA_LOG_GROUP = "/aws/lambda/function-{purpose}-{suffix}"
"""Lambda decides the name of a function's log group."""

IOT_LOG_GROUP = "AWSIotLogsV2"
"""The only group to which AWS IoT writes its own log."""

NAMELESS: dict[str, str] = {
    "aws_cloudcontrolapi_resource": "named by what it is made of: the account, and the audit of this environment",
    "aws_cloudwatch_log_resource_policy": "belongs to the account",
    "aws_iot_certificate": "AWS names it by its fingerprint",
    "aws_iot_event_configurations": "belongs to the account",
    "aws_iot_indexing_configuration": "belongs to the account",
    "aws_iot_logging_options": "belongs to the account",
    "aws_iot_policy_attachment": "attaches a policy to a certificate",
    "aws_iot_thing_group_membership": "adds a thing to its group",
    "aws_iot_thing_principal_attachment": "attaches a certificate to its thing",
    "aws_kms_key": "AWS names it; its alias is checked",
    "aws_lambda_event_source_mapping": "connects a function to its stream",
    "aws_lambda_permission": "belongs to its function",
    "aws_s3_bucket_lifecycle_configuration": "belongs to its bucket",
    "aws_s3_bucket_logging": "belongs to its bucket",
    "aws_s3_bucket_notification": "belongs to its bucket",
    "aws_s3_bucket_object_lock_configuration": "belongs to its bucket",
    "aws_s3_bucket_ownership_controls": "belongs to its bucket",
    "aws_s3_bucket_policy": "belongs to its bucket",
    "aws_s3_bucket_public_access_block": "belongs to its bucket",
    "aws_s3_bucket_server_side_encryption_configuration": "belongs to its bucket",
    "aws_s3_bucket_versioning": "belongs to its bucket",
    "aws_s3_object": "marks a prefix of the archive",
    "aws_sns_topic_policy": "belongs to its topic",
    "aws_sns_topic_subscription": "belongs to its topic",
    "aws_sqs_queue_policy": "belongs to its queue",
}
"""Type → why it has no name of its own."""


# Policy documents of every kind, read into statements that a check can ask about.


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
        """Return whether the condition is met by a request; a negated operator also is where the key is absent.

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
        """Return whether any condition is about `key`, whatever its operator."""
        return any(condition.key == key.lower() for condition in self.conditions)

    def bound(self, key: str) -> tuple[str, ...]:
        """Return the values to which the statement restricts `key`; none where it does not, or to anything (`*`)."""
        for condition in self.conditions:
            if condition.key == key.lower() and condition.operator in BINDING and "*" not in condition.values:
                return condition.values
        return ()

    def applies_to(self, request: Mapping[str, str]) -> bool:
        """Return whether a request with these condition keys, in lower case, meets all conditions.

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
    """Return whether IAM matches the value: ARNs and `…Like` accept `*` and `?`; other texts must be equal."""
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
