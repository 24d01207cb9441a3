"""Each term of the estimate is the arithmetic that it says, for 1,000 devices that send every 10 seconds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet_iot.generator.cost.terms import TERMS, Fleet, Term, fleet_of
from fleet_iot.generator.manifest.models import History
from tests.generator.cost.fleets import manifest

MONTH = 730 * 3600
DAYS = 730 / 24
GB = 2**30
FLEET = fleet_of(manifest(1_000))
RECORD = 341 + 188
"""Bytes of a record: its envelope, and a message of 140 bytes in base64."""

MINUTES, ROLLUPS, METADATA = 1000 / 60, 1000 / 3600 + 1000 / 86_400, 1000 / 900
POINTERS = 0.8 * 1.25
ANOMALIES = 1000 * 2 / 30 / 86_400
"""The budget of a month, and as many true ones."""
READS = 0.8 + 4 / 60
KMS = 12 * MONTH / 300 + 150_000
MINUTE, HOUR = 105 + 4 * 79 + 39 + 6 * 13, 105 + 4 * 114 + 39
STATE = 300 + 3 * 1_000 + MINUTE
TABLES = (
    MINUTES * 90 * 86_400 * (MINUTE + 100)
    + (1000 / 3600 * 400 + 1000 / 86_400 * 3650) * 86_400 * (HOUR + 100)
    + ANOMALIES * 2 * 400 * 86_400 * 700
    + 1000 * 400
) / GB
ARCHIVE_A_DAY = 100 * RECORD * 86_400 / GB
STATES_A_SECOND = 0.8 * STATE * (125 + 125 / 13)

TELEMETRY = (
    100  # PutRecord
    + (0.8 + 0.8)  # objects
    + (MINUTES + ROLLUPS + ANOMALIES * 3) / 25  # BatchWriteItem
    + METADATA
    + POINTERS
)
DATA_EVENTS = (TELEMETRY + 4 + (0.8 + 1 / 60) + READS + (0.8 * 3 + 0.8)) * MONTH

UNITS = {
    "iot.connection_minute": 1000 * 43_800,
    "iot.message": 100 * MONTH,
    "iot.rule": 100 * MONTH + 1000 * 2 * DAYS,
    "iot.action": 100 * MONTH + 1000 * 2 * DAYS,
    "iot.audited_device": 0,
    "kinesis.stream_hour": 730,
    "kinesis.ingested_gb": 100 * 1024 * MONTH / GB,
    "kinesis.retrieved_gb": 100 * 1024 * MONTH / GB,
    "kinesis.retained_gb_month": 100 * 1024 * 6 * 86_400 / GB,
    "lambda.request": (4 / 5 + 1 / 60) * MONTH,
    "lambda.gb_second": (0.8 * 0.15 + 100 * 0.0002 + 100 * 0.00002 * 2) * MONTH,
    "xray.trace": 0.8 * MONTH,
    "dynamodb.write_unit": (MINUTES + ROLLUPS + METADATA + POINTERS + ANOMALIES * 3) * MONTH,
    "dynamodb.read_unit": READS * MONTH,
    "dynamodb.gb_month": TABLES,
    "dynamodb.pitr_gb_month": TABLES,
    "s3.put": (0.8 + 0.8) * MONTH + 25 * DAYS + 1000 * 2 * DAYS,
    "s3.get": (0.8 * 3 + 0.8) * MONTH,
    "s3.standard_gb_month": STATES_A_SECOND * 31 * 86_400 / GB
    + ARCHIVE_A_DAY * (0.28 * 10 + 0.12 * (30 + 92))
    + DATA_EVENTS * 150 * 90 / DAYS / GB,
    "s3.tiering_gb_month": ARCHIVE_A_DAY * 0.12 * 60,
    "s3.monitored_object": 60,
    "s3.glacier_gb_month": ARCHIVE_A_DAY * 0.12 * 275,
    "s3.tiering_transition": DAYS,
    "s3.glacier_transition": DAYS,
    "cloudtrail.data_event": DATA_EVENTS,
    "cloudtrail.insight_event": (KMS + 100_000) * 2,
    "cloudwatch.log_gb": (0.8 * (900 + 740) * MONTH + (KMS + 100_000) * 1500) / GB,
    "cloudwatch.log_gb_month": (0.8 * (900 + 740) * MONTH + (KMS + 100_000) * 1500) / GB * 0.15 * 30 / DAYS,
    "cloudwatch.metric": 5 + 3,
    "cloudwatch.alarm_metric": 26 + 5 + 1,
    "cloudwatch.dashboard": 0,
    "kms.key": 3,
    "kms.request": KMS,
    "sns.request": ANOMALIES * 2 * MONTH,
}
"""By hand, from the sizes and rates that docs/cost.md gives."""


@pytest.mark.parametrize("term", TERMS, ids=[term.price for term in TERMS])
def test_term_is_its_arithmetic(term: Term) -> None:
    """The units of a month are those worked out by hand."""
    assert UNITS[term.price] == pytest.approx(term.units(FLEET), rel=1e-6)


def test_each_price_has_one_term() -> None:
    """No price is charged twice, and each has its arithmetic here and its source in the term's docstring."""
    assert sorted(UNITS) == sorted(term.price for term in TERMS)
    assert [] == [term.price for term in TERMS if not term.units.__doc__]


