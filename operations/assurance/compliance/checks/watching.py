"""Checks of what is watched: the events that CIS names, by a filter and an alarm each, and alarms that are heard."""

from __future__ import annotations

from collections.abc import Iterator

from fleet_iot.operations.assurance.compliance.findings import Check, Observation, saw, unless
from fleet_iot.operations.assurance.compliance.infrastructure import Body, Estate, Resource, name_of
from fleet_iot.operations.assurance.compliance.policies import read_statements

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
"""What CIS AWS Foundations Benchmark v5.0.0 wants watched of such a platform, and what a filter's pattern must name."""


def _events_watched(estate: Estate) -> Iterator[Observation]:
    filters = list(estate.of(FILTER))
    if not filters:
        return
    groups = [
        estate.found("aws_cloudwatch_log_group", trail, trail.body.get("cloud_watch_logs_group_arn"))
        for trail in estate.of("aws_cloudtrail")
    ]
    alarmed = {(alarm.body.get("namespace"), alarm.body.get("metric_name")) for alarm in estate.of(ALARM)}
    of_trails = [each for each in filters if _group_of(each, estate) in groups]
    for event, words in WATCHED.items():
        matching = [each for each in of_trails if all(word in str(each.body.get("pattern")) for word in words)]
        is_alarmed = any(_metric(each) in alarmed for each in matching)
        yield saw(
            matching[0].address if matching else estate.platform,
            event,
            unless(matching, "no metric filter of the trail's log sees it")
            or unless(is_alarmed, "no alarm watches its metric"),
        )


def _alarms_act(estate: Estate) -> Iterator[Observation]:
    topics = [topic for topic in estate.of("aws_sns_topic") if _lets_alarms_in(estate, topic)]
    for alarm in estate.of(ALARM, "aws_cloudwatch_composite_alarm"):
        actions = alarm.body.get("alarm_actions") or []
        # A plant's alarm names the platform's topic by its ARN, which ends in its name.
        names = {str(name_of(topic)) for topic in topics}
        known = [
            each
            for each in actions
            if estate.found("aws_sns_topic", alarm, each) in topics or str(each).rpartition(":")[2] in names
        ]
        yield saw(
            alarm,
            "alarm_actions",
            unless(known, "tells no topic that takes it from CloudWatch"),
            unless(alarm.body.get("actions_enabled", True) is not False, "is muted"),
        )


def _lets_alarms_in(estate: Estate, topic: Resource) -> bool:
    """Whether CloudWatch may publish to a topic; where it may not, its alarms are lost without a word."""
    return any(
        statement.is_allow and CLOUDWATCH in statement.principals_of("Service") and "sns:Publish" in statement.actions
        for policy in estate.belonging("aws_sns_topic_policy", "arn", topic)
        for statement in read_statements(str(policy.body.get("policy", "")))
    )


def _group_of(metric_filter: Resource, estate: Estate) -> Resource | None:
    return estate.found("aws_cloudwatch_log_group", metric_filter, metric_filter.body.get("log_group_name"))


def _metric(metric_filter: Resource) -> tuple[object, object]:
    transformation: Body = metric_filter.block("metric_transformation")
    return transformation.get("namespace"), transformation.get("name")


CHECKS = (
    Check(
        id="events-watched",
        demand="The events that CIS names are filtered from the trail, and each has an alarm",
        look=_events_watched,
        about=FILTER,
    ),
    Check(
        id="alarms-act", demand="Every alarm tells a topic of the platform that takes it", look=_alarms_act, about=ALARM
    ),
)
"""A fleet without any filter and alarm has nothing to look at: the report then claims nothing of them."""
