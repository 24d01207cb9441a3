"""The record's vocabulary: plain data that generated facilities declare and stacks read.

Names in the specs have no environment suffix, so that one approved record serves every environment; `suffixed` adds it.
Documents (policies, templates, dashboards) contain the tokens below for values that depend on the environment; `fill`
replaces them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

ACCOUNT_ID_TOKEN = "ACCOUNT_ID"  # noqa: S105 - a placeholder, no secret
"""Placeholder of the AWS account id in generated documents; upper case, so that no id or topic contains it."""

WINDOW_S = 5
"""Seconds for a batch of readings to fill, where the manifest sets nothing else: half of the usual sample interval."""

FALSE_ALARM_BUDGET = 1.0
"""False alarms of a device in a month that people accept, where the manifest sets nothing else."""

SUFFIX_TOKEN = "ENVIRONMENT_SUFFIX"  # noqa: S105 - a placeholder, no secret
"""Placeholder of the environment suffix in generated documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """A measured quantity of a device type; `minimum` and `maximum` are static limits in `unit`.

    `false_alarm_budget` is in false alarms a device-month. The machine runs while the metric with `running_above` is
    above it.
    """

    name: str
    unit: str
    minimum: float | None
    maximum: float | None
    detector: str
    false_alarm_budget: float = FALSE_ALARM_BUDGET
    running_above: float | None = None


METRIC_WORDS = {"minimum": "min", "maximum": "max"}
"""Settings of a metric that manifest and catalogue have under another name than the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTypeSpec:
    """A device type and its IoT thing type; `sample_interval_s` is the seconds between readings."""

    id: str
    thing_type: str
    description: str
    sample_interval_s: float
    metrics: tuple[MetricSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformAlarmsSpec:
    """Thresholds of the platform's alarms; counts are per five minutes.

    `certificate_expiry_days` applies only with `certificate_audit`.
    """

    iterator_age_s: int
    error_rate_percent: float
    throttles: int
    failures_queue_depth: int
    certificate_expiry_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservabilitySpec:
    """Logs and audits of the platform; `iot_logging` is a level, or None to leave that log's settings."""

    iot_logging: str | None
    registry_events: bool
    certificate_audit: bool
    alarms: PlatformAlarmsSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySpec:
    """Days that the readings table keeps items of each kind."""

    minute_days: int
    hour_days: int
    day_days: int
    anomaly_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSpec:
    """Data events that are recorded: `all`, or `without-telemetry`: all but the platform's own writes of telemetry."""

    data_events: str


FORMER_RETENTIONS = {"brief": "short"}
"""Former word for a retention, in older manifests and records → the present one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSpec:
    """Settings that all facilities share.

    `account_id` is None where the credentials decide it; `retention` is `short` or `records`; `window_s` is how long a
    batch of readings fills, in seconds.
    """

    application: str
    environment_suffix: str
    region: str
    account_id: str | None
    reserved_concurrency: int | None
    window_s: int = WINDOW_S
    retention: str
    audit: AuditSpec
    history: HistorySpec
    observability: ObservabilitySpec
    tags: dict[str, str]
    device_types: tuple[DeviceTypeSpec, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "retention", FORMER_RETENTIONS.get(self.retention, self.retention))


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingGroupSpec:
    """The things of one device type in one facility, and their device policy.

    `silence_s`: seconds without a reading from any of them until an alarm; whole minutes, or days.
    """

    device_type: str
    thing_group: str
    policy: str
    policy_file: str
    count: int
    silence_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactSpec:
    """The person to call."""

    name: str
    email: str | None
    phone: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSpec:
    """A production line; `contact` is the facility's where the line has none."""

    id: str
    name: str
    contact: ContactSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FacilityAlarmsSpec:
    """Thresholds of a facility's alarms; percentages and rule failures are per five minutes."""

    quarantine_percent: float
    rule_failures: int
    device_silence_intervals: int
    anomalies_per_hour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FacilitySpec:
    """A facility; the files named here are in its folder."""

    id: str
    module: str
    name: str
    timezone: str
    registration: str
    thing_group: str
    topic_rule: str
    topic_rule_file: str
    provisioning_template: str
    dashboard: str
    things_file: str
    thing_count: int
    contact: ContactSpec | None
    tags: dict[str, str]
    lines: tuple[LineSpec, ...]
    alarms: FacilityAlarmsSpec
    groups: tuple[ThingGroupSpec, ...]


SUFFIX_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?")
SUFFIX_RULE = "1 to 16 lower-case letters, digits and inner hyphens"
"""Sixteen characters keep the longest names within their limits (buckets: 63), as the manifest's schema does."""

SUFFIX_VARIABLE = "ENVIRONMENT_SUFFIX"


def chosen_suffix(environment: Mapping[str, str], declared: str) -> str:
    """Return the suffix of this environment: the variable's where it is set, else the declared one.

    Raises:
        ValueError: the variable is not a valid suffix; the message is a clause about the variable.
    """
    given = environment.get(SUFFIX_VARIABLE)
    if given and not SUFFIX_PATTERN.fullmatch(given):
        raise ValueError(f"{SUFFIX_VARIABLE} is {given!r}, but it must be {SUFFIX_RULE}")
    return given or declared


def suffixed(name: str, suffix: str) -> str:
    """Return `name` with the environment suffix; topic rules (`rule_…`) allow no hyphen, so theirs join with `_`."""
    return f"{name}_{suffix.replace('-', '_')}" if name.startswith("rule_") else f"{name}-{suffix}"


def fill(document: str, *, account_id: str, suffix: str) -> str:
    """Replace the tokens of a generated document by the account id and the environment suffix."""
    rule_suffix = suffix.replace("-", "_")
    return (
        document.replace(f"_{SUFFIX_TOKEN}", f"_{rule_suffix}")
        .replace(SUFFIX_TOKEN, suffix)
        .replace(ACCOUNT_ID_TOKEN, account_id)
    )
