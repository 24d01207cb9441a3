"""The three customer-managed KMS keys (data, logs, audit), each usable through its own services only."""

from __future__ import annotations

from collections.abc import Sequence

from .. import bindings as tf
from ..names import PlatformNames
from ..shared import iam

ROTATION_PERIOD_DAYS = 365

KEY_ADMINISTRATION = tuple(
    f"kms:{action}"
    for action in (
        "CancelKeyDeletion",
        "CreateAlias",
        "DeleteAlias",
        "DescribeKey",
        "DisableKey",
        "DisableKeyRotation",
        "EnableKey",
        "EnableKeyRotation",
        "GetKeyPolicy",
        "GetKeyRotationStatus",
        "ListGrants",
        "ListKeyPolicies",
        "ListKeyRotations",
        "ListResourceTags",
        "PutKeyPolicy",
        "RevokeGrant",
        "ScheduleKeyDeletion",
        "TagResource",
        "UntagResource",
        "UpdateAlias",
        "UpdateKeyDescription",
    )
)
"""Actions of the account's administrators: all but using the key."""

KEY_USE = ("kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo")
DATA_KEYS = ("kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext")

THIS_KEY = "*"
"""In a key policy, `*` means the key itself."""


class Encryption:
    """Keys `data` (stream, tables, archive, queue, function, anomalies), `logs` (log groups, alarms), `audit`."""

    def __init__(
        self, scope: tf.Construct, *, names: PlatformNames, deletion_window_days: int, log_groups: Sequence[str]
    ) -> None:
        self.data = _key(
            scope,
            names,
            deletion_window_days,
            "key-data",
            "Sensor data: stream, tables, archive, queue, function, anomalies",
            _use_through(names, "kinesis", "dynamodb", "s3", "sqs", "sns", "lambda"),
            _grants_through(names, "dynamodb", "lambda"),
        )
        self.logs = _key(
            scope,
            names,
            deletion_window_days,
            "key-logs",
            "Log groups and alarms of the platform",
            iam.Statement(
                sid="AllowPlatformLogGroups",
                principal={"Service": names.service("logs")},
                actions=(*KEY_USE, *DATA_KEYS, "kms:DescribeKey"),
                resource=THIS_KEY,
                conditions={
                    "ArnEquals": {
                        "kms:EncryptionContext:aws:logs:arn": [names.log_group_arn(group) for group in log_groups]
                    }
                },
            ),
            iam.Statement(
                sid="AllowAlarmsToPublish",
                principal={"Service": "cloudwatch.amazonaws.com"},
                actions=("kms:Decrypt", *DATA_KEYS),
                resource=THIS_KEY,
                conditions={
                    "StringEquals": {
                        "aws:SourceAccount": names.account_id,
                        "kms:EncryptionContext:aws:sns:topicArn": names.alarm_topic_arn,
                    },
                    "ArnLike": {"aws:SourceArn": names.alarm_arns},
                },
            ),
            _use_through(names, "sns"),
        )
        self.audit = _key(
            scope,
            names,
            deletion_window_days,
            "key-audit",
            "Audit trails and their bucket",
            iam.Statement(
                sid="AllowCloudTrailEncrypt",
                principal={"Service": "cloudtrail.amazonaws.com"},
                actions=DATA_KEYS,
                resource=THIS_KEY,
                conditions={
                    "StringEquals": {
                        "aws:SourceArn": names.trail_arns,
                        "kms:EncryptionContext:aws:cloudtrail:arn": names.trail_arns,
                    }
                },
            ),
            iam.Statement(
                sid="AllowCloudTrailDescribeKey",
                principal={"Service": "cloudtrail.amazonaws.com"},
                actions=("kms:DescribeKey",),
                resource=THIS_KEY,
                conditions={"StringEquals": {"aws:SourceArn": names.trail_arns}},
            ),
            _use_through(names, "s3"),
        )


def _key(
    scope: tf.Construct,
    names: PlatformNames,
    deletion_window_days: int,
    name: str,
    description: str,
    *statements: iam.Statement,
) -> tf.KmsKey:
    administration = iam.Statement(
        sid="AllowKeyAdministration",
        principal={"AWS": names.account_root},
        actions=KEY_ADMINISTRATION,
        resource=THIS_KEY,
    )
    key = tf.KmsKey(
        scope,
        name,
        description=description,
        enable_key_rotation=True,
        rotation_period_in_days=ROTATION_PERIOD_DAYS,
        deletion_window_in_days=deletion_window_days,
        policy=iam.policy(administration, *statements),
    )
    tf.KmsAlias(scope, f"alias-{name}", name=f"alias/{names.named(name)}", target_key_id=key.key_id)
    return key


def _through(names: PlatformNames, services: tuple[str, ...]) -> dict[str, str | list[str]]:
    return {
        "kms:CallerAccount": names.account_id,
        "kms:ViaService": [names.service(service) for service in services],
    }


def _use_through(names: PlatformNames, *services: str) -> iam.Statement:
    """Delegate use of the key to IAM policies of the account, but only through `services`."""
    return iam.Statement(
        sid="AllowUseThroughServices",
        principal={"AWS": names.account_root},
        actions=(*KEY_USE, *DATA_KEYS, "kms:DescribeKey"),
        resource=THIS_KEY,
        conditions={"StringEquals": _through(names, services)},
    )


def _grants_through(names: PlatformNames, *services: str) -> iam.Statement:
    """Allow grants: DynamoDB and Lambda use a key by a grant, which the creator of table or function makes."""
    return iam.Statement(
        sid="AllowGrantsForServices",
        principal={"AWS": names.account_root},
        actions=("kms:CreateGrant",),
        resource=THIS_KEY,
        conditions={
            "StringEquals": _through(names, services),
            "Bool": {"kms:GrantIsForAWSResource": "true"},
        },
    )
