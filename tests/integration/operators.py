"""Helpers for operators' tests on a running plant: lines of a command, content of tables, records of the stream."""

from __future__ import annotations

import json
from typing import Any

from fleet_iot.operations.local.event_source import StreamRecord
from fleet_iot.operations.rehearsal.demo import read_readings
from tests.integration.plant import SUFFIX, Plant


def lines(plant: Plant, *arguments: str) -> list[Any]:
    """Return the JSON documents that a command prints, one per line."""
    return [json.loads(line) for line in plant.fleet(*arguments).stdout.splitlines()]


def readings(plant: Plant) -> list[str]:
    """Every minute and anomaly, in some order that is always the same."""
    held = read_readings(plant.local.client("dynamodb"), f"table-readings-{SUFFIX}")
    return sorted(map(repr, [*held.minutes, *held.anomalies]))


def first_records(plant: Plant) -> tuple[tuple[StreamRecord, ...], str, str]:
    """The first ten records of the stream, where they lie, and in which stream."""
    kinesis = plant.local.client("kinesis")
    described = kinesis.describe_stream_summary(StreamName=f"stream-telemetry-{SUFFIX}")["StreamDescriptionSummary"]
    arn = described["StreamARN"]
    shard = kinesis.list_shards(StreamARN=arn)["Shards"][0]["ShardId"]
    iterator = kinesis.get_shard_iterator(StreamARN=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON")[
        "ShardIterator"
    ]
    held = kinesis.get_records(ShardIterator=iterator, StreamARN=arn, Limit=10)["Records"]
    return (
        tuple(
            StreamRecord(
                sequence=record["SequenceNumber"],
                partition_key=record["PartitionKey"],
                data=record["Data"],
                arrived=record["ApproximateArrivalTimestamp"].timestamp(),
            )
            for record in held
        ),
        shard,
        arn,
    )