def units(price: str, fleet: Fleet) -> float:
    return next(term.units(fleet) for term in TERMS if term.price == price)


def test_basic_ingest_costs_no_messages() -> None:
    """Rules and actions stay."""
    fleet = replace(FLEET, is_basic_ingest=True)
    assert (0, UNITS["iot.rule"]) == (units("iot.message", fleet), pytest.approx(units("iot.rule", fleet)))


def test_a_message_counts_by_five_kilobytes() -> None:
    """An array of ten readings is one message, one rule, and a record of as many kB as it has."""
    fleet = replace(FLEET, load=replace(FLEET.load, array_s=60))
    assert 100 / 6 * MONTH == pytest.approx(units("iot.message", fleet))
    group = FLEET.load.groups[0]
    kilobytes = -(-group.record_bytes(6) // 1024)
    assert 100 / 6 * kilobytes * 1024 * MONTH / GB == pytest.approx(units("kinesis.ingested_gb", fleet))
    assert 2 == kilobytes


def test_without_telemetry_the_trail_has_what_the_platform_reads() -> None:
    """The writes of telemetry are left out; polls of the stream, invocations and reads stay."""
    fleet = replace(FLEET, data_events="without-telemetry")
    assert DATA_EVENTS - TELEMETRY * MONTH == pytest.approx(units("cloudtrail.data_event", fleet))
    declared = fleet_of(manifest(1, audit={"data_events": "without-telemetry"})).data_events
    assert ("all", "without-telemetry") == (fleet_of(manifest(1)).data_events, declared)


def test_audit_counts_devices_where_it_is_on() -> None:
    """`certificate_audit` of the manifest, with its alarm."""
    fleet = fleet_of(manifest(7, observability={"certificate_audit": True}))
    assert (7, 33) == (units("iot.audited_device", fleet), units("cloudwatch.alarm_metric", fleet))


def test_dashboards_cost_from_the_fourth() -> None:
    """An account's first three are free."""
    assert [0, 0, 1] == [units("cloudwatch.dashboard", fleet_of(manifest(9, plants=n))) for n in (1, 3, 4)]


def test_history_decides_about_storage() -> None:
    """A third of the minutes, a third of their bytes."""
    fleet = replace(FLEET, history=History(minute_days=30))
    saved = MINUTES * 60 * 86_400 * (MINUTE + 100) / GB
    assert TABLES - saved == pytest.approx(units("dynamodb.gb_month", fleet))


def test_records_keep_raw_objects() -> None:
    """Under `retention: records` raw objects stay; large ones are moved to cheaper classes, small ones are not."""
    small = replace(FLEET, retention="records")
    trail = DATA_EVENTS * 150 * (2557 - 90) / DAYS / GB
    assert units("s3.standard_gb_month", small) - units("s3.standard_gb_month", FLEET) == pytest.approx(
        ARCHIVE_A_DAY * 0.28 * 355 + trail
    )
    large = replace(fleet_of(manifest(100_000)), retention="records")
    assert units("s3.glacier_transition", large) == pytest.approx(DAYS + large.load.batches * MONTH)


def test_a_fleet_without_devices_pays_for_the_platform() -> None:
    """The stream, keys, alarms, and the polling of its shards."""
    fleet = fleet_of(manifest(1), without=frozenset({"pl-000"}))
    counted = {term.price for term in TERMS if term.units(fleet)}
    assert {"kinesis.stream_hour", "kms.key", "kms.request", "cloudwatch.alarm_metric"} < counted
    assert not counted & {"dynamodb.write_unit", "iot.rule", "s3.put", "sns.request"}
