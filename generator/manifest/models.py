"""The manifest's models: every key, its type, its limits and its description."""

from __future__ import annotations

import math
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator
from pydantic_core import PydanticCustomError

from fleet_iot.generator.aws.limits import REGIONS
from fleet_iot.generator.diagnostics import DataPath
from fleet_iot.generator.manifest.inventory import SERIAL_PATTERN, SPANS_PATTERN, Inventory, read_value
from fleet_iot.generator.naming import ID_PATTERN, NAME_PATTERN, SUFFIX_PATTERN
from fleet_iot.lib.specs import FALSE_ALARM_BUDGET, FORMER_RETENTIONS, WINDOW_S, FacilityAlarmsSpec


class Model(BaseModel):
    """Base of all models: no unknown keys, no coercion, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


LogLevel = Literal["ERROR", "WARN", "INFO", "DEBUG"]
Percent = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Events = Annotated[int, Field(ge=1, le=1_000_000)]
IteratorAge = Annotated[int, Field(ge=60, le=604_800)]
Intervals = Annotated[int, Field(ge=2, le=100_000)]


class StartCapacity(Model):
    """Capacity of the on-demand stream in its first minute, before it has grown."""

    records_per_second: Annotated[int, Field(gt=0, description="Records a second.")] = 4000
    megabytes_per_second: Annotated[float, Field(gt=0, description="Megabytes a second.")] = 4


class Stream(Model):
    """The telemetry stream."""

    start_capacity: StartCapacity = StartCapacity()


class Processor(Model):
    """The sensor processor's settings."""

    reserved_concurrency: Annotated[
        int | None, Field(ge=1, description="Invocations set aside for the processor; none when left out.")
    ] = None
    window_s: Annotated[
        int,
        Field(ge=1, le=60, description="Seconds for a batch of readings to fill: events are reported so much later."),
    ] = WINDOW_S


Days = Annotated[int, Field(ge=16, le=36_500)]
"""A message may arrive up to 15 days after its time and change items that must still be in the table."""


class History(Model):
    """The days that the readings table keeps each level of what was measured; the archive has every message."""

    minute_days: Annotated[Days, Field(description="Days that numbers by the minute are kept.")] = 90
    hour_days: Annotated[Days, Field(description="Days that numbers by the hour are kept.")] = 400
    day_days: Annotated[Days, Field(description="Days that numbers by the day are kept.")] = 3650
    anomaly_days: Annotated[Days, Field(description="Days that anomalies are kept.")] = 400


class Alarms(Model):
    """Thresholds of alarms; the last four apply to each facility."""

    iterator_age_s: Annotated[
        IteratorAge, Field(description="Seconds that the processor is behind the stream, for five minutes.")
    ] = 300
    error_rate_percent: Annotated[
        Percent, Field(description="Invocations of the processor that fail, in five minutes.")
    ] = 1
    throttles: Annotated[Events, Field(description="Invocations or records that AWS throttled, in five minutes.")] = 1
    failures_queue_depth: Annotated[Events, Field(description="Messages in the on-failure queue of the processor.")] = 1
    certificate_expiry_days: Annotated[
        int,
        Field(ge=1, le=3650, description="Days that a certificate has left, where certificate_audit looks at them."),
    ] = 30
    quarantine_percent: Annotated[Percent, Field(description="Messages that are quarantined, in five minutes.")] = 5
    rule_failures: Annotated[
        Events, Field(description="Messages that the topic rule could not deliver, in five minutes.")
    ] = 1
    device_silence_intervals: Annotated[
        Intervals, Field(description="Sample intervals without any reading of a device type.")
    ] = 5
    anomalies_per_hour: Annotated[
        Events | None,
        Field(description="Anomalies in an hour; what follows from the budgets of false alarms when left out."),
    ] = None


