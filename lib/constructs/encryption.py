"""The three customer-managed keys (data, logs, audit), each usable only by the services that it is for."""

from __future__ import annotations

from collections.abc import Sequence

from ..bindings import Construct, KmsAlias, KmsKey
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
"""What the account's administrators may do with a key: everything but using it."""

KEY_USE = ("kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo")
DATA_KEYS = ("kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext")

THIS_KEY = "*"
"""In a key policy, `*` is the key that the policy is attached to."""


class Encryption:
    """Keys `data` (stream, tables, archive, queue, function, anomalies), `logs` (log groups, alarms), `audit`."""

    def __init__(
        self, scope: Construct, *, names: PlatformNames, deletion_window_days: int, log_groups: Sequence[str]
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
                sid="LogGroupsOfThePlatform",
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
                sid="AlarmsReachTheirTopic",
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
            "Audit trail and its bucket",
            iam.Statement(
                sid="TrailEncryptsItsFiles",
                principal={"Service": "cloudtrail.amazonaws.com"},
                actions=DATA_KEYS,
                resource=THIS_KEY,
                conditions={
                    "StringEquals": {
                        "aws:SourceArn": names.trail_arn,
                        "kms:EncryptionContext:aws:cloudtrail:arn": names.trail_arn,
                    }
                },
            ),
            iam.Statement(
                sid="TrailLooksAtTheKey",
                principal={"Service": "cloudtrail.amazonaws.com"},
                actions=("kms:DescribeKey",),
                resource=THIS_KEY,
                conditions={"StringEquals": {"aws:SourceArn": names.trail_arn}},
            ),
            _use_through(names, "s3"),
        )


def _key(
    scope: Construct,
    names: PlatformNames,
    deletion_window_days: int,
    name: str,
    description: str,
    *statements: iam.Statement,
) -> KmsKey:
    administration = iam.Statement(
        sid="AccountAdministersTheKey",
        principal={"AWS": names.account_root},
        actions=KEY_ADMINISTRATION,
        resource=THIS_KEY,
    )
    key = KmsKey(
        scope,
        name,
        description=description,
        enable_key_rotation=True,
        rotation_period_in_days=ROTATION_PERIOD_DAYS,
        deletion_window_in_days=deletion_window_days,
        policy=iam.policy(administration, *statements),
    )
    KmsAlias(scope, f"alias-{name}", name=f"alias/{names.named(name)}", target_key_id=key.key_id)
    return key


def _through(names: PlatformNames, services: tuple[str, ...]) -> dict[str, str | list[str]]:
    return {
        "kms:CallerAccount": names.account_id,
        "kms:ViaService": [names.service(service) for service in services],
    }


def _use_through(names: PlatformNames, *services: str) -> iam.Statement:
    """Leaves it to the policies of the account's roles who may use the key, but only through `services`."""
    return iam.Statement(
        sid="RolesUseTheKeyThroughServices",
        principal={"AWS": names.account_root},
        actions=(*KEY_USE, *DATA_KEYS, "kms:DescribeKey"),
        resource=THIS_KEY,
        conditions={"StringEquals": _through(names, services)},
    )


def _grants_through(names: PlatformNames, *services: str) -> iam.Statement:
    """DynamoDB and Lambda keep their use of a key in a grant, which whoever creates table or function passes on."""
    return iam.Statement(
        sid="ServicesKeepGrants",
        principal={"AWS": names.account_root},
        actions=("kms:CreateGrant",),
        resource=THIS_KEY,
        conditions={
            "StringEquals": _through(names, services),
            "Bool": {"kms:GrantIsForAWSResource": "true"},
        },
    )
