"""Makes an S3 bucket that is private, encrypted, versioned, TLS only and access-logged, as every one here is."""

from __future__ import annotations

from collections.abc import Sequence

from ..bindings import (
    Construct,
    S3Bucket,
    S3BucketLifecycleConfiguration,
    S3BucketLifecycleConfigurationRule,
    S3BucketLifecycleConfigurationRuleAbortIncompleteMultipartUpload,
    S3BucketLifecycleConfigurationRuleExpiration,
    S3BucketLifecycleConfigurationRuleFilter,
    S3BucketLifecycleConfigurationRuleNoncurrentVersionExpiration,
    S3BucketLoggingA,
    S3BucketObjectLockConfigurationA,
    S3BucketObjectLockConfigurationRuleA,
    S3BucketObjectLockConfigurationRuleDefaultRetentionA,
    S3BucketOwnershipControls,
    S3BucketOwnershipControlsRule,
    S3BucketPolicy,
    S3BucketPublicAccessBlock,
    S3BucketServerSideEncryptionConfigurationA,
    S3BucketServerSideEncryptionConfigurationRuleA,
    S3BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultA,
    S3BucketVersioningA,
    S3BucketVersioningVersioningConfiguration,
)
from ..names import bucket_arn
from . import iam
from .context import LOCK_MODE, Retention

ABORT_MULTIPART_DAYS = 7
"""Days until the parts of an upload that never ended are removed; they cost and nobody sees them."""


class PrivateBucket:
    """One bucket with all that belongs to it; `policy` is there for resources that must wait for it.

    `is_locked`: its objects are locked, where the retention locks any.
    """

    def __init__(
        self,
        scope: Construct,
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
        rules: Sequence[S3BucketLifecycleConfigurationRule] = (),
        transition_default_minimum_object_size: str | None = None,
    ) -> None:
        arn = bucket_arn(name)
        lock_days = retention.lock_days if is_locked else None
        self.bucket = S3Bucket(scope, id_, bucket=name, force_destroy=retention.is_destroyable)
        block = S3BucketPublicAccessBlock(
            scope,
            f"{id_}-public-access",
            bucket=self.bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
        )
        S3BucketOwnershipControls(
            scope,
            f"{id_}-ownership",
            bucket=self.bucket.id,
            rule=S3BucketOwnershipControlsRule(object_ownership="BucketOwnerEnforced"),
        )
        S3BucketServerSideEncryptionConfigurationA(
            scope,
            f"{id_}-encryption",
            bucket=self.bucket.id,
            rule=[
                S3BucketServerSideEncryptionConfigurationRuleA(
                    apply_server_side_encryption_by_default=_encryption(key_arn),
                    bucket_key_enabled=bool(key_arn) and bucket_key,
                )
            ],
        )
        versioning = S3BucketVersioningA(
            scope,
            f"{id_}-versioning",
            bucket=self.bucket.id,
            versioning_configuration=S3BucketVersioningVersioningConfiguration(status="Enabled"),
        )
        if access_logs:
            S3BucketLoggingA(
                scope,
                f"{id_}-logging",
                bucket=self.bucket.id,
                target_bucket=access_logs,
                target_prefix=f"{id_}/",
            )
        self.policy = S3BucketPolicy(
            scope,
            f"{id_}-policy",
            bucket=self.bucket.id,
            policy=iam.policy(
                iam.deny_plain_transport("s3:*", arn, f"{arn}/*"),
                iam.deny_old_tls("s3:*", arn, f"{arn}/*"),
                *([_deny_lifting_locks(arn)] if lock_days else []),
                *statements,
            ),
            depends_on=[block],
        )
        if lock_days:
            # Not at the bucket's creation: S3 takes it later too, so that a platform in use can be locked.
            S3BucketObjectLockConfigurationA(
                scope,
                f"{id_}-lock",
                bucket=self.bucket.id,
                rule=S3BucketObjectLockConfigurationRuleA(
                    default_retention=S3BucketObjectLockConfigurationRuleDefaultRetentionA(
                        mode=LOCK_MODE, days=lock_days
                    )
                ),
                depends_on=[versioning],
            )
        S3BucketLifecycleConfiguration(
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


def _deny_lifting_locks(arn: str) -> iam.Statement:
    """Whoever would lift a lock has to change this policy first, which raises an alarm."""
    return iam.Statement(
        sid="DenyLiftingLocks",
        effect="Deny",
        principal="*",
        actions=("s3:BypassGovernanceRetention",),
        resource=f"{arn}/*",
    )


def _encryption(
    key_arn: str | None,
) -> S3BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultA:
    if key_arn is None:
        return S3BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultA(sse_algorithm="AES256")
    return S3BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultA(
        sse_algorithm="aws:kms", kms_master_key_id=key_arn
    )


def _housekeeping(noncurrent_days: int, expiration_days: int | None) -> S3BucketLifecycleConfigurationRule:
    return S3BucketLifecycleConfigurationRule(
        id="housekeeping",
        status="Enabled",
        filter=[S3BucketLifecycleConfigurationRuleFilter(prefix="")],
        abort_incomplete_multipart_upload=[
            S3BucketLifecycleConfigurationRuleAbortIncompleteMultipartUpload(days_after_initiation=ABORT_MULTIPART_DAYS)
        ],
        noncurrent_version_expiration=[
            S3BucketLifecycleConfigurationRuleNoncurrentVersionExpiration(noncurrent_days=noncurrent_days)
        ],
        expiration=[S3BucketLifecycleConfigurationRuleExpiration(days=expiration_days)] if expiration_days else None,
    )
