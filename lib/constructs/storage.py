"""The raw archive with each facility's part of it, the access-log bucket, and the DynamoDB tables."""

from __future__ import annotations

import json
from pathlib import Path

from .. import bindings as tf
from ..names import (
    DEVICES_TABLE,
    LANES_TABLE,
    OPEN_ANOMALIES,
    READINGS_TABLE,
    RULE_ERRORS_ROLE,
    PlatformNames,
    bucket_arn,
)
from ..shared import iam
from ..shared.context import COOLED_FROM_BYTES, GLACIER_AFTER_DAYS, Retention
from ..shared.private_bucket import PrivateBucket
from ..specs import FacilitySpec

INTELLIGENT_TIERING_AFTER_DAYS = 30
"""Readings are rarely read after their first weeks."""

NONCURRENT_DAYS, COMPACTED_DAYS = 90, 7
"""Days in which an overwritten or deleted object can be restored, and one that was compacted."""

PARAMETER_FILE_DAYS = 35
"""AWS IoT stops a bulk registration after 30 days, and keeps its reports for 30 days:
https://docs.aws.amazon.com/general/latest/gr/iot_device_management.html"""

SMALL_OBJECTS_STAY = "all_storage_classes_128K"
"""Default of S3 for lifecycle rules without a size filter: objects under 128 kB are not moved."""


class TelemetryArchive:
    """The raw archive and the access-log bucket, and the role by which topic rules store failed messages.

    Keys in the archive begin with `raw/`, `archive/`, `compaction/`, `tables/`, `quarantine/`, `iot-rule-errors/`,
    `events/` or `bulk-registration/`.
    """

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, key_arn: str, retention: Retention) -> None:
        archive = bucket_arn(names.raw_archive)
        self.access_logs = PrivateBucket(
            scope,
            "bucket-access-logs",
            name=names.access_logs,
            key_arn=None,  # S3 delivers access logs only to buckets with SSE-S3
            access_logs=None,
            retention=retention,
            is_locked=False,  # nor to buckets with Object Lock
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
            statements=_deny_other_keys(archive, key_arn),
            rules=[
                _cool_down("cool-down", "raw/"),
                _cool_down("cool-down-archive", "archive/"),
                _compacted(),
                _parameter_files(),
            ],
            transition_default_minimum_object_size=SMALL_OBJECTS_STAY,
        )
        iam.ServiceRole(
            scope,
            RULE_ERRORS_ROLE,
            names=names,
            description="Topic rules store the messages that they could not put on the stream",
            trust=iam.iot_trust(names, f"rule/{names.named('rule_telemetry_*')}"),
            statements=(
                iam.allow("PutRuleErrors", "s3:PutObject", on=f"{archive}/iot-rule-errors/*"),
                iam.key_use(
                    "EncryptRuleErrors",
                    "GenerateDataKey",
                    key_arn=key_arn,
                    via=names.service("s3"),
                    context={"aws:s3:arn": archive},
                ),
            ),
        )


def _log_delivery(names: PlatformNames) -> iam.Statement:
    """Allow S3's log delivery to write, for this platform's buckets and from this account only."""
    return iam.Statement(
        sid="AllowS3LogDelivery",
        principal={"Service": "logging.s3.amazonaws.com"},
        actions=("s3:PutObject",),
        resource=f"{bucket_arn(names.access_logs)}/*",
        conditions={
            "StringEquals": {"aws:SourceAccount": names.account_id},
            "ArnEquals": {
                "aws:SourceArn": [bucket_arn(name) for name in (names.raw_archive, names.audit_bucket, names.lanes)]
            },
        },
    )


ENCRYPTION, KEY = "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id"
CUSTOMER_KEY = "s3:x-amz-server-side-encryption-customer-algorithm"


