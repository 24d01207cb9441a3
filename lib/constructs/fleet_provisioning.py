"""How devices are registered outside Terraform: a plant's provisioning template, and the role that carries it out."""

from __future__ import annotations

from pathlib import Path

from lib import iam
from lib.bindings import Construct, IotProvisioningTemplate
from lib.documents import read_document
from lib.names import PlatformNames
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
