"""The manifest's shape as frozen pydantic models: what may stand in `fleet.yaml`, and of which type."""
# ruff: noqa: RUF012 - pydantic copies each default; ruff sees that only where the base class is in the same file

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator
from pydantic_core import PydanticCustomError

from fleet_iot.generator.aws.regions import REGIONS
from fleet_iot.generator.manifest.attributes import SERIAL_PATTERN
from fleet_iot.generator.manifest.inventory import Inventory, read_value
from fleet_iot.generator.manifest.models_base import Model
from fleet_iot.generator.manifest.models_platform import (
    Alarms,
    FacilityAlarms,
    History,
    Observability,
    Processor,
    StartCapacity,
    Stream,
)
from fleet_iot.generator.manifest.sources import DataPath
from fleet_iot.generator.manifest.spans import SPANS_PATTERN
from fleet_iot.generator.naming import ID_PATTERN, NAME_PATTERN, SUFFIX_PATTERN

METRIC_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
ACCOUNT_PATTERN = r"^[0-9]{12}$"
EMAIL_PATTERN = r"^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,4}$"
PHONE_PATTERN = r"^\+[0-9][0-9 ()-]{3,29}[0-9]$"
MAX_METRICS = 256
"""Of a device type, and so of a message: what is summed up of more would not fit an item of the readings table."""

OWN_TAGS = ("application", "environment")
"""Keys that every resource is tagged with besides the manifest's."""

TAGS_MAXIMUM = 50 - len(OWN_TAGS)
"""AWS takes 50 tags a resource, ours among them: https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html"""

Id = Annotated[str, Field(pattern=ID_PATTERN)]
Suffix = Annotated[str, Field(pattern=SUFFIX_PATTERN)]
MetricName = Annotated[str, Field(pattern=METRIC_PATTERN)]
AccountId = Annotated[str, Field(pattern=ACCOUNT_PATTERN)]
Limit = Annotated[float, Field(allow_inf_nan=False)]
Serial = Annotated[str, Field(pattern=SERIAL_PATTERN)]
ThingName = Annotated[str, Field(pattern=NAME_PATTERN)]
Spans = Annotated[str, Field(pattern=SPANS_PATTERN)]
SampleInterval = Annotated[float, Field(ge=0.01, le=86400, allow_inf_nan=False)]
Detector = Literal["limits", "context", "baseline", "flatline", "rate", "correlation", "seasonal"]


class Metric(Model):
    """One quantity that a device type measures, and its static limits."""

    unit: Annotated[str, Field(min_length=1, max_length=32, description="Unit, as operators write it.")]
    min: Annotated[Limit | None, Field(description="Readings below are anomalies.")] = None
    max: Annotated[Limit | None, Field(description="Readings above are anomalies.")] = None
    detector: Annotated[
        Detector,
        Field(
            description="limits: the static limits alone. Besides them: context: what is unusual for this device; "
            "baseline: a lasting shift of one of several metrics; flatline: a sensor that is stuck; rate: jumps; "
            "correlation: metrics that no longer move together; seasonal: what is unusual for the hour of the day."
        ),
    ] = "context"


class DeviceType(Model):
    """A kind of device; becomes an AWS IoT thing type."""

    description: Annotated[str, Field(min_length=1, max_length=500)]
    sample_interval_s: Annotated[SampleInterval, Field(description="Seconds between two readings.")]
    metrics: Annotated[dict[MetricName, Metric], Field(min_length=1, max_length=MAX_METRICS)]


class Contact(Model):
    """Who is called when something is wrong."""

    name: Annotated[str, Field(min_length=1, max_length=100, description="A person, or a desk that is staffed.")]
    email: Annotated[str | None, Field(pattern=EMAIL_PATTERN, max_length=254)] = None
    phone: Annotated[str | None, Field(pattern=PHONE_PATTERN, description="With country code.")] = None


class Line(Model):
    """A production line of a facility: what holds for the things on it."""

    name: Annotated[str | None, Field(min_length=1, max_length=100, description="Name, as people say it.")] = None
    contact: Annotated[Contact | None, Field(description="Who is called; the facility's when left out.")] = None
    attributes: Annotated[dict[str, str], Field(description="AWS IoT attributes of each thing on it.")] = {}


