"""Works out what is watched from which threshold on: of the platform, and of each facility with its own values."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fleet_iot.generator.manifest.models import Facility, FleetManifest

SILENCE_MINIMUM_S = 300
"""Metrics of a batch come up to some minutes late: a shorter silence would be none."""
SILENCE_MAXIMUM_S = 7 * 86_400
"""As far as an alarm looks back: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html"""
_MINUTE_S, _DAY_S = 60, 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformAlarmsPlan:
    """Thresholds of what all facilities share."""

    iterator_age_s: int
    error_rate_percent: float
    throttles: int
    failures_queue_depth: int
    certificate_expiry_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservabilityPlan:
    """What is logged and watched of the platform; `iot_logging` is None where AWS IoT's log is left alone."""

    iot_logging: str | None
    registry_events: bool
    certificate_audit: bool
    alarms: PlatformAlarmsPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class FacilityAlarmsPlan:
    """Thresholds of one facility; `device_silence_intervals` are told in seconds with each of its groups."""

    quarantine_percent: float
    rule_failures: int
    device_silence_intervals: int
    anomalies_per_hour: int


def plan_observability(manifest: FleetManifest) -> ObservabilityPlan:
    """What the platform is watched for."""
    given = manifest.observability
    return ObservabilityPlan(
        iot_logging=given.iot_logging,
        registry_events=given.registry_events,
        certificate_audit=given.certificate_audit,
        alarms=PlatformAlarmsPlan(
            iterator_age_s=given.alarms.iterator_age_s,
            error_rate_percent=float(given.alarms.error_rate_percent),
            throttles=given.alarms.throttles,
            failures_queue_depth=given.alarms.failures_queue_depth,
            certificate_expiry_days=given.alarms.certificate_expiry_days,
        ),
    )


def facility_alarms(manifest: FleetManifest, facility: Facility) -> FacilityAlarmsPlan:
    """The facility's own thresholds, and those of all where it has none."""
    own, shared = facility.alarms, manifest.observability.alarms
    return FacilityAlarmsPlan(
        quarantine_percent=float(own.quarantine_percent or shared.quarantine_percent),
        rule_failures=own.rule_failures or shared.rule_failures,
        device_silence_intervals=own.device_silence_intervals or shared.device_silence_intervals,
        anomalies_per_hour=own.anomalies_per_hour or shared.anomalies_per_hour,
    )


def silence_s(sample_interval_s: float, intervals: int) -> int:
    """Seconds without a reading that are silence: whole minutes, and whole days beyond one, as alarms count."""
    least = max(SILENCE_MINIMUM_S, sample_interval_s * intervals)
    step = _MINUTE_S if least <= _DAY_S else _DAY_S
    return math.ceil(least / step) * step
