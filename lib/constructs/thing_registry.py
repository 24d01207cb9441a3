"""Registration of devices: thing types, groups and policies; provisioning templates and roles outside Terraform."""

from __future__ import annotations

from pathlib import Path

from .. import bindings as tf
from ..names import BULK_REGISTRATION_ROLE, PROVISIONING_ROLE, PlatformNames, bucket_arn
from ..shared import iam
from ..shared.iam import ServiceRole
from ..shared.text import ascii_form, described, read_document
from ..specs import DeviceTypeSpec, FacilitySpec


class ThingTypes:
    """One thing type for each device type. All facilities share them, hence they belong to the platform."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, device_types: tuple[DeviceTypeSpec, ...]) -> None:
        for device_type in device_types:
            tf.IotThingType(
                scope,
                device_type.thing_type,
                name=names.named(device_type.thing_type),
                properties=tf.IotThingTypeProperties(description=ascii_form(device_type.description) or device_type.id),
            )


class ThingRegistry:
    """The facility's thing group, and below it a group and a policy for each of its device types."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, facility: FacilitySpec, folder: Path) -> None:
        description = described(facility.id, facility.name)
        parent = tf.IotThingGroup(
            scope,
            facility.thing_group,
            name=names.named(facility.thing_group),
            properties=_properties(description, facility=facility.id),
        )
        for group in facility.groups:
            tf.IotThingGroup(
                scope,
                group.thing_group,
                name=names.named(group.thing_group),
                parent_group_name=parent.name,
                properties=_properties(
                    f"{group.device_type} at {description}", facility=facility.id, device_type=group.device_type
                ),
            )
            tf.IotPolicy(
                scope,
                group.policy,
                name=names.named(group.policy),
                policy=read_document(folder / group.policy_file, account_id=names.account_id, suffix=names.suffix),
            )


def _properties(description: str, **attributes: str) -> tf.IotThingGroupProperties:
    return tf.IotThingGroupProperties(
        description=description,
        attribute_payload=tf.IotThingGroupPropertiesAttributePayload(attributes=attributes),
    )


# Registration of devices outside Terraform.


class FleetProvisioningRole:
    """The platform's role for all provisioning templates."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames) -> None:
        ServiceRole(
            scope,
            PROVISIONING_ROLE,
            names=names,
            description="AWS IoT registers devices by the provisioning templates of this environment",
            trust=iam.iot_trust(names, f"provisioningtemplate/{names.named('template-*')}"),
            statements=_registration(names),
        )


class BulkRegistrationRole:
    """The platform's role for AWS IoT's bulk registration: read parameter files, and register their devices."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, data_key_arn: str) -> None:
        archive = bucket_arn(names.raw_archive)
        ServiceRole(
            scope,
            BULK_REGISTRATION_ROLE,
            names=names,
            description="AWS IoT registers the devices of the parameter files of this environment",
            # A registration task has no ARN.
            trust=iam.iot_trust(names, "*"),
            statements=(
                iam.allow("GetParameterFiles", "s3:GetObject", on=f"{archive}/{names.bulk_registration_prefix('*')}*"),
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
    """Allow what RegisterThing does for a template, on this environment's things, groups, types and policies.

    Of the thirty actions that the managed policy AWSIoTThingsRegistration allows on all resources, eight are left out:
    templates here create no policy (CreatePolicy), import no certificate (RegisterCertificate), use no billing groups
    (three), and fail where they would replace something (DetachPolicy, DetachThingPrincipal,
    RemoveThingFromThingGroup).

    Source: https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSIoTThingsRegistration.html
    """
    things = names.arn("iot", f"thing/{names.named('*')}")
    groups = names.arn("iot", f"thinggroup/{names.named('thing-group-*')}")
    policies = names.arn("iot", f"policy/{names.named('policy-*')}")
    return (
        # These actions have no resource type:
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsiot.html
        iam.Statement(
            sid="RegisterThing",
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
            sid="ManageThings", actions=("iot:CreateThing", "iot:DescribeThing", "iot:UpdateThing"), resource=things
        ),
        iam.Statement(
            sid="DescribeThingTypes",
            actions=("iot:DescribeThingType",),
            resource=names.arn("iot", f"thingtype/{names.named('thing-type-*')}"),
        ),
        iam.Statement(
            sid="ReadPolicies",
            actions=("iot:GetPolicy", "iot:ListTargetsForPolicy"),
            resource=policies,
        ),
        iam.Statement(
            sid="AddThingsToGroups",
            actions=(
                "iot:AddThingToThingGroup",
                "iot:UpdateThingGroupsForThing",
                "iot:ListThingGroupsForThing",
                "iot:DescribeThingGroup",
            ),
            resource=(things, groups),
        ),
        iam.Statement(
            sid="ManageCertificates",
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
    """A facility's provisioning template, disabled.

    Its devices choose their names. Without a pre-provisioning hook that checks each one, the owner of a claim
    certificate could register as an existing thing and get a second certificate for it.
    https://docs.aws.amazon.com/iot/latest/developerguide/pre-provisioning-hook.html
    """

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, facility: FacilitySpec, folder: Path) -> None:
        tf.IotProvisioningTemplate(
            scope,
            facility.provisioning_template,
            name=names.named(facility.provisioning_template),
            description=f"Devices of {facility.name}",
            enabled=False,
            provisioning_role_arn=names.role_arn(PROVISIONING_ROLE),
            template_body=read_document(
                folder / "provisioning_template.json", account_id=names.account_id, suffix=names.suffix
            ),
        )
