"""The sensor processor: function, role, log group, event source mapping, failure queue and schedule of sweeps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .. import bindings as tf
from ..names import (
    FAILURE_QUEUE,
    FUNCTION,
    PROCESSOR_ROLE,
    SWEEP_ROLE,
    SWEEP_SCHEDULE,
    PlatformNames,
    bucket_arn,
)
from ..shared import iam
from ..shared.iam import ServiceRole
from ..shared.packaging import LambdaZip
from ..shared.schedule import invoke_on_schedule
from ..specs import FacilitySpec, FleetSpec, HistorySpec

HANDLER = "sensor_processor.handler.handle"
RUNTIME = "python3.11"

MEMORIES_MB = (1_024, 2_048, 3_008)
"""CPU is proportional: a full batch takes seconds, and costs no more than with less memory, only slower. More than the
last needs a larger quota: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

OTHER_MB = 768
"""Memory for all but the devices' states: code, a batch, the devices that it unpacks."""

STATE_BYTES = (500, 1_200)
"""Packed state of a device, and of each of its metrics."""

TIMEOUT_S = 120

BATCH_SIZE = 2000
"""Records for each invocation: 1.35 kB each in the event, of Lambda's 6 MB (at most 4,000)."""

RETRY_ATTEMPTS = 100
"""Retries of one batch: the processor quarantines poison itself, so that a failure is a temporary outage."""

RECORD_AGE_S = 6 * 3600
"""Seconds after which a failing record goes to the failure queue, well within the stream's week."""

FAILURE_RETENTION_S = 14 * 24 * 3600
"""SQS's maximum. Messages refer to records, which can be redriven within the stream's retention."""

