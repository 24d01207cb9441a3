"""Checks of what is recorded and must not be lost: audit trails, logs, alarms; readings, archive, failures."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping

from fleet_iot.lib.names import LANES, PROCESSOR_ROLE, RAW_ARCHIVE, TOPIC_RULE_ROLE
from fleet_iot.operations.assurance.compliance.findings import Observation, check, observe, problem_unless
from fleet_iot.operations.assurance.compliance.infrastructure import (
    Body,
    PlannedInfrastructure,
    Resource,
    account_of,
    arn_of,
    block_of,
    blocks_of,
    kind_of,
    name_of,
    read_statements,
)

# The audit trails, the logs, and what is watched: recorded, unchangeable, kept, filtered, alarmed.

INSIGHTS = {"ApiCallRateInsight", "ApiErrorRateInsight"}

LOG_DAYS = {"short": 30, "records": 400}
TRAIL_DAYS = {"short": 90, "records": 2557}

DATA_EVENTS = {
    "aws_dynamodb_table": (
        "AWS::DynamoDB::Table",
        ("BatchGetItem", "GetItem", "Query", "Scan"),
        ("BatchWriteItem", "DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"),
    ),
    "aws_kinesis_stream": ("AWS::Kinesis::Stream", ("GetRecords",), ("PutRecord", "PutRecords")),
    "aws_lambda_function": ("AWS::Lambda::Function", (), ("Invoke",)),
    "aws_s3_bucket": ("AWS::S3::Object", ("GetObject",), ("DeleteObject", "PutObject")),
}
"""Type with telemetry → CloudTrail's name of its data events, calls that read, calls that write."""

DATA_BUCKETS = {RAW_ARCHIVE: "raw", LANES: "state"}
"""Buckets with telemetry, and a prefix in each. A trail's own files would cause events."""

TELEMETRY = {
    "AWS::DynamoDB::Table": (PROCESSOR_ROLE, {"BatchWriteItem", "PutItem", "TransactWriteItems", "UpdateItem"}),
    "AWS::Kinesis::Stream": (TOPIC_RULE_ROLE, {"PutRecord"}),
    "AWS::S3::Object": (PROCESSOR_ROLE, {"PutObject"}),
}
"""Calls, by their role, that `audit.data_events: without-telemetry` may leave out."""


def _of_management(planned: PlannedInfrastructure) -> Iterator[Resource]:
    """Yield the trails that select management events; one without selectors does."""
    for trail in planned.of("aws_cloudtrail"):
        categories = {_fields(each).get("eventCategory") for each in trail.blocks("advanced_event_selector")}
        if not categories or ("Management",) in categories:
            yield trail


@check("trail-everywhere", "Every trail records all regions and global services")
def trail_everywhere(planned: PlannedInfrastructure) -> Iterator[Observation]:
    trails = list(planned.of("aws_cloudtrail"))
    if not trails:
        yield observe(planned.platform, "aws_cloudtrail", "there is no trail")
    for trail in trails:
        yield observe(
            trail,
            "is_multi_region_trail",
            problem_unless(trail.body.get("is_multi_region_trail") is True, "is of one region"),
            problem_unless(trail.body.get("include_global_service_events") is True, "leaves out global services"),
            problem_unless(trail.body.get("enable_logging") is True, "does not record"),
        )


