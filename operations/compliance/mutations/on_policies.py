"""Mutations of policies: wildcards, conditions that go missing, services and people let in."""

from __future__ import annotations

from operations.compliance.estate import Body
from operations.compliance.mutations.edits import (
    Edit,
    Mutation,
    added,
    allows,
    condition_dropped,
    denies,
    edited,
    in_statement,
    mutation,
    put,
    removed,
    stack_edited,
    without_statement,
)

ROLE, TRUST, KEY = "aws_iam_role_policy", "aws_iam_role", "aws_kms_key"
BUCKET, QUEUE = "aws_s3_bucket_policy", "aws_sqs_queue_policy"


def any_statement(statement: Body) -> bool:
    return True


def bound_service(statement: Body) -> bool:
    """A statement that lets a service in, if it names its source."""
    return "Service" in statement.get("Principal", {}) and "Condition" in statement


def replaced(old: str, new: str) -> Edit:
    """Another condition operator in place of `old`."""

    def edit(statement: Body) -> None:
        statement["Condition"][new] = statement["Condition"].pop(old)

    return edit


def _used_by_services(statement: Body) -> bool:
    return "Service" in statement["Principal"] and allows("kms:GenerateDataKey")(statement)


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
        "a role's binding lets absent keys pass (IfExists)",
        in_statement(ROLE, replaced("StringEquals", "StringEqualsIfExists"), where=allows("kms:")),
    ),
    mutation(
        "key-policy-bound",
        "the key lets roles use it without a service",
        in_statement(KEY, condition_dropped("kms:ViaService"), where=allows("kms:CreateGrant")),
    ),
    mutation(
        "key-policy-bound",
        "the key lets other accounts use it",
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
    mutation(
        "trust-bound",
        "a role is assumed for any source",
        in_statement(TRUST, condition_dropped("aws:SourceArn"), where=bound_service),
    ),
    mutation(
        "trust-bound",
        "a role is assumed for any account",
        in_statement(TRUST, condition_dropped("aws:SourceAccount"), where=bound_service),
    ),
    mutation(
        "trust-bound",
        "a role is assumed for every source by wildcard",
        in_statement(TRUST, put("Condition.ArnLike.aws:SourceArn", "*"), where=bound_service),
    ),
    mutation(
        "trust-bound",
        "a role trusts another account",
        in_statement(TRUST, put("Principal", {"AWS": "arn:aws:iam::999999999999:root"}), where=any_statement),
    ),
    mutation(
        "trust-bound",
        "a role lets its session be tagged",
        in_statement(TRUST, put("Action", ["sts:AssumeRole", "sts:TagSession"]), where=any_statement),
    ),
    mutation(
        "services-bound",
        "access logs are taken for any source",
        in_statement(BUCKET, condition_dropped("aws:SourceArn"), where=bound_service),
    ),
    mutation(
        "services-bound",
        "access logs are taken from any account",
        in_statement(BUCKET, condition_dropped("aws:SourceAccount"), where=bound_service),
    ),
    mutation(
        "tls-only", "a bucket takes plain transport", without_statement(BUCKET, where=denies("aws:SecureTransport"))
    ),
    mutation(
        "tls-only", "the queue takes plain transport", without_statement(QUEUE, where=denies("aws:SecureTransport"))
    ),
    mutation("tls-only", "the queue has no policy", removed(QUEUE)),
    mutation(
        "tls-only",
        "plain transport is denied only to some",
        in_statement(
            BUCKET, put("Principal", {"AWS": "arn:aws:iam::123456789012:root"}), where=denies("aws:SecureTransport")
        ),
    ),
    mutation(
        "tls-only",
        "plain transport is denied for objects only",
        in_statement(BUCKET, lambda statement: statement["Resource"].pop(0), where=denies("aws:SecureTransport")),
    ),
    mutation(
        "tls-only",
        "the denial has a second condition",
        in_statement(BUCKET, put("Condition.StringEquals", {"s3:prefix": "x"}), where=denies("aws:SecureTransport")),
    ),
    mutation("tls-only", "a topic without policy", added("aws_sns_topic", {"name": "topic-x-dev"})),
    mutation("tls-1.2", "a bucket takes TLS 1.0", without_statement(BUCKET, where=denies("s3:TlsVersion"))),
    mutation(
        "tls-1.2",
        "a bucket takes TLS 1.1",
        in_statement(BUCKET, put("Condition.NumericLessThan.s3:TlsVersion", "1.1"), where=denies("s3:TlsVersion")),
    ),
    mutation(
        "tls-1.2",
        "the devices' endpoint takes TLS 1.0",
        edited(
            "aws_iot_domain_configuration", put("tls_config.0.security_policy", "IoTSecurityPolicy_TLS12_1_0_2016_01")
        ),
    ),
    mutation("right-account", "a provider for any account", stack_edited(provider={"region": "ap-southeast-1"})),
    mutation(
        "right-account",
        "a provider with a key in it",
        stack_edited(provider={"region": "ap-southeast-1", "allowed_account_ids": ["123456789012"], "secret_key": "x"}),
    ),
)
