"""The stream that carries every plant's telemetry, and the role by which topic rules write to it."""

from __future__ import annotations

from ..bindings import Construct, KinesisStream, KinesisStreamStreamModeDetails
from ..names import PlatformNames
from ..shared import iam
from ..shared.roles import ServiceRole

RETENTION_HOURS = 168
"""A week to replay after a fault, FSBP Kinesis.3."""


class TelemetryStream:
    """On demand: it starts at 4 MB/s and 4,000 records/s of writes and grows by itself."""

    def __init__(self, scope: Construct, *, names: PlatformNames, key_arn: str) -> None:
        self.stream = KinesisStream(
            scope,
            "stream-telemetry",
            name=names.stream,
            retention_period=RETENTION_HOURS,
            encryption_type="KMS",
            kms_key_id=key_arn,
            stream_mode_details=KinesisStreamStreamModeDetails(stream_mode="ON_DEMAND"),
            enforce_consumer_deletion=True,
        )
        self.topic_rule_role = ServiceRole(
            scope,
            names.topic_rule_role,
            names=names,
            description="Topic rules put telemetry into the stream",
            trust=iam.trust(
                "iot.amazonaws.com",
                account_id=names.account_id,
                source_arn=names.arn("iot", f"rule/{names.named('rule_telemetry_*')}"),
            ),
            statements=(
                iam.Statement(sid="PutTelemetry", actions=("kinesis:PutRecord",), resource=names.stream_arn),
                iam.key_use(
                    "EncryptTelemetry",
                    "GenerateDataKey",
                    key_arn=key_arn,
                    via=names.service("kinesis"),
                    context={"aws:kinesis:arn": names.stream_arn},
                ),
            ),
        )
