"""How devices are registered outside Terraform: a plant's provisioning template, and the roles that carry it out."""

from __future__ import annotations

from pathlib import Path

from lib import iam
from lib.bindings import Construct, IotProvisioningTemplate
from lib.documents import read_document
from lib.names import PlatformNames, bucket_arn
from lib.roles import ServiceRole
from lib.specs import FacilitySpec


class FleetProvisioningRole:
    """The platform's role for all templates: things, groups and policies of this environment, and certificates."""

    def __init__(self, scope: Construct, *, names: PlatformNames) -> None:
        self.role = ServiceRole(
            scope,
            names.provisioning_role,
            names=names,
            description="IoT registers devices by the provisioning templates of this environment",
            trust=iam.trust(
                "iot.amazonaws.com",
                account_id=names.account_id,
                source_arn=names.arn("iot", f"provisioningtemplate/{names.named('template-*')}"),
            ),
            statements=(
                iam.Statement(
                    sid="RegisterThings",
                    actions=("iot:CreateThing", "iot:DescribeThing", "iot:UpdateThing"),
                    resource=names.arn("iot", f"thing/{names.named('*')}"),
                ),
                iam.Statement(
                    sid="JoinGroups",
                    actions=("iot:AddThingToThingGroup",),
                    resource=(
                        names.arn("iot", f"thing/{names.named('*')}"),
                        names.arn("iot", f"thinggroup/{names.named('thing-group-*')}"),
                    ),
                ),
                iam.Statement(
                    sid="GiveCertificates",
                    actions=("iot:DescribeCertificate", "iot:UpdateCertificate", "iot:AttachPolicy"),
                    resource=names.arn("iot", "cert/*"),
                ),
                iam.Statement(
                    sid="AttachCertificates",
                    actions=("iot:AttachThingPrincipal",),
                    resource=(names.arn("iot", f"thing/{names.named('*')}"), names.arn("iot", "cert/*")),
                ),
            ),
        )


class BulkRegistrationRole:
    """The platform's role for AWS IoT's own bulk registration: reads parameter files, and registers their devices.

    Of what the managed policy AWSIoTThingsRegistration allows on everything, only what its templates need, on this
    environment's things, groups and policies:
    https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSIoTThingsRegistration.html
    """

    def __init__(self, scope: Construct, *, names: PlatformNames, data_key_arn: str) -> None:
        archive = bucket_arn(names.raw_archive)
        things = names.arn("iot", f"thing/{names.named('*')}")
        groups = names.arn("iot", f"thinggroup/{names.named('thing-group-*')}")
        certificates = names.arn("iot", "cert/*")
        self.role = ServiceRole(
            scope,
            names.bulk_registration_role,
            names=names,
            description="IoT registers the devices of the parameter files of this environment",
            # A task has no ARN that could be named.
            trust=iam.trust("iot.amazonaws.com", account_id=names.account_id, source_arn=names.arn("iot", "*")),
            statements=(
                iam.Statement(
                    sid="ReadParameterFiles",
                    actions=("s3:GetObject",),
                    resource=f"{archive}/{names.bulk_registration_prefix('*')}*",
                ),
                iam.key_use(
                    "DecryptParameterFiles",
                    "Decrypt",
                    key_arn=data_key_arn,
                    via=names.service("s3"),
                    context={"aws:s3:arn": archive},
                ),
                # Neither has a resource to name.
                iam.Statement(
                    sid="MakeCertificates",
                    actions=("iot:CreateCertificateFromCsr", "iot:RegisterThing"),
                    resource="*",
                ),
                iam.Statement(
                    sid="RegisterThings",
                    actions=("iot:CreateThing", "iot:DescribeThing"),
                    resource=things,
                ),
                iam.Statement(
                    sid="LookAtTypesAndPolicies",
                    actions=("iot:DescribeThingType", "iot:GetPolicy"),
                    resource=(
                        names.arn("iot", f"thingtype/{names.named('thing-type-*')}"),
                        names.arn("iot", f"policy/{names.named('policy-*')}"),
                    ),
                ),
                iam.Statement(
                    sid="JoinGroups",
                    actions=("iot:AddThingToThingGroup", "iot:DescribeThingGroup", "iot:ListThingGroupsForThing"),
                    resource=(things, groups),
                ),
                iam.Statement(
                    sid="GiveCertificates",
                    actions=("iot:DescribeCertificate", "iot:UpdateCertificate", "iot:AttachPolicy"),
                    resource=certificates,
                ),
                iam.Statement(
                    sid="AttachCertificates", actions=("iot:AttachThingPrincipal",), resource=(things, certificates)
                ),
            ),
        )


class FleetProvisioning:
    """A plant's provisioning template, carried out by the platform's role."""

    def __init__(self, scope: Construct, *, names: PlatformNames, facility: FacilitySpec, folder: Path) -> None:
        self.template = IotProvisioningTemplate(
            scope,
            facility.provisioning_template,
            name=names.named(facility.provisioning_template),
            description=f"Devices of {facility.name}",
            enabled=True,
            provisioning_role_arn=names.role_arn(names.provisioning_role),
            template_body=read_document(
                folder / "provisioning_template.json", account_id=names.account_id, suffix=names.suffix
            ),
        )
