"""The documents of Lambda's event sources, in AWS's own shape: the event for a function, the word of a failure."""

from __future__ import annotations

import base64
import datetime
from typing import Any

from fleet_iot.operations.local.event_source_values import Discard, StreamRecord


def kinesis_event(
    records: tuple[StreamRecord, ...], *, shard: str, stream_arn: str, role_arn: str, region: str
) -> dict[str, Any]:
    """The event that a function gets for these records.

    https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
    """
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": record.partition_key,
                    "sequenceNumber": record.sequence,
                    "data": base64.b64encode(record.data).decode(),
                    "approximateArrivalTimestamp": record.arrived,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"{shard}:{record.sequence}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": role_arn,
                "awsRegion": region,
                "eventSourceARN": stream_arn,
            }
            for record in records
        ]
    }


def failure_message(
    discard: Discard,
    *,
    shard: str,
    stream_arn: str,
    function_arn: str,
    request_id: str,
    error: str | None,
    now: float,
) -> dict[str, Any]:
    """What the on-failure destination is told: where the records lie in the stream, not what they hold.

    https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    """
    message: dict[str, Any] = {
        "requestContext": {
            "requestId": request_id,
            "functionArn": function_arn,
            "condition": discard.condition,
            "approximateInvokeCount": discard.invocations,
        },
        "version": "1.0",
        "timestamp": _instant(now),
        "KinesisBatchInfo": {
            "shardId": shard,
            "startSequenceNumber": discard.records[0].sequence,
            "endSequenceNumber": discard.records[-1].sequence,
            "approximateArrivalOfFirstRecord": _instant(discard.records[0].arrived),
            "approximateArrivalOfLastRecord": _instant(discard.records[-1].arrived),
            "batchSize": len(discard.records),
            "streamArn": stream_arn,
        },
    }
    if discard.invocations:
        context: dict[str, Any] = {"statusCode": 200, "executedVersion": "$LATEST", "functionError": error}
        message["responseContext"] = context
    return message


def _instant(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
