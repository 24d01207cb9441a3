"""Mutations of who may come in: services for anybody, plain transport, other accounts."""

from __future__ import annotations

from tests.operations.assurance.compliance.mutations.edits import (
    Mutation,
    added,
    any_statement,
    bound_service,
    condition_dropped,
    denies,
    edited,
    in_statement,
    mutation,
    put,
    removed,
    replaced,
    stack_edited,
    without_statement,
)

TRUST, BUCKET, QUEUE = "aws_iam_role", "aws_s3_bucket_policy", "aws_sqs_queue_policy"
TOPIC = "aws_sns_topic_policy"


MUTATIONS: tuple[Mutation, ...] = (
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
        "the trail's role asks for a source, which CloudTrail does not send",
        in_statement(
            TRUST,
            put("Condition", {"ArnLike": {"aws:SourceArn": "arn:aws:cloudtrail:ap-southeast-1:123456789012:trail/t"}}),
            where=any_statement,
            id_="role-trail-logs",
        ),
    ),
    mutation(
        "trust-bound",
        "the trail's role asks for an account, which CloudTrail does not send",
        in_statement(
            TRUST,
            put("Condition", {"StringEquals": {"aws:SourceAccount": "123456789012"}}),
            where=any_statement,
            id_="role-trail-logs",
        ),
    ),
    mutation(
        "trust-bound",
        "the function's role asks for a source, which Lambda does not send",
        in_statement(
            TRUST,
            put("Condition", {"ArnLikeIfExists": {"AWS:SourceArn": "arn:aws:lambda:*:123456789012:function:*"}}),
            where=any_statement,
            id_="role-sensor-processor",
        ),
    ),
    mutation(
        "trust-bound",
        "a role allows its session to be tagged",
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
    mutation("tls-only", "a topic without a policy", removed(TOPIC)),
    mutation("tls-only", "anomalies without a policy", removed(TOPIC, "topic-anomalies-policy")),
    mutation(
        "tls-only",
        "a topic that denies another action",
        edited(TOPIC, replaced("policy", "sns:Publish", "sns:X")),
    ),
    mutation("services-bound", "a topic for alarms of anyone", edited(TOPIC, replaced("policy", "aws:Source", "x"))),
)