class NamedThing(Model):
    """What is known of one thing that has a name of its own."""

    serial: Annotated[Serial | None, Field(description="Serial number, as on the name plate.")] = None
    line: Annotated[Id | None, Field(description="The production line it is on.")] = None
    attributes: Annotated[dict[str, str], Field(description="AWS IoT attributes of it alone.")] = {}


def _text_of_number(value: Any) -> Any:
    """One number alone is a span too."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _names(value: Any) -> Any:
    """A list of names says nothing else of the things."""
    if not isinstance(value, list):
        return {name: {} if known is None else known for name, known in value.items()} if _is_map(value) else value
    twice = next((name for place, name in enumerate(value) if name in value[:place]), None)
    if twice is not None:
        raise PydanticCustomError("name_twice", "a name stands twice", {"twice": str(twice)})
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
"""What says which things there are: one of these."""


def _group_of_count(value: Any) -> Any:
    """A bare count is a group; names and lists of devices count themselves."""
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

    name: Annotated[str, Field(min_length=1, max_length=100, description="Name, as people say it.")]
    timezone: Annotated[str, Field(description="IANA time zone, such as Asia/Singapore.")]
    registration: Annotated[
        Literal["terraform", "bulk"] | None,
        Field(description="Who registers things; by their count when left out (terraform up to 1,000)."),
    ] = None
    contact: Annotated[Contact | None, Field(description="Who is called when something is wrong.")] = None
    tags: Annotated[dict[str, str], Field(description="Tags of its resources, over those of all.")] = {}
    attributes: Annotated[dict[str, str], Field(description="AWS IoT attributes of each of its things.")] = {}
    lines: Annotated[dict[Id, Line], Field(description="Its production lines.")] = {}
    alarms: Annotated[FacilityAlarms, Field(description="Where its thresholds are others than those of all.")] = (
        FacilityAlarms()
    )
    things: Annotated[
        dict[Id, Annotated[ThingGroup, BeforeValidator(_group_of_count, json_schema_input_type=int | ThingGroup)]],
        Field(min_length=1, description="Things by device type: a count, names, or a list of devices."),
    ]

    @property
    def thing_count(self) -> int:
        """How many things there are in all."""
        return sum(group.count for group in self.things.values())


class Defaults(Model):
    """What holds throughout the company where a plant, a device type or a metric does not say otherwise."""

    timezone: Annotated[str | None, Field(description="Of facilities.")] = None
    registration: Annotated[Literal["terraform", "bulk"] | None, Field(description="Of facilities.")] = None
    contact: Annotated[Contact | None, Field(description="Of facilities.")] = None
    attributes: Annotated[dict[str, str], Field(description="AWS IoT attributes of every thing.")] = {}
    sample_interval_s: Annotated[SampleInterval | None, Field(description="Of device types.")] = None
    detector: Annotated[Detector | None, Field(description="Of metrics.")] = None


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
        Literal["brief", "records"],
        Field(description="brief: days, and all can be destroyed. records: years, locked against deletion."),
    ] = "brief"
    defaults: Annotated[Defaults, Field(description="What holds where nothing else is said.")] = Defaults()
    device_types: Annotated[dict[Id, DeviceType], Field(min_length=1)]
    facilities: Annotated[dict[Id, Facility], Field(min_length=1)]


_MODELS: dict[tuple[str, ...], type[Model]] = {
    (): FleetManifest,
    ("stream",): Stream,
    ("stream", "start_capacity"): StartCapacity,
    ("processor",): Processor,
    ("observability",): Observability,
    ("history",): History,
    ("observability", "alarms"): Alarms,
    ("device_types", "*"): DeviceType,
    ("device_types", "*", "metrics", "*"): Metric,
    ("defaults",): Defaults,
    ("defaults", "contact"): Contact,
    ("facilities", "*"): Facility,
    ("facilities", "*", "alarms"): FacilityAlarms,
    ("facilities", "*", "contact"): Contact,
    ("facilities", "*", "lines", "*"): Line,
    ("facilities", "*", "lines", "*", "contact"): Contact,
    ("facilities", "*", "things", "*", "names", "*"): NamedThing,
    ("facilities", "*", "things", "*"): ThingGroup,
}
"""The model of each part; `*` stands for an id."""


def keys_at(path: DataPath) -> tuple[str, ...]:
    """The keys that may stand in the part at `path`."""
    for pattern, model in _MODELS.items():
        if len(pattern) == len(path) and all(want in ("*", step) for want, step in zip(pattern, path, strict=True)):
            return tuple(model.model_fields)
    return ()
