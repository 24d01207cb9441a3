"""A daily look at every certificate of the account, and an alarm where one runs out: made where the manifest asks.

AWS IoT Device Defender audits a whole account. The AWS provider has no resource for it; Cloud Control, which it has,
makes what CloudFormation can: https://docs.aws.amazon.com/cloudcontrolapi/latest/userguide/supported-resources.html
"""

from __future__ import annotations

import json
from typing import Any

from ..bindings import CloudcontrolapiResource, Construct
from ..names import PlatformNames
from ..shared import iam
from ..shared.alarms import Metric, Watch, metric_alarm
from ..shared.roles import ServiceRole

CHECK = "DEVICE_CERTIFICATE_EXPIRING_CHECK"
DAY_S = 86_400

ACCOUNT_AUDIT = "AWS::IoT::AccountAuditConfiguration"
SCHEDULED_AUDIT = "AWS::IoT::ScheduledAudit"

IDENTIFIERS = {ACCOUNT_AUDIT: "AccountId", SCHEDULED_AUDIT: "ScheduledAuditName"}
"""What names one of each type; it cannot be changed."""


class CertificateAudit:
    """The account's audit settings with one check, its daily run, and the alarm on what it finds."""

    def __init__(self, scope: Construct, *, names: PlatformNames, expiry_days: int) -> None:
        self.role = ServiceRole(
            scope,
            names.audit_role,
            names=names,
            description="AWS IoT Device Defender looks at the certificates of the account",
            trust=iam.trust("iot.amazonaws.com", account_id=names.account_id, source_arn=names.arn("iot", "*")),
            statements=(
                # Listing certificates has no resource to name.
                iam.Statement(sid="ListCertificates", actions=("iot:ListCertificates",), resource="*"),
                iam.Statement(
                    sid="ReadCertificates", actions=("iot:DescribeCertificate",), resource=names.arn("iot", "cert/*")
                ),
            ),
        )
        check = {"Enabled": True, "Configuration": {"CertExpirationThresholdInDays": str(expiry_days)}}
        settings = _resource(
            scope,
            "certificate-audit",
            ACCOUNT_AUDIT,
            AccountId=names.account_id,
            RoleArn=names.role_arn(names.audit_role),  # literal: what is known at plan is checked there
            AuditCheckConfigurations={"DeviceCertificateExpiringCheck": check},
        )
        settings.node.add_dependency(self.role.policy)
        name = names.named("audit-certificates")
        schedule = _resource(
            scope,
            "certificate-audit-daily",
            SCHEDULED_AUDIT,
            ScheduledAuditName=name,
            Frequency="DAILY",
            TargetCheckNames=[CHECK],
        )
        schedule.node.add_dependency(settings)
        metric_alarm(
            scope,
            "alarm-certificate-expiry",
            names=names,
            description=f"Certificates run out within {expiry_days} days: see the audit's findings, device by device.",
            metric=Metric(
                namespace="AWS/IoT",
                name="NonCompliantResources",
                dimensions={"CheckName": CHECK, "ScheduledAuditName": name},
                statistic="Maximum",
            ),
            watch=Watch(threshold=1, period_s=DAY_S),
        )


def _resource(scope: Construct, id_: str, type_: str, **state: Any) -> CloudcontrolapiResource:
    """With a schema of what is used, as without one Terraform would ask AWS for it to plan."""
    identifier = IDENTIFIERS[type_]
    schema = {
        "typeName": type_,
        "description": "As far as it is used here",
        "properties": {name: {"type": _TYPES[type(value)]} for name, value in state.items()},
        "additionalProperties": False,
        "primaryIdentifier": [f"/properties/{identifier}"],
        "createOnlyProperties": [f"/properties/{identifier}"],
    }
    return CloudcontrolapiResource(
        scope, id_, type_name=type_, desired_state=json.dumps(state), schema=json.dumps(schema)
    )


_TYPES: dict[type, str] = {str: "string", dict: "object", list: "array"}
