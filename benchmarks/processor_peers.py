"""Peers of the processor: the code of typical samples, and Powertools. Both store every reading, neither detects.

Written as their documentation shows, with cheap improvements: one client, kept connections, models made once. They
store the whole reading, as they archive nothing.
"""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import boto3
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.parser.models import KinesisDataStreamRecord, KinesisDataStreamRecordPayload
from pydantic import BaseModel, Json

READINGS = "table-of-a-peer"
STAMPS = ("facility", "device_type", "client_id", "principal", "received_at", "trace_id")
"""Fields of the topic rule that a peer stores with a reading."""


class PutItem:
    """`json`, `Decimal` and a `put_item` for each record, as the samples of IoT pipelines do it."""

    def __init__(self, session: boto3.session.Session) -> None:
        self._table = session.resource("dynamodb").Table(READINGS)

    def handle(self, event: dict[str, Any]) -> dict[str, Any]:
        """Store each reading as one item."""
        failures = []
        for record in event["Records"]:
            try:
                envelope = json.loads(base64.b64decode(record["kinesis"]["data"]))
                message = json.loads(base64.b64decode(envelope["raw"]), parse_float=Decimal)
                stamps = {name: envelope[name] for name in STAMPS}
                key = {"device": envelope["thing"], "bucket": f"{message['time']}#{message['sequence']}"}
                self._table.put_item(Item=key | stamps | message)
            except Exception:
                failures.append({"itemIdentifier": record["kinesis"]["sequenceNumber"]})
        return {"batchItemFailures": failures}


class State(BaseModel):
    """State of the machine."""

    program: int
    mode: str


class Message(BaseModel):
    """Message of a device."""

    time: int
    sequence: int
    metrics: dict[str, Decimal]
    firmware: str
    state: State


class Envelope(BaseModel):
    """Envelope of the topic rule."""

    raw: bytes
    facility: str
    device_type: str
    thing: str
    client_id: str
    principal: str
    received_at: int
    trace_id: str


class Payload(KinesisDataStreamRecordPayload):
    """Data of a record as a custom model, as the parser's documentation shows."""

    data: Json[Envelope]


class Record(KinesisDataStreamRecord):
    """Record with such data."""

    kinesis: Payload


class Powertools:
    """Powertools' batch processor with pydantic models; `batch_writer` puts the items in batches of 25.

    https://docs.powertools.aws.dev/lambda/python/latest/utilities/batch/#pydantic-integration
    """

    def __init__(self, session: boto3.session.Session) -> None:
        self._table = session.resource("dynamodb").Table(READINGS)
        self._processor = BatchProcessor(event_type=EventType.KinesisDataStreams, model=Record)

    def handle(self, event: dict[str, Any]) -> Any:
        """Store each reading as one item."""
        with self._table.batch_writer() as writer:

            def store(record: Record) -> None:
                envelope = record.kinesis.data
                message = Message.model_validate_json(base64.b64decode(envelope.raw))
                stamps = envelope.model_dump(include=set(STAMPS))
                key = {"device": envelope.thing, "bucket": f"{message.time}#{message.sequence}"}
                writer.put_item(Item=key | stamps | message.model_dump())

            return process_partial_response(
                event=event,
                record_handler=store,
                processor=self._processor,
                context=None,
            )
