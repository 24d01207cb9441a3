"""The plain data that generated facilities declare and stacks read: no cdktf, no YAML, literals in and out.

Names in the specs carry no environment suffix, so that one approved record serves every environment;
`suffixed` adds it. Documents (policies, templates, dashboards) hold the tokens below in the places of values
that only an environment knows; `fill` puts them in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

ACCOUNT_ID_TOKEN = "ACCOUNT_ID"  # noqa: S105 - a placeholder, no secret
"""Stands for the AWS account id in generated documents; upper case, so no id or topic can hold it."""

SUFFIX_TOKEN = "ENVIRONMENT_SUFFIX"  # noqa: S105 - a placeholder, no secret
"""Stands for the environment suffix in generated documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """One measured quantity of a device type; `minimum` and `maximum` are the static limits in `unit`."""

    name: str
    unit: str
    minimum: float | None
    maximum: float | None
    detector: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTypeSpec:
    """A kind of device, an IoT thing type; `sample_interval_s` is the seconds between two readings."""

    id: str
    thing_type: str
    description: str
    sample_interval_s: float
    metrics: tuple[MetricSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformAlarmsSpec:
    """From which value on an alarm of the platform is raised; counts are those of five minutes.

    The days of certificates mean something only where they are audited.
    """

    iterator_age_s: int
    error_rate_percent: float
    throttles: int
    failures_queue_depth: int
    certificate_expiry_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservabilitySpec:
    """What of the platform is logged and watched; `iot_logging` is a level, None where that log is left alone."""

    iot_logging: str | None
    registry_events: bool
    certificate_audit: bool
    alarms: PlatformAlarmsSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySpec:
    """Days that the readings table keeps each level of what was measured."""

    minute_days: int
    hour_days: int
    day_days: int
    anomaly_days: int


FORMER_RETENTIONS = {"brief": "short"}
"""Retentions by the names that former manifests and records give them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSpec:
    """What all facilities share.

    `account_id` is None where the manifest leaves it to the credentials; `retention` is `short` or `records`.
    """

    application: str
    environment_suffix: str
    region: str
    account_id: str | None
    reserved_concurrency: int | None
    retention: str
    history: HistorySpec
    observability: ObservabilitySpec
    tags: dict[str, str]
    device_types: tuple[DeviceTypeSpec, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "retention", FORMER_RETENTIONS.get(self.retention, self.retention))


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingGroupSpec:
    """The things of one device type in one facility, and the device policy that they share.

    `silence_s`: seconds without any reading of them that are silence; whole minutes, or days.
    """

    device_type: str
    thing_group: str
    policy: str
    policy_file: str
    count: int
    silence_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactSpec:
    """Who is called when something is wrong."""

    name: str
    email: str | None
    phone: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSpec:
    """A production line of a plant; `contact` is the plant's where it has none of its own."""

    id: str
    name: str
    contact: ContactSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FacilityAlarmsSpec:
    """From which value on an alarm of a plant is raised; percentages and rule failures are those of five minutes."""

    quarantine_percent: float
    rule_failures: int
    device_silence_intervals: int
    anomalies_per_hour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FacilitySpec:
    """One plant as its folder declares it; the files named here lie beside the declaration."""

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
"""Sixteen characters keep the longest names (buckets: 63) in their limits; the manifest's schema asks for the same."""

SUFFIX_VARIABLE = "ENVIRONMENT_SUFFIX"


def chosen_suffix(environment: Mapping[str, str], declared: str) -> str:
    """The suffix of this environment: the variable's where it is set, else the declared one.

    The one place that reads it: it is part of names, topics and paths of files.

    Raises:
        ValueError: the variable holds anything else than a suffix; its message is a clause about the variable.
    """
    given = environment.get(SUFFIX_VARIABLE)
    if given and not SUFFIX_PATTERN.fullmatch(given):
        raise ValueError(f"{SUFFIX_VARIABLE} is {given!r}, but it must be {SUFFIX_RULE}")
    return given or declared


def suffixed(name: str, suffix: str) -> str:
    """`name` with the environment suffix; topic rules allow no hyphen, so theirs (`rule_…`) join with `_`."""
    return f"{name}_{suffix.replace('-', '_')}" if name.startswith("rule_") else f"{name}-{suffix}"


def fill(document: str, *, account_id: str, suffix: str) -> str:
    """A generated document with the account id and the environment suffix in the places of their tokens."""
    rule_suffix = suffix.replace("-", "_")
    return (
        document.replace(f"_{SUFFIX_TOKEN}", f"_{rule_suffix}")
        .replace(SUFFIX_TOKEN, suffix)
        .replace(ACCOUNT_ID_TOKEN, account_id)
    )
