"""Lays out a facility's CloudWatch dashboard: one widget for each metric that the sensor processor emits."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_iot.generator.naming import SUFFIX_TOKEN
from fleet_iot.generator.output.encoding import encode_markdown
from fleet_iot.generator.plan.build import FacilityPlan

NAMESPACE = f"Fleet/{SUFFIX_TOKEN}"
DIMENSIONS = ("Facility", "DeviceType")
PROCESSOR_METRICS = (
    "ReadingsProcessed",
    "AnomaliesDetected",
    "ReadingsQuarantined",
    "ReadingsDuplicate",
    "ReadingsLate",
)
"""Every metric of the sensor processor, all of them counts; the most looked at first."""

_HEADING_HEIGHT, _WIDTH, _HEIGHT, _COLUMNS = 2, 12, 6, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Widget:
    """One graph, with a line for each device type; units of the dashboard's 24-column grid."""

    title: str
    metric: str
    device_types: tuple[str, ...]
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """The whole board."""

    heading: str
    namespace: str
    widgets: tuple[Widget, ...]


def plan_dashboard(facility: FacilityPlan) -> Dashboard:
    """The board of a facility: its name and size, then its metrics two in a row."""
    device_types = tuple(group.device_type.id for group in facility.groups)
    return Dashboard(
        heading=f"# {encode_markdown(facility.name)}\n{facility.thing_count} things, time zone "
        f"{encode_markdown(facility.timezone)}, facility `{facility.id}`",
        namespace=NAMESPACE,
        widgets=tuple(
            Widget(
                title=metric,
                metric=metric,
                device_types=device_types,
                x=place % _COLUMNS * _WIDTH,
                y=_HEADING_HEIGHT + place // _COLUMNS * _HEIGHT,
                width=_WIDTH,
                height=_HEIGHT,
            )
            for place, metric in enumerate(PROCESSOR_METRICS)
        ),
    )
