"""Checks that history thins out: what sums up others is kept at least as long as they are."""

from __future__ import annotations

from collections.abc import Iterator

from fleet_iot.generator.manifest.model_errors import Draft, Fault
from fleet_iot.generator.manifest.models import FleetManifest


def history_thins_out(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """Hours outlive minutes, and days hours: otherwise the older part of the finer ones could not be overseen."""
    kept = manifest.history
    for finer, coarser, fine_days, coarse_days in (
        ("minute_days", "hour_days", kept.minute_days, kept.hour_days),
        ("hour_days", "day_days", kept.hour_days, kept.day_days),
    ):
        if coarse_days < fine_days:
            said = coarser if coarser in kept.model_fields_set else finer
            yield Fault(
                path=("history", said),
                message=f"`{coarser}`, {coarse_days:,}, is less than `{finer}`, {fine_days:,}",
                hint=f"keep what sums up others at least as long: raise `{coarser}` or lower `{finer}`",
            )
