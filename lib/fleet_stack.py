"""What every stack begins with: its explicit state backend, its provider, and the account that it is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from lib.bindings import (
    AwsProvider,
    AwsProviderDefaultTags,
    Construct,
    DataAwsCallerIdentity,
    LocalBackend,
    S3Backend,
    TerraformResource,
    TerraformStack,
)
from lib.names import PlatformNames
from lib.output import Blocks


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
    ) -> None:
        super().__init__(scope, id_)
        self.blocks: Blocks = {}
        self._keep_state(id_, application, environment_suffix, state_bucket, state_bucket_region)
        AwsProvider(
            self,
            "aws",
            region=aws_region,
            allowed_account_ids=[account_id] if account_id else None,
            default_tags=[AwsProviderDefaultTags(tags=default_tags)],
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

    def _keep_state(self, id_: str, application: str, suffix: str, bucket: str | None, bucket_region: str) -> None:
        """In the bucket, locked by S3 itself; without one in the stack's own folder, by a relative path."""
        if bucket:
            S3Backend(
                self,
                bucket=bucket,
                key=f"{application}/{suffix}/{id_}.tfstate",
                region=bucket_region,
                encrypt=True,
            )
            self.add_override("terraform.backend.s3.use_lockfile", True)
        else:
            LocalBackend(self, path=f"terraform.{id_}.tfstate")
