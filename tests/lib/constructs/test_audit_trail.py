"""The audit trail."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.cdktf
REGION, ACCOUNT = "ap-southeast-1", "123456789012"
MANAGEMENT, DATA = (
    f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/{name}-mfg-{REGION}-tst"
    for name in ("trail-audit", "trail-data-events")
)
BUCKET = "arn:aws:s3:::bucket-mfg-audit-trail-123456789012-tst"
OBJECTS = (
    "AWS::S3::Object",
    [f"arn:aws:s3:::bucket-mfg-{kind}-123456789012-tst/" for kind in ("raw-archive", "lanes")],
)
TABLES = (
    "AWS::DynamoDB::Table",
    [f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/table-{t}-tst" for t in ("readings", "devices", "lanes")],
)
FUNCTIONS = (
    "AWS::Lambda::Function",
    [f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:function-{f}-tst" for f in ("sensor-processor", "archive-compactor")],
)
STREAM = ("AWS::Kinesis::Stream", [f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/stream-telemetry-tst"])


def fields_of(trail: dict[str, Any]) -> list[dict[str, Any]]:
    """Field → operator and values of each selector, without operator where it is the usual one."""
    selectors = []
    for selector in trail["advanced_event_selector"]:
        fields: dict[str, Any] = {}
        for each in selector["field_selector"]:
            ((operator, values),) = [(key, value) for key, value in each.items() if key != "field"]
            fields[each["field"]] = values if operator in ("equals", "starts_with") else {operator: values}
        selectors.append(fields)
    return selectors


def data(resources: tuple[str, list[str]], **more: Any) -> dict[str, Any]:
    """The fields that select data events on some resources."""
    kind, arns = resources
    return {"eventCategory": ["Data"], "resources.type": [kind], "resources.ARN": arns, **more}


def test_both_trails_cover_all_regions_and_sign_their_files(stacks) -> None:
    """Multi-region, global services, validated files, each under its own prefix of one bucket."""
    trails = stacks.platform.of("aws_cloudtrail")
    assert {id_: (trail["name"], trail["s3_key_prefix"]) for id_, trail in trails.items()} == {
        "trail-audit": ("trail-audit-mfg-ap-southeast-1-tst", "management"),
        "trail-data-events": ("trail-data-events-mfg-ap-southeast-1-tst", "data-events"),
    }
    for switch in (
        "is_multi_region_trail",
        "include_global_service_events",
        "enable_log_file_validation",
        "enable_logging",
    ):
        assert [trail[switch] for trail in trails.values()] == [True, True]
    assert len({trail["s3_bucket_name"] for trail in trails.values()}) == 1


def test_only_management_events_go_to_the_log_group(stacks) -> None:
    """Management events have Insights and a log group; data events go to the bucket only."""
    management, of_data = (stacks.platform.one("aws_cloudtrail", id_) for id_ in ("trail-audit", "trail-data-events"))
    assert management["cloud_watch_logs_group_arn"] == "${aws_cloudwatch_log_group.log-group-audit-trail.arn}:*"
    assert {"cloud_watch_logs_group_arn", "cloud_watch_logs_role_arn", "insight_selector"}.isdisjoint(of_data)
    assert fields_of(management) == [{"eventCategory": ["Management"]}]


def test_every_data_event_is_recorded_by_default(stacks) -> None:
    """Objects, items, invocations and records of the platform, reads and writes by anyone."""
    trail = stacks.platform.one("aws_cloudtrail", "trail-data-events")
    assert fields_of(trail) == [data(OBJECTS), data(TABLES), data(FUNCTIONS), data(STREAM)]


def test_without_telemetry_the_platforms_own_writes_are_left_out(records) -> None:
    """An event is left out only for the writer's role and a call by which it writes; invocations are all recorded."""

    def others(role: str) -> dict[str, Any]:
        prefix = f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}-mfg-{REGION}-tst/"
        return {"userIdentity.arn": {"not_starts_with": [prefix]}}

    def all_but(*calls: str) -> dict[str, Any]:
        return {"eventName": {"not_equals": list(calls)}}

    assert fields_of(records.platform.one("aws_cloudtrail", "trail-data-events")) == [
        data(OBJECTS, **others("role-sensor-processor")),
        data(OBJECTS, **all_but("PutObject")),
        data(TABLES, **others("role-sensor-processor")),
        data(TABLES, **all_but("BatchWriteItem", "PutItem", "TransactWriteItems", "UpdateItem")),
        data(FUNCTIONS),
        data(STREAM, **others("role-topic-rule")),
        data(STREAM, **all_but("PutRecord")),
    ]
    assert fields_of(records.platform.one("aws_cloudtrail", "trail-audit")) == [{"eventCategory": ["Management"]}]


