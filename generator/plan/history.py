"""Works out how long each level of the history is kept."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_iot.generator.manifest.models import FleetManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPlan:
    """Days that items of each level stay in the readings table."""

    minute_days: int
    hour_days: int
    day_days: int
    anomaly_days: int


def plan_history(manifest: FleetManifest) -> HistoryPlan:
    """The manifest's days."""
    return HistoryPlan(**manifest.history.model_dump())
