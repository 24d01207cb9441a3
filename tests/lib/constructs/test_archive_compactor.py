"""The archive compactor's function, what it may do, and its schedule."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from fleet_iot.archive_compactor.compaction import HOUR_GRACE
from fleet_iot.lib.constructs.archive_compactor import TIMEOUT_S

pytestmark = pytest.mark.cdktf
ARCHIVE = "arn:aws:s3:::bucket-mfg-raw-archive-123456789012-tst"
OWN = [f"{ARCHIVE}/archive/*", f"{ARCHIVE}/compaction/*", f"{ARCHIVE}/tables/*"]


def test_the_function_runs_its_own_zip(stacks) -> None:
    """File, hash, handler and runtime belong together; the zip is small enough for a request of Lambda's."""
    function = stacks.platform.one("aws_lambda_function", "function-archive-compactor")
    zip_file = stacks.outdir / "stacks" / stacks.platform.name / function["filename"]
    assert (function["handler"], function["runtime"]) == (
        "fleet_iot.archive_compactor.handler.handle",
        "python3.11",
    )
    assert function["source_code_hash"] == base64.b64encode(hashlib.sha256(zip_file.read_bytes()).digest()).decode()
    assert zip_file.stat().st_size < 50 * 1024 * 1024
    assert function["tracing_config"] == {"mode": "Active"}
    assert function["environment"]["variables"] == {
        "ARCHIVE_BUCKET": "${aws_s3_bucket.bucket-raw-archive.bucket}",
        "RAW_EXPIRES": "true",
    }


def test_it_reaches_its_own_prefixes_only(stacks) -> None:
    """It reads raw and compacted objects and writes compacted ones; quarantine and events are none of its business."""
    statements = stacks.platform.statements("aws_iam_role_policy", "role-archive-compactor-policy")
    found = {sid: (each["Action"], each["Resource"]) for sid, each in statements.items() if sid != "EncryptArchive"}
    assert found == {
        "ListArchive": (["s3:ListBucket"], ARCHIVE),
        "ReadArchive": (["s3:GetObject"], [f"{ARCHIVE}/raw/*", *OWN]),
        "PutCompacted": (["s3:PutObject"], OWN),
        "DeleteReplaced": (
            ["s3:DeleteObject"],
            [f"{ARCHIVE}/raw/date=*", f"{ARCHIVE}/archive/*/hour-*", f"{ARCHIVE}/archive/*/day-*"],
        ),
        "WriteLogs": (
            ["logs:CreateLogStream", "logs:PutLogEvents"],
            "arn:aws:logs:ap-southeast-1:123456789012:log-group:/aws/lambda/function-archive-compactor-tst:log-stream:*",
        ),
        "WriteTraces": (["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "*"),
    }


def test_records_are_never_deleted(records) -> None:
    """With `retention: records` the function is told to delete nothing, and may not."""
    function = records.platform.one("aws_lambda_function", "function-archive-compactor")
    assert function["environment"]["variables"]["RAW_EXPIRES"] == "false"
    assert "s3:DeleteObject" not in json.dumps(records.platform.of("aws_iam_role_policy"))


def test_it_runs_each_hour_once_the_last_ones_batches_are_stored(stacks) -> None:
    """The schedule invokes this function alone, a quarter after each hour, and again after a run could have ended."""
    schedule = stacks.platform.one("aws_scheduler_schedule", "schedule-archive-compaction")
    first, second = map(int, schedule["schedule_expression"].removeprefix("cron(").split()[0].split(","))
    assert schedule["name"] == "schedule-archive-compaction-tst"
    assert first * 60 > HOUR_GRACE.total_seconds() and second - first == 30 > TIMEOUT_S / 60
    assert schedule["target"]["arn"] == "${aws_lambda_function.function-archive-compactor.arn}"
    (invoke,) = stacks.platform.statements("aws_iam_role_policy", "role-archive-schedule-policy").values()
    assert (invoke["Action"], invoke["Resource"]) == (
        ["lambda:InvokeFunction"],
        "arn:aws:lambda:ap-southeast-1:123456789012:function:function-archive-compactor-tst",
    )


def test_two_hours_without_a_successful_run_raise_an_alarm(stacks) -> None:
    """The alarm counts runs that succeeded; no data counts as none."""
    alarm = stacks.platform.one("aws_cloudwatch_metric_alarm", "alarm-archive-compaction")
    assert (alarm["evaluation_periods"], alarm["treat_missing_data"]) == (2, "breaching")
    assert (alarm["comparison_operator"], alarm["threshold"]) == ("LessThanThreshold", 1)
    assert "FILL(invocations, 0) - FILL(errors, 0)" in [query.get("expression") for query in alarm["metric_query"]]
