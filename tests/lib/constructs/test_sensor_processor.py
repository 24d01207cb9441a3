"""The function and what belongs to it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from pathlib import Path

import pytest

from fleet_iot.lib.constructs import sensor_processor
from fleet_iot.lib.specs import HistorySpec
from fleet_iot.sensor_processor.settings import read_settings

pytestmark = pytest.mark.cdktf
ARCHIVE = "arn:aws:s3:::bucket-mfg-raw-archive-123456789012-tst"
STATE = "arn:aws:s3:::bucket-mfg-lanes-123456789012-tst"


def _arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:ap-southeast-1:123456789012:{resource}"


def test_the_function_runs_the_built_zip(stacks) -> None:
    """File, hash, handler, runtime and architecture belong together, by a path inside the stack's folder."""
    function = stacks.platform.one("aws_lambda_function", "function-sensor-processor")
    assert (function["handler"], function["runtime"]) == ("sensor_processor.handler.handle", "python3.11")
    zip_file = stacks.outdir / "stacks" / stacks.platform.name / function["filename"]
    assert not Path(function["filename"]).is_absolute()
    assert function["source_code_hash"] == base64.b64encode(hashlib.sha256(zip_file.read_bytes()).digest()).decode()
    assert len(function["architectures"]) == 1


@pytest.mark.parametrize(
    ("count", "interval_s", "lanes", "memory_mb"),
    [
        (1, 10, 4, 1_024),
        (1_000, 10, 4, 1_024),
        (4_000, 1, 8, 1_024),
        (50_000, 60, 8, 2_048),
        (100_000, 10, 32, 2_048),
        (1_000_000, 10, 256, 3_008),
    ],
)
def test_lanes_and_memory_follow_the_load(count: int, interval_s: float, lanes: int, memory_mb: int) -> None:
    """A power of two from four on, for the readings a second and for the devices; memory for the states of all."""
    from fleet_iot.lib.record.read import read_record
    from tests.places import SAMPLE

    record = read_record(SAMPLE)
    device_type = dataclasses.replace(record.fleet.device_types[0], sample_interval_s=interval_s)
    device_type = dataclasses.replace(device_type, metrics=device_type.metrics[:1] * 4)
    facility = record.facilities["sg-01"]
    group = dataclasses.replace(facility.groups[0], device_type=device_type.id, count=count)

    size = sensor_processor.processor_size(
        dataclasses.replace(record.fleet, device_types=(device_type,)), [dataclasses.replace(facility, groups=(group,))]
    )

    assert (lanes, memory_mb) == (size.lanes, size.memory_mb)


def test_the_function_traces_and_keeps_its_failures(stacks) -> None:
    """X-Ray is on, the failure queue takes what is lost, no concurrency is reserved unless the manifest says so."""
    function = stacks.platform.one("aws_lambda_function", "function-sensor-processor")
    assert function["tracing_config"] == {"mode": "Active"}
    assert function["dead_letter_config"] == {"target_arn": "${aws_sqs_queue.queue-processor-failures.arn}"}
    assert "reserved_concurrent_executions" not in function
    assert "vpc_config" not in function


def test_the_processor_understands_its_environment(stacks, tmp_path: Path) -> None:
    """Its own settings parse what the stack gives it, with the catalogue of the zip."""
    from fleet_iot.lib.record.read import read_record
    from fleet_iot.lib.shared.packaging import catalogue
    from tests.places import SAMPLE

    fleet = read_record(SAMPLE).fleet
    (tmp_path / "catalogue.json").write_bytes(catalogue(fleet))
    variables = stacks.platform.one("aws_lambda_function", "function-sensor-processor")["environment"]["variables"]
    settings = read_settings(variables, default_catalogue=tmp_path / "catalogue.json")
    assert (settings.environment_suffix, settings.metrics_namespace, settings.log_level) == ("tst", "Fleet/tst", "INFO")
    kept = settings.retention
    assert fleet.history == HistorySpec(
        minute_days=kept.minutes, hour_days=kept.hours, day_days=kept.days, anomaly_days=kept.anomalies
    )
    assert variables["READINGS_TABLE"] == "${aws_dynamodb_table.table-readings.name}"
    assert variables["DEVICES_TABLE"] == "${aws_dynamodb_table.table-devices.name}"
    assert settings.anomaly_topic_arn == "${aws_sns_topic.topic-anomalies.arn}"
    assert variables["LANES_TABLE"] == "${aws_dynamodb_table.table-lanes.name}"
    assert variables["STATE_BUCKET"] == "${aws_s3_bucket.bucket-lanes.bucket}"
    assert variables["ARCHIVE_BUCKET"] == "${aws_s3_bucket.bucket-raw-archive.bucket}"


