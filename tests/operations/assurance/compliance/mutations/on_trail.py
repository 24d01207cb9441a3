"""Mutations of the audit trail and of the logs."""

from __future__ import annotations

from fleet_iot.operations.assurance.compliance.infrastructure import Body
from tests.operations.assurance.compliance.mutations.edits import (
    Edit,
    Mutation,
    all_removed,
    drop,
    edited,
    mutation,
    put,
    removed,
)

TRAIL, GROUP = "aws_cloudtrail", "aws_cloudwatch_log_group"


def without_selector(name: str) -> Edit:
    """Takes away the event selectors with this name."""

    def edit(body: Body) -> None:
        before = body["advanced_event_selector"]
        body["advanced_event_selector"] = [each for each in before if each["name"] != name]

    return edit


def writes_only(name: str) -> Edit:
    """Narrows the event selectors with this name to writes."""

    def edit(body: Body) -> None:
        for selector in body["advanced_event_selector"]:
            if selector["name"] == name:
                selector["field_selector"].append({"field": "readOnly", "equals": ["false"]})

    return edit


MUTATIONS: tuple[Mutation, ...] = (
    mutation("trail-everywhere", "there is no trail", all_removed(TRAIL)),
    mutation("trail-everywhere", "the trail is of one region", edited(TRAIL, put("is_multi_region_trail", False))),
    mutation(
        "trail-everywhere", "the trail leaves out IAM", edited(TRAIL, put("include_global_service_events", False))
    ),
    mutation("trail-everywhere", "the trail is switched off", edited(TRAIL, put("enable_logging", False))),
    mutation(
        "trail-validated", "the trail's files are not signed", edited(TRAIL, put("enable_log_file_validation", False))
    ),
    mutation("trail-to-logs", "the trail goes to S3 only", edited(TRAIL, drop("cloud_watch_logs_group_arn"))),
    mutation("trail-insights", "error rates are not watched", edited(TRAIL, drop("insight_selector.1"))),
    mutation("trail-insights", "nothing is watched", edited(TRAIL, put("insight_selector", []))),
    mutation(
        "trail-management-events",
        "management events are left out",
        edited(TRAIL, without_selector("Management events")),
    ),
    mutation("trail-management-events", "only writes are recorded", edited(TRAIL, writes_only("Management events"))),
    mutation(
        "trail-data-events", "reads of the archive are not recorded", edited(TRAIL, writes_only("Archive objects"))
    ),
    mutation(
        "trail-data-events", "invocations are not recorded", edited(TRAIL, without_selector("Function invocations"))
    ),
    mutation("trail-data-events", "table items are not recorded", edited(TRAIL, without_selector("Table items"))),
    mutation("trail-data-events", "stream records are not recorded", edited(TRAIL, without_selector("Stream records"))),
    mutation(
        "bucket-logged",
        "accesses to the trail's files are not logged",
        removed("aws_s3_bucket_logging", "bucket-audit-trail-logging"),
    ),
    mutation(
        "log-retention",
        "the function's log is kept a week",
        edited(GROUP, put("retention_in_days", 7), id_="log-group-sensor-processor"),
    ),
    mutation(
        "log-retention",
        "the trail's log is kept 30 days",
        edited(GROUP, put("retention_in_days", 30), id_="log-group-audit-trail"),
    ),
    mutation("log-retention", "a log is kept for ever", edited(GROUP, put("retention_in_days", 0))),
    mutation(
        "trail-retention",
        "the trail's files are kept a month",
        edited(
            "aws_s3_bucket_lifecycle_configuration",
            put("rule.0.expiration.0.days", 30),
            id_="bucket-audit-trail-lifecycle",
        ),
    ),
)
