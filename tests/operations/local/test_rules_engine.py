"""A rule's templates and documents, and the documents of Lambda's event source."""

from __future__ import annotations

import base64
import json
import re

import pytest

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.local.event_source import Discard, StreamRecord, failure_message, kinesis_event
from fleet_iot.operations.local.rules_engine import TopicRule, error_document, fill_template, partition_key, topic_rule

ANSWER = {
    "rule": {
        "ruleName": "rule_telemetry_sg_01_dev",
        "sql": "SELECT topic(5) AS thing FROM 'dt/mfg/sg-01/+/+/telemetry' WHERE regexp_matches(clientid(), '-dev$')",
        "actions": [
            {"kinesis": {"streamName": "s", "partitionKey": "${clientid()}", "roleArn": "r1"}},
            {"republish": {"topic": "local/rules/rule_telemetry_sg_01_dev", "roleArn": "r3"}},
        ],
        "errorAction": {"s3": {"bucketName": "b", "key": "iot-rule-errors/${timestamp()}", "roleArn": "r2"}},
    }
}
MESSAGE = {
    "raw": base64.b64encode(b"not json").decode(),
    "facility": "sg-01",
    "device_type": "press-monitor",
    "thing": "sg-01-press-monitor-0001-dev",
    "client_id": "sg-01-press-monitor-0001-dev",
    "principal": "a" * 64,
    "received_at": 1795448766016,
    "trace_id": "t-1",
}


@pytest.fixture
def rule() -> TopicRule:
    """The rule as it is deployed."""
    return topic_rule(ANSWER)


def test_templates_are_filled_with_what_the_rule_stamped(rule: TopicRule) -> None:
    """Each function that the rules use gives the value that AWS would give."""
    filled = {
        template: fill_template(template, rule, MESSAGE)
        for template in (
            "${clientid()}/${principal()}",
            "${topic()}",
            "${topic(3)}-${topic(5)}-${topic(9)}",
            "a/${timestamp()}-${traceid()}.json",
            "date=${parse_time('yyyy-MM-dd', timestamp())}",
            "${device_type}",
        )
    }
    assert filled == {
        "${clientid()}/${principal()}": "sg-01-press-monitor-0001-dev/" + "a" * 64,
        "${topic()}": "dt/mfg/sg-01/press-monitor/sg-01-press-monitor-0001-dev/telemetry",
        "${topic(3)}-${topic(5)}-${topic(9)}": "sg-01-sg-01-press-monitor-0001-dev-",
        "a/${timestamp()}-${traceid()}.json": "a/1795448766016-t-1.json",
        "date=${parse_time('yyyy-MM-dd', timestamp())}": "date=2026-11-23",
        "${device_type}": "press-monitor",
    }
    assert partition_key(rule, MESSAGE) == "sg-01-press-monitor-0001-dev"


def test_keys_of_one_message_differ(rule: TopicRule) -> None:
    """`newuuid()` is another one every time, so that no object overwrites another of its millisecond."""
    keys = {fill_template("errors/${timestamp()}-${newuuid()}.json", rule, MESSAGE) for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"errors/1795448766016-[0-9a-f-]{36}\.json", key) for key in keys)


def test_a_function_that_is_not_played_is_a_fault(rule: TopicRule) -> None:
    """An unknown function is said, never filled with nothing."""
    with pytest.raises(EnvironmentFault) as fault:
        fill_template("${aws_lambda('x')}", rule, MESSAGE)
    expected = "topic rule rule_telemetry_sg_01_dev uses aws_lambda(), which the local rules engine does not support"
    assert fault.value.message == expected


def test_an_error_document_holds_the_device_s_own_bytes(rule: TopicRule) -> None:
    """The document contains the bytes as the device sent them, with the failed action beside them."""
    document = json.loads(error_document(rule, MESSAGE, error="throttled"))
    assert base64.b64decode(document.pop("base64OriginalPayload")) == b"not json"
    assert document == {
        "ruleName": "rule_telemetry_sg_01_dev",
        "topic": "dt/mfg/sg-01/press-monitor/sg-01-press-monitor-0001-dev/telemetry",
        "cloudwatchTraceId": "t-1",
        "clientId": "sg-01-press-monitor-0001-dev",
        "failures": [{"failedAction": "KinesisAction", "failedResource": "s", "errorMessage": "throttled"}],
    }


def test_a_failure_message_has_lambda_s_form() -> None:
    """The message to the on-failure queue is the documented one, with a place in the stream and no data."""
    records = tuple(
        StreamRecord(sequence=f"{n}", partition_key="p", data=b"x", arrived=1795448766.0 + n) for n in (1, 2)
    )
    message = failure_message(
        Discard(records=records, condition="RetryAttemptsExhausted", invocations=3),
        shard="shardId-000000000000",
        stream_arn="arn:s",
        function_arn="arn:f",
        request_id="id",
        error="Unhandled",
        now=1795448770.5,
    )
    assert message == {
        "requestContext": {
            "requestId": "id",
            "functionArn": "arn:f",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 3,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2026-11-23T15:46:10.500Z",
        "KinesisBatchInfo": {
            "shardId": "shardId-000000000000",
            "startSequenceNumber": "1",
            "endSequenceNumber": "2",
            "approximateArrivalOfFirstRecord": "2026-11-23T15:46:07.000Z",
            "approximateArrivalOfLastRecord": "2026-11-23T15:46:08.000Z",
            "batchSize": 2,
            "streamArn": "arn:s",
        },
    }


def test_an_event_has_kinesis_form() -> None:
    """A record's data is in base64, its place in the stream in the event's id."""
    record = StreamRecord(sequence="7", partition_key="p", data=b"\xff", arrived=1.5)
    event = kinesis_event((record,), shard="shardId-0", stream_arn="arn:s", role_arn="arn:r", region="x")
    assert event["Records"][0]["kinesis"] == {
        "kinesisSchemaVersion": "1.0",
        "partitionKey": "p",
        "sequenceNumber": "7",
        "data": "/w==",
        "approximateArrivalTimestamp": 1.5,
    }
    assert event["Records"][0]["eventID"] == "shardId-0:7"
