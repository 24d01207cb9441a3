"""The base class of all stacks, the stack of a facility and the stack of the device endpoint."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from . import bindings as tf
from .constructs.observability import FacilityAlarms, FacilityDashboard
from .constructs.storage import FacilityArchive
from .constructs.telemetry_stream import TelemetryRule
from .constructs.thing_registry import FleetProvisioning, ThingRegistry
from .names import PlatformNames, state_file
from .record.identities import Requests
from .record.read import read_things
from .shared.context import SESSION, StackContext
from .shared.limits import check_tags
from .shared.text import literal
from .shared.things import Blocks, ThingBlocks, thing_blocks
from .specs import FacilitySpec

SECURITY_POLICY = "IoTSecurityPolicy_TLS13_1_2_2022_10"
"""TLS 1.2 and 1.3: https://docs.aws.amazon.com/iot/latest/developerguide/transport-security.html"""


class BaseStack(tf.TerraformStack):
    """A stack with an explicit state backend, the AWS provider bound to one account, and the platform's `names`.

    `blocks` are resources that are no constructs: they are written into the stack's file after CDKTF.
    """

    def __init__(self, scope: tf.Construct, id_: str, context: StackContext) -> None:
        check_tags(context.default_tags)
        super().__init__(scope, id_)
        self.context = context
        self.blocks: Blocks = {}
        self._configure_backend()
        account_id, role_arn = context.account_id, context.access.role_arn
        tf.AwsProvider(
            self,
            "aws",
            region=context.aws_region,
            allowed_account_ids=[account_id] if account_id else None,
            assume_role=[tf.AwsProviderAssumeRole(role_arn=role_arn, session_name=SESSION)] if role_arn else None,
            default_tags=[tf.AwsProviderDefaultTags(tags=literal(dict(context.default_tags)))],
        )
        self.names = PlatformNames(
            application=context.application,
            suffix=context.environment_suffix,
            region=context.aws_region,
            account_id=account_id or tf.DataAwsCallerIdentity(self, "current").account_id,
            bucket_account_id=account_id,
        )

    def declared(self) -> Counter[str]:
        """Count the declared resources by type, constructs and blocks."""
        constructs = self.node.find_all()
        declared = Counter(
            each.terraform_resource_type for each in constructs if isinstance(each, tf.TerraformResource)
        )
        declared.update({kind: len(blocks) for kind, blocks in self.blocks.items()})
        return declared

    def _configure_backend(self) -> None:
        """Use the state bucket, locked by S3 itself, or else a file in the stack's folder by a relative path."""
        context, name = self.context, str(self.node.id)
        if not context.state_bucket:
            tf.LocalBackend(self, path=state_file(name))
            return
        tf.S3Backend(
            self,
            bucket=context.state_bucket,
            key=f"{context.application}/{context.environment_suffix}/{name}.tfstate",
            region=context.state_bucket_region or context.aws_region,
            encrypt=True,
            kms_key_id=context.access.state_key_arn,
        )
        self.add_override("terraform.backend.s3.use_lockfile", True)
        if role_arn := context.access.state_role_arn:
            role = {"role_arn": role_arn, "session_name": SESSION}
            self.add_override("terraform.backend.s3.assume_role", role)


class FacilityStack(BaseStack):
    """A facility: groups, policies, topic rule, template, dashboard, alarms, archive prefixes, and its things.

    It refers to the platform by name only. With bulk registration, Terraform owns everything but the things.

    Args:
        folder: The facility's folder in the record.
        requests: The CSRs of its things.
    """

    def __init__(
        self,
        scope: tf.Construct,
        id_: str,
        context: StackContext,
        *,
        facility: FacilitySpec,
        folder: Path,
        requests: Requests,
    ) -> None:
        facility = literal(facility)
        super().__init__(scope, id_, context)
        ThingRegistry(self, names=self.names, facility=facility, folder=folder)
        TelemetryRule(self, names=self.names, facility=facility, folder=folder)
        FleetProvisioning(self, names=self.names, facility=facility, folder=folder)
        FacilityDashboard(self, names=self.names, facility=facility, folder=folder)
        FacilityAlarms(self, names=self.names, facility=facility)
        has_markers = context.retention.is_destroyable
        FacilityArchive(self, names=self.names, facility=facility, folder=folder, has_markers=has_markers)
        self.things = ThingBlocks(blocks={}, certificates=0, without_csr=0)
        if facility.registration == "terraform":
            things = read_things(folder / facility.things_file)
            self.things = thing_blocks(things, facility=facility, suffix=context.environment_suffix, requests=requests)
            self.blocks = self.things.blocks


class EndpointStack(BaseStack):
    """The devices' MQTT endpoint, which accepts TLS 1.2 or later only; one for each environment.

    The account's default endpoint may accept TLS 1.0, and is account-wide. AWS lets an AWS-managed endpoint be deleted
    only after seven days in DISABLED, hence a stack of its own: in the platform's it would block `terraform destroy`.
    https://docs.aws.amazon.com/iot/latest/developerguide/iot-custom-endpoints-managing.html
    """

    def __init__(self, scope: tf.Construct, id_: str, context: StackContext) -> None:
        super().__init__(scope, id_, context)
        tf.IotDomainConfiguration(
            self,
            "endpoint-devices",
            name=self.names.named("endpoint-devices"),
            service_type="DATA",
            tls_config=tf.IotDomainConfigurationTlsConfig(security_policy=SECURITY_POLICY),
        )
