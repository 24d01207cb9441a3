"""The raw archive, the access-log bucket and the DynamoDB tables."""

from __future__ import annotations

import json
from pathlib import Path

from ..bindings import (
    Construct,
    DynamodbTable,
    DynamodbTableAttribute,
    DynamodbTablePointInTimeRecovery,
    DynamodbTableServerSideEncryption,
    DynamodbTableTtl,
    S3BucketIntelligentTieringConfiguration,
    S3BucketIntelligentTieringConfigurationFilter,
    S3BucketIntelligentTieringConfigurationTiering,
    S3BucketLifecycleConfigurationRule,
    S3BucketLifecycleConfigurationRuleExpiration,
    S3BucketLifecycleConfigurationRuleFilter,
    S3BucketLifecycleConfigurationRuleFilterAnd,
    S3BucketLifecycleConfigurationRuleTransition,
    S3Object,
    S3ObjectOverrideProvider,
    S3ObjectOverrideProviderDefaultTags,
)
from ..names import PlatformNames, bucket_arn
from ..shared import iam
from ..shared.context import Retention
from ..shared.iam import ServiceRole
from ..shared.private_bucket import PrivateBucket
from ..specs import FacilitySpec

# @@ The raw archive of every message, the access-log bucket beside it, and the role that stores what rules could not.

INTELLIGENT_TIERING_AFTER_DAYS = 30
"""Readings are looked at in their first weeks and hardly ever after."""

GLACIER_AFTER_DAYS = 90

NONCURRENT_DAYS = 90
"""How long an overwritten or deleted archive object can be brought back."""

PARAMETER_FILE_DAYS = 35
"""AWS IoT stops a bulk registration after 30 days, and keeps its reports as long:
https://docs.aws.amazon.com/general/latest/gr/iot_device_management.html"""

COOLED_FROM_BYTES = 128 * 1024
"""Smaller objects stay in S3 Standard. Intelligent-Tiering never moves them on, and in Glacier each costs a request and
40 kB of overhead: 31 million a month would cost 900 USD to save 0.6.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html"""

SMALL_OBJECTS_STAY = "all_storage_classes_128K"
"""What S3 does with objects under 128 kB in every other rule, and where a rule's filter says nothing of sizes."""


class TelemetryArchive:
    """Buckets `raw` and `access_logs`; keys begin with `raw/`, `quarantine/`, `iot-rule-errors/`, `events/`
    or `bulk-registration/`."""

    def __init__(self, scope: Construct, *, names: PlatformNames, key_arn: str, retention: Retention) -> None:
        self.access_logs = PrivateBucket(
            scope,
            "bucket-access-logs",
            name=names.access_logs,
            key_arn=None,  # S3 delivers access logs to SSE-S3 buckets only
            access_logs=None,
            retention=retention,
            is_locked=False,  # S3 delivers no access logs to a bucket with Object Lock
            noncurrent_days=NONCURRENT_DAYS,
            expiration_days=retention.access_log_days,
            statements=[_log_delivery(names)],
        )
        self.raw = PrivateBucket(
            scope,
            "bucket-raw-archive",
            name=names.raw_archive,
            key_arn=key_arn,
            access_logs=self.access_logs.name,
            retention=retention,
            is_locked=True,
            noncurrent_days=NONCURRENT_DAYS,
            statements=_own_key_alone(bucket_arn(names.raw_archive), key_arn),
            rules=[_cool_down(), _parameter_files()],
            transition_default_minimum_object_size=SMALL_OBJECTS_STAY,
        )
        self.rule_errors_role = ServiceRole(
            scope,
            names.rule_errors_role,
            names=names,
            description="Topic rules store the messages that they could not put into the stream",
            trust=iam.trust(
                "iot.amazonaws.com",
                account_id=names.account_id,
                source_arn=names.arn("iot", f"rule/{names.named('rule_telemetry_*')}"),
            ),
            statements=(
                iam.Statement(
                    sid="StoreRuleErrors",
                    actions=("s3:PutObject",),
                    resource=f"{bucket_arn(names.raw_archive)}/iot-rule-errors/*",
                ),
                iam.key_use(
                    "EncryptRuleErrors",
                    "GenerateDataKey",
                    key_arn=key_arn,
                    via=names.service("s3"),
                    context={"aws:s3:arn": bucket_arn(names.raw_archive)},
                ),
            ),
        )


def _log_delivery(names: PlatformNames) -> iam.Statement:
    """S3's own log delivery writes, for the buckets of this platform and from this account only."""
    return iam.Statement(
        sid="S3DeliversAccessLogs",
        principal={"Service": "logging.s3.amazonaws.com"},
        actions=("s3:PutObject",),
        resource=f"{bucket_arn(names.access_logs)}/*",
        conditions={
            "StringEquals": {"aws:SourceAccount": names.account_id},
            "ArnEquals": {"aws:SourceArn": [bucket_arn(names.raw_archive), bucket_arn(names.audit_bucket)]},
        },
    )


ENCRYPTION, KEY = "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id"
CUSTOMER_KEY = "s3:x-amz-server-side-encryption-customer-algorithm"


