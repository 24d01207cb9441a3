"""The manifest's shape as frozen pydantic models: what may stand in `fleet.yaml`, and of which type."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from generator.naming import ID_PATTERN, SUFFIX_PATTERN
from generator.regions import REGIONS
from generator.sources import DataPath

METRIC_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
ACCOUNT_PATTERN = r"^[0-9]{12}$"

Id = Annotated[str, Field(pattern=ID_PATTERN)]
Suffix = Annotated[str, Field(pattern=SUFFIX_PATTERN)]
MetricName = Annotated[str, Field(pattern=METRIC_PATTERN)]
AccountId = Annotated[str, Field(pattern=ACCOUNT_PATTERN)]
Limit = Annotated[float, Field(allow_inf_nan=False)]


class Model(BaseModel):
    """What all parts of the manifest share: nothing unknown, nothing coerced, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StartCapacity(Model):
    """What the on-demand stream takes from its first minute, before it has grown."""

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


class Metric(Model):
    """One quantity that a device type measures, and its static limits."""

    unit: Annotated[str, Field(min_length=1, max_length=32, description="Unit, as operators write it.")]
    min: Annotated[Limit | None, Field(description="Readings below are anomalies.")] = None
    max: Annotated[Limit | None, Field(description="Readings above are anomalies.")] = None
    detector: Annotated[
        Literal["limits", "context"],
        Field(description="limits: the static limits alone. context: an adaptive detector besides."),
    ] = "context"


class DeviceType(Model):
    """A kind of device; becomes an AWS IoT thing type."""

    description: Annotated[str, Field(min_length=1, max_length=500)]
    sample_interval_s: Annotated[
        float, Field(ge=0.01, le=86400, allow_inf_nan=False, description="Seconds between two readings.")
    ]
    metrics: Annotated[dict[MetricName, Metric], Field(min_length=1)]


class ThingGroup(Model):
    """The things of one device type in one facility."""

    count: Annotated[int, Field(ge=1, le=1_000_000, description="How many things there are.")]
    attributes: Annotated[dict[str, str], Field(description="AWS IoT attributes of each of them.")] = {}


def _group_of_count(value: Any) -> Any:
    return {"count": value} if not isinstance(value, dict) else value


class Facility(Model):
    """One plant."""

    name: Annotated[str, Field(min_length=1, max_length=100, description="Name, as people say it.")]
    timezone: Annotated[str, Field(description="IANA time zone, such as Asia/Singapore.")]
    registration: Annotated[
        Literal["terraform", "bulk"] | None,
        Field(description="Who registers things; by their count when left out (terraform up to 1,000)."),
    ] = None
    things: Annotated[
        dict[Id, Annotated[ThingGroup, BeforeValidator(_group_of_count, json_schema_input_type=int | ThingGroup)]],
        Field(min_length=1, description="Things by device type: a count, or a count with attributes."),
    ]

    @property
    def thing_count(self) -> int:
        """How many things there are in all."""
        return sum(group.count for group in self.things.values())


class FleetManifest(Model):
    """The whole fleet."""

    version: Annotated[Literal[1], Field(description="Version of the manifest's format.")]
    application: Annotated[Id, Field(description="Root of the MQTT topics, and part of the bucket names.")]
    environment_suffix: Annotated[Suffix, Field(description="Last part of every resource name.")]
    region: Annotated[str, Field(description="AWS region.", json_schema_extra={"enum": list(REGIONS)})]
    account_id: Annotated[AccountId | None, Field(description="AWS account, twelve digits in quotes.")] = None
    tags: Annotated[dict[str, str], Field(max_length=50, description="Tags of every resource.")] = {}
    stream: Stream = Stream()
    processor: Processor = Processor()
    device_types: Annotated[dict[Id, DeviceType], Field(min_length=1)]
    facilities: Annotated[dict[Id, Facility], Field(min_length=1)]


_MODELS: dict[tuple[str, ...], type[Model]] = {
    (): FleetManifest,
    ("stream",): Stream,
    ("stream", "start_capacity"): StartCapacity,
    ("processor",): Processor,
    ("device_types", "*"): DeviceType,
    ("device_types", "*", "metrics", "*"): Metric,
    ("facilities", "*"): Facility,
    ("facilities", "*", "things", "*"): ThingGroup,
}
"""The model of each part; `*` stands for an id."""


def keys_at(path: DataPath) -> tuple[str, ...]:
    """The keys that may stand in the part at `path`."""
    for pattern, model in _MODELS.items():
        if len(pattern) == len(path) and all(want in ("*", step) for want, step in zip(pattern, path, strict=True)):
            return tuple(model.model_fields)
    return ()
