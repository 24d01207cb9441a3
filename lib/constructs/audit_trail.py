"""The CloudTrail audit trails of management and of data events, with their bucket and a log group for alarms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import bindings as tf
from ..names import (
    DATA_TRAIL,
    PROCESSOR_ROLE,
    TOPIC_RULE_ROLE,
    TRAIL,
    TRAIL_LOG_GROUP,
    TRAIL_LOGS_ROLE,
    PlatformNames,
    bucket_arn,
)
from ..shared import iam
from ..shared.context import Retention
from ..shared.iam import NEXT_FIRST, ServiceRole
from ..shared.private_bucket import PrivateBucket
from ..specs import AuditSpec

NONCURRENT_DAYS = 90
"""Days of a file's earlier versions; longer where they are locked."""

INSIGHTS = ("ApiCallRateInsight", "ApiErrorRateInsight")

MANAGEMENT_PREFIX, DATA_PREFIX = "management", "data-events"
"""Each trail's key prefix in the bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataEvents:
    """Data events of one resource type.

    Args:
        name: Name of the selector.
        resource_type: CloudTrail's name of the type.
        arns: Prefixes of the ARNs of the resources.
        writer: Role of the platform that writes telemetry there, if one does.
        writes: API calls by which it writes telemetry.
    """

    name: str
    resource_type: str
    arns: tuple[str, ...]
    writer: str | None = None
    writes: tuple[str, ...] = ()


def data_events(names: PlatformNames) -> tuple[DataEvents, ...]:
    """Return the data events to record, by resource type.

    Of the buckets only those of the archive and of state: a trail's own files would cause events.
    """
    return (
        DataEvents(
            name="Archive and state objects",
            resource_type="AWS::S3::Object",
            arns=tuple(f"{bucket_arn(bucket)}/" for bucket in (names.raw_archive, names.lanes)),
            writer=PROCESSOR_ROLE,
            writes=("PutObject",),
        ),
        DataEvents(
            name="Table items",
            resource_type="AWS::DynamoDB::Table",
            arns=tuple(
                names.table_arn(table) for table in (names.readings_table, names.devices_table, names.lanes_table)
            ),
            writer=PROCESSOR_ROLE,
            writes=("BatchWriteItem", "PutItem", "TransactWriteItems", "UpdateItem"),
        ),
        DataEvents(
            name="Function invocations",
            resource_type="AWS::Lambda::Function",
            arns=(names.function_arn, names.compactor_arn),
        ),
        DataEvents(
            name="Stream records",
            resource_type="AWS::Kinesis::Stream",
            arns=(names.stream_arn,),
            writer=TOPIC_RULE_ROLE,
            writes=("PutRecord",),
        ),
    )


class AuditTrail:
    """Two multi-region trails: all management events, watched and in a log group; the platform's data events.

    Data events are one or more for each reading. In a trail of their own they stay out of CloudWatch Logs, whose alarms
    look at management events only. Both trails are multi-region, since AWS's rules accept object-level events of such
    trails only: https://docs.aws.amazon.com/config/latest/developerguide/cloudtrail-all-write-s3-data-event-check.html
    """

    def __init__(
        self,
        scope: tf.Construct,
        *,
        names: PlatformNames,
        audit: AuditSpec,
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
        data_trail = _trail(
            scope,
            DATA_TRAIL,
            name=names.data_trail,
            bucket=bucket,
            prefix=DATA_PREFIX,
            key_arn=audit_key_arn,
            selectors=[
                selector
                for events in data_events(names)
                for selector in _data_selectors(names, events, has_telemetry=audit.data_events == "all")
            ],
            depends_on=[bucket.policy],
        )
        _trail(
            scope,
            TRAIL,
            name=names.trail,
            bucket=bucket,
            prefix=MANAGEMENT_PREFIX,
            key_arn=audit_key_arn,
            selectors=[_selector("Management events", _field("eventCategory", equal_to=["Management"]))],
            cloud_watch_logs_group_arn=f"{self.log_group.arn}:*",
            cloud_watch_logs_role_arn=logs_role.arn,
            insight_selector=[tf.CloudtrailInsightSelector(insight_type=kind) for kind in INSIGHTS],
            depends_on=[bucket.policy, logs_role.policy, data_trail],  # data events move there without a gap
        )


def _trail(
    scope: tf.Construct,
    id_: str,
    *,
    name: str,
    bucket: PrivateBucket,
    prefix: str,
    key_arn: str,
    selectors: list[tf.CloudtrailAdvancedEventSelector],
    **settings: Any,
) -> tf.Cloudtrail:
    return tf.Cloudtrail(
        scope,
        id_,
        name=name,
        s3_bucket_name=bucket.name,
        s3_key_prefix=prefix,
        kms_key_id=key_arn,
        is_multi_region_trail=True,
        include_global_service_events=True,
        enable_log_file_validation=True,
        enable_logging=True,
        advanced_event_selector=selectors,
        lifecycle=NEXT_FIRST,
        **settings,
    )


def _data_selectors(
    names: PlatformNames, events: DataEvents, *, has_telemetry: bool
) -> list[tf.CloudtrailAdvancedEventSelector]:
    """Select every event on the resources, or all but the writes of telemetry by its writer.

    An event is recorded if it matches all fields of one selector, and a field with several excluded values if it is
    none of them. "Not these writes by this role" is therefore two selectors: any call by others, other calls by anyone.
    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/filtering-data-events.html
    """
    fields = (
        _field("eventCategory", equal_to=["Data"]),
        _field("resources.type", equal_to=[events.resource_type]),
        _field("resources.ARN", starts_with=list(events.arns)),
    )
    if has_telemetry or events.writer is None:
        return [_selector(events.name, *fields)]
    sessions = _field("userIdentity.arn", not_starts_with=[names.session_arns(events.writer)])
    return [
        _selector(f"{events.name}: any call by others", *fields, sessions),
        _selector(f"{events.name}: all but writes", *fields, _field("eventName", not_equals=list(events.writes))),
    ]


def _selector(
    name: str, *fields: tf.CloudtrailAdvancedEventSelectorFieldSelector
) -> tf.CloudtrailAdvancedEventSelector:
    return tf.CloudtrailAdvancedEventSelector(name=name, field_selector=list(fields))


def _field(field: str, **values: list[str]) -> tf.CloudtrailAdvancedEventSelectorFieldSelector:
    return tf.CloudtrailAdvancedEventSelectorFieldSelector(field=field, **values)


def _delivery(names: PlatformNames) -> tuple[iam.Statement, ...]:
    """Allow both trails to read the bucket's ACL, and each to write below its own prefix and the account's."""
    bucket, trails = bucket_arn(names.audit_bucket), names.trail_arns
    return (
        iam.Statement(
            sid="AllowCloudTrailGetBucketAcl",
            principal={"Service": "cloudtrail.amazonaws.com"},
            actions=("s3:GetBucketAcl",),
            resource=bucket,
            conditions={"StringEquals": {"aws:SourceArn": trails, "aws:SourceAccount": names.account_id}},
        ),
        *(
            iam.Statement(
                sid=sid,
                principal={"Service": "cloudtrail.amazonaws.com"},
                actions=("s3:PutObject",),
                resource=f"{bucket}/{prefix}/AWSLogs/{names.account_id}/*",
                conditions={
                    "StringEquals": {
                        "aws:SourceArn": trail,
                        "aws:SourceAccount": names.account_id,
                        "s3:x-amz-acl": "bucket-owner-full-control",
                    }
                },
            )
            for sid, prefix, trail in zip(
                ("AllowCloudTrailPutManagementEvents", "AllowCloudTrailPutDataEvents"),
                (MANAGEMENT_PREFIX, DATA_PREFIX),
                trails,
                strict=True,
            )
        ),
    )