@check("trail-validated", "Every trail's files are signed")
def trail_validated(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for trail in planned.of("aws_cloudtrail"):
        is_validated = trail.body.get("enable_log_file_validation") is True
        yield observe(
            trail, "enable_log_file_validation", problem_unless(is_validated, "its files can be changed unseen")
        )


@check("trail-to-logs", "Management events are delivered to CloudWatch Logs")
def trail_to_logs(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for trail in _of_management(planned):
        group = planned.found("aws_cloudwatch_log_group", trail, trail.body.get("cloud_watch_logs_group_arn"))
        role = planned.found("aws_iam_role", trail, trail.body.get("cloud_watch_logs_role_arn"))
        yield observe(
            trail,
            "cloud_watch_logs_group_arn",
            problem_unless(group is not None and role is not None, "is not delivered to CloudWatch Logs"),
        )


@check("trail-insights", "Insights watch call and error rates of management events")
def trail_insights(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for trail in _of_management(planned):
        missing = INSIGHTS - {block.get("insight_type") for block in trail.blocks("insight_selector")}
        yield observe(trail, "insight_selector", problem_unless(not missing, f"lacks {', '.join(sorted(missing))}"))


@check("trail-management-events", "A trail records every management event, reads and writes")
def trail_management_events(planned: PlannedInfrastructure) -> Iterator[Observation]:
    whole = [
        trail
        for trail in planned.of("aws_cloudtrail")
        if any(_fields(each) == {"eventCategory": ("Management",)} for each in trail.blocks("advanced_event_selector"))
    ]
    for trail in whole or planned.of("aws_cloudtrail"):
        yield observe(trail, "advanced_event_selector", problem_unless(whole, "does not record every management event"))


@check(
    "trail-data-events",
    "Every read and write of archive, state, tables, function and stream is recorded, as the manifest says",
)
def trail_data_events(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """Ask the selectors about each call by each role and by a person."""
    selectors = [each for trail in planned.of("aws_cloudtrail") for each in trail.blocks("advanced_event_selector")]
    roles = sorted(str(name_of(role)) for role in planned.of("aws_iam_role"))
    for type_, (kind, reads, writes) in DATA_EVENTS.items():
        writer, telemetry = TELEMETRY.get(kind, ("", set()))
        for resource in planned.of(type_):
            if type_ == "aws_s3_bucket" and kind_of(resource) not in DATA_BUCKETS:
                continue
            event = {"eventCategory": "Data", "resources.type": kind, "resources.ARN": _data_arn(planned, resource)}
            missing = [
                f"{call} by {caller}"
                for call in (*reads, *writes)
                for caller in ("a-person", *roles)
                if not (
                    planned.data_events == "without-telemetry" and call in telemetry and caller.startswith(f"{writer}-")
                )
                and not any(
                    _selects(each, event | _call(call, caller, account_of(planned, resource), is_read=call in reads))
                    for each in selectors
                )
            ]
            yield observe(resource, "data events", problem_unless(not missing, f"unrecorded: {', '.join(missing[:3])}"))


def _data_arn(planned: PlannedInfrastructure, resource: Resource) -> str:
    arn = arn_of(planned, resource)
    return f"{arn}/{DATA_BUCKETS[kind_of(resource)]}/object" if resource.type == "aws_s3_bucket" else arn


def _call(call: str, role: str, account_id: str, *, is_read: bool) -> dict[str, str]:
    session = f"arn:aws:sts::{account_id}:assumed-role/{role}/session"
    return {"eventName": call, "readOnly": str(is_read).lower(), "userIdentity.arn": session}


OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "equals": operator.eq,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
}


def _selects(selector: Body, event: Mapping[str, str]) -> bool:
    """Return whether an advanced event selector records an event: all its fields match.

    A field matches by any of its wanted values, and by none of its unwanted ones.
    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/filtering-data-events.html
    """
    for field in blocks_of(selector, "field_selector"):
        value = event.get(str(field.get("field")), "")
        wanted = [is_like(value, each) for name, is_like in OPERATORS.items() for each in field.get(name) or ()]
        unwanted = [
            is_like(value, each) for name, is_like in OPERATORS.items() for each in field.get(f"not_{name}") or ()
        ]
        if (wanted and not any(wanted)) or any(unwanted):
            return False
    return True


@check("bucket-logged", "Accesses to every bucket are logged")
def buckets_logged(planned: PlannedInfrastructure) -> Iterator[Observation]:
    targets = [
        bucket
        for bucket in planned.of("aws_s3_bucket")
        if planned.belonging("aws_s3_bucket_logging", "target_bucket", bucket)
    ]  # a bucket that logs into itself would log its own logs
    for bucket in planned.of("aws_s3_bucket"):
        if bucket not in targets:
            is_logged = planned.belonging("aws_s3_bucket_logging", "bucket", bucket)
            yield observe(bucket, "logging", problem_unless(is_logged, "its accesses are not logged"))


@check("log-retention", "Logs are kept 30 days, the trail's 90; with records 400 days and seven years")
def log_retention(planned: PlannedInfrastructure) -> Iterator[Observation]:
    of_trails = _trail_groups(planned)
    for group in planned.of("aws_cloudwatch_log_group"):
        expected = (TRAIL_DAYS if group in of_trails else LOG_DAYS)[planned.retention]
        days = group.body.get("retention_in_days")
        yield observe(
            group, "retention_in_days", problem_unless(days == expected, f"keeps {days} days, not {expected}")
        )


@check("trail-retention", "Every trail's files are kept 90 days; with records seven years")
def trail_retention(planned: PlannedInfrastructure) -> Iterator[Observation]:
    expected = TRAIL_DAYS[planned.retention]
    for trail in planned.of("aws_cloudtrail"):
        bucket = planned.found("aws_s3_bucket", trail, trail.body.get("s3_bucket_name"))
        days = [
            expiration.get("days")
            for each in (planned.belonging("aws_s3_bucket_lifecycle_configuration", "bucket", bucket) if bucket else ())
            for rule in each.blocks("rule")
            for expiration in blocks_of(rule, "expiration")
        ]
        yield observe(
            trail, "s3_bucket_name", problem_unless(days == [expected], f"keeps its files {days}, not {expected} days")
        )


def _trail_groups(planned: PlannedInfrastructure) -> list[Resource]:
    targets = [
        planned.target(each, each.body.get("cloud_watch_logs_group_arn")) for each in planned.of("aws_cloudtrail")
    ]
    return [target for target in targets if target is not None]


def _fields(selector: Body) -> dict[str, tuple[str, ...]]:
    """Return the fields of an advanced event selector and their values; a negation is a value of its own."""
    fields: dict[str, tuple[str, ...]] = {}
    for field in blocks_of(selector, "field_selector"):
        values = tuple(field.get("equals") or ()) + tuple(field.get("starts_with") or ())
        fields[str(field.get("field"))] = values or ("excluded",)
    return fields


CLOUDWATCH = "cloudwatch.amazonaws.com"
FILTER, ALARM = "aws_cloudwatch_log_metric_filter", "aws_cloudwatch_metric_alarm"

WATCHED: dict[str, tuple[str, ...]] = {
    "4.1 unauthorised calls": ("UnauthorizedOperation", "AccessDenied"),
    "4.3 use of root": ("$.userIdentity.type", "Root"),
    "4.4 changes of IAM policies": ("PutRolePolicy", "DeleteRolePolicy", "AttachRolePolicy", "DetachRolePolicy"),
    "4.5 changes of the trail": ("UpdateTrail", "DeleteTrail", "StopLogging"),
    "4.7 keys disabled or deleted": ("DisableKey", "ScheduleKeyDeletion"),
    "4.8 changes of bucket policies": ("PutBucketPolicy", "DeleteBucketPolicy"),
}
"""Event that CIS AWS Foundations Benchmark v5.0.0 requires to be watched → what a filter's pattern must name."""


@check("events-watched", "The events that CIS names are filtered from the trail, and each has an alarm", about=FILTER)
def events_watched(planned: PlannedInfrastructure) -> Iterator[Observation]:
    filters = list(planned.of(FILTER))
    if not filters:
        return
    groups = _trail_groups(planned)
    alarmed = {(alarm.body.get("namespace"), alarm.body.get("metric_name")) for alarm in planned.of(ALARM)}
    of_trails = [each for each in filters if _group_of(each, planned) in groups]
    for event, words in WATCHED.items():
        matching = [each for each in of_trails if all(word in str(each.body.get("pattern")) for word in words)]
        is_alarmed = any(_metric(each) in alarmed for each in matching)
        yield observe(
            matching[0].address if matching else planned.platform,
            event,
            problem_unless(matching, "no metric filter of the trail's log sees it")
            or problem_unless(is_alarmed, "no alarm watches its metric"),
        )


@check("alarms-act", "Every alarm publishes to a topic of the platform that accepts it", about=ALARM)
def alarms_act(planned: PlannedInfrastructure) -> Iterator[Observation]:
    topics = [topic for topic in planned.of("aws_sns_topic") if _accepts_alarms(planned, topic)]
    for alarm in planned.of(ALARM, "aws_cloudwatch_composite_alarm"):
        actions = alarm.body.get("alarm_actions") or []
        # A plant's alarm names the platform's topic by its ARN, which ends in its name.
        names = {str(name_of(topic)) for topic in topics}
        known = [
            each
            for each in actions
            if planned.found("aws_sns_topic", alarm, each) in topics or str(each).rpartition(":")[2] in names
        ]
        yield observe(
            alarm,
            "alarm_actions",
            problem_unless(known, "publishes to no topic that accepts it from CloudWatch"),
            problem_unless(alarm.body.get("actions_enabled", True) is not False, "is muted"),
        )


def _accepts_alarms(planned: PlannedInfrastructure, topic: Resource) -> bool:
    """Return whether CloudWatch may publish to a topic; where it may not, its alarms are lost silently."""
    return any(
        statement.is_allow and CLOUDWATCH in statement.principals_of("Service") and "sns:Publish" in statement.actions
        for policy in planned.belonging("aws_sns_topic_policy", "arn", topic)
        for statement in read_statements(str(policy.body.get("policy", "")))
    )


def _group_of(metric_filter: Resource, planned: PlannedInfrastructure) -> Resource | None:
    return planned.found("aws_cloudwatch_log_group", metric_filter, metric_filter.body.get("log_group_name"))


def _metric(metric_filter: Resource) -> tuple[object, object]:
    transformation: Body = metric_filter.block("metric_transformation")
    return transformation.get("namespace"), transformation.get("name")


"""Without any filter or alarm there is nothing to observe, and the report claims nothing of them."""


# What must not be lost: readings, archive, failures; and of how data ages.

STREAM_HOURS = 168
GLACIER_DAYS = 90
COOLED = ("raw/", "archive/")
"""Prefixes of the archive whose objects cool down."""
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
        if kind_of(bucket) != RAW_ARCHIVE:
            continue
        lifecycles = planned.belonging("aws_s3_bucket_lifecycle_configuration", "bucket", bucket)
        rules = [
            rule
            for each in lifecycles
            for rule in each.blocks("rule")
            if rule.get("status") == "Enabled" and blocks_of(rule, "transition")
        ]
        moves = [
            {
                transition.get("storage_class"): transition.get("days")
                for rule in rules
                if _filter(rule).get("prefix") == prefix
                for transition in blocks_of(rule, "transition")
            }
            for prefix in COOLED
        ]
        days = {each.get("GLACIER") for each in moves} - {GLACIER_DAYS}
        least = [_filter(rule).get("object_size_greater_than") or 0 for rule in rules]
        wholly = [each.body.get("transition_default_minimum_object_size", SMALL_STAY) for each in lifecycles]
        yield observe(
            bucket,
            "lifecycle",
            problem_unless(
                all("INTELLIGENT_TIERING" in each for each in moves), "does not use Intelligent-Tiering everywhere"
            ),
            problem_unless(not days, f"moves to Glacier after {', '.join(map(str, days))} days, not {GLACIER_DAYS}"),
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
        # What a scheduled function could not process, its next run finds where it was.
        if not planned.belonging("aws_lambda_event_source_mapping", "function_name", function):
            continue
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
