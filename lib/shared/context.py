"""The context that all stacks of a synthesis share: environment, account, state, tags and retention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SESSION = "fleet-terraform"
"""Session name of assumed roles, as the audit trail of the target account shows it."""

LOCK_MODE = "GOVERNANCE"
"""Not COMPLIANCE, under which not even AWS can delete an object before its date: a wrong file, or one that a
court orders deleted, would stay for years, and the account could not be closed. Lifting a governance lock needs a
permission that no role here has and that the bucket's policy denies to everyone; the trail records both steps.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html"""


GLACIER_AFTER_DAYS = 90
"""Days until objects of the archive move to Glacier."""

COOLED_FROM_BYTES = 128 * 1024
"""Smaller objects stay in S3 Standard: Intelligent-Tiering never moves them, and in Glacier each costs a request and
40 kB of overhead. 31 million a month would cost 900 USD to save 0.6.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Retention periods in days.

    Log retention accepts only these values:
    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html

    Args:
        lock_days: Object Lock of archive and trail; None where the platform can be destroyed with its data.
    """

    trail_days: int
    operational_log_days: int
    access_log_days: int
    key_deletion_days: int
    lock_days: int | None

    @property
    def is_destroyable(self) -> bool:
        return self.lock_days is None


SHORT = Retention(
    trail_days=90,
    operational_log_days=30,
    access_log_days=90,
    key_deletion_days=7,  # the minimum of KMS
    lock_days=None,
)

SEVEN_YEARS = 2557
"""Days, with two leap days: the usual demand of auditors in regulated plants, and a valid log retention."""

RECORDS = Retention(
    trail_days=SEVEN_YEARS,
    operational_log_days=400,  # a year and a month, for the audit a year later
    access_log_days=SEVEN_YEARS,
    key_deletion_days=30,
    lock_days=SEVEN_YEARS,
)

RETENTIONS = {"short": SHORT, "records": RECORDS}
"""By the manifest's `retention`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """ARNs that Terraform uses instead of the credentials at hand and S3's own key; None where those do.

    External ids are left out: stacks and states are files that others read. For a role that requires one, use an AWS
    profile with `role_arn` and `external_id`.

    Args:
        role_arn: Role of the provider.
        state_role_arn: Role for the state bucket.
        state_key_arn: KMS key of the state.
    """

    role_arn: str | None = None
    state_role_arn: str | None = None
    state_key_arn: str | None = None


OWN = Access()


@dataclass(frozen=True, slots=True, kw_only=True)
class StackContext:
    """Arguments that every stack of an environment has in common.

    Args:
        application: Root of the MQTT topics, and part of bucket, role and state names.
        environment_suffix: Last part of every resource name.
        default_tags: Tags of every resource that accepts them.
        account_id: Twelve digits; None to look it up from the credentials at hand.
        state_bucket: Bucket of the Terraform state; None for a file in the stack's folder.
        state_bucket_region: None for `aws_region`.
    """

    application: str
    environment_suffix: str
    aws_region: str
    default_tags: Mapping[str, str]
    retention: Retention = SHORT
    account_id: str | None = None
    state_bucket: str | None = None
    state_bucket_region: str | None = None
    access: Access = OWN
