"""The audit trail."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.cdktf
ARN = "arn:aws:cloudtrail:ap-southeast-1:123456789012:trail/trail-audit-mfg-ap-southeast-1-tst"
BUCKET = "arn:aws:s3:::bucket-mfg-audit-trail-123456789012-tst"


def test_the_trail_covers_all_regions_and_signs_its_files(stacks) -> None:
    """Multi-region, global services, validated files, delivery to logs."""
    trail = stacks.platform.one("aws_cloudtrail", "trail-audit")
    assert trail["name"] == "trail-audit-mfg-ap-southeast-1-tst"
    for switch in (
        "is_multi_region_trail",
        "include_global_service_events",
        "enable_log_file_validation",
        "enable_logging",
    ):
        assert trail[switch] is True
    assert trail["cloud_watch_logs_group_arn"] == "${aws_cloudwatch_log_group.log-group-audit-trail.arn}:*"


def test_the_trail_records_management_and_four_kinds_of_data_events(stacks) -> None:
    """Objects, items, invocations and records of the platform, reads and writes."""
    selectors = stacks.platform.one("aws_cloudtrail", "trail-audit")["advanced_event_selector"]
    fields = [{f["field"]: f.get("equals") or f["starts_with"] for f in s["field_selector"]} for s in selectors]
    region = "ap-southeast-1:123456789012"
    assert fields == [
        {"eventCategory": ["Management"]},
        {
            "eventCategory": ["Data"],
            "resources.type": ["AWS::S3::Object"],
            "resources.ARN": ["arn:aws:s3:::bucket-mfg-raw-archive-123456789012-tst/"],
        },
        {
            "eventCategory": ["Data"],
            "resources.type": ["AWS::DynamoDB::Table"],
            "resources.ARN": [f"arn:aws:dynamodb:{region}:table/table-{t}-tst" for t in ("readings", "devices")],
        },
        {
            "eventCategory": ["Data"],
            "resources.type": ["AWS::Lambda::Function"],
            "resources.ARN": [
                f"arn:aws:lambda:{region}:function:function-sensor-processor-tst",
                f"arn:aws:lambda:{region}:function:function-archive-compactor-tst",
            ],
        },
        {
            "eventCategory": ["Data"],
            "resources.type": ["AWS::Kinesis::Stream"],
            "resources.ARN": [f"arn:aws:kinesis:{region}:stream/stream-telemetry-tst"],
        },
    ]


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


def test_this_trail_alone_writes_to_the_bucket(stacks) -> None:
    """CloudTrail's two statements are bound to the trail, the account and the account's prefix."""
    statements = stacks.platform.statements("aws_s3_bucket_policy", "bucket-audit-trail-policy")
    source = {"aws:SourceArn": ARN, "aws:SourceAccount": "123456789012"}
    assert statements["AllowCloudTrailGetBucketAcl"]["Resource"] == BUCKET
    assert statements["AllowCloudTrailGetBucketAcl"]["Condition"] == {"StringEquals": source}
    assert statements["AllowCloudTrailPutObject"]["Resource"] == f"{BUCKET}/AWSLogs/123456789012/*"
    assert statements["AllowCloudTrailPutObject"]["Condition"] == {
        "StringEquals": {**source, "s3:x-amz-acl": "bucket-owner-full-control"}
    }


def test_the_trail_waits_until_it_may_write(stacks) -> None:
    """Bucket policy and log role's policy come first, or CloudTrail refuses the trail."""
    assert stacks.platform.one("aws_cloudtrail", "trail-audit")["depends_on"] == [
        "aws_s3_bucket_policy.bucket-audit-trail-policy",
        "aws_iam_role_policy.role-trail-logs-policy",
    ]


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
