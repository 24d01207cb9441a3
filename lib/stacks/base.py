"""What every stack begins with: its explicit state backend, its provider, and the account that it is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ..bindings import (
    AwsProvider,
    AwsProviderAssumeRole,
    AwsProviderDefaultTags,
    Construct,
    DataAwsCallerIdentity,
    LocalBackend,
    S3Backend,
    TerraformResource,
    TerraformStack,
)
from ..names import PlatformNames, state_file
from ..shared.context import OWN, SESSION, Access
from ..shared.limits import check_tags
from ..shared.text import literal
from ..shared.things import Blocks


class FleetStack(TerraformStack):
    """A stack whose `names` are those of its application, environment, region and account.

    `blocks` are the resources that are no constructs: they go into the stack's file past CDKTF.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        application: str,
        environment_suffix: str,
        aws_region: str,
        account_id: str | None,
        state_bucket: str | None,
        state_bucket_region: str,
        default_tags: Mapping[str, str],
        access: Access = OWN,
    ) -> None:
        check_tags(default_tags)
        super().__init__(scope, id_)
        self.blocks: Blocks = {}
        self._keep_state(f"{application}/{environment_suffix}/{id_}.tfstate", state_bucket, state_bucket_region, access)
        AwsProvider(
            self,
            "aws",
            region=aws_region,
            allowed_account_ids=[account_id] if account_id else None,
            assume_role=[AwsProviderAssumeRole(role_arn=access.role_arn, session_name=SESSION)]
            if access.role_arn
            else None,
            default_tags=[AwsProviderDefaultTags(tags=literal(dict(default_tags)))],
        )
        self.names = PlatformNames(
            application=application,
            suffix=environment_suffix,
            region=aws_region,
            account_id=account_id or DataAwsCallerIdentity(self, "current").account_id,
            bucket_account_id=account_id,
        )

    def declared(self) -> Counter[str]:
        """How many resources of each type were declared, whatever became of them in the stack's file."""
        constructs = self.node.find_all()
        declared = Counter(each.terraform_resource_type for each in constructs if isinstance(each, TerraformResource))
        declared.update({kind: len(blocks) for kind, blocks in self.blocks.items()})
        return declared

    def _keep_state(self, key: str, bucket: str | None, bucket_region: str, access: Access) -> None:
        """In the bucket, locked by S3 itself; without one in the stack's own folder, by a relative path."""
        if bucket:
            S3Backend(self, bucket=bucket, key=key, region=bucket_region, encrypt=True, kms_key_id=access.state_key_arn)
            self.add_override("terraform.backend.s3.use_lockfile", True)
            if access.state_role_arn:
                role = {"role_arn": access.state_role_arn, "session_name": SESSION}
                self.add_override("terraform.backend.s3.assume_role", role)
        else:
            LocalBackend(self, path=state_file(str(self.node.id)))
