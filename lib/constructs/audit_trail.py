"""The CloudTrail audit trail, with its own bucket and a log group for alarms."""

from __future__ import annotations

from .. import bindings as tf
from ..names import TRAIL, TRAIL_LOG_GROUP, TRAIL_LOGS_ROLE, PlatformNames, bucket_arn
from ..shared import iam
from ..shared.context import Retention
from ..shared.iam import NEXT_FIRST, ServiceRole
from ..shared.private_bucket import PrivateBucket

NONCURRENT_DAYS = 90
"""Days of a file's earlier versions; longer where they are locked."""

INSIGHTS = ("ApiCallRateInsight", "ApiErrorRateInsight")


class AuditTrail:
    """A multi-region trail of all management events and of data events on the platform's own resources."""

    def __init__(
        self,
        scope: tf.Construct,
        *,
        names: PlatformNames,
        audit_key_arn: str,
        logs_key_arn: str,
        access_logs_bucket: str,
        retention: Retention,
    ) -> None:
        bucket = PrivateBucket(
            scope,
            "bucket-audit-trail",
            name=names.audit_bucket,
            key_arn=audit_key_arn,
            bucket_key=False,  # a bucket key would require `kms:Decrypt` for the trail too
            access_logs=access_logs_bucket,
            retention=retention,
            is_locked=True,
            noncurrent_days=NONCURRENT_DAYS,
            expiration_days=retention.trail_days,
            statements=_delivery(names),
        )
        self.log_group = tf.CloudwatchLogGroup(
            scope,
            TRAIL_LOG_GROUP,
            name=names.trail_log_group,
            retention_in_days=retention.trail_days,
            kms_key_id=logs_key_arn,
        )
        logs_role = ServiceRole(
            scope,
            TRAIL_LOGS_ROLE,
            names=names,
            description="The audit trail writes its events to its log group",
            trust=iam.trust("cloudtrail.amazonaws.com"),  # CreateTrail rejects a trust with source conditions
            statements=(
                iam.write_logs(
                    f"{names.log_group_arn(names.trail_log_group)}"
                    f":log-stream:{names.account_id}_CloudTrail_{names.region}*"
                ),
            ),
        )
        tf.Cloudtrail(
            scope,
            TRAIL,
            name=names.trail,
            s3_bucket_name=bucket.name,
            kms_key_id=audit_key_arn,
            cloud_watch_logs_group_arn=f"{self.log_group.arn}:*",
            cloud_watch_logs_role_arn=logs_role.arn,
            is_multi_region_trail=True,
            include_global_service_events=True,
            enable_log_file_validation=True,
            enable_logging=True,
            advanced_event_selector=_selectors(names),
            insight_selector=[tf.CloudtrailInsightSelector(insight_type=kind) for kind in INSIGHTS],
            depends_on=[bucket.policy, logs_role.policy],
            lifecycle=NEXT_FIRST,
        )


def _selectors(names: PlatformNames) -> list[tf.CloudtrailAdvancedEventSelector]:
    """Select reads and writes. Of the buckets only the archive: the trail's own deliveries would cause more events."""
    return [
        tf.CloudtrailAdvancedEventSelector(
            name="Management events", field_selector=[_equals("eventCategory", "Management")]
        ),
        _data_events("Archive objects", "AWS::S3::Object", f"{bucket_arn(names.raw_archive)}/"),
        _data_events(
            "Table items",
            "AWS::DynamoDB::Table",
            names.table_arn(names.readings_table),
            names.table_arn(names.devices_table),
        ),
        _data_events("Function invocations", "AWS::Lambda::Function", names.function_arn, names.compactor_arn),
        _data_events("Stream records", "AWS::Kinesis::Stream", names.stream_arn),
    ]


def _data_events(name: str, resource_type: str, *arns: str) -> tf.CloudtrailAdvancedEventSelector:
    return tf.CloudtrailAdvancedEventSelector(
        name=name,
        field_selector=[
            _equals("eventCategory", "Data"),
            _equals("resources.type", resource_type),
            tf.CloudtrailAdvancedEventSelectorFieldSelector(field="resources.ARN", starts_with=list(arns)),
        ],
    )


def _equals(field: str, value: str) -> tf.CloudtrailAdvancedEventSelectorFieldSelector:
    return tf.CloudtrailAdvancedEventSelectorFieldSelector(field=field, equal_to=[value])


def _delivery(names: PlatformNames) -> tuple[iam.Statement, ...]:
    """Allow this trail to read the bucket's ACL and to write below its account's prefix."""
    bucket = bucket_arn(names.audit_bucket)
    return (
        iam.Statement(
            sid="AllowCloudTrailGetBucketAcl",
            principal={"Service": "cloudtrail.amazonaws.com"},
            actions=("s3:GetBucketAcl",),
            resource=bucket,
            conditions={"StringEquals": {"aws:SourceArn": names.trail_arn, "aws:SourceAccount": names.account_id}},
        ),
        iam.Statement(
            sid="AllowCloudTrailPutObject",
            principal={"Service": "cloudtrail.amazonaws.com"},
            actions=("s3:PutObject",),
            resource=f"{bucket}/AWSLogs/{names.account_id}/*",
            conditions={
                "StringEquals": {
                    "aws:SourceArn": names.trail_arn,
                    "aws:SourceAccount": names.account_id,
                    "s3:x-amz-acl": "bucket-owner-full-control",
                }
            },
        ),
    )