def _own_key_alone(archive: str, key_arn: str) -> tuple[iam.Statement, ...]:
    """Refuse objects under another key than the archive's, which its readers could not open and could lose.

    Writers that ask for no encryption get the bucket's. One that asks must name the archive's key by its ARN: without a
    key, S3 takes its own (`aws/s3`, or SSE-S3). A statement each, because conditions of one statement are ANDed.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
    """

    def denial(sid: str, conditions: iam.Conditions) -> iam.Statement:
        return iam.Statement(
            sid=sid,
            effect="Deny",
            principal="*",
            actions=("s3:PutObject",),
            resource=f"{archive}/*",
            conditions=conditions,
        )

    return (
        denial("DenyForeignKeys", {"Null": {KEY: "false"}, "StringNotEquals": {KEY: key_arn}}),
        denial("DenyEncryptionWithoutKey", {"Null": {ENCRYPTION: "false", KEY: "true"}}),
        denial("DenyOtherEncryption", {"Null": {ENCRYPTION: "false"}, "StringNotEquals": {ENCRYPTION: "aws:kms"}}),
        denial("DenyCustomerKeys", {"Null": {CUSTOMER_KEY: "false"}}),
    )


def _cool_down() -> S3BucketLifecycleConfigurationRule:
    return S3BucketLifecycleConfigurationRule(
        id="cool-down",
        status="Enabled",
        # A filter of prefix and size is one `and`: S3 takes one condition only outside of it.
        filter=[
            S3BucketLifecycleConfigurationRuleFilter(
                and_=[
                    S3BucketLifecycleConfigurationRuleFilterAnd(
                        prefix="raw/", object_size_greater_than=COOLED_FROM_BYTES - 1
                    )
                ]
            )
        ],
        transition=[
            S3BucketLifecycleConfigurationRuleTransition(
                days=INTELLIGENT_TIERING_AFTER_DAYS, storage_class="INTELLIGENT_TIERING"
            ),
            S3BucketLifecycleConfigurationRuleTransition(days=GLACIER_AFTER_DAYS, storage_class="GLACIER"),
        ],
    )


def _parameter_files() -> S3BucketLifecycleConfigurationRule:
    return S3BucketLifecycleConfigurationRule(
        id="bulk-registration",
        status="Enabled",
        filter=[S3BucketLifecycleConfigurationRuleFilter(prefix="bulk-registration/")],
        expiration=[S3BucketLifecycleConfigurationRuleExpiration(days=PARAMETER_FILE_DAYS)],
    )


# @@ A plant's part of the raw archive: its prefixes, made visible, and their tiering.

ARCHIVE_ACCESS_DAYS = 90
DEEP_ARCHIVE_ACCESS_DAYS = 180
"""Days without access until an object in Intelligent-Tiering sinks: the least that AWS allows for each tier."""


class FacilityArchive:
    """A marker object a prefix (`raw/facility=…/device_type=…/`), and Intelligent-Tiering's archive tiers below.

    Without markers where objects are locked: these would keep a plant from being removed for years.
    """

    def __init__(
        self, scope: Construct, *, names: PlatformNames, facility: FacilitySpec, folder: Path, has_markers: bool
    ) -> None:
        declared = json.loads((folder / "prefixes.json").read_text(encoding="utf-8"))
        self.prefixes = tuple(entry["prefix"] for entry in declared["prefixes"])
        for entry in declared["prefixes"] if has_markers else ():
            S3Object(
                scope,
                f"prefix-{facility.id}-{entry['device_type']}",
                bucket=names.raw_archive,
                key=entry["prefix"],
                content_type="application/x-directory",
                # No tags: those of every resource may be fifty, and S3 takes ten an object.
                # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
                override_provider=S3ObjectOverrideProvider(default_tags=S3ObjectOverrideProviderDefaultTags(tags={})),
            )
        S3BucketIntelligentTieringConfiguration(
            scope,
            f"tiering-{facility.id}",
            bucket=names.raw_archive,
            name=names.named(f"tiering-{facility.id}"),
            filter=S3BucketIntelligentTieringConfigurationFilter(prefix=f"raw/facility={facility.id}/"),
            tiering=[
                S3BucketIntelligentTieringConfigurationTiering(access_tier="ARCHIVE_ACCESS", days=ARCHIVE_ACCESS_DAYS),
                S3BucketIntelligentTieringConfigurationTiering(
                    access_tier="DEEP_ARCHIVE_ACCESS", days=DEEP_ARCHIVE_ACCESS_DAYS
                ),
            ],
        )


# @@ The two tables: what the fleet measured, minute by minute, and what is known of each device.


class ReadingTable:
    """`readings` by device and minute (or anomaly), which age; `devices` by device, which stay."""

    def __init__(self, scope: Construct, *, names: PlatformNames, key_arn: str, is_protected: bool) -> None:
        self.readings = _table(
            scope,
            "table-readings",
            names=names,
            key_arn=key_arn,
            is_protected=is_protected,
            range_key="bucket",
            ttl_attribute="expires_at",
        )
        self.devices = _table(scope, "table-devices", names=names, key_arn=key_arn, is_protected=is_protected)


def _table(
    scope: Construct,
    name: str,
    *,
    names: PlatformNames,
    key_arn: str,
    is_protected: bool,
    range_key: str | None = None,
    ttl_attribute: str | None = None,
) -> DynamodbTable:
    keys = ["device", *([range_key] if range_key else [])]
    return DynamodbTable(
        scope,
        name,
        name=names.named(name),
        billing_mode="PAY_PER_REQUEST",
        hash_key="device",
        range_key=range_key,
        attribute=[DynamodbTableAttribute(name=key, type="S") for key in keys],
        ttl=DynamodbTableTtl(enabled=True, attribute_name=ttl_attribute) if ttl_attribute else None,
        point_in_time_recovery=DynamodbTablePointInTimeRecovery(enabled=True),
        server_side_encryption=DynamodbTableServerSideEncryption(enabled=True, kms_key_arn=key_arn),
        deletion_protection_enabled=is_protected,
    )
