"""Mutations of what applies to every resource and stack: names, destruction, secrets, state."""

from __future__ import annotations

from dataclasses import replace

from fleet_iot.operations.assurance.compliance.infrastructure import CREDENTIAL, PlannedInfrastructure
from tests.operations.assurance.compliance.mutations.edits import (
    Mutation,
    added,
    edited,
    mutation,
    put,
    stack_edited,
    turned,
)

HEADER = "-----BEGIN EC PRIVATE KEY-----"


def said_in_plan(text: str, planned: PlannedInfrastructure) -> PlannedInfrastructure:
    """The infrastructure with a text in its first plan."""
    first = planned.stacks[0]
    return replace(planned, stacks=(replace(first, plan_text=first.plan_text + text), *planned.stacks[1:]))


MUTATIONS: tuple[Mutation, ...] = (
    mutation("types-known", "an unknown type", added("aws_instance", {})),
    mutation(
        "named", "a stream without the environment", edited("aws_kinesis_stream", put("name", "stream-telemetry"))
    ),
    mutation("named", "a table of another environment", edited("aws_dynamodb_table", put("name", "table-readings-x"))),
    mutation("named", "a role that does not say that it is one", edited("aws_iam_role", put("name", "rules-dev"))),
    mutation("named", "a bucket in capitals", edited("aws_s3_bucket", put("bucket", "bucket-RAW-dev"))),
    mutation(
        "records-locked",
        "records are locked for a month",
        edited("aws_s3_bucket_object_lock_configuration", put("rule.0.default_retention.0.days", 30)),
    ),
    mutation(
        "destroyable",
        "a bucket keeps its objects, or records are not kept",
        edited("aws_s3_bucket", turned("force_destroy")),
    ),
    mutation(
        "destroyable",
        "a table is protected from deletion, or records are not",
        edited("aws_dynamodb_table", turned("deletion_protection_enabled")),
    ),
    mutation(
        "destroyable",
        "a key prevents its own destruction",
        edited("aws_kms_key", put("lifecycle", {"prevent_destroy": True})),
    ),
    mutation(
        "destroyable",
        "a queue prevents its own destruction",
        edited("aws_sqs_queue", put("lifecycle", [{"prevent_destroy": True}])),
    ),
    mutation("destroyable", "a key stays for two weeks", edited("aws_kms_key", put("deletion_window_in_days", 14))),
    mutation("destroyable", "a log group stays behind", edited("aws_cloudwatch_log_group", put("skip_destroy", True))),
    mutation(
        "destroyable",
        "the stream stays while it has consumers",
        edited("aws_kinesis_stream", put("enforce_consumer_deletion", False)),
    ),
    mutation("no-secret", "a private key in the plan", lambda planned: said_in_plan(HEADER, planned)),
    mutation("no-secret", "the credential of the plan in the plan", lambda planned: said_in_plan(CREDENTIAL, planned)),
    mutation(
        "no-secret",
        "an access key in the function's settings",
        edited("aws_lambda_function", put("environment.0.variables.KEY", "AKIA" + "Q" * 16)),
    ),
    mutation(
        "no-secret",
        "a certificate whose key lies in the state",
        edited("aws_iot_certificate", put("private_key", HEADER)),
    ),
    mutation("state-explicit", "a stack that does not say where its state is", stack_edited(backend={})),
    mutation(
        "state-explicit",
        "a state at an absolute path",
        stack_edited(backend={"local": {"path": "/somewhere/x.tfstate"}}),
    ),
    mutation(
        "state-explicit",
        "a state in the clear",
        stack_edited(backend={"s3": {"bucket": "x", "key": "x", "use_lockfile": True}}),
    ),
    mutation(
        "state-explicit",
        "a state that two may write at once",
        stack_edited(backend={"s3": {"bucket": "x", "key": "x", "encrypt": True}}),
    ),
)
