"""By which roles Terraform reaches the account that it works in, and the bucket where its state lies."""

from __future__ import annotations

from dataclasses import dataclass

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
