"""Checks thresholds against what CloudWatch's alarms can do."""

from __future__ import annotations

from collections.abc import Iterator

from fleet_iot.generator.manifest.alarms import SILENCE_MAXIMUM_S, facility_alarms, silence_s
from fleet_iot.generator.manifest.model_errors import Draft, Fault
from fleet_iot.generator.manifest.models import FleetManifest
from fleet_iot.generator.manifest.sources import DataPath

_DAYS = SILENCE_MAXIMUM_S // 86_400
_KEY = "device_silence_intervals"


def silence_windows(manifest: FleetManifest, _: Draft) -> Iterator[Fault]:
    """Alarms look back far enough to see that a device type is silent."""
    for facility_id, facility in manifest.facilities.items():
        intervals = facility_alarms(manifest, facility).device_silence_intervals
        for type_id in facility.things:
            device_type = manifest.device_types.get(type_id)
            if device_type and silence_s(device_type.sample_interval_s, intervals) > SILENCE_MAXIMUM_S:
                yield Fault(
                    path=_place(manifest, facility_id, type_id),
                    message=f"{intervals:,} intervals of {device_type.sample_interval_s:,g} s, for `{type_id}` in "
                    f"`{facility_id}`, are more than the {_DAYS} days that an alarm looks back",
                    hint=f"lower `{_KEY}`: `facilities.{facility_id}.alarms` has its own",
                )
                break


def _place(manifest: FleetManifest, facility: str, device_type: str) -> DataPath:
    """Where the number of intervals is said; the things where nobody said any."""
    if manifest.facilities[facility].alarms.device_silence_intervals is not None:
        return ("facilities", facility, "alarms", _KEY)
    if _KEY in manifest.observability.alarms.model_fields_set:
        return ("observability", "alarms", _KEY)
    return ("facilities", facility, "things", device_type)
