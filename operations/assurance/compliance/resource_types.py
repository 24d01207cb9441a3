"""Every resource type that the gate knows: how its resources are named, or why they have no name to check.

A type that is not here fails the gate: whoever adds one says how it is named, and looks whether a check must know it
(`checks.encryption.KEY_OF`, `policies.POLICY_ATTRIBUTES`, `checks.audit.DATA_EVENTS`, …).
"""

from __future__ import annotations

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
    "aws_sns_topic": ("name", "topic-{purpose}-{suffix}"),
    "aws_sqs_queue": ("name", "queue-{purpose}-{suffix}"),
}
"""Type → the attribute that names it, and how. IoT topic rules allow no hyphen."""

LAMBDA_LOG_GROUP = "/aws/lambda/function-{purpose}-{suffix}"
"""Lambda decides the name of a function's log group."""

IOT_LOG_GROUP = "AWSIotLogsV2"
"""AWS IoT writes its own log to this one and no other."""

NAMELESS: dict[str, str] = {
    "aws_cloudcontrolapi_resource": "named by what it is made of: the account, and the audit of this environment",
    "aws_cloudwatch_log_resource_policy": "belongs to the account",
    "aws_iot_certificate": "AWS names it by its fingerprint",
    "aws_iot_event_configurations": "belongs to the account",
    "aws_iot_indexing_configuration": "belongs to the account",
    "aws_iot_logging_options": "belongs to the account",
    "aws_iot_policy_attachment": "ties a policy to a certificate",
    "aws_iot_thing_group_membership": "ties a thing to its group",
    "aws_iot_thing_principal_attachment": "ties a thing to its certificate",
    "aws_kms_key": "AWS names it; its alias is checked",
    "aws_lambda_event_source_mapping": "ties a function to its stream",
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
