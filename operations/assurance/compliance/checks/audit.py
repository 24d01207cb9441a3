"""Checks of the audit trail and of the logs: what is recorded, that it cannot be changed, how long it is kept."""

from __future__ import annotations

from collections.abc import Iterator

from fleet_iot.operations.assurance.compliance.estate import Body, Estate, Resource, blocks_of, name_of
from fleet_iot.operations.assurance.compliance.findings import Check, Observation, saw, unless

INSIGHTS = {"ApiCallRateInsight", "ApiErrorRateInsight"}

LOG_DAYS = {"short": 30, "records": 400}
TRAIL_DAYS = {"short": 90, "records": 2557}

DATA_EVENTS = {
    "aws_dynamodb_table": "AWS::DynamoDB::Table",
    "aws_lambda_function": "AWS::Lambda::Function",
    "aws_kinesis_stream": "AWS::Kinesis::Stream",
}
"""What keeps or handles telemetry, and what CloudTrail calls its data events; buckets: the raw archive."""

ARCHIVE = "raw-archive"


def _trail_everywhere(estate: Estate) -> Iterator[Observation]:
    trails = list(estate.of("aws_cloudtrail"))
    if not trails:
        yield saw(estate.platform, "aws_cloudtrail", "there is no trail")
    for trail in trails:
        yield saw(
            trail,
            "is_multi_region_trail",
            unless(trail.body.get("is_multi_region_trail") is True, "is of one region"),
            unless(trail.body.get("include_global_service_events") is True, "leaves out global services"),
            unless(trail.body.get("enable_logging") is True, "does not record"),
        )


def _trail_validated(estate: Estate) -> Iterator[Observation]:
    for trail in estate.of("aws_cloudtrail"):
        is_validated = trail.body.get("enable_log_file_validation") is True
        yield saw(trail, "enable_log_file_validation", unless(is_validated, "its files can be changed unseen"))


def _trail_to_logs(estate: Estate) -> Iterator[Observation]:
    for trail in estate.of("aws_cloudtrail"):
        group = estate.found("aws_cloudwatch_log_group", trail, trail.body.get("cloud_watch_logs_group_arn"))
        role = estate.found("aws_iam_role", trail, trail.body.get("cloud_watch_logs_role_arn"))
        yield saw(
            trail,
            "cloud_watch_logs_group_arn",
            unless(group is not None and role is not None, "is not delivered to CloudWatch Logs"),
        )


def _trail_insights(estate: Estate) -> Iterator[Observation]:
    for trail in estate.of("aws_cloudtrail"):
        missing = INSIGHTS - {block.get("insight_type") for block in trail.blocks("insight_selector")}
        yield saw(trail, "insight_selector", unless(not missing, f"lacks {', '.join(sorted(missing))}"))


def _trail_management_events(estate: Estate) -> Iterator[Observation]:
    for trail in estate.of("aws_cloudtrail"):
        selectors = map(_fields, trail.blocks("advanced_event_selector"))
        whole = [each for each in selectors if each == {"eventCategory": ("Management",)}]
        yield saw(trail, "advanced_event_selector", unless(whole, "does not record every management event"))


def _trail_data_events(estate: Estate) -> Iterator[Observation]:
    trails = list(estate.of("aws_cloudtrail"))
    recorded = {
        (fields["resources.type"][0], arn)
        for trail in trails
        for fields in map(_fields, trail.blocks("advanced_event_selector"))
        if "readOnly" not in fields and "eventName" not in fields and "resources.type" in fields
        for arn in fields.get("resources.ARN", ())
    }
    for type_, kind in DATA_EVENTS.items():
        for resource in estate.of(type_):
            is_recorded = any(
                each == kind and arn.endswith((f"/{name_of(resource)}", f":{name_of(resource)}"))
                for each, arn in recorded
            )
            yield saw(resource, "data events", unless(is_recorded, "reads and writes are not in the trail"))
    for bucket in estate.of("aws_s3_bucket"):
        if ARCHIVE in str(name_of(bucket)):
            is_recorded = ("AWS::S3::Object", f"arn:aws:s3:::{name_of(bucket)}/") in recorded
            yield saw(bucket, "data events", unless(is_recorded, "reads and writes are not in the trail"))


def _buckets_logged(estate: Estate) -> Iterator[Observation]:
    targets = [
        bucket
        for bucket in estate.of("aws_s3_bucket")
        if estate.belonging("aws_s3_bucket_logging", "target_bucket", bucket)
    ]  # a bucket that logs into itself would log its own logs
    for bucket in estate.of("aws_s3_bucket"):
        if bucket not in targets:
            is_logged = estate.belonging("aws_s3_bucket_logging", "bucket", bucket)
            yield saw(bucket, "logging", unless(is_logged, "its accesses are not logged"))


def _log_retention(estate: Estate) -> Iterator[Observation]:
    of_trails = _trail_groups(estate)
    for group in estate.of("aws_cloudwatch_log_group"):
        expected = (TRAIL_DAYS if group in of_trails else LOG_DAYS)[estate.retention]
        days = group.body.get("retention_in_days")
        yield saw(group, "retention_in_days", unless(days == expected, f"keeps {days} days, not {expected}"))


def _trail_retention(estate: Estate) -> Iterator[Observation]:
    expected = TRAIL_DAYS[estate.retention]
    for trail in estate.of("aws_cloudtrail"):
        bucket = estate.found("aws_s3_bucket", trail, trail.body.get("s3_bucket_name"))
        days = [
            expiration.get("days")
            for each in (estate.belonging("aws_s3_bucket_lifecycle_configuration", "bucket", bucket) if bucket else ())
            for rule in each.blocks("rule")
            for expiration in blocks_of(rule, "expiration")
        ]
        yield saw(trail, "s3_bucket_name", unless(days == [expected], f"keeps its files {days}, not {expected} days"))


def _trail_groups(estate: Estate) -> list[Resource]:
    targets = [estate.target(each, each.body.get("cloud_watch_logs_group_arn")) for each in estate.of("aws_cloudtrail")]
    return [target for target in targets if target is not None]


def _fields(selector: Body) -> dict[str, tuple[str, ...]]:
    """The fields of an advanced event selector, and the values that it takes; a negation is a value of its own."""
    fields: dict[str, tuple[str, ...]] = {}
    for field in blocks_of(selector, "field_selector"):
        values = tuple(field.get("equals") or ()) + tuple(field.get("starts_with") or ())
        fields[str(field.get("field"))] = values or ("excluded",)
    return fields


CHECKS = (
    Check(id="trail-everywhere", demand="A trail records all regions and global services", look=_trail_everywhere),
    Check(id="trail-validated", demand="The trail's files are signed", look=_trail_validated),
    Check(id="trail-to-logs", demand="The trail is delivered to CloudWatch Logs", look=_trail_to_logs),
    Check(id="trail-insights", demand="The trail watches call and error rates", look=_trail_insights),
    Check(
        id="trail-management-events",
        demand="The trail records every management event, reads and writes",
        look=_trail_management_events,
    ),
    Check(
        id="trail-data-events",
        demand="The trail records every read and write of archive, tables, function and stream",
        look=_trail_data_events,
    ),
    Check(id="bucket-logged", demand="Accesses to every bucket are logged", look=_buckets_logged),
    Check(
        id="log-retention",
        demand="Logs are kept 30 days, the trail's 90; with records 400 days and seven years",
        look=_log_retention,
    ),
    Check(
        id="trail-retention",
        demand="The trail's files are kept 90 days; with records seven years",
        look=_trail_retention,
    ),
)
