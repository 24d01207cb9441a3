"""A plant's topic rule: its telemetry into the stream, and into the archive what the stream would not take."""

from __future__ import annotations

from pathlib import Path

from ..bindings import (
    Construct,
    IotTopicRule,
    IotTopicRuleErrorAction,
    IotTopicRuleErrorActionS3,
    IotTopicRuleKinesis,
)
from ..names import PlatformNames
from ..shared.documents import read_statement
from ..shared.text import literal
from ..specs import FacilitySpec

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
