"""The Kinesis stream of all telemetry, and each facility's topic rule that feeds it."""

from __future__ import annotations

from pathlib import Path

from .. import bindings as tf
from ..names import RULE_ERRORS_ROLE, STREAM, TOPIC_RULE_ROLE, PlatformNames
from ..shared import iam
from ..shared.text import literal, read_statement
from ..specs import FacilitySpec

RETENTION_HOURS = 168
"""A week to reprocess after a failure, FSBP Kinesis.3."""

SQL_VERSION = "2016-03-23"

PARTITION_KEY = "${clientid()}"
"""Preserves the order of each device's readings; a timestamp would make hot shards."""

ERROR_KEY = "iot-rule-errors/facility={facility}/${{timestamp()}}-${{newuuid()}}.json"
"""Without `traceid()`, which is undefined for messages that do not arrive over MQTT; the document has it where defined.
https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-functions.html#iot-function-traceid"""


class TelemetryStream:
    """An on-demand stream (4 MB/s and 4,000 records/s of writes at first), and the role by which topic rules write."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, key_arn: str) -> None:
        self.stream = tf.KinesisStream(
            scope,
            STREAM,
            name=names.stream,
            retention_period=RETENTION_HOURS,
            encryption_type="KMS",
            kms_key_id=key_arn,
            stream_mode_details=tf.KinesisStreamStreamModeDetails(stream_mode="ON_DEMAND"),
            enforce_consumer_deletion=True,
        )
        iam.ServiceRole(
            scope,
            TOPIC_RULE_ROLE,
            names=names,
            description="Topic rules put telemetry on the stream",
            trust=iam.iot_trust(names, f"rule/{names.named('rule_telemetry_*')}"),
            statements=(
                iam.allow("PutTelemetry", "kinesis:PutRecord", on=names.stream_arn),
                iam.key_use(
                    "EncryptTelemetry",
                    "GenerateDataKey",
                    key_arn=key_arn,
                    via=names.service("kinesis"),
                    context={"aws:kinesis:arn": names.stream_arn},
                ),
            ),
        )


class TelemetryRule:
    """A facility's topic rule: telemetry to the stream, and messages that this fails for to the raw archive."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, facility: FacilitySpec, folder: Path) -> None:
        tf.IotTopicRule(
            scope,
            facility.topic_rule,
            name=names.named(facility.topic_rule),
            description=f"Telemetry of {facility.name}",
            enabled=True,
            sql=read_statement(folder / facility.topic_rule_file, suffix=names.suffix),
            sql_version=SQL_VERSION,
            kinesis=[
                tf.IotTopicRuleKinesis(
                    stream_name=names.stream,
                    partition_key=literal(PARTITION_KEY),
                    role_arn=names.role_arn(TOPIC_RULE_ROLE),
                )
            ],
            error_action=tf.IotTopicRuleErrorAction(
                s3=tf.IotTopicRuleErrorActionS3(
                    bucket_name=names.raw_archive,
                    key=literal(ERROR_KEY.format(facility=facility.id)),
                    role_arn=names.role_arn(RULE_ERRORS_ROLE),
                )
            ),
        )