def test_both_insights_are_on(stacks) -> None:
    """Call rate and error rate."""
    assert stacks.platform.one("aws_cloudtrail", "trail-audit")["insight_selector"] == [
        {"insight_type": "ApiCallRateInsight"},
        {"insight_type": "ApiErrorRateInsight"},
    ]


def test_files_and_log_are_kept_for_90_days(stacks) -> None:
    """Files expire at 90 days, their earlier versions 90 days later, events in the log group at 90 days."""
    lifecycle = stacks.platform.one("aws_s3_bucket_lifecycle_configuration", "bucket-audit-trail-lifecycle")
    group = stacks.platform.one("aws_cloudwatch_log_group", "log-group-audit-trail")
    assert lifecycle["rule"][0]["expiration"] == [{"days": 90}]
    assert (group["name"], group["retention_in_days"]) == ("log-group-audit-trail-tst", 90)


def test_each_trail_writes_below_its_own_prefix(stacks) -> None:
    """CloudTrail's statements are bound to trail, account and prefix; both trails may read the bucket's ACL."""
    statements = stacks.platform.statements("aws_s3_bucket_policy", "bucket-audit-trail-policy")
    assert statements["AllowCloudTrailGetBucketAcl"]["Resource"] == BUCKET
    assert statements["AllowCloudTrailGetBucketAcl"]["Condition"] == {
        "StringEquals": {"aws:SourceArn": [MANAGEMENT, DATA], "aws:SourceAccount": ACCOUNT}
    }
    for sid, prefix, trail in (("ManagementEvents", "management", MANAGEMENT), ("DataEvents", "data-events", DATA)):
        statement = statements[f"AllowCloudTrailPut{sid}"]
        assert statement["Resource"] == f"{BUCKET}/{prefix}/AWSLogs/{ACCOUNT}/*"
        assert statement["Condition"] == {
            "StringEquals": {
                "aws:SourceArn": trail,
                "aws:SourceAccount": ACCOUNT,
                "s3:x-amz-acl": "bucket-owner-full-control",
            }
        }


def test_the_trails_wait_until_they_may_write(stacks) -> None:
    """Bucket policy and log role's policy come first; the data events' trail before the other one loses them."""
    assert {id_: trail["depends_on"] for id_, trail in stacks.platform.of("aws_cloudtrail").items()} == {
        "trail-audit": [
            "aws_s3_bucket_policy.bucket-audit-trail-policy",
            "aws_iam_role_policy.role-trail-logs-policy",
            "aws_cloudtrail.trail-data-events",
        ],
        "trail-data-events": ["aws_s3_bucket_policy.bucket-audit-trail-policy"],
    }


def test_the_log_role_writes_the_trails_own_streams(stacks) -> None:
    """Two actions on the streams that CloudTrail names after account and region."""
    assert {
        sid: (s["Action"], s["Resource"])
        for sid, s in stacks.platform.statements("aws_iam_role_policy", "role-trail-logs-policy").items()
    } == {
        "WriteLogs": (
            ["logs:CreateLogStream", "logs:PutLogEvents"],
            "arn:aws:logs:ap-southeast-1:123456789012:log-group:log-group-audit-trail-tst"
            ":log-stream:123456789012_CloudTrail_ap-southeast-1*",
        )
    }
