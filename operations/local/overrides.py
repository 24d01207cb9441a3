"""The list of what is changed in the synthesised stacks for the emulator, and the override files that change it.

Nothing in `lib` knows of the local AWS: Terraform merges `local_override.tf.json` over `cdk.tf.json`, and
`local_extra.tf.json` adds to it. docs/local-aws.md shows the same list; a test compares them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_iot.operations.local.aws import ACCOUNT_ID

Body = dict[str, Any]

STACK_FILE = "cdk.tf.json"
OVERRIDE_FILE = "local_override.tf.json"
EXTRA_FILE = "local_extra.tf.json"

PLATFORM_PREFIX = "tap-"
"""The platform stack is named `tap-<environment suffix>`."""

REPUBLISH_TOPIC = "local/rules"
"""The topic below which, by rule name, the rules engine receives what each topic rule made of a message."""

ROLE_SERVICES = ("iot.amazonaws.com", "lambda.amazonaws.com")
"""The services that run outside the emulator here, under the roles that trust them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """One change to every resource of a type; `override` returns what to merge over one, or None to leave it."""

    resource_type: str
    change: str
    reason: str
    override: Callable[[Body, str], Body | None]


def republish_role(suffix: str) -> str:
    """Return the role that a rule's local republish action names; the emulator requires that it exists."""
    return f"role-local-republish-{suffix}"


def _without_insights(body: Body, suffix: str) -> Body | None:
    if "insight_selector" not in body:
        return None
    return {"dynamic": {"insight_selector": {"for_each": [], "content": {"insight_type": "x"}}}}


def _without_mapping(body: Body, suffix: str) -> Body | None:
    return {"enabled": False}


def _disabled(body: Body, suffix: str) -> Body | None:
    return {"state": "DISABLED"}


def _not_made(body: Body, suffix: str) -> Body | None:
    return {"count": 0}


def _unprotected(body: Body, suffix: str) -> Body | None:
    return {"deletion_protection_enabled": False} if body.get("deletion_protection_enabled") else None


def _emptied(body: Body, suffix: str) -> Body | None:
    return None if body.get("force_destroy") else {"force_destroy": True}


def _with_republish(body: Body, suffix: str) -> Body | None:
    if "kinesis" not in body:
        return None
    action = {
        "role_arn": f"arn:aws:iam::{ACCOUNT_ID}:role/{republish_role(suffix)}",
        "topic": f"{REPUBLISH_TOPIC}/{body['name']}",
        "qos": 1,
    }
    return {"republish": [action]}


def _with_local_trust(body: Body, suffix: str) -> Body | None:
    """Allow the emulator's root to assume the role: on AWS the service itself does, but here it runs outside."""
    trust = body.get("assume_role_policy", "")
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT_ID}:root"}}
    if trust.startswith("${"):
        policy = f"jsondecode({trust.removeprefix('${').removesuffix('}')})"
        added = f"[jsondecode({json.dumps(json.dumps(statement))})]"
        statements = f"concat({policy}.Statement, {added})"
        return {"assume_role_policy": f"${{jsonencode(merge({policy}, {{Statement = {statements}}}))}}"}
    if not any(service in trust for service in ROLE_SERVICES):
        return None
    document = json.loads(trust)
    document["Statement"] = [*document["Statement"], statement]
    return {"assume_role_policy": json.dumps(document)}


def _with_publish_batch(body: Body, suffix: str) -> Body | None:
    """Allow publishing in batches to everyone who may publish; AWS has one permission for both.

    https://docs.aws.amazon.com/sns/latest/dg/sns-access-policy-language-api-permissions-reference.html
    """
    document = json.loads(body["policy"])
    for statement in document["Statement"]:
        if "sns:Publish" in statement["Action"]:
            statement["Action"].append("sns:PublishBatch")
            return {"policy": json.dumps(document)}
    return None


MARKUP = str.maketrans({"&": "\\u0026", "<": "\\u003c", ">": "\\u003e"})
"""JSON's escapes of what XML would read as markup."""


def _without_markup(body: Body, suffix: str) -> Body | None:
    """Escape markup in the dashboard's JSON, which stays the same document."""
    document = str(body["dashboard_body"])
    escaped = document.translate(MARKUP)
    return {"dashboard_body": escaped} if escaped != document else None


