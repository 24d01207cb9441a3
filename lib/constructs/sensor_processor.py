"""The sensor processor: the function, its role and log group, what feeds it and where its failures go."""

from __future__ import annotations

from ..bindings import (
    AssetType,
    CloudwatchLogGroup,
    Construct,
    LambdaEventSourceMapping,
    LambdaEventSourceMappingDestinationConfig,
    LambdaEventSourceMappingDestinationConfigOnFailure,
    LambdaFunction,
    LambdaFunctionDeadLetterConfig,
    LambdaFunctionEnvironment,
    LambdaFunctionTracingConfig,
    SqsQueue,
    SqsQueuePolicy,
    TerraformAsset,
)
from ..names import PlatformNames, bucket_arn
from ..shared import iam
from ..shared.iam import ServiceRole
from ..shared.packaging import LambdaZip
from ..specs import HistorySpec

HANDLER = "sensor_processor.handler.handle"
RUNTIME = "python3.11"

MEMORY_MB = 1024
"""Buys CPU in proportion: a full batch takes seconds, and costs no more than slowly with less."""

TIMEOUT_S = 120

BATCH_SIZE = 2000
"""Records an invocation: 1.35 kB each in the event, of Lambda's 6 MB (4,000 at most)."""

BATCH_WINDOW_S = 5
"""Seconds that a batch may wait to fill: half of the usual ten between two readings of a device."""

RETRY_ATTEMPTS = 100
"""Retries of one batch: the processor puts poison aside itself, so that what fails is an outage, which passes."""

RECORD_AGE_S = 6 * 3600
"""Seconds after which a record that still fails goes to the failure queue, well within the stream's week."""

FAILURE_RETENTION_S = 14 * 24 * 3600
"""The longest that SQS keeps a message. It names records, which can be replayed while the stream holds them."""

TABLE_ACTIONS = ("dynamodb:BatchGetItem", "dynamodb:PutItem")
"""It reads in batches and writes in transactions, which are authorised as the writes that they hold."""


class SensorProcessor:
    """Reads `stream`, writes `readings_table`, `devices_table` and the archive bucket, tells the anomalies' topic."""

    def __init__(
        self,
        scope: Construct,
        *,
        names: PlatformNames,
        code: LambdaZip,
        stream_arn: str,
        readings_table: str,
        devices_table: str,
        archive_bucket: str,
        anomaly_topic_arn: str,
        data_key_arn: str,
        logs_key_arn: str,
        log_days: int,
        reserved_concurrency: int | None,
        history: HistorySpec,
    ) -> None:
        self.log_group = CloudwatchLogGroup(
            scope,
            "log-group-sensor-processor",
            name=names.function_log_group,
            retention_in_days=log_days,
            kms_key_id=logs_key_arn,
        )
        self.failures = _failure_queue(scope, names, data_key_arn)
        self.role = ServiceRole(
            scope,
            "role-sensor-processor",
            names=names,
            description="The sensor processor reads the stream and writes metrics, devices and archive",
            trust=iam.trust("lambda.amazonaws.com"),
            statements=_permissions(names, data_key_arn),
        )
        asset = TerraformAsset(scope, "sensor-processor-zip", path=str(code.path), type=AssetType.FILE)
        self.function = LambdaFunction(
            scope,
            "function-sensor-processor",
            function_name=names.function,
            description="Turns raw telemetry into metrics, anomalies and an archive",
            filename=asset.path,
            source_code_hash=code.source_code_hash,
            handler=HANDLER,
            runtime=RUNTIME,
            architectures=[code.architecture],
            memory_size=MEMORY_MB,
            timeout=TIMEOUT_S,
            role=self.role.arn,
            kms_key_arn=data_key_arn,
            reserved_concurrent_executions=reserved_concurrency,
            tracing_config=LambdaFunctionTracingConfig(mode="Active"),
            dead_letter_config=LambdaFunctionDeadLetterConfig(target_arn=self.failures.arn),
            environment=LambdaFunctionEnvironment(
                variables={
                    "READINGS_TABLE": readings_table,
                    "DEVICES_TABLE": devices_table,
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
            depends_on=[self.log_group, self.role.policy],
        )
        self.mapping = LambdaEventSourceMapping(
            scope,
            "mapping-telemetry",
            event_source_arn=stream_arn,
            function_name=self.function.arn,
            starting_position="TRIM_HORIZON",
            batch_size=BATCH_SIZE,
            maximum_batching_window_in_seconds=BATCH_WINDOW_S,
            bisect_batch_on_function_error=True,
            maximum_retry_attempts=RETRY_ATTEMPTS,
            maximum_record_age_in_seconds=RECORD_AGE_S,
            function_response_types=["ReportBatchItemFailures"],
            destination_config=LambdaEventSourceMappingDestinationConfig(
                on_failure=LambdaEventSourceMappingDestinationConfigOnFailure(destination_arn=self.failures.arn)
            ),
            depends_on=[self.role.policy],
        )


def _failure_queue(scope: Construct, names: PlatformNames, key_arn: str) -> SqsQueue:
    queue = SqsQueue(
        scope,
        "queue-processor-failures",
        name=names.failure_queue,
        message_retention_seconds=FAILURE_RETENTION_S,
        kms_master_key_id=key_arn,
    )
    SqsQueuePolicy(
        scope,
        "queue-processor-failures-policy",
        queue_url=queue.url,
        policy=iam.policy(iam.deny_plain_transport("sqs:*", names.failure_queue_arn)),
    )
    return queue


def _permissions(names: PlatformNames, key_arn: str) -> tuple[iam.Statement, ...]:
    archive = bucket_arn(names.raw_archive)
    return (
        iam.Statement(
            sid="ReadTheStream",
            actions=(
                "kinesis:DescribeStream",
                "kinesis:DescribeStreamSummary",
                "kinesis:GetRecords",
                "kinesis:GetShardIterator",
                "kinesis:ListShards",
            ),
            resource=names.stream_arn,
        ),
        iam.Statement(
            sid="WriteReadings",
            actions=(*TABLE_ACTIONS, "dynamodb:Query"),  # by which it sums up the hours and days of a device
            resource=names.table_arn(names.readings_table),
        ),
        iam.Statement(
            sid="WriteDevices",
            actions=TABLE_ACTIONS,
            resource=names.table_arn(names.devices_table),
        ),
        iam.Statement(sid="ArchiveRaw", actions=("s3:PutObject",), resource=f"{archive}/raw/*"),
        iam.Statement(sid="QuarantinePoison", actions=("s3:PutObject",), resource=f"{archive}/quarantine/*"),
        iam.Statement(sid="ReportFailures", actions=("sqs:SendMessage",), resource=names.failure_queue_arn),
        iam.Statement(sid="TellOfAnomalies", actions=("sns:Publish",), resource=names.anomaly_topic_arn),
        iam.Statement(
            sid="WriteItsLog",
            actions=("logs:CreateLogStream", "logs:PutLogEvents"),
            resource=f"{names.log_group_arn(names.function_log_group)}:log-stream:*",
        ),
        iam.Statement(
            sid="Trace",
            actions=("xray:PutTraceSegments", "xray:PutTelemetryRecords"),
            resource="*",  # X-Ray has no resource type to name
        ),
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
            for sid, table in (("UseReadings", names.readings_table), ("UseDevices", names.devices_table))
        ),
        iam.key_use(
            "EncryptArchive",
            "GenerateDataKey",
            key_arn=key_arn,
            via=names.service("s3"),
            context={"aws:s3:arn": archive},
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
