"""Estimates the load that a fleet puts on its telemetry stream."""

from __future__ import annotations

import json
from dataclasses import dataclass

from fleet_iot.generator import naming
from fleet_iot.generator.manifest.models import DeviceType, FleetManifest

BYTES_PER_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What all things together send."""

    records_per_second: float
    megabytes_per_second: float


def expected_load(manifest: FleetManifest) -> Load:
    """Every thing sends one record in each sample interval of its type."""
    records = megabytes = 0.0
    sizes: dict[tuple[int, str], int] = {}
    for facility_id, facility in manifest.facilities.items():
        for type_id, group in facility.things.items():
            device_type = manifest.device_types.get(type_id)
            if device_type is None:
                continue
            kind = (len(facility_id), type_id)  # ids are ASCII: of the facility's, its length is all that counts
            if kind not in sizes:
                sizes[kind] = record_bytes(facility_id, type_id, device_type)
            rate = group.count / device_type.sample_interval_s
            records += rate
            megabytes += rate * sizes[kind] / BYTES_PER_MEGABYTE
    return Load(records_per_second=records, megabytes_per_second=megabytes)


def record_bytes(facility: str, type_id: str, device_type: DeviceType) -> int:
    """The size of a record as the topic rule makes it, with its partition key, which Kinesis counts too."""
    thing = f"{naming.thing_name(facility, type_id, 1)}-{'s' * naming.SUFFIX_MAX_LENGTH}"
    message = {"time": 10**12, "sequence": 10**6, "metrics": dict.fromkeys(device_type.metrics, 1234.567)}
    envelope = {
        "raw": "A" * -(-_size(message) // 3 * 4),
        "facility": facility,
        "device_type": type_id,
        "thing": thing,
        "client_id": thing,
        "principal": "f" * 64,
        "received_at": 10**12,
        "trace_id": "0" * 36,
    }
    return _size(envelope) + len(thing)


def _size(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":")))