class FacilityAlarms(Model):
    """Thresholds of one facility that differ from the shared ones."""

    quarantine_percent: Annotated[Percent | None, Field(description="Messages that are quarantined.")] = None
    rule_failures: Annotated[Events | None, Field(description="Messages that its topic rule could not deliver.")] = None
    device_silence_intervals: Annotated[
        Intervals | None, Field(description="Sample intervals without any reading of a device type.")
    ] = None
    anomalies_per_hour: Annotated[Events | None, Field(description="Anomalies in an hour.")] = None


def _off(value: Any) -> Any:
    """`false` means the same as leaving it out."""
    return None if value is False else value


class Observability(Model):
    """Logs, archives and alarms, in addition to the readings."""

    iot_logging: Annotated[
        LogLevel | None,
        BeforeValidator(_off, json_schema_input_type=Literal[False] | LogLevel),
        Field(description="Level of AWS IoT's own log, for the whole account; unchanged when false or left out."),
    ] = None
    registry_events: Annotated[
        bool, Field(description="Archive the changes of AWS IoT's registry, for the whole account.")
    ] = True
    certificate_audit: Annotated[
        bool, Field(description="Audit the certificates of the whole account daily, by AWS IoT Device Defender.")
    ] = False
    alarms: Alarms = Alarms()


class Audit(Model):
    """Choice of the data events that the audit trails record."""

    data_events: Annotated[
        Literal["all", "without-telemetry"],
        Field(description="Reads and writes of data: all, or all but the platform's own writes of telemetry."),
    ] = "all"


METRIC_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
ACCOUNT_PATTERN = r"^[0-9]{12}$"
EMAIL_PATTERN = r"^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,4}$"
PHONE_PATTERN = r"^\+[0-9][0-9 ()-]{3,29}[0-9]$"
MAX_METRICS = 256
"""Of a device type, and so of a message: what is summed up of more would not fit an item of the readings table."""

OWN_TAGS = ("application", "environment")
"""Tag keys of every resource, in addition to the manifest's."""

TAGS_MAXIMUM = 50 - len(OWN_TAGS)
"""AWS accepts 50 tags a resource, ours among them: https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html"""

Id = Annotated[str, Field(pattern=ID_PATTERN)]
Suffix = Annotated[str, Field(pattern=SUFFIX_PATTERN)]
MetricName = Annotated[str, Field(pattern=METRIC_PATTERN)]
AccountId = Annotated[str, Field(pattern=ACCOUNT_PATTERN)]
Limit = Annotated[float, Field(allow_inf_nan=False)]
Serial = Annotated[str, Field(pattern=SERIAL_PATTERN)]
ThingName = Annotated[str, Field(pattern=NAME_PATTERN)]
Spans = Annotated[str, Field(pattern=SPANS_PATTERN)]
MOST_INTERVAL_S = 86_400
SampleInterval = Annotated[float, Field(ge=0.01, le=MOST_INTERVAL_S, allow_inf_nan=False)]
Detector = Literal["limits", "machine", "context", "baseline", "flatline", "rate", "correlation", "seasonal"]
FalseAlarmBudget = Annotated[float, Field(ge=0.01, le=1000, allow_inf_nan=False)]


class Metric(Model):
    """One quantity that a device type measures, and its static limits."""

    unit: Annotated[str, Field(min_length=1, max_length=32, description="Unit, as operators write it.")]
    min: Annotated[Limit | None, Field(description="Readings below are anomalies.")] = None
    max: Annotated[Limit | None, Field(description="Readings above are anomalies.")] = None
    detector: Annotated[
        Detector,
        Field(
            description="limits: the static limits only. In addition: machine: what is unusual for this machine in "
            "what it is doing, within a budget of false alarms; context: unusual values for this device; "
            "baseline: a lasting shift of one of several metrics; flatline: a sensor that is stuck; rate: jumps; "
            "correlation: metrics that no longer move together; seasonal: what is unusual for the hour of the day."
        ),
    ] = "machine"
    false_alarm_budget: Annotated[
        FalseAlarmBudget | None, Field(description="Of this metric, where it differs from the device type's.")
    ] = None


