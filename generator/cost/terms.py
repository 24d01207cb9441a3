"""The terms of the estimate: each a small pure function from a fleet to units a month, with its source.

Free tiers of an account are not subtracted, except for its first dashboards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from fleet_iot.generator.manifest import rates
from fleet_iot.generator.manifest.models import FleetManifest, History
from fleet_iot.generator.manifest.rates import DAY_S, HOUR_S, Load, expected_load

MONTH_S = 730 * HOUR_S
"""A month of AWS's own calculators."""
MONTH_DAYS = MONTH_S / DAY_S
GB = 1024**3

DataEvents = Literal["all", "without-telemetry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Properties of a fleet that decide its bill.

    Args:
        pairs: Pairs of a plant and a device type.
        is_basic_ingest: Devices publish through Basic Ingest.
        is_audited: AWS IoT Device Defender audits the certificates.
    """

    load: Load
    plants: int
    pairs: int
    history: History = field(default_factory=History)
    retention: str = "short"
    data_events: DataEvents = "all"
    is_basic_ingest: bool = False
    is_audited: bool = False


def fleet_of(manifest: FleetManifest, *, is_basic_ingest: bool = False, without: frozenset[str] = frozenset()) -> Fleet:
    """Return what a manifest says about the bill.

    Args:
        without: Ids of plants that are left out.
    """
    chosen = [id_ for id_ in manifest.facilities if id_ not in without]
    return Fleet(
        load=expected_load(manifest, chosen),
        plants=len(chosen),
        pairs=sum(len(manifest.facilities[id_].things) for id_ in chosen),
        history=manifest.history,
        retention=manifest.retention,
        data_events=manifest.audit.data_events,
        is_basic_ingest=is_basic_ingest,
        is_audited=manifest.observability.certificate_audit,
    )


# AWS IoT Core.


def connection_minutes(fleet: Fleet) -> float:
    """Devices are connected all the time: https://aws.amazon.com/iot-core/pricing/"""
    return fleet.load.devices * MONTH_S / 60


def messages(fleet: Fleet) -> float:
    """By 5 kB of payload and topic; none through Basic Ingest:
    https://docs.aws.amazon.com/iot/latest/developerguide/iot-basic-ingest.html"""
    return 0.0 if fleet.is_basic_ingest else fleet.load.message_parts * MONTH_S


def presence_events(fleet: Fleet) -> float:
    """A device connects and disconnects once a day:
    https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html"""
    return fleet.load.reconnects * 2 * MONTH_S


def rules(fleet: Fleet) -> float:
    """One rule for each message, by 5 kB, and for each presence event: https://aws.amazon.com/iot-core/pricing/"""
    return fleet.load.message_parts * MONTH_S + presence_events(fleet)


def actions(fleet: Fleet) -> float:
    """Each rule has one action, metered as the rule is: https://aws.amazon.com/iot-core/pricing/"""
    return rules(fleet)


def audited_devices(fleet: Fleet) -> float:
    """The daily audit of certificates, where the manifest asks for it: https://aws.amazon.com/iot-device-defender/pricing/"""
    return float(fleet.load.devices) if fleet.is_audited else 0.0


# Kinesis, on demand: https://aws.amazon.com/kinesis/data-streams/pricing/


def stream_hours(fleet: Fleet) -> float:
    """One stream, whether or not anything is sent."""
    return MONTH_S / HOUR_S


def ingested_gb(fleet: Fleet) -> float:
    """Each record up to the next kB."""
    return fleet.load.metered_bytes * MONTH_S / GB


def retrieved_gb(fleet: Fleet) -> float:
    """Everything is read once, by the function's poller."""
    return ingested_gb(fleet)


def retained_gb_months(fleet: Fleet) -> float:
    """Records that are kept beyond the first day, which is free."""
    return fleet.load.metered_bytes * (rates.STREAM_HOURS - 24) * HOUR_S / GB


# Lambda and X-Ray: https://aws.amazon.com/lambda/pricing/

BATCH_CPU_S, RECORD_CPU_S = 0.15, 0.0002
"""Seconds of a batch: calls of S3 and DynamoDB one after the other, and each of its records at 0.6 of a processor."""
COMPACTION_CPU_S, COMPACTION_GB = 0.00002, 2.0
"""Seconds of a record in the archive's compaction, and its memory."""
SAMPLED_A_SECOND, SAMPLED_SHARE = 1.0, 0.05
"""X-Ray samples the first request of each second, and a twentieth of the others:
https://docs.aws.amazon.com/xray/latest/devguide/xray-console-sampling.html"""


def invocations(fleet: Fleet) -> float:
    """One for each batch, and the sweeps."""
    return (fleet.load.batches + fleet.load.sweeps) * MONTH_S


def gb_seconds(fleet: Fleet) -> float:
    """Of the processor, and of the archive's compaction."""
    load = fleet.load
    batches = (load.batches * BATCH_CPU_S + load.messages * RECORD_CPU_S) * load.memory_gb
    return (batches + load.messages * COMPACTION_CPU_S * COMPACTION_GB) * MONTH_S


def traces(fleet: Fleet) -> float:
    """Traces of the function: https://aws.amazon.com/xray/pricing/"""
    rate = fleet.load.batches
    return (min(rate, SAMPLED_A_SECOND) + SAMPLED_SHARE * max(0.0, rate - SAMPLED_A_SECOND)) * MONTH_S


# DynamoDB, on demand: https://aws.amazon.com/dynamodb/pricing/on-demand/

ITEM_OVERHEAD = 100
"""Bytes that storage bills in addition to each item: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html"""
EVENT_BYTES = 600
"""The item of an anomaly."""
METADATA_BYTES = 300
"""The item of a device."""


def write_units(fleet: Fleet) -> float:
    """Minutes, hours, days, metadata, lanes and anomalies, by the kB of each item."""
    return (fleet.load.writes + fleet.load.events * rates.WRITES_AN_EVENT) * MONTH_S


def read_units(fleet: Fleet) -> float:
    """The lane of each commit; what people query is not counted."""
    return fleet.load.reads * MONTH_S


def table_gb(fleet: Fleet) -> float:
    """Minutes, hours, days and anomalies once as many are deleted as are added, and the devices."""
    kept, total = fleet.history, 0.0
    for group in fleet.load.groups:
        hours = group.devices / max(HOUR_S, group.interval_s) * kept.hour_days
        days = group.devices / max(DAY_S, group.interval_s) * kept.day_days
        total += group.minutes * kept.minute_days * DAY_S * (group.minute_bytes + ITEM_OVERHEAD)
        total += (hours + days) * DAY_S * (group.hour_bytes + ITEM_OVERHEAD)
    total += fleet.load.events * rates.NOTICES_AN_EVENT * kept.anomaly_days * DAY_S * (EVENT_BYTES + ITEM_OVERHEAD)
    return (total + fleet.load.devices * (METADATA_BYTES + ITEM_OVERHEAD)) / GB


def pitr_gb(fleet: Fleet) -> float:
    """Point-in-time recovery, by the size of the tables."""
    return table_gb(fleet)


# S3: https://aws.amazon.com/s3/pricing/

RAW_SHARE, PARQUET_SHARE = 0.28, 0.12
"""Bytes of a record in the raw archive, compressed, and in its compacted form, as shares of the record's size."""
OBJECTS_A_PAIR_DAY = 25
"""Compacted objects of a plant and device type: one an hour, and one for the day."""
RAW_DAYS = 10
"""Days that raw objects stay under `retention: short`: until they are compacted and the result is verified, and a week
as deleted ones."""
HOURLY_DAYS = 92
"""Days of the hourly Parquet objects: two, and ninety as deleted ones."""
STANDARD_DAYS, TIERING_DAYS, YEAR_DAYS = 30, 60, 365
"""Days of an object in S3 Standard, then in Intelligent-Tiering, then in Glacier; the archive is a year old."""
COOLED_BYTES = 128 * 1024
"""Smaller objects stay in S3 Standard."""


def archive_gb_a_day(fleet: Fleet, share: float) -> float:
    """Return what the archive grows by in a day."""
    return fleet.load.megabytes * rates.BYTES_PER_MEGABYTE * share * DAY_S / GB


def are_raw_objects_cooled(fleet: Fleet) -> bool:
    """Return whether raw objects stay, and are large enough to be moved to cheaper classes."""
    load = fleet.load
    size = load.megabytes * rates.BYTES_PER_MEGABYTE * RAW_SHARE / load.batches if load.batches else 0.0
    return fleet.retention == "records" and size >= COOLED_BYTES


def processor_puts(fleet: Fleet) -> float:
    """Return the processor's: a raw object a batch, and the states of its lanes."""
    return (fleet.load.batches + fleet.load.state_puts) * MONTH_S


def processor_gets(fleet: Fleet) -> float:
    """Return the processor's: states that an environment has not seen."""
    return fleet.load.state_gets * MONTH_S


def puts(fleet: Fleet) -> float:
    """A raw object a batch, the states of its lanes, compacted objects, and presence events."""
    compacted = fleet.pairs * OBJECTS_A_PAIR_DAY * MONTH_DAYS
    return processor_puts(fleet) + compacted + presence_events(fleet)


def gets(fleet: Fleet) -> float:
    """States that an environment has not seen, and each raw object once, by the compaction."""
    return processor_gets(fleet) + fleet.load.batches * MONTH_S


def standard_gb(fleet: Fleet) -> float:
    """States, raw objects, the archive's first thirty days, and the trail's files of data events."""
    states = fleet.load.state_megabytes * rates.BYTES_PER_MEGABYTE * rates.STATE_DAYS * DAY_S / GB
    kept = STANDARD_DAYS if are_raw_objects_cooled(fleet) else YEAR_DAYS
    days = kept if fleet.retention == "records" else RAW_DAYS
    archive = archive_gb_a_day(fleet, RAW_SHARE) * days + archive_gb_a_day(fleet, PARQUET_SHARE) * (
        STANDARD_DAYS + HOURLY_DAYS
    )
    trail = recorded_data_events(fleet) * DATA_EVENT_BYTES * TRAIL_DAYS[fleet.retention] / MONTH_DAYS / GB
    return states + archive + trail


def tiering_gb(fleet: Fleet) -> float:
    """The archive's next sixty days."""
    share = PARQUET_SHARE + (RAW_SHARE if are_raw_objects_cooled(fleet) else 0)
    return archive_gb_a_day(fleet, share) * TIERING_DAYS


def glacier_gb(fleet: Fleet) -> float:
    """The rest of a year's archive."""
    share = PARQUET_SHARE + (RAW_SHARE if are_raw_objects_cooled(fleet) else 0)
    return archive_gb_a_day(fleet, share) * (YEAR_DAYS - STANDARD_DAYS - TIERING_DAYS)


def moved_objects(fleet: Fleet) -> float:
    """Objects that are moved to a cheaper class: a day's of each plant and type, and raw ones that stay."""
    raw = fleet.load.batches * MONTH_S if are_raw_objects_cooled(fleet) else 0.0
    return fleet.pairs * MONTH_DAYS + raw


def monitored_objects(fleet: Fleet) -> float:
    """Objects in Intelligent-Tiering, each month."""
    return moved_objects(fleet) * TIERING_DAYS / MONTH_DAYS


# CloudTrail: https://aws.amazon.com/cloudtrail/pricing/

DATA_EVENT_BYTES = 150
"""An event in the trail's files, compressed."""
TRAIL_DAYS = {"short": 90, "records": 2557}
BATCH_WRITE_ITEMS = 25
"""Items of one BatchWriteItem."""
POLLS_A_SHARD = 1.0
"""GetRecords a second: https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html"""
OWN_EVENTS_A_MONTH = 100_000
"""Management events of people and of AWS's services in a quiet account, in addition to those of KMS."""
INSIGHTS = 2
"""Analyses of an event: of the rate of calls, and of the rate of errors."""


def recorded_data_events(fleet: Fleet) -> float:
    """Calls on stream, function, tables and buckets; `without-telemetry` leaves out what the platform itself writes."""
    load = fleet.load
    emitted = (load.minute_writes + load.rollup_writes + load.events * rates.WRITES_AN_EVENT) / BATCH_WRITE_ITEMS
    writes = load.messages + load.batches + load.state_puts + emitted + load.metadata_writes + load.pointer_writes
    others = load.shards * POLLS_A_SHARD + invocations(fleet) / MONTH_S + load.reads + gets(fleet) / MONTH_S
    return (others + (writes if fleet.data_events == "all" else 0)) * MONTH_S


def insight_events(fleet: Fleet) -> float:
    """Management events, of which the first copy is free, each analysed twice."""
    return (kms_requests(fleet) + OWN_EVENTS_A_MONTH) * INSIGHTS


# CloudWatch: https://aws.amazon.com/cloudwatch/pricing/

BATCH_LINE_BYTES, METRIC_LINE_BYTES = 900, 740
"""Lines of Lambda and of the processor for each batch, and for each plant and device type in it."""
MANAGEMENT_EVENT_BYTES = 1_500
LOG_STORED_SHARE = 0.15
"""Stored logs are compressed: https://aws.amazon.com/cloudwatch/pricing/"""
LOG_DAYS = {"short": 30, "records": 400}
PAIR_METRICS, PLANT_METRICS = 5, 3
"""Metrics of the processor for a device type of a plant, and for a plant."""
PLATFORM_ALARM_METRICS, PLANT_ALARM_METRICS, PAIR_ALARM_METRICS, AUDIT_ALARM_METRICS = 26, 5, 1, 1
"""Metrics that alarms watch: an expression has several."""
FREE_DASHBOARDS = 3
"""An account's first dashboards cost nothing."""


def log_gb(fleet: Fleet) -> float:
    """The function's lines, and the trail's management events."""
    load = fleet.load
    seen = fleet.pairs * (1 - (1 - 1 / fleet.pairs) ** load.records_a_batch) if fleet.pairs else 0.0
    function = load.batches * (BATCH_LINE_BYTES + seen * METRIC_LINE_BYTES) * MONTH_S
    return (function + (kms_requests(fleet) + OWN_EVENTS_A_MONTH) * MANAGEMENT_EVENT_BYTES) / GB


def stored_log_gb(fleet: Fleet) -> float:
    """Logs that are kept, compressed."""
    return log_gb(fleet) * LOG_STORED_SHARE * LOG_DAYS[fleet.retention] / MONTH_DAYS


def metrics(fleet: Fleet) -> float:
    """Metrics of the processor."""
    return float(fleet.pairs * PAIR_METRICS + fleet.plants * PLANT_METRICS)


def alarm_metrics(fleet: Fleet) -> float:
    """Alarms of the platform, the trail, plants and device types."""
    audit = AUDIT_ALARM_METRICS if fleet.is_audited else 0
    plants = fleet.plants * PLANT_ALARM_METRICS + fleet.pairs * PAIR_ALARM_METRICS
    return float(PLATFORM_ALARM_METRICS + audit + plants)


def dashboards(fleet: Fleet) -> float:
    """One a plant, from the account's fourth on."""
    return float(max(0, fleet.plants - FREE_DASHBOARDS))


# KMS and SNS.

KEYS = 3
"""Keys for data, logs and audit. A key costs as much again after its first rotation, and after its second."""
CACHED_PLACES, CACHE_S = 12, 300
"""Places where a service caches a data key for five minutes: stream (write and read), tables, buckets, queue, topics,
function: https://docs.aws.amazon.com/streams/latest/dev/creating-using-sse-master-keys.html"""
TRAIL_FILES_A_MONTH = 150_000
"""Files of the trail of all regions, each under a data key of its own."""


def keys(fleet: Fleet) -> float:
    """Customer-managed keys: https://aws.amazon.com/kms/pricing/"""
    return float(KEYS)


def kms_requests(fleet: Fleet) -> float:
    """Data keys that expire in caches, and the trail's files: https://aws.amazon.com/kms/pricing/"""
    return CACHED_PLACES * MONTH_S / CACHE_S + TRAIL_FILES_A_MONTH


def notifications(fleet: Fleet) -> float:
    """Publications of anomalies; deliveries depend on the subscribers: https://aws.amazon.com/sns/pricing/"""
    return fleet.load.events * rates.NOTICES_AN_EVENT * MONTH_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One line of the estimate: what is counted, in which unit, at which price."""

    service: str
    what: str
    unit: str
    price: str
    units: Callable[[Fleet], float]


def _term(service: str, what: str, unit: str, price: str, units: Callable[[Fleet], float]) -> Term:
    return Term(service=service, what=what, unit=unit, price=price, units=units)


TERMS = (
    _term("AWS IoT Core", "connectivity", "minutes", "iot.connection_minute", connection_minutes),
    _term("AWS IoT Core", "messages", "of 5 kB", "iot.message", messages),
    _term("AWS IoT Core", "rules", "of 5 kB", "iot.rule", rules),
    _term("AWS IoT Core", "actions", "of 5 kB", "iot.action", actions),
    _term("AWS IoT Core", "audit of certificates", "devices", "iot.audited_device", audited_devices),
    _term("Kinesis", "stream", "hours", "kinesis.stream_hour", stream_hours),
    _term("Kinesis", "ingested", "GB", "kinesis.ingested_gb", ingested_gb),
    _term("Kinesis", "retrieved", "GB", "kinesis.retrieved_gb", retrieved_gb),
    _term("Kinesis", "kept for a week", "GB-months", "kinesis.retained_gb_month", retained_gb_months),
    _term("Lambda", "invocations", "requests", "lambda.request", invocations),
    _term("Lambda", "duration", "GB-s", "lambda.gb_second", gb_seconds),
    _term("Lambda", "traces of X-Ray", "traces", "xray.trace", traces),
    _term("DynamoDB", "writes", "units", "dynamodb.write_unit", write_units),
    _term("DynamoDB", "reads", "units", "dynamodb.read_unit", read_units),
    _term("DynamoDB", "storage", "GB-months", "dynamodb.gb_month", table_gb),
    _term("DynamoDB", "point-in-time recovery", "GB-months", "dynamodb.pitr_gb_month", pitr_gb),
    _term("S3", "puts", "requests", "s3.put", puts),
    _term("S3", "gets", "requests", "s3.get", gets),
    _term("S3", "Standard", "GB-months", "s3.standard_gb_month", standard_gb),
    _term("S3", "Intelligent-Tiering", "GB-months", "s3.tiering_gb_month", tiering_gb),
    _term("S3", "Intelligent-Tiering, monitoring", "objects", "s3.monitored_object", monitored_objects),
    _term("S3", "Glacier", "GB-months", "s3.glacier_gb_month", glacier_gb),
    _term("S3", "transitions to Intelligent-Tiering", "objects", "s3.tiering_transition", moved_objects),
    _term("S3", "transitions to Glacier", "objects", "s3.glacier_transition", moved_objects),
    _term("CloudTrail", "data events", "events", "cloudtrail.data_event", recorded_data_events),
    _term("CloudTrail", "Insights", "analyses", "cloudtrail.insight_event", insight_events),
    _term("CloudWatch", "logs", "GB", "cloudwatch.log_gb", log_gb),
    _term("CloudWatch", "stored logs", "GB-months", "cloudwatch.log_gb_month", stored_log_gb),
    _term("CloudWatch", "metrics", "metrics", "cloudwatch.metric", metrics),
    _term("CloudWatch", "alarms", "metrics", "cloudwatch.alarm_metric", alarm_metrics),
    _term("CloudWatch", "dashboards", "from the fourth", "cloudwatch.dashboard", dashboards),
    _term("KMS", "keys", "keys", "kms.key", keys),
    _term("KMS", "requests", "requests", "kms.request", kms_requests),
    _term("SNS", "notifications", "requests", "sns.request", notifications),
)
"""Every line, in the order of the message's way."""
