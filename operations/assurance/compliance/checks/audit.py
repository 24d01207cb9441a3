"""Checks of the audit trail, the logs, and what is watched: recorded, unchangeable, kept, filtered, alarmed."""

from __future__ import annotations

from collections.abc import Iterator

from fleet_iot.lib.names import RAW_ARCHIVE
from fleet_iot.operations.assurance.compliance.findings import Observation, check, observe, problem_unless
from fleet_iot.operations.assurance.compliance.infrastructure import (
    Body,
    PlannedInfrastructure,
    Resource,
    blocks_of,
    name_of,
)
from fleet_iot.operations.assurance.compliance.policies import read_statements

INSIGHTS = {"ApiCallRateInsight", "ApiErrorRateInsight"}

LOG_DAYS = {"short": 30, "records": 400}
TRAIL_DAYS = {"short": 90, "records": 2557}

DATA_EVENTS = {
    "aws_dynamodb_table": "AWS::DynamoDB::Table",
    "aws_lambda_function": "AWS::Lambda::Function",
    "aws_kinesis_stream": "AWS::Kinesis::Stream",
}
"""Type that stores or handles telemetry → CloudTrail's name of its data events; of buckets, the raw archive."""


@check("trail-everywhere", "A trail records all regions and global services")
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


@check("trail-validated", "The trail's files are signed")
def trail_validated(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for trail in planned.of("aws_cloudtrail"):
        is_validated = trail.body.get("enable_log_file_validation") is True
        yield observe(
            trail, "enable_log_file_validation", problem_unless(is_validated, "its files can be changed unseen")
        )


@check("trail-to-logs", "The trail is delivered to CloudWatch Logs")
def trail_to_logs(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for trail in planned.of("aws_cloudtrail"):
        group = planned.found("aws_cloudwatch_log_group", trail, trail.body.get("cloud_watch_logs_group_arn"))
        role = planned.found("aws_iam_role", trail, trail.body.get("cloud_watch_logs_role_arn"))
        yield observe(
            trail,
            "cloud_watch_logs_group_arn",
            problem_unless(group is not None and role is not None, "is not delivered to CloudWatch Logs"),
        )


@check("trail-insights", "The trail watches call and error rates")
def trail_insights(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for trail in planned.of("aws_cloudtrail"):
        missing = INSIGHTS - {block.get("insight_type") for block in trail.blocks("insight_selector")}
        yield observe(trail, "insight_selector", problem_unless(not missing, f"lacks {', '.join(sorted(missing))}"))


@check("trail-management-events", "The trail records every management event, reads and writes")
def trail_management_events(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for trail in planned.of("aws_cloudtrail"):
        selectors = map(_fields, trail.blocks("advanced_event_selector"))
        whole = [each for each in selectors if each == {"eventCategory": ("Management",)}]
        yield observe(trail, "advanced_event_selector", problem_unless(whole, "does not record every management event"))


@check("trail-data-events", "The trail records every read and write of archive, tables, function and stream")
def trail_data_events(planned: PlannedInfrastructure) -> Iterator[Observation]:
    trails = list(planned.of("aws_cloudtrail"))
    recorded = {
        (fields["resources.type"][0], arn)
        for trail in trails
        for fields in map(_fields, trail.blocks("advanced_event_selector"))
        if "readOnly" not in fields and "eventName" not in fields and "resources.type" in fields
        for arn in fields.get("resources.ARN", ())
    }
    for type_, kind in DATA_EVENTS.items():
        for resource in planned.of(type_):
            is_recorded = any(
                each == kind and arn.endswith((f"/{name_of(resource)}", f":{name_of(resource)}"))
                for each, arn in recorded
            )
            yield observe(resource, "data events", problem_unless(is_recorded, "reads and writes are not in the trail"))
    for bucket in planned.of("aws_s3_bucket"):
        if RAW_ARCHIVE in str(name_of(bucket)):
            is_recorded = ("AWS::S3::Object", f"arn:aws:s3:::{name_of(bucket)}/") in recorded
            yield observe(bucket, "data events", problem_unless(is_recorded, "reads and writes are not in the trail"))


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


@check("trail-retention", "The trail's files are kept 90 days; with records seven years")
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
    groups = [
        planned.found("aws_cloudwatch_log_group", trail, trail.body.get("cloud_watch_logs_group_arn"))
        for trail in planned.of("aws_cloudtrail")
    ]
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
    """Whether CloudWatch may publish to a topic; where it may not, its alarms are lost silently."""
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