def _deny_other_keys(archive: str, key_arn: str) -> tuple[iam.Statement, ...]:
    """Deny objects under another key than the archive's: its readers could not decrypt them.

    Writers that request no encryption get the bucket's. A request must name the archive's key by its ARN, because
    without one S3 uses its own (`aws/s3`, or SSE-S3). The conditions of one statement are ANDed, hence four statements.

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


def _cool_down(id_: str, prefix: str) -> tf.S3BucketLifecycleConfigurationRule:
    return tf.S3BucketLifecycleConfigurationRule(
        id=id_,
        status="Enabled",
        # Two conditions must be in one `and`: S3 accepts only a single condition outside of it.
        filter=[
            tf.S3BucketLifecycleConfigurationRuleFilter(
                and_=[
                    tf.S3BucketLifecycleConfigurationRuleFilterAnd(
                        prefix=prefix, object_size_greater_than=COOLED_FROM_BYTES - 1
                    )
                ]
            )
        ],
        transition=[
            tf.S3BucketLifecycleConfigurationRuleTransition(
                days=INTELLIGENT_TIERING_AFTER_DAYS, storage_class="INTELLIGENT_TIERING"
            ),
            tf.S3BucketLifecycleConfigurationRuleTransition(days=GLACIER_AFTER_DAYS, storage_class="GLACIER"),
        ],
    )


def _compacted() -> tf.S3BucketLifecycleConfigurationRule:
    """Raw objects are deleted once what was made of them has been read back: their versions need not stay for long."""
    return tf.S3BucketLifecycleConfigurationRule(
        id="compacted",
        status="Enabled",
        filter=[tf.S3BucketLifecycleConfigurationRuleFilter(prefix="raw/")],
        noncurrent_version_expiration=[
            tf.S3BucketLifecycleConfigurationRuleNoncurrentVersionExpiration(noncurrent_days=COMPACTED_DAYS)
        ],
    )


def _parameter_files() -> tf.S3BucketLifecycleConfigurationRule:
    return tf.S3BucketLifecycleConfigurationRule(
        id="bulk-registration",
        status="Enabled",
        filter=[tf.S3BucketLifecycleConfigurationRuleFilter(prefix="bulk-registration/")],
        expiration=[tf.S3BucketLifecycleConfigurationRuleExpiration(days=PARAMETER_FILE_DAYS)],
    )


ARCHIVE_ACCESS_DAYS = 90
DEEP_ARCHIVE_ACCESS_DAYS = 180
"""Days without access until Intelligent-Tiering moves an object: the minimum of each tier."""


class FacilityArchive:
    """A facility's part of the raw archive: a marker object for each prefix, and Intelligent-Tiering's archive tiers.

    Args:
        has_markers: False where objects are locked: markers would block the removal of a facility for years.
    """

    def __init__(
        self, scope: tf.Construct, *, names: PlatformNames, facility: FacilitySpec, folder: Path, has_markers: bool
    ) -> None:
        declared = json.loads((folder / "prefixes.json").read_text(encoding="utf-8"))
        for entry in declared["prefixes"] if has_markers else ():
            tf.S3Object(
                scope,
                f"prefix-{facility.id}-{entry['device_type']}",
                bucket=names.raw_archive,
                key=entry["prefix"],
                content_type="application/x-directory",
                lifecycle=iam.NEXT_FIRST,  # former versions had theirs below raw/
                # No default tags, of which there may be fifty: S3 accepts ten for an object.
                # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
                override_provider=tf.S3ObjectOverrideProvider(
                    default_tags=tf.S3ObjectOverrideProviderDefaultTags(tags={})
                ),
            )
        tf.S3BucketIntelligentTieringConfiguration(
            scope,
            f"tiering-{facility.id}",
            bucket=names.raw_archive,
            name=names.named(f"tiering-{facility.id}"),
            status="Enabled",
            filter=tf.S3BucketIntelligentTieringConfigurationFilter(prefix=f"archive/facility={facility.id}/"),
            tiering=[
                tf.S3BucketIntelligentTieringConfigurationTiering(
                    access_tier="ARCHIVE_ACCESS", days=ARCHIVE_ACCESS_DAYS
                ),
                tf.S3BucketIntelligentTieringConfigurationTiering(
                    access_tier="DEEP_ARCHIVE_ACCESS", days=DEEP_ARCHIVE_ACCESS_DAYS
                ),
            ],
        )


STATE_DAYS = 30
"""Days of a state object, and so those that an environment may be paused: the sensor processor writes each lane's base
again after a day."""

STATE_NONCURRENT_DAYS = 1
"""Days in which a deleted state object can still be read."""


class ReadingTable:
    """The tables `readings`, by device and time or anomaly, with expiry; and `devices`, by device, without."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, key_arn: str, is_protected: bool) -> None:
        self.readings = _table(
            scope,
            READINGS_TABLE,
            keys=("device", "bucket"),
            index=(OPEN_ANOMALIES, "open_facility", "began"),
            names=names,
            key_arn=key_arn,
            is_protected=is_protected,
            ttl_attribute="expires_at",
        )
        self.devices = _table(
            scope, DEVICES_TABLE, keys=("device",), names=names, key_arn=key_arn, is_protected=is_protected
        )


class LaneStorage:
    """The sensor processor's state: the table `lanes`, by lane, and a bucket whose objects live for a week.

    The bucket is not locked in any retention: its objects are working state, and the archive has the records.
    """

    def __init__(
        self, scope: tf.Construct, *, names: PlatformNames, key_arn: str, access_logs: str, retention: Retention
    ) -> None:
        self.table = _table(
            scope,
            LANES_TABLE,
            keys=("lane",),
            names=names,
            key_arn=key_arn,
            is_protected=not retention.is_destroyable,
        )
        self.bucket = PrivateBucket(
            scope,
            "bucket-lanes",
            name=names.lanes,
            key_arn=key_arn,
            access_logs=access_logs,
            retention=retention,
            is_locked=False,
            noncurrent_days=STATE_NONCURRENT_DAYS,
            expiration_days=STATE_DAYS,
            statements=_deny_other_keys(bucket_arn(names.lanes), key_arn),
        )


def _table(
    scope: tf.Construct,
    name: str,
    *,
    keys: tuple[str, ...],
    names: PlatformNames,
    key_arn: str,
    is_protected: bool,
    index: tuple[str, str, str] | None = None,
    ttl_attribute: str | None = None,
) -> tf.DynamodbTable:
    """Make a table by its hash key and perhaps range key; `index` is a name and two more keys."""
    hash_key, *rest = keys
    return tf.DynamodbTable(
        scope,
        name,
        name=names.named(name),
        billing_mode="PAY_PER_REQUEST",
        hash_key=hash_key,
        range_key=rest[0] if rest else None,
        attribute=[tf.DynamodbTableAttribute(name=key, type="S") for key in (*keys, *(index or ())[1:])],
        global_secondary_index=[
            tf.DynamodbTableGlobalSecondaryIndex(
                name=index[0], hash_key=index[1], range_key=index[2], projection_type="ALL"
            )
        ]
        if index
        else None,
        ttl=tf.DynamodbTableTtl(enabled=True, attribute_name=ttl_attribute) if ttl_attribute else None,
        point_in_time_recovery=tf.DynamodbTablePointInTimeRecovery(enabled=True),
        server_side_encryption=tf.DynamodbTableServerSideEncryption(enabled=True, kms_key_arn=key_arn),
        deletion_protection_enabled=is_protected,
    )
