"""Makes the role of one service: its trust and the one policy that says all that it may do."""

from __future__ import annotations

from ..bindings import Construct, IamRole, IamRolePolicy
from ..names import PlatformNames
from . import iam


class ServiceRole:
    """A role and its inline policy; `policy` is there for resources that must wait until the role may act."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        names: PlatformNames,
        description: str,
        trust: str,
        statements: tuple[iam.Statement, ...],
    ) -> None:
        self.role = IamRole(
            scope,
            name,
            name=names.account_wide(name),
            description=description,
            assume_role_policy=trust,
            force_detach_policies=True,
        )
        self.policy = IamRolePolicy(
            scope,
            f"{name}-policy",
            name=names.named(name.replace("role-", "policy-", 1)),
            role=self.role.name,
            policy=iam.policy(*statements),
        )

    @property
    def arn(self) -> str:
        return self.role.arn