class Running(Model):
    """A metric and the value above which the machine runs."""

    metric: Annotated[MetricName, Field(description="A metric of the device type, watched by `detector: machine`.")]
    above: Annotated[Limit, Field(description="The machine runs while the metric is above it.")]


class DeviceType(Model):
    """A kind of device; becomes an AWS IoT thing type."""

    description: Annotated[
        str, Field(min_length=1, max_length=500, description="What it is, in printable ASCII: AWS IoT accepts no more.")
    ]
    sample_interval_s: Annotated[SampleInterval, Field(description="Seconds between two readings.")]
    false_alarm_budget: Annotated[
        FalseAlarmBudget,
        Field(description="False alarms of a device in a month that people accept, of all its metrics."),
    ] = FALSE_ALARM_BUDGET
    running: Annotated[
        Running | None, Field(description="When the machine runs; inferred from all metrics where it is left out.")
    ] = None
    metrics: Annotated[dict[MetricName, Metric], Field(min_length=1, max_length=MAX_METRICS)]


class Contact(Model):
    """The person to call when something is wrong."""

    name: Annotated[str, Field(min_length=1, max_length=100, description="A person, or a desk that is staffed.")]
    email: Annotated[str | None, Field(pattern=EMAIL_PATTERN, max_length=254, description="E-mail address.")] = None
    phone: Annotated[str | None, Field(pattern=PHONE_PATTERN, description="With country code.")] = None


class Line(Model):
    """A production line of a facility, and the values of the things on it."""

    name: Annotated[str | None, Field(min_length=1, max_length=100, description="Name.")] = None
    contact: Annotated[Contact | None, Field(description="Who is called; the facility's when left out.")] = None
    attributes: Annotated[dict[str, str], Field(description="AWS IoT attributes of each thing on it.")] = {}


class NamedThing(Model):
    """A named thing."""

    serial: Annotated[Serial | None, Field(description="Serial number, as on the name plate.")] = None
    line: Annotated[Id | None, Field(description="The production line it is on.")] = None
    attributes: Annotated[dict[str, str], Field(description="AWS IoT attributes of only this thing.")] = {}


