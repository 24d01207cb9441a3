"""Settings that all stacks share: access, state and retention."""

from __future__ import annotations

from dataclasses import dataclass

# @@ By which roles Terraform reaches the account that it works in, and the bucket where its state lies.

SESSION = "fleet-terraform"
"""The session's name in the audit trail of the account that is worked in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """ARNs, each None where the credentials at hand do: of roles that they assume, and of the state's own key.

    External ids have no place here: stacks and states are files that others read. Where a role asks for one, an AWS
    profile with `role_arn` and `external_id` does the same, outside of both.
    """

    role_arn: str | None = None
    state_role_arn: str | None = None
    state_key_arn: str | None = None


OWN = Access()
"""The credentials at hand, and S3's own key."""


# @@ How long the platform keeps what it holds, and whether all of it can be destroyed: the manifest's `retention`.

LOCK_MODE = "GOVERNANCE"
"""Not COMPLIANCE, under which nobody, not even AWS, deletes an object before its date: one wrong file, or one that a
court orders deleted, would stay for years, and the account could not be emptied. Whoever would lift a governance lock
needs a permission that no role here has and that the bucket's policy denies to all: the trail tells of both steps.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Days; `lock_days` are those of Object Lock, None where everything can be destroyed with what it holds.

    Days of logs are such as CloudWatch Logs takes:
    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
    """

    trail_days: int
    operational_log_days: int
    access_log_days: int
    key_deletion_days: int
    lock_days: int | None

    @property
    def is_destroyable(self) -> bool:
        return self.lock_days is None


BRIEF = Retention(
    trail_days=90,
    operational_log_days=30,
    access_log_days=90,
    key_deletion_days=7,  # the shortest that KMS allows: nothing is left behind for longer than it must
    lock_days=None,
)

SEVEN_YEARS = 2557
"""Days, two leap days among them: what auditors of regulated plants usually ask for, and a value that logs take."""

RECORDS = Retention(
    trail_days=SEVEN_YEARS,
    operational_log_days=400,  # a year and a month, so that an audit a year later still finds it
    access_log_days=SEVEN_YEARS,
    key_deletion_days=30,
    lock_days=SEVEN_YEARS,
)

RETENTIONS = {"brief": BRIEF, "records": RECORDS}
"""By their names in the manifest."""
