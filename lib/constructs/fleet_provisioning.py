"""How devices are registered outside Terraform: a plant's provisioning template, and the roles that carry it out."""

from __future__ import annotations

from pathlib import Path

from ..bindings import Construct, IotProvisioningTemplate
from ..names import PlatformNames, bucket_arn
from ..shared import iam
from ..shared.iam import ServiceRole
from ..shared.text import read_document
from ..specs import FacilitySpec


class FleetProvisioningRole:
    """The platform's role for all provisioning templates."""

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
            statements=_registration(names),
        )


class BulkRegistrationRole:
    """The platform's role for AWS IoT's own bulk registration: reads parameter files, and registers their devices."""

    def __init__(self, scope: Construct, *, names: PlatformNames, data_key_arn: str) -> None:
        archive = bucket_arn(names.raw_archive)
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
                *_registration(names),
            ),
        )


def _registration(names: PlatformNames) -> tuple[iam.Statement, ...]:
    """What RegisterThing does for a template: things, groups, types and policies of this environment, certificates.

    Of the thirty actions that the managed policy AWSIoTThingsRegistration allows on everything, eight are left out:
    templates here make no policy (CreatePolicy), take no certificate's text (RegisterCertificate), know no billing
    groups (three), and fail where they would replace something (DetachPolicy, DetachThingPrincipal,
    RemoveThingFromThingGroup).

    Source: https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSIoTThingsRegistration.html
    """
    things = names.arn("iot", f"thing/{names.named('*')}")
    groups = names.arn("iot", f"thinggroup/{names.named('thing-group-*')}")
    policies = names.arn("iot", f"policy/{names.named('policy-*')}")
    return (
        # None of these has a resource that a policy could name:
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsiot.html
        iam.Statement(
            sid="RegisterAndAttach",
            actions=(
                "iot:RegisterThing",
                "iot:CreateCertificateFromCsr",
                "iot:AttachThingPrincipal",
                "iot:ListThingPrincipals",
                "iot:ListPrincipalThings",
                "iot:ListPrincipalPolicies",
                "iot:ListPolicyPrincipals",
                "iot:ListAttachedPolicies",
            ),
            resource="*",
        ),
        iam.Statement(
            sid="RegisterThings", actions=("iot:CreateThing", "iot:DescribeThing", "iot:UpdateThing"), resource=things
        ),
        iam.Statement(
            sid="LookAtTypes",
            actions=("iot:DescribeThingType",),
            resource=names.arn("iot", f"thingtype/{names.named('thing-type-*')}"),
        ),
        iam.Statement(
            sid="LookAtPolicies",
            actions=("iot:GetPolicy", "iot:ListTargetsForPolicy"),
            resource=policies,
        ),
        iam.Statement(
            sid="JoinGroups",
            actions=(
                "iot:AddThingToThingGroup",
                "iot:UpdateThingGroupsForThing",
                "iot:ListThingGroupsForThing",
                "iot:DescribeThingGroup",
            ),
            resource=(things, groups),
        ),
        iam.Statement(
            sid="GiveCertificates",
            actions=(
                "iot:DescribeCertificate",
                "iot:UpdateCertificate",
                "iot:AttachPolicy",
                "iot:AttachPrincipalPolicy",
            ),
            resource=names.arn("iot", "cert/*"),
        ),
    )


class FleetProvisioning:
    """A plant's provisioning template, carried out by the platform's role; disabled, so that nobody registers by it.

    Its devices name themselves. Without a pre-provisioning hook that looks each one up, whoever holds the claim
    certificate could register as a thing that is there already, and get a second certificate for it.
    https://docs.aws.amazon.com/iot/latest/developerguide/pre-provisioning-hook.html
    """

    def __init__(self, scope: Construct, *, names: PlatformNames, facility: FacilitySpec, folder: Path) -> None:
        self.template = IotProvisioningTemplate(
            scope,
            facility.provisioning_template,
            name=names.named(facility.provisioning_template),
            description=f"Devices of {facility.name}",
            enabled=False,
            provisioning_role_arn=names.role_arn(names.provisioning_role),
            template_body=read_document(
                folder / "provisioning_template.json", account_id=names.account_id, suffix=names.suffix
            ),
        )
