"""Readings of simulated presses, and batches of them as the topic rules of one device type put them into a stream.

It imports nothing of `fleet_iot`, so that processes of another checkout can use it.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

RECORDS = 4_000
DEVICES = 700
METRICS = {"temperature": 71.0, "vibration": 3.0, "pressure": 212.0}
"""Analogue metrics and their mean levels; the fourth metric counts cycles."""

START = 1_795_445_340_000
"""2026-11-23T14:49:00Z in ms, the first batch's minute."""

CATALOGUE = {
    "application": "mfg",
    "device_types": {
        "press-monitor": {
            "metrics": {
                "temperature": {"unit": "celsius", "min": -10, "max": 95, "detector": "machine"},
                "vibration": {"unit": "mm/s", "max": 11.2, "detector": "machine"},
                "pressure": {"unit": "bar", "min": 0, "max": 315, "detector": "machine"},
                "cycle_count": {"unit": "cycles", "min": 0, "detector": "limits"},
            }
        }
    },
}
"""A device type with three metrics that have the machine detector, all with limits."""


def rounds_of(records: int, devices: int) -> int:
    """Return the readings of a device in a minute."""
    return -(-records // devices)


def thing_name(device: int) -> str:
    """Return the name of device number `device`, from 0."""
    return f"sg-01-press-monitor-{device + 1:04d}-dev"


def make_event(minute: int, *, records: int = RECORDS, devices: int = DEVICES) -> dict[str, Any]:
    """Make the Lambda event of minute number `minute`: the devices in turn, each with its next readings."""
    return {"Records": [_record(minute, place, devices, rounds_of(records, devices)) for place in range(records)]}


def _record(minute: int, place: int, devices: int, rounds: int) -> dict[str, Any]:
    device, round_ = place % devices, place // devices
    sequence = minute * rounds + round_
    time = START + minute * 60_000 + round_ * (60_000 // rounds) + device
    name = thing_name(device)
    envelope = {
        "raw": base64.b64encode(payload_of(time, sequence, values_of(sequence, device))).decode(),
        "facility": "sg-01",
        "device_type": "press-monitor",
        "thing": name,
        "client_id": name,
        "principal": f"{device + 1:064x}",
        "received_at": time + 40,
        "trace_id": f"1b7f6b0c-0000-4000-8000-{place:012d}",
    }
    number = str(49_600_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000 + minute * 100_000 + place)
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": name,
            "sequenceNumber": number,
            "data": base64.b64encode(json.dumps(envelope, separators=(",", ":")).encode()).decode(),
            "approximateArrivalTimestamp": (time + 50) / 1000,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{number}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::000000000000:role/role-sensor-processor-dev",
        "awsRegion": "ap-southeast-1",
        "eventSourceARN": "arn:aws:kinesis:ap-southeast-1:000000000000:stream/stream-telemetry-dev",
    }


def payload_of(time: int, sequence: int, metrics: Mapping[str, float]) -> bytes:
    """Make a payload of about 220 bytes, with two fields that the processor ignores, as devices send them."""
    message = {
        "time": time,
        "sequence": sequence,
        "metrics": metrics,
        "firmware": "press-monitor 2.14.3 (build 20261001)",
        "state": {"program": 4, "mode": "automatic"},
    }
    return json.dumps(message, separators=(",", ":")).encode()


def values_of(sequence: int, device: int) -> dict[str, float]:
    """Make the values of a reading: a cycle for each device and metric, with noise."""
    metrics: dict[str, float] = {}
    for order, (name, level) in enumerate(METRICS.items()):
        wave, noise = math.sin(sequence / 9 + device + order), (sequence * 7919 + device * 31) % 97 / 97
        metrics[name] = round(level * (1 + wave / 20 + noise / 50), 3)
    metrics["cycle_count"] = 100_000 + sequence
    return metrics
