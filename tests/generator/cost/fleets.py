"""Manifests of any number of devices, and the fleets that docs/cost.md and docs/scale.md work out."""

from __future__ import annotations

from typing import Any

from fleet_iot.generator.manifest.models import FleetManifest

ADAPTIVE = ("temperature", "vibration", "pressure")
"""Metrics with the default detector; `cycle_count` has none but its limits."""


def manifest(
    devices: int,
    *,
    interval: float = 10,
    plants: int = 1,
    types: int = 1,
    region: str = "us-east-1",
    detector: str = "machine",
    **more: Any,
) -> FleetManifest:
    """A fleet with as many devices of each type in each plant, four metrics each."""
    metrics: dict[str, Any] = {name: {"unit": "x", "max": 1, "detector": detector} for name in ADAPTIVE}
    metrics["cycle_count"] = {"unit": "x", "min": 0, "detector": "limits"}
    device_type = {"description": "Machine", "sample_interval_s": interval, "metrics": metrics}
    names = [f"type-{number}" for number in range(types)]
    each, rest = divmod(devices, plants * types)
    facilities: dict[str, Any] = {}
    for plant in range(plants):
        things = {name: each + (rest if plant == number == 0 else 0) for number, name in enumerate(names)}
        facilities[f"pl-{plant:03d}"] = {"name": "Plant", "timezone": "UTC", "things": things}
    document = {
        "version": 1,
        "application": "mfg",
        "environment_suffix": "dev",
        "region": region,
        "device_types": dict.fromkeys(names, device_type),
        "facilities": facilities,
    }
    return FleetManifest.model_validate(document | more)


WORKED = {
    "small": manifest(200, plants=3, types=5),
    "medium": manifest(1_000, plants=3, types=5),
    "large": manifest(100_000, plants=30, types=5),
}
"""The fleets of docs/cost.md: devices that send four metrics every 10 seconds."""