def _text_of_number(value: Any) -> Any:
    """Convert a single number, which is a span too, to text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _names(value: Any) -> Any:
    """Convert a list of names to a mapping without further facts; a name without any gets an empty one."""
    if not isinstance(value, list):
        return {name: {} if known is None else known for name, known in value.items()} if _is_map(value) else value
    twice = next((name for place, name in enumerate(value) if name in value[:place]), None)
    if twice is not None:
        raise PydanticCustomError("name_twice", "a name appears twice", {"twice": str(twice)})
    if not all(isinstance(name, str) for name in value):
        raise PydanticCustomError("names_of_text", "a name is no text")
    return {name: {} for name in value}


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


class ThingGroup(Model):
    """The things of one device type in one facility: by count, by names, or by a list of devices."""

    count: Annotated[int, Field(ge=1, le=1_000_000, description="How many things there are, numbered from 1.")]
    names: Annotated[
        dict[ThingName, NamedThing],
        BeforeValidator(_names, json_schema_input_type=list[ThingName] | dict[ThingName, NamedThing | None]),
        Field(min_length=1, description="Their names within the group: a list, or what is known by name."),
    ] = {}
    inventory: Annotated[
        Inventory | None,
        PlainValidator(read_value, json_schema_input_type=str),
        PlainSerializer(lambda value: value and value.digest),
        Field(description="A file, CSV or JSON lines, from the manifest's folder: one device a row."),
    ] = None
    line: Annotated[Id | None, Field(description="The production line that all of them are on.")] = None
    lines: Annotated[
        dict[Id, Annotated[Spans, BeforeValidator(_text_of_number, json_schema_input_type=int | Spans)]],
        Field(description="Numbers of things by production line: `1-10`, or `1-10, 25-26`."),
    ] = {}
    attributes: Annotated[dict[str, str], Field(description="AWS IoT attributes of each of them.")] = {}

    @property
    def is_numbered(self) -> bool:
        """Its things are given by count, and numbered."""
        return not self.names and self.inventory is None


SOURCES = ("count", "names", "inventory")
"""The keys of a group that define its things: exactly one is needed."""


def _group_of_count(value: Any) -> Any:
    """Convert a bare count to a group, and set the count of one that is given by names or by a list of devices."""
    if not isinstance(value, dict):
        return {"count": value}
    given = [source for source in SOURCES if source in value]
    if len(given) > 1:
        raise PydanticCustomError("one_source", "more than one source", {"given": " and ".join(given)})
    if given == ["inventory"] and isinstance(value["inventory"], Inventory):
        return value | {"count": len(value["inventory"]) or 1}
    if given in (["names"], ["inventory"]):
        named = value.get("names")
        return value | {"count": len(named) if isinstance(named, dict | list) and named else 1}
    return value


class Facility(Model):
    """One plant."""

    name: Annotated[str, Field(min_length=1, max_length=100, description="Name.")]
    timezone: Annotated[str, Field(description="IANA time zone, such as Asia/Singapore.")]
    registration: Annotated[
        Literal["terraform", "bulk"] | None,
        Field(description="Who registers things; by their count when left out (terraform up to 1,000)."),
    ] = None
    contact: Annotated[Contact | None, Field(description="Who is called when something is wrong.")] = None
    tags: Annotated[dict[str, str], Field(description="Tags of its resources, over those of all.")] = {}
    attributes: Annotated[dict[str, str], Field(description="AWS IoT attributes of each of its things.")] = {}
    lines: Annotated[dict[Id, Line], Field(description="Its production lines.")] = {}
    alarms: Annotated[FacilityAlarms, Field(description="Thresholds that differ from the shared ones.")] = (
        FacilityAlarms()
    )
    things: Annotated[
        dict[Id, Annotated[ThingGroup, BeforeValidator(_group_of_count, json_schema_input_type=int | ThingGroup)]],
        Field(min_length=1, description="Things by device type: a count, names, or a list of devices."),
    ]

    @property
    def thing_count(self) -> int:
        """The number of things in all facilities."""
        return sum(group.count for group in self.things.values())


class Defaults(Model):
    """Values for plants, device types and metrics that do not have their own."""

    timezone: Annotated[str | None, Field(description="Of facilities.")] = None
    registration: Annotated[Literal["terraform", "bulk"] | None, Field(description="Of facilities.")] = None
    contact: Annotated[Contact | None, Field(description="Of facilities.")] = None
    attributes: Annotated[dict[str, str], Field(description="AWS IoT attributes of every thing.")] = {}
    sample_interval_s: Annotated[SampleInterval | None, Field(description="Of device types.")] = None
    false_alarm_budget: Annotated[FalseAlarmBudget | None, Field(description="Of device types.")] = None
    detector: Annotated[Detector | None, Field(description="Of metrics.")] = None


def _renamed_retention(value: Any) -> Any:
    return FORMER_RETENTIONS.get(value, value) if isinstance(value, str) else value


class FleetManifest(Model):
    """The whole fleet."""

    version: Annotated[Literal[1], Field(description="Version of the manifest's format.")]
    application: Annotated[Id, Field(description="Root of the MQTT topics, and part of the bucket names.")]
    environment_suffix: Annotated[Suffix, Field(description="Last part of every resource name.")]
    region: Annotated[str, Field(description="AWS region.", json_schema_extra={"enum": list(REGIONS)})]
    account_id: Annotated[AccountId | None, Field(description="AWS account, twelve digits in quotes.")] = None
    tags: Annotated[dict[str, str], Field(max_length=TAGS_MAXIMUM, description="Tags of every resource.")] = {}
    stream: Stream = Stream()
    processor: Processor = Processor()
    observability: Observability = Observability()
    history: History = History()
    retention: Annotated[
        Literal["short", "records"],
        BeforeValidator(_renamed_retention),
        Field(description="short: days, and all can be destroyed. records: years, locked against deletion."),
    ] = "short"
    audit: Audit = Audit()
    defaults: Annotated[Defaults, Field(description="Values where nothing else is given.")] = Defaults()
    device_types: Annotated[dict[Id, DeviceType], Field(min_length=1)]
    facilities: Annotated[dict[Id, Facility], Field(min_length=1)]


MONTH_DAYS = 30
"""Days of a month of the budget of false alarms."""


def budget_of(device_type: DeviceType) -> float:
    """Return the false alarms of a device in a month that people accept; 0 where no metric has a budget."""
    watched = [metric for metric in device_type.metrics.values() if metric.detector == "machine"]
    given = [metric.false_alarm_budget or device_type.false_alarm_budget for metric in watched]
    return sum(given) / len(given) if given else 0.0


def has_former_detector(device_type: DeviceType) -> bool:
    """Return whether a metric has a detector that keeps no budget of false alarms."""
    return any(metric.detector not in ("limits", "machine") for metric in device_type.metrics.values())


LEAST_ANOMALIES, FORMER_ANOMALIES = 5, 20
"""Anomalies of a plant in an hour that are an alarm, at least: of any plant, and of one with a detector that keeps no
budget."""
_HOURS_A_YEAR = 8_766


def anomalies_per_hour(manifest: FleetManifest, facility: Facility) -> int:
    """Return how many anomalies a plant has less than once a year in one hour, if the budgets are kept."""
    types = [
        (manifest.device_types[id_], group.count)
        for id_, group in facility.things.items()
        if id_ in manifest.device_types
    ]
    mean = sum(budget_of(device_type) * count for device_type, count in types) / (MONTH_DAYS * 24)
    least = FORMER_ANOMALIES if any(has_former_detector(each) for each, _ in types) else LEAST_ANOMALIES
    return max(least, _seldom(mean))


def _seldom(mean: float) -> int:
    """Return the least number that a Poisson variable reaches in fewer than one hour of a year."""
    number = math.ceil(mean) + 1
    while mean:
        # The tail is at most a geometric series from its first term.
        first = math.exp(number * math.log(mean) - mean - math.lgamma(number + 1))
        if first / (1 - mean / (number + 1)) < 1 / _HOURS_A_YEAR:
            break
        number += 1
    return number


def facility_alarms(manifest: FleetManifest, facility: Facility) -> FacilityAlarmsSpec:
    """Return the facility's own thresholds, and those of all where it has none."""
    given = manifest.observability.alarms.model_dump() | facility.alarms.model_dump(exclude_none=True)
    if given["anomalies_per_hour"] is None:
        given["anomalies_per_hour"] = anomalies_per_hour(manifest, facility)
    return msgspec.convert(given, FacilityAlarmsSpec)


SILENCE_MINIMUM_S = 300
"""Metrics of a batch arrive up to some minutes late: a shorter silence would raise false alarms."""
SILENCE_MAXIMUM_S = 7 * 86_400
"""As far as an alarm looks back: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html"""
_MINUTE_S, _DAY_S = 60, 86_400


def silence_s(sample_interval_s: float, intervals: int) -> int:
    """Return the seconds without a reading that are silence: whole minutes, and whole days beyond one."""
    least = max(SILENCE_MINIMUM_S, sample_interval_s * intervals)
    step = _MINUTE_S if least <= _DAY_S else _DAY_S
    return math.ceil(least / step) * step


def keys_at(path: DataPath) -> tuple[str, ...]:
    """Return the keys that are allowed in the part at `path`, which may have any ids; none where no model is there."""
    kind: Any = FleetManifest
    for step in path:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif isinstance(kind, type) and issubclass(kind, Model) and step in kind.model_fields:
            kind = kind.model_fields[str(step)].annotation
        else:
            return ()
        while get_origin(kind) in (Annotated, Union, UnionType):
            kind = next(each for each in get_args(kind) if each is not type(None))
    return tuple(kind.model_fields) if isinstance(kind, type) and issubclass(kind, Model) else ()