ADAPTATIONS = (
    Adaptation(
        resource_type="aws_cloudcontrolapi_resource",
        change="not made",
        reason="the emulator audits no certificates",
        override=_not_made,
    ),
    Adaptation(
        resource_type="aws_cloudtrail",
        change="without Insights selectors",
        reason="the emulator refuses PutInsightSelectors",
        override=_without_insights,
    ),
    Adaptation(
        resource_type="aws_cloudwatch_dashboard",
        change="`&`, `<` and `>` of names as JSON's escapes",
        reason="the emulator answers GetDashboard with XML in which they are not escaped",
        override=_without_markup,
    ),
    Adaptation(
        resource_type="aws_dynamodb_table",
        change="without deletion protection",
        reason="everything here must be destroyable, with retention: records too",
        override=_unprotected,
    ),
    Adaptation(
        resource_type="aws_iam_role",
        change="roles of IoT and Lambda trust the emulator's root as well",
        reason="rules engine and event source run outside the emulator, and work under these roles",
        override=_with_local_trust,
    ),
    Adaptation(
        resource_type="aws_iam_role_policy",
        change="who may publish to a topic may also do so in batches",
        reason="the emulator asks for sns:PublishBatch, a permission that AWS does not have",
        override=_with_publish_batch,
    ),
    Adaptation(
        resource_type="aws_iot_domain_configuration",
        change="not made",
        reason="the emulator keeps it for seven days, as AWS does, so that nothing could be destroyed",
        override=_not_made,
    ),
    Adaptation(
        resource_type="aws_iot_logging_options",
        change="not made",
        reason="the emulator refuses SetV2LoggingOptions",
        override=_not_made,
    ),
    Adaptation(
        resource_type="aws_iot_topic_rule",
        change="rules of telemetry: one more action, republish to local/rules/<rule>",
        reason="the emulator skips Kinesis and S3 actions silently; the rules engine does them",
        override=_with_republish,
    ),
    Adaptation(
        resource_type="aws_lambda_event_source_mapping",
        change="disabled",
        reason="the emulator's own event source ignores bisecting, retry limits and partial batch responses",
        override=_without_mapping,
    ),
    Adaptation(
        resource_type="aws_s3_bucket",
        change="deleted with its objects",
        reason="everything here must be destroyable, with retention: records too",
        override=_emptied,
    ),
    Adaptation(
        resource_type="aws_s3_bucket_object_lock_configuration",
        change="not made",
        reason="everything here must be destroyable, with retention: records too",
        override=_not_made,
    ),
    Adaptation(
        resource_type="aws_s3_bucket_intelligent_tiering_configuration",
        change="not made",
        reason="the emulator refuses PutBucketIntelligentTieringConfiguration",
        override=_not_made,
    ),
    Adaptation(
        resource_type="aws_scheduler_schedule",
        change="disabled",
        reason="the local event source sweeps, each minute and when it is waited for; `fleet archive compact` compacts",
        override=_disabled,
    ),
)

FIRST_PLAN_DRIFT = frozenset({"aws_cloudtrail", "aws_kinesis_stream"})
"""Types whose tags the emulator sets only with the second apply: until then a plan would update them, nothing else."""

LASTING_DRIFT = frozenset({"aws_cloudwatch_metric_alarm"})
"""Types that the emulator stores completely and reads back in part, so that every plan would update them. Ignoring the
missing attributes does not help: the provider then finds an alarm without a statistic, and fails."""

PROVIDER_SETTINGS: Body = {"s3_use_path_style": True, "skip_metadata_api_check": "true"}
"""Buckets by path, since no DNS resolves their names here, and no request for instance metadata."""


def write_overrides(stack: Path, *, suffix: str) -> tuple[Adaptation, ...]:
    """Write the override files of one synthesised stack; return the adaptations that it needed."""
    document: Body = json.loads((stack / STACK_FILE).read_text())
    resources: dict[str, dict[str, Body]] = {}
    used = []
    for adaptation in ADAPTATIONS:
        for name, body in document.get("resource", {}).get(adaptation.resource_type, {}).items():
            override = adaptation.override(body, suffix)
            if override is not None:
                resources.setdefault(adaptation.resource_type, {})[name] = override
                if adaptation not in used:
                    used.append(adaptation)
    providers = [
        {**({"alias": each["alias"]} if "alias" in each else {}), **PROVIDER_SETTINGS}
        for each in _as_list(document.get("provider", {}).get("aws", {}))
    ]
    # No empty "resource": Terraform reads that as a block without its label.
    _write(stack / OVERRIDE_FILE, {"provider": {"aws": providers}} | ({"resource": resources} if resources else {}))
    if stack.name.startswith(PLATFORM_PREFIX):
        _write(stack / EXTRA_FILE, _republish_role_resources(suffix))
    return tuple(used)


def _republish_role_resources(suffix: str) -> Body:
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "iot.amazonaws.com"}}
    allowed = {
        "Effect": "Allow",
        "Action": "iot:Publish",
        "Resource": f"arn:aws:iot:*:{ACCOUNT_ID}:topic/{REPUBLISH_TOPIC}/*",
    }
    role = {
        "name": republish_role(suffix),
        "assume_role_policy": json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    }
    policy = {
        "name": "republish",
        "role": "${aws_iam_role.local_republish.name}",
        "policy": json.dumps({"Version": "2012-10-17", "Statement": [allowed]}),
    }
    return {"resource": {"aws_iam_role": {"local_republish": role}, "aws_iam_role_policy": {"local_republish": policy}}}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _write(path: Path, document: Body) -> None:
    # Indented: where Terraform finds fault with a line, it prints the whole line.
    path.write_text(json.dumps(document, indent=2) + "\n")
