"""Mutations of the audit trails and of the logs."""

from __future__ import annotations

from fleet_iot.operations.assurance.compliance.infrastructure import Body
from tests.operations.assurance.compliance.mutations.edits import (
    Edit,
    Mutation,
    all_removed,
    allows,
    drop,
    edited,
    in_statement,
    mutation,
    put,
    removed,
    without_statement,
)

TRAIL, GROUP = "aws_cloudtrail", "aws_cloudwatch_log_group"
DATA = "trail-data-events"


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


PROCESSOR = "arn:aws:sts::123456789012:assumed-role/role-sensor-processor-"


def narrowed(name: str, field: str, operator: str, value: str) -> Edit:
    """Leaves out, of the event selectors with this name, what matches one more field."""

    def edit(body: Body) -> None:
        for selector in body["advanced_event_selector"]:
            if selector["name"] == name:
                selector["field_selector"].append({"field": field, operator: [value]})

    return edit


MUTATIONS: tuple[Mutation, ...] = (
    mutation("trail-everywhere", "there is no trail", all_removed(TRAIL)),
    mutation("trail-everywhere", "the trail is of one region", edited(TRAIL, put("is_multi_region_trail", False))),
    mutation(
        "trail-everywhere", "the trail leaves out IAM", edited(TRAIL, put("include_global_service_events", False))
    ),
    mutation("trail-everywhere", "the trail is switched off", edited(TRAIL, put("enable_logging", False))),
    mutation(
        "trail-everywhere",
        "the data events' trail is of one region",
        edited(TRAIL, put("is_multi_region_trail", False), id_=DATA),
    ),
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
    mutation("trail-data-events", "the data events' trail is gone", removed(TRAIL, DATA)),
    mutation(
        "trail-data-events",
        "reads of the archive are not recorded",
        edited(TRAIL, writes_only("Archive and state objects"), id_=DATA),
    ),
    *(
        mutation("trail-data-events", f"{name} are not recorded", edited(TRAIL, without_selector(name), id_=DATA))
        for name in ("Function invocations", "Table items", "Stream records")
    ),
    mutation(
        "trail-data-events",
        "writes by the processor are not recorded",
        edited(TRAIL, narrowed("Table items", "userIdentity.arn", "not_starts_with", PROCESSOR), id_=DATA),
    ),
    mutation(
        "trail-data-events",
        "deletions are not recorded",
        edited(TRAIL, narrowed("Archive and state objects", "eventName", "not_equals", "DeleteObject"), id_=DATA),
    ),
    mutation(
        "trail-delivery", "both trails share a prefix", edited(TRAIL, put("s3_key_prefix", "management"), id_=DATA)
    ),
    mutation("trail-delivery", "a trail writes elsewhere", edited(TRAIL, put("s3_key_prefix", "other"), id_=DATA)),
    mutation(
        "trail-delivery",
        "the key's policy leaves out the data events' trail",
        in_statement(
            "aws_kms_key",
            put("Condition.StringEquals.kms:EncryptionContext:aws:cloudtrail:arn", ["arn:aws:cloudtrail:::trail/x"]),
            where=lambda statement: statement.get("Sid") == "AllowCloudTrailEncrypt",
        ),
    ),
    mutation(
        "trail-delivery",
        "no trail may read the bucket's ACL",
        without_statement("aws_s3_bucket_policy", where=allows("s3:GetBucketAcl")),
    ),
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
