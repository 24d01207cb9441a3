"""Checks of what must not be lost: readings, archive, failures; and of how data ages."""

from __future__ import annotations

from collections.abc import Iterator

from fleet_iot.lib.names import RAW_ARCHIVE
from fleet_iot.operations.assurance.compliance.findings import Observation, check, observe, problem_unless
from fleet_iot.operations.assurance.compliance.infrastructure import (
    Body,
    PlannedInfrastructure,
    block_of,
    blocks_of,
    name_of,
)

STREAM_HOURS = 168
GLACIER_DAYS = 90
SMALL_BYTES = 128 * 1024
SMALL_STAY = "all_storage_classes_128K"
"""S3 moves smaller objects only if a rule's filter or the configuration says so; each then costs a request and 40 kB of
overhead: https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html"""
RUNTIME = "python3.11"

PUBLIC_ACCESS = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")


@check("stream-retention", "Streams are on demand and keep a week to replay")
def stream_retention(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for stream in planned.of("aws_kinesis_stream"):
        hours = stream.body.get("retention_period", 0)
        mode = stream.block("stream_mode_details").get("stream_mode")
        yield observe(
            stream,
            "retention_period",
            problem_unless(hours >= STREAM_HOURS, f"keeps {hours} hours, not {STREAM_HOURS}"),
            problem_unless(mode == "ON_DEMAND", "does not grow by itself"),
        )


@check("table-recovery", "Tables are on demand, with point-in-time recovery")
def table_recovery(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for table in planned.of("aws_dynamodb_table"):
        has_recovery = table.block("point_in_time_recovery").get("enabled") is True
        yield observe(
            table,
            "point_in_time_recovery",
            problem_unless(has_recovery, "cannot be brought back to a point in time"),
            problem_unless(table.body.get("billing_mode") == "PAY_PER_REQUEST", "does not grow by itself"),
        )


@check("bucket-versioning", "Buckets keep earlier versions")
def bucket_versioning(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for bucket in planned.of("aws_s3_bucket"):
        status = [
            each.block("versioning_configuration").get("status")
            for each in planned.belonging("aws_s3_bucket_versioning", "bucket", bucket)
        ]
        yield observe(bucket, "versioning", problem_unless(status == ["Enabled"], "keeps no earlier versions"))


@check("bucket-private", "Buckets cannot be made public and accept no access lists")
def bucket_private(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for bucket in planned.of("aws_s3_bucket"):
        blocks = planned.belonging("aws_s3_bucket_public_access_block", "bucket", bucket)
        is_closed = any(all(each.body.get(name) is True for name in PUBLIC_ACCESS) for each in blocks)
        owned = [
            each.block("rule").get("object_ownership")
            for each in planned.belonging("aws_s3_bucket_ownership_controls", "bucket", bucket)
        ]
        yield observe(
            bucket,
            "public access",
            problem_unless(is_closed, "can be made public"),
            problem_unless(owned == ["BucketOwnerEnforced"], "accepts access lists"),
        )


@check("bucket-lifecycle", "Buckets abort incomplete uploads and delete old versions")
def bucket_lifecycle(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for bucket in planned.of("aws_s3_bucket"):
        rules = [
            rule
            for each in planned.belonging("aws_s3_bucket_lifecycle_configuration", "bucket", bucket)
            for rule in each.blocks("rule")
            if rule.get("status") == "Enabled"
        ]
        yield observe(
            bucket,
            "lifecycle",
            problem_unless(
                any(blocks_of(rule, "abort_incomplete_multipart_upload") for rule in rules),
                "keeps uploads that never ended",
            ),
            problem_unless(
                any(blocks_of(rule, "noncurrent_version_expiration") for rule in rules),
                "keeps earlier versions for ever",
            ),
        )


@check(
    "archive-tiering",
    "The archive uses Intelligent-Tiering, and Glacier after 90 days, for objects from 128 kB on",
)
def archive_tiering(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for bucket in planned.of("aws_s3_bucket"):
        if RAW_ARCHIVE not in str(name_of(bucket)):
            continue
        lifecycles = planned.belonging("aws_s3_bucket_lifecycle_configuration", "bucket", bucket)
        rules = [
            rule
            for each in lifecycles
            for rule in each.blocks("rule")
            if rule.get("status") == "Enabled" and blocks_of(rule, "transition")
        ]
        moves = {
            transition.get("storage_class"): transition.get("days")
            for rule in rules
            if _filter(rule).get("prefix") == "raw/"
            for transition in blocks_of(rule, "transition")
        }
        days = moves.get("GLACIER")
        least = [_filter(rule).get("object_size_greater_than") or 0 for rule in rules]
        wholly = [each.body.get("transition_default_minimum_object_size", SMALL_STAY) for each in lifecycles]
        yield observe(
            bucket,
            "lifecycle",
            problem_unless("INTELLIGENT_TIERING" in moves, "does not use Intelligent-Tiering"),
            problem_unless(days == GLACIER_DAYS, f"moves to Glacier after {days} days, not {GLACIER_DAYS}"),
            problem_unless(
                all(each >= SMALL_BYTES - 1 for each in least),
                "moves objects under 128 kB, which costs more than it saves",
            ),
            problem_unless(
                all(each == SMALL_STAY for each in wholly), "moves small objects where a rule does not say otherwise"
            ),
        )
    for tiering in planned.of("aws_s3_bucket_intelligent_tiering_configuration"):
        tiers = {block.get("access_tier") for block in tiering.blocks("tiering")}
        is_on = tiering.body.get("status", "Enabled") == "Enabled" and "ARCHIVE_ACCESS" in tiers
        yield observe(tiering, "tiering", problem_unless(is_on, "never sinks to an archive tier"))


def _filter(rule: Body) -> Body:
    """Return the conditions of a rule's filter; several are inside one `and`."""
    conditions = block_of(rule, "filter")
    return block_of(conditions, "and") or conditions


@check("failures-kept", "What cannot be processed is kept, record by record")
def failures_kept(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for function in planned.of("aws_lambda_function"):
        has_queue = function.block("dead_letter_config").get("target_arn")
        yield observe(function, "dead_letter_config", problem_unless(has_queue, "loses what it cannot process"))
    for mapping in planned.of("aws_lambda_event_source_mapping"):
        destination = block_of(mapping.block("destination_config"), "on_failure").get("destination_arn")
        yield observe(
            mapping,
            "destination_config",
            problem_unless(destination, "loses what cannot be processed"),
            problem_unless(
                "ReportBatchItemFailures" in (mapping.body.get("function_response_types") or ()),
                "counts a batch as failed as a whole",
            ),
            problem_unless(mapping.body.get("bisect_batch_on_function_error") is True, "does not isolate a bad record"),
        )


@check("function-observed", "Functions run on python3.11, traced, with a log of their own")
def function_observed(planned: PlannedInfrastructure) -> Iterator[Observation]:
    groups = {name_of(group) for group in planned.of("aws_cloudwatch_log_group")}
    for function in planned.of("aws_lambda_function"):
        name = name_of(function)
        yield observe(
            function,
            "runtime",
            problem_unless(
                function.body.get("runtime") == RUNTIME, f"runs on {function.body.get('runtime')}, not {RUNTIME}"
            ),
            problem_unless(function.block("tracing_config").get("mode") == "Active", "is not traced"),
            problem_unless(f"/aws/lambda/{name}" in groups, "has no log group of its own"),
        )


@check("function-private", "No function can be called from outside")
def function_private(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """A service may call for one source; an address on the internet, or everybody, may not."""
    for function in planned.of("aws_lambda_function"):
        urls = planned.belonging("aws_lambda_function_url", "function_name", function)
        permissions = planned.belonging("aws_lambda_permission", "function_name", function)
        unbound = [
            each for each in permissions if not (each.body.get("source_arn") and each.body.get("source_account"))
        ]
        yield observe(
            function,
            "permissions",
            problem_unless(not urls, "has an address on the internet"),
            problem_unless(not unbound, "can be called for any source"),
        )
