"""Make an S3 bucket that is private, encrypted, versioned, TLS only and access-logged."""

from __future__ import annotations

from collections.abc import Sequence

from .. import bindings as tf
from ..names import bucket_arn
from . import iam
from .context import LOCK_MODE, Retention

ABORT_MULTIPART_DAYS = 7
"""Days until the invisible parts of an unfinished upload are removed."""


class PrivateBucket:
    """A bucket with its configuration; resources that need its policy depend on `policy`.

    Args:
        key_arn: KMS key; None for SSE-S3.
        access_logs: Bucket of the access logs; None for none.
        is_locked: Lock objects where the retention does.
        noncurrent_days: Days of earlier versions.
        expiration_days: Days until objects expire; None for never.
        bucket_key: Use an S3 bucket key, which saves calls of KMS.
        statements: More statements of the bucket policy.
        rules: More lifecycle rules.
    """

    def __init__(
        self,
        scope: tf.Construct,
        id_: str,
        *,
        name: str,
        key_arn: str | None,
        access_logs: str | None,
        retention: Retention,
        is_locked: bool,
        noncurrent_days: int,
        expiration_days: int | None = None,
        bucket_key: bool = True,
        statements: Sequence[iam.Statement] = (),
        rules: Sequence[tf.S3BucketLifecycleConfigurationRule] = (),
        transition_default_minimum_object_size: str | None = None,
    ) -> None:
        arn = bucket_arn(name)
        lock_days = retention.lock_days if is_locked else None
        self.bucket = tf.S3Bucket(scope, id_, bucket=name, force_destroy=retention.is_destroyable)
        block = tf.S3BucketPublicAccessBlock(
            scope,
            f"{id_}-public-access",
            bucket=self.bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
        )
        tf.S3BucketOwnershipControls(
            scope,
            f"{id_}-ownership",
            bucket=self.bucket.id,
            rule=tf.S3BucketOwnershipControlsRule(object_ownership="BucketOwnerEnforced"),
        )
        tf.S3BucketServerSideEncryptionConfigurationA(
            scope,
            f"{id_}-encryption",
            bucket=self.bucket.id,
            rule=[
                tf.S3BucketServerSideEncryptionConfigurationRuleA(
                    apply_server_side_encryption_by_default=_encryption(key_arn),
                    bucket_key_enabled=bool(key_arn) and bucket_key,
                )
            ],
        )
        versioning = tf.S3BucketVersioningA(
            scope,
            f"{id_}-versioning",
            bucket=self.bucket.id,
            versioning_configuration=tf.S3BucketVersioningVersioningConfiguration(status="Enabled"),
        )
        if access_logs:
            tf.S3BucketLoggingA(
                scope,
                f"{id_}-logging",
                bucket=self.bucket.id,
                target_bucket=access_logs,
                target_prefix=f"{id_}/",
            )
        self.policy = tf.S3BucketPolicy(
            scope,
            f"{id_}-policy",
            bucket=self.bucket.id,
            policy=iam.policy(
                iam.deny_insecure_transport("s3:*", arn, f"{arn}/*"),
                iam.deny_old_tls("s3:*", arn, f"{arn}/*"),
                *([_deny_bypassing_locks(arn)] if lock_days else []),
                *statements,
            ),
            depends_on=[block],
        )
        if lock_days:
            # Not at the bucket's creation, so that a platform in use can be locked later.
            tf.S3BucketObjectLockConfigurationA(
                scope,
                f"{id_}-lock",
                bucket=self.bucket.id,
                rule=tf.S3BucketObjectLockConfigurationRuleA(
                    default_retention=tf.S3BucketObjectLockConfigurationRuleDefaultRetentionA(
                        mode=LOCK_MODE, days=lock_days
                    )
                ),
                depends_on=[versioning],
            )
        tf.S3BucketLifecycleConfiguration(
            scope,
            f"{id_}-lifecycle",
            bucket=self.bucket.id,
            rule=[_housekeeping(noncurrent_days, expiration_days), *rules],
            transition_default_minimum_object_size=transition_default_minimum_object_size,
            depends_on=[versioning],
        )

    @property
    def name(self) -> str:
        return self.bucket.bucket


def _deny_bypassing_locks(arn: str) -> iam.Statement:
    """Deny lifting a lock: it requires a change of this policy first, which raises an alarm."""
    return iam.Statement(
        sid="DenyBypassGovernanceRetention",
        effect="Deny",
        principal="*",
        actions=("s3:BypassGovernanceRetention",),
        resource=f"{arn}/*",
    )


def _encryption(
    key_arn: str | None,
) -> tf.S3BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultA:
    if key_arn is None:
        return tf.S3BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultA(
            sse_algorithm="AES256"
        )
    return tf.S3BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultA(
        sse_algorithm="aws:kms", kms_master_key_id=key_arn
    )


def _housekeeping(noncurrent_days: int, expiration_days: int | None) -> tf.S3BucketLifecycleConfigurationRule:
    return tf.S3BucketLifecycleConfigurationRule(
        id="housekeeping",
        status="Enabled",
        filter=[tf.S3BucketLifecycleConfigurationRuleFilter(prefix="")],
        abort_incomplete_multipart_upload=[
            tf.S3BucketLifecycleConfigurationRuleAbortIncompleteMultipartUpload(
                days_after_initiation=ABORT_MULTIPART_DAYS
            )
        ],
        noncurrent_version_expiration=[
            tf.S3BucketLifecycleConfigurationRuleNoncurrentVersionExpiration(noncurrent_days=noncurrent_days)
        ],
        expiration=[tf.S3BucketLifecycleConfigurationRuleExpiration(days=expiration_days)] if expiration_days else None,
    )
