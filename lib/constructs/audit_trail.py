"""The audit trail: who did what to the platform, kept in a bucket of its own and in a log group to watch."""

from __future__ import annotations

from ..bindings import (
    Cloudtrail,
    CloudtrailAdvancedEventSelector,
    CloudtrailAdvancedEventSelectorFieldSelector,
    CloudtrailInsightSelector,
    CloudwatchLogGroup,
    Construct,
)
from ..names import PlatformNames, bucket_arn
from ..shared import iam
from ..shared.context import Retention
from ..shared.iam import ServiceRole
from ..shared.private_bucket import PrivateBucket

NONCURRENT_DAYS = 90
"""Of a file's earlier versions, or longer where they are locked."""

INSIGHTS = ("ApiCallRateInsight", "ApiErrorRateInsight")


class AuditTrail:
    """A multi-region trail of all management events and of every data event on the platform's own resources."""

    def __init__(
        self,
        scope: Construct,
        *,
        names: PlatformNames,
        audit_key_arn: str,
        logs_key_arn: str,
        access_logs_bucket: str,
        retention: Retention,
    ) -> None:
        self.bucket = PrivateBucket(
            scope,
            "bucket-audit-trail",
            name=names.audit_bucket,
            key_arn=audit_key_arn,
            bucket_key=False,  # a bucket key would need `kms:Decrypt` for the trail as well
            access_logs=access_logs_bucket,
            retention=retention,
            is_locked=True,
            noncurrent_days=NONCURRENT_DAYS,
            expiration_days=retention.trail_days,
            statements=_delivery(names),
        )
        self.log_group = CloudwatchLogGroup(
            scope,
            "log-group-audit-trail",
            name=names.trail_log_group,
            retention_in_days=retention.trail_days,
            kms_key_id=logs_key_arn,
        )
        self.logs_role = ServiceRole(
            scope,
            "role-trail-logs",
            names=names,
            description="The audit trail writes its events to its log group",
            trust=iam.trust("cloudtrail.amazonaws.com"),  # CreateTrail refuses a role whose trust names a source
            statements=(
                iam.Statement(
                    sid="WriteTheLog",
                    actions=("logs:CreateLogStream", "logs:PutLogEvents"),
                    resource=(
                        f"{names.log_group_arn(names.trail_log_group)}"
                        f":log-stream:{names.account_id}_CloudTrail_{names.region}*"
                    ),
                ),
            ),
        )
        self.trail = Cloudtrail(
            scope,
            "trail-audit",
            name=names.trail,
            s3_bucket_name=self.bucket.name,
            kms_key_id=audit_key_arn,
            cloud_watch_logs_group_arn=f"{self.log_group.arn}:*",
            cloud_watch_logs_role_arn=self.logs_role.arn,
            is_multi_region_trail=True,
            include_global_service_events=True,
            enable_log_file_validation=True,
            enable_logging=True,
            advanced_event_selector=_selectors(names),
            insight_selector=[CloudtrailInsightSelector(insight_type=kind) for kind in INSIGHTS],
            depends_on=[self.bucket.policy, self.logs_role.policy],
        )


def _selectors(names: PlatformNames) -> list[CloudtrailAdvancedEventSelector]:
    """Reads and writes alike: no selector asks for one of them only.

    Of the buckets, the archive alone: the trail's own deliveries would be events that make deliveries.
    """
    return [
        CloudtrailAdvancedEventSelector(
            name="Management events", field_selector=[_equals("eventCategory", "Management")]
        ),
        _data_events("Archive objects", "AWS::S3::Object", f"{bucket_arn(names.raw_archive)}/"),
        _data_events(
            "Table items",
            "AWS::DynamoDB::Table",
            names.table_arn(names.readings_table),
            names.table_arn(names.devices_table),
        ),
        _data_events("Function invocations", "AWS::Lambda::Function", names.function_arn),
        _data_events("Stream records", "AWS::Kinesis::Stream", names.stream_arn),
    ]


def _data_events(name: str, resource_type: str, *arns: str) -> CloudtrailAdvancedEventSelector:
    return CloudtrailAdvancedEventSelector(
        name=name,
        field_selector=[
            _equals("eventCategory", "Data"),
            _equals("resources.type", resource_type),
            CloudtrailAdvancedEventSelectorFieldSelector(field="resources.ARN", starts_with=list(arns)),
        ],
    )


def _equals(field: str, value: str) -> CloudtrailAdvancedEventSelectorFieldSelector:
    return CloudtrailAdvancedEventSelectorFieldSelector(field=field, equal_to=[value])


def _delivery(names: PlatformNames) -> tuple[iam.Statement, ...]:
    """This trail looks at the bucket's ACL, then writes below its account's prefix, and nothing else."""
    bucket = bucket_arn(names.audit_bucket)
    return (
        iam.Statement(
            sid="TrailLooksAtTheAcl",
            principal={"Service": "cloudtrail.amazonaws.com"},
            actions=("s3:GetBucketAcl",),
            resource=bucket,
            conditions={"StringEquals": {"aws:SourceArn": names.trail_arn, "aws:SourceAccount": names.account_id}},
        ),
        iam.Statement(
            sid="TrailDeliversItsFiles",
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
