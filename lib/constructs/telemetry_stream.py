"""The Kinesis stream of all telemetry and the topic rule of each facility that feeds it."""

from __future__ import annotations

from pathlib import Path

from ..bindings import (
    Construct,
    IotTopicRule,
    IotTopicRuleErrorAction,
    IotTopicRuleErrorActionS3,
    IotTopicRuleKinesis,
    KinesisStream,
    KinesisStreamStreamModeDetails,
)
from ..names import PlatformNames
from ..shared import iam
from ..shared.iam import ServiceRole
from ..shared.text import literal, read_statement
from ..specs import FacilitySpec

# @@ The stream that carries every plant's telemetry, and the role by which topic rules write to it.

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


# @@ A plant's topic rule: its telemetry into the stream, and into the archive what the stream would not take.

SQL_VERSION = "2016-03-23"

PARTITION_KEY = "${clientid()}"
"""Keeps the order of each device's readings; a random key would not, a time would make hot shards."""

ERROR_KEY = "iot-rule-errors/facility={facility}/${{timestamp()}}-${{newuuid()}}.json"
"""`traceid()` would not do: it is undefined for what does not come over MQTT. The document holds it where there is one.
https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-functions.html#iot-function-traceid"""


class TelemetryRule:
    """The rule named by `facility`, with the platform's roles for its two actions."""

    def __init__(self, scope: Construct, *, names: PlatformNames, facility: FacilitySpec, folder: Path) -> None:
        self.rule = IotTopicRule(
            scope,
            facility.topic_rule,
            name=names.named(facility.topic_rule),
            description=f"Telemetry of {facility.name}",
            enabled=True,
            sql=read_statement(folder / facility.topic_rule_file, suffix=names.suffix),
            sql_version=SQL_VERSION,
            kinesis=[
                IotTopicRuleKinesis(
                    stream_name=names.stream,
                    partition_key=literal(PARTITION_KEY),
                    role_arn=names.role_arn(names.topic_rule_role),
                )
            ],
            error_action=IotTopicRuleErrorAction(
                s3=IotTopicRuleErrorActionS3(
                    bucket_name=names.raw_archive,
                    key=literal(ERROR_KEY.format(facility=facility.id)),
                    role_arn=names.role_arn(names.rule_errors_role),
                )
            ),
        )
