"""Mutations of what keeps data: keys, stream, tables, buckets, function."""

from __future__ import annotations

from tests.operations.assurance.compliance.mutations.edits import (
    Mutation,
    added,
    denied,
    drop,
    edited,
    in_statement,
    mutation,
    put,
    removed,
    without_statement,
)

ARCHIVE = "bucket-raw-archive"
LIFECYCLE = "aws_s3_bucket_lifecycle_configuration"
ENCRYPTION = "aws_s3_bucket_server_side_encryption_configuration"
TABLE, STREAM, FUNCTION = "aws_dynamodb_table", "aws_kinesis_stream", "aws_lambda_function"
POLICY = "aws_s3_bucket_policy"
MAPPING, GROUP = "aws_lambda_event_source_mapping", "aws_cloudwatch_log_group"

DEFAULT = "rule.0.apply_server_side_encryption_by_default.0"


MUTATIONS: tuple[Mutation, ...] = (
    mutation("key-rotation", "a key does not rotate", edited("aws_kms_key", put("enable_key_rotation", False))),
    mutation(
        "key-rotation", "a key rotates every seven years", edited("aws_kms_key", put("rotation_period_in_days", 2560))
    ),
    mutation("key-rotation", "a key is disabled", edited("aws_kms_key", put("is_enabled", False))),
    mutation("own-key", "the stream uses AWS's key", edited(STREAM, put("kms_key_id", "alias/aws/kinesis"))),
    mutation("own-key", "a table uses AWS's key", edited(TABLE, drop("server_side_encryption.0.kms_key_arn"))),
    mutation("own-key", "the queue is encrypted by SQS itself", edited("aws_sqs_queue", drop("kms_master_key_id"))),
    mutation("own-key", "a log group has no key", edited(GROUP, drop("kms_key_id"))),
    mutation("own-key", "the function's settings have no key", edited(FUNCTION, drop("kms_key_arn"))),
    mutation("own-key", "the trail has no key", edited("aws_cloudtrail", drop("kms_key_id"))),
    mutation("stream-encrypted", "the stream is not encrypted", edited(STREAM, put("encryption_type", "NONE"))),
    mutation(
        "bucket-encrypted",
        "the archive has no key of its own",
        edited(ENCRYPTION, put(f"{DEFAULT}.sse_algorithm", "AES256"), id_=f"{ARCHIVE}-encryption"),
    ),
    mutation(
        "bucket-encrypted",
        "the archive uses AWS's key",
        edited(ENCRYPTION, drop(f"{DEFAULT}.kms_master_key_id"), id_=f"{ARCHIVE}-encryption"),
    ),
    mutation(
        "bucket-encrypted",
        "the encryption of a bucket got lost on the way",
        removed(ENCRYPTION, f"{ARCHIVE}-encryption"),
    ),
    mutation(
        "bucket-encrypted",
        "the access-log bucket has a key and gets no logs",
        edited(ENCRYPTION, put(f"{DEFAULT}.sse_algorithm", "aws:kms"), id_="bucket-access-logs-encryption"),
    ),
    mutation("stream-retention", "the stream keeps a day", edited(STREAM, put("retention_period", 24))),
    mutation(
        "stream-retention",
        "the stream has shards to be managed",
        edited(STREAM, put("stream_mode_details.0.stream_mode", "PROVISIONED")),
    ),
    mutation(
        "table-recovery",
        "a table cannot be brought back",
        edited(TABLE, put("point_in_time_recovery.0.enabled", False)),
    ),
    mutation("table-recovery", "a table has capacity to be managed", edited(TABLE, put("billing_mode", "PROVISIONED"))),
    mutation(
        "bucket-versioning",
        "versioning is suspended",
        edited("aws_s3_bucket_versioning", put("versioning_configuration.0.status", "Suspended")),
    ),
    mutation("bucket-versioning", "a bucket has no versioning", removed("aws_s3_bucket_versioning")),
    mutation(
        "bucket-private",
        "a bucket may be made public by its policy",
        edited("aws_s3_bucket_public_access_block", put("block_public_policy", False)),
    ),
    mutation(
        "bucket-private", "nothing keeps a bucket from being made public", removed("aws_s3_bucket_public_access_block")
    ),
    mutation(
        "bucket-private",
        "objects belong to their writer",
        edited("aws_s3_bucket_ownership_controls", put("rule.0.object_ownership", "ObjectWriter")),
    ),
    mutation("bucket-lifecycle", "a bucket has no lifecycle", removed(LIFECYCLE)),
    mutation(
        "bucket-lifecycle",
        "earlier versions are kept for ever",
        edited(LIFECYCLE, put("rule.0.noncurrent_version_expiration", [])),
    ),
    mutation(
        "bucket-lifecycle",
        "the lifecycle is switched off",
        edited(LIFECYCLE, put("rule.0.status", "Disabled"), id_="bucket-audit-trail-lifecycle"),
    ),
    mutation(
        "archive-tiering",
        "the archive moves to Glacier after a year",
        edited(LIFECYCLE, put("rule.1.transition.1.days", 365), id_=f"{ARCHIVE}-lifecycle"),
    ),
    mutation(
        "archive-tiering",
        "the archive never uses Intelligent-Tiering",
        edited(LIFECYCLE, drop("rule.1.transition.0"), id_=f"{ARCHIVE}-lifecycle"),
    ),
    mutation(
        "archive-tiering",
        "the archive's Parquet objects stay where they are",
        edited(LIFECYCLE, put("rule.2.status", "Disabled"), id_=f"{ARCHIVE}-lifecycle"),
    ),
    mutation(
        "archive-tiering",
        "the archive's rule is about another prefix",
        edited(LIFECYCLE, put("rule.1.filter.0.and.0.prefix", "rough/"), id_=f"{ARCHIVE}-lifecycle"),
    ),
    mutation(
        "archive-tiering",
        "small objects go to Glacier, too",
        edited(LIFECYCLE, drop("rule.1.filter.0.and.0.object_size_greater_than"), id_=f"{ARCHIVE}-lifecycle"),
    ),
    mutation(
        "archive-tiering",
        "objects of a kilobyte go to Glacier",
        edited(LIFECYCLE, put("rule.1.filter.0.and.0.object_size_greater_than", 1024), id_=f"{ARCHIVE}-lifecycle"),
    ),
    mutation(
        "archive-tiering",
        "objects of every size are moved by default",
        edited(
            LIFECYCLE,
            put("transition_default_minimum_object_size", "varies_by_storage_class"),
            id_=f"{ARCHIVE}-lifecycle",
        ),
    ),
    mutation(
        "archive-tiering",
        "another rule moves quarantined messages of every size",
        edited(
            LIFECYCLE,
            put("rule.0.transition", [{"days": 90, "storage_class": "GLACIER"}]),
            id_=f"{ARCHIVE}-lifecycle",
        ),
    ),
    mutation(
        "archive-own-key",
        "the archive takes objects under a foreign key",
        without_statement(POLICY, where=denied("DenyForeignKeys")),
    ),
    mutation(
        "archive-own-key",
        "the archive takes objects under AWS's own key",
        without_statement(POLICY, where=denied("DenyEncryptionWithoutKey")),
    ),
    mutation(
        "archive-own-key",
        "the archive takes other kinds of encryption",
        without_statement(POLICY, where=denied("DenyOtherEncryption")),
    ),
    mutation(
        "archive-own-key",
        "the archive takes objects under a customer's key",
        without_statement(POLICY, where=denied("DenyCustomerKeys")),
    ),
    mutation(
        "archive-own-key",
        "the archive refuses writers that ask for no encryption",
        in_statement(POLICY, drop("Condition.Null"), where=denied("DenyForeignKeys")),
    ),
    mutation(
        "archive-own-key",
        "the archive takes another key than its own",
        in_statement(
            POLICY,
            put(
                "Condition.StringNotEquals",
                {
                    "s3:x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:eu-west-1:999999999999:key/"
                    "11111111-2222-3333-4444-555555555555"
                },
            ),
            where=denied("DenyForeignKeys"),
        ),
    ),
    mutation(
        "archive-own-key",
        "foreign keys are denied below one prefix only",
        in_statement(POLICY, put("Resource", "arn:aws:s3:::bucket/raw/*"), where=denied("DenyForeignKeys")),
    ),
    mutation(
        "archive-tiering",
        "a plant's tiering is switched off",
        edited("aws_s3_bucket_intelligent_tiering_configuration", put("status", "Disabled")),
    ),
    mutation(
        "failures-kept",
        "the function has no dead-letter queue",
        edited(FUNCTION, put("dead_letter_config", []), id_="function-sensor-processor"),
    ),
    mutation("failures-kept", "the mapping has no failure destination", edited(MAPPING, put("destination_config", []))),
    mutation(
        "failures-kept", "one bad record fails its whole batch", edited(MAPPING, put("function_response_types", []))
    ),
    mutation(
        "failures-kept", "a bad record is not isolated", edited(MAPPING, put("bisect_batch_on_function_error", False))
    ),
    mutation("function-observed", "the function runs on an old Python", edited(FUNCTION, put("runtime", "python3.8"))),
    mutation(
        "function-observed", "the function is not traced", edited(FUNCTION, put("tracing_config.0.mode", "PassThrough"))
    ),
    mutation(
        "function-private",
        "the function has an address on the internet",
        added("aws_lambda_function_url", {"function_name": "${aws_lambda_function.function-sensor-processor.arn}"}),
    ),
    mutation(
        "function-private",
        "everybody may call the function",
        added("aws_lambda_permission", {"function_name": "${aws_lambda_function.function-sensor-processor.arn}"}),
    ),
    mutation(
        "function-observed",
        "Lambda makes the log group itself, kept for ever",
        removed(GROUP, "log-group-sensor-processor"),
    ),
)