def test_the_mapping_loses_nothing_and_never_blocks(stacks) -> None:
    """Bisect, partial batch responses, limits on retries and age, and a destination for what fails in the end."""
    mapping = stacks.platform.one("aws_lambda_event_source_mapping", "mapping-telemetry")
    assert mapping["bisect_batch_on_function_error"] is True
    assert mapping["function_response_types"] == ["ReportBatchItemFailures"]
    assert mapping["starting_position"] == "TRIM_HORIZON"
    assert (mapping["maximum_retry_attempts"], mapping["maximum_record_age_in_seconds"]) == (100, 6 * 3600)
    assert mapping["maximum_batching_window_in_seconds"] == 5
    assert mapping["destination_config"] == {
        "on_failure": {"destination_arn": "${aws_sqs_queue.queue-processor-failures.arn}"}
    }


def test_a_full_batch_fits_the_payload_limit() -> None:
    """At 1.35 kB a record, a batch is at most half of Lambda's 6 MB."""
    assert sensor_processor.BATCH_SIZE * 1350 <= 6_000_000 / 2


def test_records_that_fail_are_given_up_while_the_stream_still_holds_them() -> None:
    """The age limit leaves most of the stream's week to replay from the failure queue."""
    assert sensor_processor.RECORD_AGE_S < 24 * 3600


