"""The stacks of an environment: their base class, one stack for each facility and one for the device endpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from .bindings import (
    AwsProvider,
    AwsProviderAssumeRole,
    AwsProviderDefaultTags,
    Construct,
    DataAwsCallerIdentity,
    IotDomainConfiguration,
    IotDomainConfigurationTlsConfig,
    LocalBackend,
    S3Backend,
    TerraformResource,
    TerraformStack,
)
from .constructs.fleet_provisioning import FleetProvisioning
from .constructs.observability import FacilityAlarms, FacilityDashboard
from .constructs.storage import FacilityArchive
from .constructs.telemetry_stream import TelemetryRule
from .constructs.thing_registry import ThingRegistry
from .names import PlatformNames, state_file
from .shared.context import OWN, SESSION, Access, Retention
from .shared.limits import check_tags
from .shared.text import literal
from .shared.things import Blocks, ThingBlocks, read_things, thing_blocks
from .specs import FacilitySpec

# @@ What every stack begins with: its explicit state backend, its provider, and the account that it is for.


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


# @@ One plant: its groups, policies, rule, template, dashboard and archive prefixes, and its things.


class FacilityStack(FleetStack):
    """The plant `facility`, declared in `folder`; refers to the platform by name alone.

    `csrs` are the certificate requests of its things by full name; of a plant that registers its things in bulk,
    Terraform owns everything but the things.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        environment_suffix: str,
        aws_region: str,
        state_bucket: str | None,
        state_bucket_region: str,
        default_tags: Mapping[str, str],
        account_id: str | None,
        application: str,
        retention: Retention,
        facility: FacilitySpec,
        folder: Path,
        csrs: Mapping[str, str],
        access: Access = OWN,
    ) -> None:
        facility = literal(facility)
        super().__init__(
            scope,
            id_,
            application=application,
            environment_suffix=environment_suffix,
            aws_region=aws_region,
            account_id=account_id,
            state_bucket=state_bucket,
            state_bucket_region=state_bucket_region,
            default_tags=default_tags,
            access=access,
        )
        ThingRegistry(self, names=self.names, facility=facility, folder=folder)
        TelemetryRule(self, names=self.names, facility=facility, folder=folder)
        FleetProvisioning(self, names=self.names, facility=facility, folder=folder)
        FacilityDashboard(self, names=self.names, facility=facility, folder=folder)
        FacilityAlarms(self, names=self.names, facility=facility)
        self.archive = FacilityArchive(
            self, names=self.names, facility=facility, folder=folder, has_markers=retention.is_destroyable
        )
        self.things = ThingBlocks(blocks={}, certificates=0, without_csr=0)
        if facility.registration == "terraform":
            things = read_things(folder / facility.things_file)
            self.things = thing_blocks(things, facility=facility, suffix=environment_suffix, csrs=csrs)
            self.blocks = self.things.blocks


# @@ The MQTT endpoint of the devices, which speaks TLS 1.2 or later and nothing older.

SECURITY_POLICY = "IoTSecurityPolicy_TLS13_1_2_2022_10"
"""TLS 1.2 and 1.3: https://docs.aws.amazon.com/iot/latest/developerguide/transport-security.html"""


class DeviceEndpoint:
    """An AWS-managed endpoint of its own: the account's default one may still take TLS 1.0, and is account-wide."""

    def __init__(self, scope: Construct, *, names: PlatformNames) -> None:
        self.configuration = IotDomainConfiguration(
            scope,
            "endpoint-devices",
            name=names.named("endpoint-devices"),
            service_type="DATA",
            tls_config=IotDomainConfigurationTlsConfig(security_policy=SECURITY_POLICY),
        )


# @@ The devices' endpoint, in a stack of its own because AWS keeps it for seven days.
# @@
# @@ An AWS-managed endpoint can be deleted only when it has been disabled for a week
# @@ (https://docs.aws.amazon.com/iot/latest/developerguide/iot-custom-endpoints-managing.html). In the platform's stack it
# @@ would stop every `terraform destroy`; here it stops only its own.


class EndpointStack(FleetStack):
    """One endpoint an environment."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        environment_suffix: str,
        aws_region: str,
        state_bucket: str | None,
        state_bucket_region: str,
        default_tags: Mapping[str, str],
        account_id: str | None,
        application: str,
        access: Access = OWN,
    ) -> None:
        super().__init__(
            scope,
            id_,
            application=application,
            environment_suffix=environment_suffix,
            aws_region=aws_region,
            account_id=account_id,
            state_bucket=state_bucket,
            state_bucket_region=state_bucket_region,
            default_tags=default_tags,
            access=access,
        )
        self.endpoint = DeviceEndpoint(self, names=self.names)