LEAST_LANES = 4
LANE_READINGS, LANE_DEVICES = 500, 10_000
"""Readings a second and devices for which another lane is planned: as many readings as an on-demand stream has for each
shard, half of what one takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorSize:
    """Size for a load.

    `lanes` are hash ranges of the devices, each with a state of its own: a power of two, with which an environment
    begins; one that has state keeps its number. `memory_mb` is the function's.
    """

    lanes: int = LEAST_LANES
    memory_mb: int = MEMORIES_MB[0]


def processor_size(fleet: FleetSpec, facilities: Iterable[FacilitySpec]) -> ProcessorSize:
    """Size the processor by the devices, how often each type sends, and its metrics.

    The window of a batch does not follow: a small fleet's commits cost a few dollars a month, and a longer window would
    delay its events.
    """
    types = {device_type.id: device_type for device_type in fleet.device_types}
    groups = [(group.count, types[group.device_type]) for facility in facilities for group in facility.groups]
    devices = sum(count for count, _ in groups)
    readings = sum(count / device_type.sample_interval_s for count, device_type in groups)
    lanes = max(LEAST_LANES, math.ceil(readings / LANE_READINGS), math.ceil(devices / LANE_DEVICES))
    of_device, of_metric = STATE_BYTES
    # By chance, an environment has every lane sooner or later.
    states = sum(count * (of_device + of_metric * len(device_type.metrics)) for count, device_type in groups)
    wanted = OTHER_MB + states / 1_000_000
    memory = next((each for each in MEMORIES_MB if each >= wanted), MEMORIES_MB[-1])
    return ProcessorSize(lanes=1 << (lanes - 1).bit_length(), memory_mb=memory)


class SensorProcessor:
    """Reads the stream, writes tables and archive, and publishes anomalies.

    Args:
        log_days: Retention of the function's log.
        reserved_concurrency: None for the account's shared concurrency.
        window_s: Seconds for a batch to fill.
        size: Its lanes and memory.
        history: Days that items of the readings table are kept.
    """

    def __init__(
        self,
        scope: tf.Construct,
        *,
        names: PlatformNames,
        code: LambdaZip,
        stream_arn: str,
        readings_table: str,
        devices_table: str,
        lanes_table: str,
        state_bucket: str,
        archive_bucket: str,
        anomaly_topic_arn: str,
        data_key_arn: str,
        logs_key_arn: str,
        log_days: int,
        reserved_concurrency: int | None,
        window_s: int,
        history: HistorySpec,
        size: ProcessorSize,
    ) -> None:
        log_group = tf.CloudwatchLogGroup(
            scope,
            "log-group-sensor-processor",
            name=names.function_log_group,
            retention_in_days=log_days,
            kms_key_id=logs_key_arn,
        )
        failures = _failure_queue(scope, names, data_key_arn)
        role = ServiceRole(
            scope,
            PROCESSOR_ROLE,
            names=names,
            description="The sensor processor reads the stream, writes tables and archive, and publishes anomalies",
            trust=iam.trust("lambda.amazonaws.com"),
            statements=_permissions(names, data_key_arn),
        )
        asset = tf.TerraformAsset(scope, "sensor-processor-zip", path=str(code.path), type=tf.AssetType.FILE)
        function = tf.LambdaFunction(
            scope,
            FUNCTION,
            function_name=names.function,
            description="Aggregates telemetry, detects anomalies and archives raw messages",
            filename=asset.path,
            source_code_hash=code.source_code_hash,
            handler=HANDLER,
            runtime=RUNTIME,
            architectures=[code.architecture],
            memory_size=size.memory_mb,
            timeout=TIMEOUT_S,
            role=role.arn,
            kms_key_arn=data_key_arn,
            reserved_concurrent_executions=reserved_concurrency,
            tracing_config=tf.LambdaFunctionTracingConfig(mode="Active"),
            dead_letter_config=tf.LambdaFunctionDeadLetterConfig(target_arn=failures.arn),
            environment=tf.LambdaFunctionEnvironment(
                variables={
                    "READINGS_TABLE": readings_table,
                    "DEVICES_TABLE": devices_table,
                    "LANES_TABLE": lanes_table,
                    "STATE_BUCKET": state_bucket,
                    "LANES": str(size.lanes),
                    "ARCHIVE_BUCKET": archive_bucket,
                    "ANOMALY_TOPIC_ARN": anomaly_topic_arn,
                    "ENVIRONMENT_SUFFIX": names.suffix,
                    "METRICS_NAMESPACE": names.metrics_namespace,
                    "MINUTE_RETENTION_DAYS": str(history.minute_days),
                    "HOUR_RETENTION_DAYS": str(history.hour_days),
                    "DAY_RETENTION_DAYS": str(history.day_days),
                    "ANOMALY_RETENTION_DAYS": str(history.anomaly_days),
                    "LOG_LEVEL": "INFO",
                }
            ),
            depends_on=[log_group, role.policy],
        )
        tf.LambdaEventSourceMapping(
            scope,
            "mapping-telemetry",
            event_source_arn=stream_arn,
            function_name=function.arn,
            starting_position="TRIM_HORIZON",
            batch_size=BATCH_SIZE,
            maximum_batching_window_in_seconds=window_s,
            bisect_batch_on_function_error=True,
            maximum_retry_attempts=RETRY_ATTEMPTS,
            maximum_record_age_in_seconds=RECORD_AGE_S,
            function_response_types=["ReportBatchItemFailures"],
            destination_config=tf.LambdaEventSourceMappingDestinationConfig(
                on_failure=tf.LambdaEventSourceMappingDestinationConfigOnFailure(destination_arn=failures.arn)
            ),
            depends_on=[role.policy],
        )
        # It closes what is over of silent devices, and emits what it could not yet. The next one is a minute away.
        invoke_on_schedule(
            scope,
            SWEEP_SCHEDULE,
            names=names,
            description="Sweeps the lanes: minutes of silent devices, and what could not be emitted",
            expression="rate(1 minute)",
            function=function,
            function_arn=names.function_arn,
            role_id=SWEEP_ROLE,
            role_description="The schedule of sweeps invokes the sensor processor",
            sid="InvokeProcessor",
            age_s=60,
            retries=0,
            payload='{"sweep":true}',
        )


def _failure_queue(scope: tf.Construct, names: PlatformNames, key_arn: str) -> tf.SqsQueue:
    queue = tf.SqsQueue(
        scope,
        FAILURE_QUEUE,
        name=names.failure_queue,
        message_retention_seconds=FAILURE_RETENTION_S,
        kms_master_key_id=key_arn,
    )
    tf.SqsQueuePolicy(
        scope,
        f"{FAILURE_QUEUE}-policy",
        queue_url=queue.url,
        policy=iam.policy(iam.deny_insecure_transport("sqs:*", names.failure_queue_arn)),
    )
    return queue


def _permissions(names: PlatformNames, key_arn: str) -> tuple[iam.Statement, ...]:
    archive, lanes = bucket_arn(names.raw_archive), bucket_arn(names.lanes)
    return (
        iam.allow(
            "ReadStream",
            *("kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:ListShards"),
            *("kinesis:GetShardIterator", "kinesis:GetRecords"),
            on=names.stream_arn,
        ),
        iam.allow(
            "ReadWriteReadings",
            *("dynamodb:BatchWriteItem", "dynamodb:PutItem", "dynamodb:Query"),
            on=names.table_arn(names.readings_table),
        ),
        iam.allow(
            "ReadWriteDevices",
            *("dynamodb:BatchGetItem", "dynamodb:UpdateItem"),
            on=names.table_arn(names.devices_table),
        ),
        iam.allow("ReadMoveLanes", *("dynamodb:GetItem", "dynamodb:UpdateItem"), on=names.table_arn(names.lanes_table)),
        iam.allow("ReadWriteState", *("s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"), on=f"{lanes}/state/*"),
        # Without it a state object that was deleted is answered with 403, and its version cannot be found.
        iam.allow("FindDeletedState", "s3:ListBucket", "s3:ListBucketVersions", on=lanes),
        iam.allow("PutRawMessages", "s3:PutObject", on=f"{archive}/raw/*"),
        iam.allow("PutQuarantine", "s3:PutObject", on=f"{archive}/quarantine/*"),
        iam.allow("SendFailures", "sqs:SendMessage", on=names.failure_queue_arn),
        iam.allow("PublishAnomalies", "sns:Publish", on=names.anomaly_topic_arn),
        iam.write_logs(f"{names.log_group_arn(names.function_log_group)}:log-stream:*"),
        iam.allow("WriteTraces", "xray:PutTraceSegments", "xray:PutTelemetryRecords", on="*"),  # no resource type
        iam.key_use(
            "DecryptTelemetry",
            "Decrypt",
            key_arn=key_arn,
            via=names.service("kinesis"),
            context={"aws:kinesis:arn": names.stream_arn},
        ),
        *(
            iam.key_use(
                sid,
                *("Decrypt", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo"),
                key_arn=key_arn,
                via=names.service("dynamodb"),
                context={"aws:dynamodb:tableName": table, "aws:dynamodb:subscriberId": names.account_id},
            )
            for sid, table in (
                ("EncryptReadings", names.readings_table),
                ("EncryptDevices", names.devices_table),
                ("EncryptLanes", names.lanes_table),
            )
        ),
        iam.key_use(
            "EncryptArchive",
            "GenerateDataKey",
            key_arn=key_arn,
            via=names.service("s3"),
            context={"aws:s3:arn": archive},
        ),
        iam.key_use(
            "EncryptState",
            *("Decrypt", "GenerateDataKey"),
            key_arn=key_arn,
            via=names.service("s3"),
            context={"aws:s3:arn": lanes},
        ),
        iam.key_use(
            "EncryptFailures",
            *("GenerateDataKey", "Decrypt"),
            key_arn=key_arn,
            via=names.service("sqs"),
            context={"aws:sqs:arn": names.failure_queue_arn},
        ),
        iam.key_use(
            "EncryptNotifications",
            *("GenerateDataKey", "Decrypt"),
            key_arn=key_arn,
            via=names.service("sns"),
            context={"aws:sns:topicArn": names.anomaly_topic_arn},
        ),
    )