def test_the_failure_queue_is_encrypted_and_tls_only(stacks) -> None:
    """It keeps messages for 14 days and denies plain transport."""
    queue = stacks.platform.one("aws_sqs_queue", "queue-processor-failures")
    assert (queue["name"], queue["message_retention_seconds"]) == ("queue-processor-failures-tst", 14 * 24 * 3600)
    assert stacks.platform.statements("aws_sqs_queue_policy", "queue-processor-failures-policy") == {
        "DenyInsecureTransport": {
            "Sid": "DenyInsecureTransport",
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["sqs:*"],
            "Resource": _arn("sqs", "queue-processor-failures-tst"),
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    }


def test_the_topic_of_anomalies_is_encrypted_and_tls_only(stacks) -> None:
    """Under the data key, which the processor uses for that topic alone; its policy lets nobody in."""
    topic = stacks.platform.one("aws_sns_topic", "topic-anomalies")
    assert topic == {"name": "topic-anomalies-tst", "kms_master_key_id": "${aws_kms_key.key-data.arn}"}
    assert stacks.platform.statements("aws_sns_topic_policy", "topic-anomalies-policy") == {
        "DenyInsecureTransport": {
            "Sid": "DenyInsecureTransport",
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["sns:Publish"],
            "Resource": _arn("sns", "topic-anomalies-tst"),
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    }
    use = stacks.platform.statements("aws_iam_role_policy", "role-sensor-processor-policy")["EncryptNotifications"]
    assert use["Condition"]["StringEquals"] == {
        "kms:ViaService": "sns.ap-southeast-1.amazonaws.com",
        "kms:EncryptionContext:aws:sns:topicArn": _arn("sns", "topic-anomalies-tst"),
    }


def test_its_log_group_is_made_before_it(stacks) -> None:
    """Encrypted, 30 days; else Lambda would make one that keeps logs for ever."""
    group = stacks.platform.one("aws_cloudwatch_log_group", "log-group-sensor-processor")
    function = stacks.platform.one("aws_lambda_function", "function-sensor-processor")
    assert (group["name"], group["retention_in_days"]) == ("/aws/lambda/function-sensor-processor-tst", 30)
    assert "aws_cloudwatch_log_group.log-group-sensor-processor" in function["depends_on"]


def test_its_role_may_do_exactly_this(stacks) -> None:
    """Read the stream, write tables, state, archive and quarantine, report, tell, log, trace, use the data key."""
    statements = stacks.platform.statements("aws_iam_role_policy", "role-sensor-processor-policy")
    key = "${aws_kms_key.key-data.arn}"
    reads = ("DescribeStream", "DescribeStreamSummary", "ListShards", "GetShardIterator", "GetRecords")
    readings = ["dynamodb:BatchWriteItem", "dynamodb:PutItem", "dynamodb:Query"]
    devices = ["dynamodb:BatchGetItem", "dynamodb:UpdateItem"]
    lanes = ["dynamodb:GetItem", "dynamodb:UpdateItem"]
    table_key = [f"kms:{a}" for a in ("Decrypt", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo")]
    log_streams = "log-group:/aws/lambda/function-sensor-processor-tst:log-stream:*"
    assert {sid: (s["Action"], s["Resource"]) for sid, s in statements.items()} == {
        "ReadStream": ([f"kinesis:{a}" for a in reads], _arn("kinesis", "stream/stream-telemetry-tst")),
        "ReadWriteReadings": (readings, _arn("dynamodb", "table/table-readings-tst")),
        "ReadWriteDevices": (devices, _arn("dynamodb", "table/table-devices-tst")),
        "ReadMoveLanes": (lanes, _arn("dynamodb", "table/table-lanes-tst")),
        "ReadWriteState": (["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"], f"{STATE}/state/*"),
        "FindDeletedState": (["s3:ListBucket", "s3:ListBucketVersions"], STATE),
        "PutRawMessages": (["s3:PutObject"], f"{ARCHIVE}/raw/*"),
        "PutQuarantine": (["s3:PutObject"], f"{ARCHIVE}/quarantine/*"),
        "SendFailures": (["sqs:SendMessage"], _arn("sqs", "queue-processor-failures-tst")),
        "PublishAnomalies": (["sns:Publish"], _arn("sns", "topic-anomalies-tst")),
        "WriteLogs": (["logs:CreateLogStream", "logs:PutLogEvents"], _arn("logs", log_streams)),
        "WriteTraces": (["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "*"),
        "DecryptTelemetry": (["kms:Decrypt"], key),
        "EncryptReadings": (table_key, key),
        "EncryptDevices": (table_key, key),
        "EncryptLanes": (table_key, key),
        "EncryptArchive": (["kms:GenerateDataKey"], key),
        "EncryptState": (["kms:Decrypt", "kms:GenerateDataKey"], key),
        "EncryptFailures": (["kms:GenerateDataKey", "kms:Decrypt"], key),
        "EncryptNotifications": (["kms:GenerateDataKey", "kms:Decrypt"], key),
    }


def test_the_lanes_are_swept_once_a_minute(stacks) -> None:
    """The schedule invokes the function as a role that may do nothing else."""
    schedule = stacks.platform.one("aws_scheduler_schedule", "schedule-sweep")
    assert (schedule["name"], schedule["schedule_expression"]) == ("schedule-sweep-tst", "rate(1 minute)")
    assert schedule["target"] == {
        "arn": "${aws_lambda_function.function-sensor-processor.arn}",
        "role_arn": "${aws_iam_role.role-sweep.arn}",
        "input": '{"sweep":true}',
        "retry_policy": {"maximum_event_age_in_seconds": 60, "maximum_retry_attempts": 0},
    }
    statements = stacks.platform.statements("aws_iam_role_policy", "role-sweep-policy")
    assert {sid: (s["Action"], s["Resource"]) for sid, s in statements.items()} == {
        "InvokeProcessor": (["lambda:InvokeFunction"], _arn("lambda", "function:function-sensor-processor-tst"))
    }
