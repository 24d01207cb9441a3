"""Mutations of what policies allow: wildcards, inversions, conditions that go missing."""

from __future__ import annotations

from collections.abc import Callable

from fleet_iot.operations.assurance.compliance.infrastructure import Body
from tests.operations.assurance.compliance.mutations.edits import (
    Edit,
    Mutation,
    added,
    allows,
    any_statement,
    condition_dropped,
    denies,
    edited,
    in_statement,
    mutation,
    put,
)

ROLE, TRUST, KEY = "aws_iam_role_policy", "aws_iam_role", "aws_kms_key"
BUCKET, TOPIC = "aws_s3_bucket_policy", "aws_sns_topic_policy"


def replaced(old: str, new: str) -> Edit:
    """Another condition operator in place of `old`."""

    def edit(statement: Body) -> None:
        statement["Condition"][new] = statement["Condition"].pop(old)

    return edit


def _used_by_services(statement: Body) -> bool:
    return "Service" in statement["Principal"] and allows("kms:GenerateDataKey")(statement)


def _used_through(service: str) -> Callable[[Body], bool]:
    """Statements that allow the use of a key through a service."""
    return lambda statement: (
        allows("kms:")(statement)
        and str(statement["Condition"]["StringEquals"].get("kms:ViaService")).startswith(service)
    )


MUTATIONS: tuple[Mutation, ...] = (
    mutation(
        "policies-whole",
        "a role's policy refers to what only an apply knows",
        edited(ROLE, put("policy", "${aws_iam_policy_document.x.json}")),
    ),
    mutation(
        "policies-whole",
        "a reference stays within a key's policy",
        in_statement(KEY, put("Resource", "${aws_kms_key.other.key_id}"), where=any_statement),
    ),
    mutation(
        "policies-whole",
        "a queue carries a policy of its own",
        edited("aws_sqs_queue", put("policy", '{"Statement": {"Effect": "Allow", "Action": "sqs:*"}}')),
    ),
    mutation(
        "policies-whole",
        "a role carries a managed policy",
        edited(TRUST, put("managed_policy_arns", ["arn:aws:iam::aws:policy/AdministratorAccess"])),
    ),
    mutation(
        "no-wildcard-action",
        "a role may do anything with the table",
        in_statement(ROLE, put("Action", ["dynamodb:*"]), where=allows("dynamodb:")),
    ),
    mutation(
        "no-wildcard-action",
        "a role may put anything: s3:Put*",
        in_statement(ROLE, put("Action", "s3:Put*"), where=allows("s3:")),
    ),
    mutation(
        "no-wildcard-action",
        "a key allows kms:* to the account",
        in_statement(KEY, put("Action", ["kms:*"]), where=any_statement),
    ),
    mutation(
        "no-wildcard-action",
        "a device may do anything: iot:*",
        in_statement("aws_iot_policy", put("Action", "iot:*"), where=any_statement),
    ),
    mutation(
        "no-wildcard-resource",
        "a role may write into every table",
        in_statement(ROLE, put("Resource", "*"), where=allows("dynamodb:")),
    ),
    mutation(
        "no-wildcard-resource",
        "tracing on every resource takes something else along",
        in_statement(ROLE, lambda statement: statement["Action"].append("s3:GetObject"), where=allows("xray:")),
    ),
    mutation(
        "no-wildcard-resource",
        "the trail may write anywhere",
        in_statement(BUCKET, put("Resource", "*"), where=allows("s3:PutObject")),
    ),
    mutation(
        "no-wildcard-action",
        "the processor may do anything with the anomalies' topic",
        in_statement(ROLE, put("Action", ["sns:*"]), where=allows("sns:")),
    ),
    mutation(
        "no-wildcard-resource",
        "the processor may publish to every topic, and to any telephone",
        in_statement(ROLE, put("Resource", "*"), where=allows("sns:")),
    ),
    mutation(
        "nothing-inverted",
        "a role may do all but one thing (NotAction)",
        in_statement(ROLE, put("NotAction", ["iam:*"]), where=any_statement),
    ),
    mutation(
        "nothing-inverted",
        "a role may write everywhere but into one table (NotResource)",
        in_statement(ROLE, put("NotResource", "arn:aws:dynamodb:*:*:table/x"), where=allows("dynamodb:")),
    ),
    mutation(
        "no-public-principal",
        "a bucket is open to everyone",
        in_statement(BUCKET, put("Principal", "*"), where=allows("s3:")),
    ),
    mutation(
        "no-public-principal",
        "everyone may publish anomalies",
        in_statement(TOPIC, put("Effect", "Allow"), where=denies("aws:SecureTransport"), id_="topic-anomalies-policy"),
    ),
    mutation(
        "no-public-principal",
        "a key is open to every account",
        in_statement(KEY, put("Principal", {"AWS": "*"}), where=any_statement),
    ),
    mutation(
        "no-public-principal",
        "a role can be assumed by everyone",
        in_statement(TRUST, put("Principal", {"AWS": "*"}), where=any_statement),
    ),
    mutation(
        "key-use-bound",
        "a role uses the key through any service",
        in_statement(ROLE, condition_dropped("kms:ViaService"), where=allows("kms:")),
    ),
    mutation(
        "key-use-bound",
        "a role uses the key for any encryption context",
        in_statement(ROLE, condition_dropped("kms:EncryptionContext:"), where=allows("kms:")),
    ),
    mutation(
        "key-use-bound",
        "a role uses the key for every service by wildcard",
        in_statement(ROLE, put("Condition.StringEquals.kms:ViaService", "*"), where=allows("kms:")),
    ),
    mutation(
        "key-use-bound",
        "the processor uses the key for every topic",
        in_statement(ROLE, condition_dropped("kms:EncryptionContext:aws:sns:topicArn"), where=_used_through("sns.")),
    ),
    mutation(
        "key-use-bound",
        "a role's binding accepts absent keys (IfExists)",
        in_statement(ROLE, replaced("StringEquals", "StringEqualsIfExists"), where=allows("kms:")),
    ),
    mutation(
        "key-policy-bound",
        "the key allows roles to use it without a service",
        in_statement(KEY, condition_dropped("kms:ViaService"), where=allows("kms:CreateGrant")),
    ),
    mutation(
        "key-policy-bound",
        "the key allows other accounts to use it",
        in_statement(KEY, condition_dropped("kms:CallerAccount"), where=allows("kms:CreateGrant")),
    ),
    mutation(
        "key-policy-bound",
        "the administrators may decrypt",
        in_statement(
            KEY, lambda statement: statement["Action"].append("kms:Decrypt"), where=allows("kms:ScheduleKeyDeletion")
        ),
    ),
    mutation(
        "key-policy-bound",
        "the trail's key encrypts for any trail",
        in_statement(KEY, put("Condition", {}), where=_used_by_services),
    ),
    mutation("no-long-lived-credentials", "a user with an access key", added("aws_iam_access_key", {"user": "x"})),
    mutation(
        "no-long-lived-credentials",
        "a managed policy is attached to a role",
        added("aws_iam_role_policy_attachment", {"policy_arn": "arn:aws:iam::aws:policy/AdministratorAccess"}),
    ),
)
