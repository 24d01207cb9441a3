"""What the manifest says of the shared platform: stream, processor, and what is watched from which threshold on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from fleet_iot.generator.manifest.models_base import Model

LogLevel = Literal["ERROR", "WARN", "INFO", "DEBUG"]
Percent = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Events = Annotated[int, Field(ge=1, le=1_000_000)]
IteratorAge = Annotated[int, Field(ge=60, le=604_800)]
Intervals = Annotated[int, Field(ge=2, le=100_000)]


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


Days = Annotated[int, Field(ge=16, le=36_500)]
"""A message may come as much as 15 days after its time, and changes what the table then has to hold still."""


class History(Model):
    """How long the readings table keeps each level of what was measured; the archive has every message."""

    minute_days: Annotated[Days, Field(description="Days that numbers by the minute are kept.")] = 90
    hour_days: Annotated[Days, Field(description="Days that numbers by the hour are kept.")] = 400
    day_days: Annotated[Days, Field(description="Days that numbers by the day are kept.")] = 3650
    anomaly_days: Annotated[Days, Field(description="Days that anomalies are kept.")] = 400


class Alarms(Model):
    """From which value on each alarm is raised; the last four watch one facility each."""

    iterator_age_s: Annotated[
        IteratorAge, Field(description="Seconds that the processor lies behind the stream, for five minutes.")
    ] = 300
    error_rate_percent: Annotated[
        Percent, Field(description="Invocations of the processor that fail, in five minutes.")
    ] = 1
    throttles: Annotated[Events, Field(description="Invocations or records that AWS turned away, in five minutes.")] = 1
    failures_queue_depth: Annotated[
        Events, Field(description="Messages in the queue of what the processor gave up.")
    ] = 1
    certificate_expiry_days: Annotated[
        int,
        Field(ge=1, le=3650, description="Days that a certificate has left, where certificate_audit looks at them."),
    ] = 30
    quarantine_percent: Annotated[Percent, Field(description="Messages that cannot be read, in five minutes.")] = 5
    rule_failures: Annotated[
        Events, Field(description="Messages that the topic rule could not hand on, in five minutes.")
    ] = 1
    device_silence_intervals: Annotated[
        Intervals, Field(description="Sample intervals without any reading of a device type.")
    ] = 5
    anomalies_per_hour: Annotated[Events, Field(description="Anomalies in an hour.")] = 20


class FacilityAlarms(Model):
    """What one facility has other thresholds for."""

    quarantine_percent: Annotated[Percent | None, Field(description="Messages that cannot be read.")] = None
    rule_failures: Annotated[Events | None, Field(description="Messages that its rule could not hand on.")] = None
    device_silence_intervals: Annotated[
        Intervals | None, Field(description="Sample intervals without any reading of a device type.")
    ] = None
    anomalies_per_hour: Annotated[Events | None, Field(description="Anomalies in an hour.")] = None


def _off(value: Any) -> Any:
    """`false` says in so many words what leaving it out says."""
    return None if value is False else value


class Observability(Model):
    """What is logged, archived and watched beside the readings."""

    iot_logging: Annotated[
        LogLevel | None,
        BeforeValidator(_off, json_schema_input_type=Literal[False] | LogLevel),
        Field(description="Level of AWS IoT's own log, for the whole account; left alone when false or left out."),
    ] = None
    registry_events: Annotated[
        bool, Field(description="AWS IoT tells changes of its registry, for the whole account, to be archived.")
    ] = True
    certificate_audit: Annotated[
        bool, Field(description="AWS IoT Device Defender looks at the certificates of the whole account, daily.")
    ] = False
    alarms: Alarms = Alarms()
