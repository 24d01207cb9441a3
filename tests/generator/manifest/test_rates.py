"""The load that follows from a manifest: batches, commits and units of the processor."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from math import exp, lgamma, log
from typing import Any

import pytest

from fleet_iot.generator.cost import terms
from fleet_iot.generator.cost.measured import PER_READING, TOO_SHORT, Run, compare, units_a_reading, units_of_run
from fleet_iot.generator.manifest import rates
from fleet_iot.generator.manifest.models import facility_alarms
from fleet_iot.generator.manifest.rates import expected_load
from fleet_iot.lib.shared.context import RETENTIONS
from fleet_iot.sensor_processor.ingest.log import FACILITY_METRICS, METRICS, metric_line
from tests.generator.cost.fleets import manifest
from tests.places import PROJECT

LANE_LOG = {1: (0.038, 0.001, 1.7), 10: (0.213, 0.008, 17), 60: (1.28, 0.05, 100)}
"""Write units and read units a reading, and puts a thousand, at 1,000 devices, four shards and windows of 5 s, with
metadata every five minutes: docs/scale.md."""

BARS = {1: (0.06, 0.01), 10: (0.3, 0.03), 60: (1.5, 0.2)}
"""The most that a reading may cost: write units, read units."""


@pytest.mark.parametrize(
    ("devices", "more", "expected"),
    [
        (1, {}, 5),
        (139, {}, 5),
        (10_000, {}, 31),
        (1_000_000, {}, 1_530),
        (139, {"detector": "context"}, 20),
        (139, {"detector": "limits"}, 5),
        (10_000, {"observability": {"alarms": {"anomalies_per_hour": 7}}}, 7),
    ],
)
def test_the_alarm_of_anomalies_follows_from_the_budgets(devices: int, more: dict[str, Any], expected: int) -> None:
    """A plant that keeps its budgets raises it less than once a year; a number in the manifest is taken as it is."""
    fleet = manifest(devices, **more)
    found = facility_alarms(fleet, fleet.facilities["pl-000"]).anomalies_per_hour
    assert expected == found
    mean = devices / 720
    tail = 1 - sum(exp(n * log(mean) - mean - lgamma(n + 1)) for n in range(found))
    assert tail < 1 / 8_766 or more


@pytest.mark.parametrize(("interval", "expected"), LANE_LOG.items())
def test_units_are_those_of_the_lane_log(
    monkeypatch: pytest.MonkeyPatch, interval: int, expected: tuple[float, float, float]
) -> None:
    """As worked out by hand before it was built; a whole state now replaces a delta, and is no further object."""
    monkeypatch.setattr(rates, "METADATA_S", 300)
    units = units_a_reading(expected_load(manifest(1_000, interval=interval)))
    found = (units["write_units"], units["read_units"], units["s3_puts"] * 1_000)
    assert expected == (
        pytest.approx(found[0], rel=0.05),
        pytest.approx(found[1], abs=0.003),
        pytest.approx(found[2], rel=0.07),
    )


@pytest.mark.parametrize(("interval", "bars"), BARS.items())
def test_a_reading_costs_no_more_than_its_bar(interval: int, bars: tuple[float, float]) -> None:
    """As `python -m benchmarks units` measures it."""
    units = units_a_reading(expected_load(manifest(1_000, interval=interval)))
    assert PER_READING == tuple(units)
    assert units["write_units"] <= bars[0] and units["read_units"] <= bars[1]


def test_larger_fleets_put_fewer_objects_a_reading() -> None:
    """20 a thousand readings at 1,000 devices, 3 at 100,000."""
    puts = [units_a_reading(expected_load(manifest(devices)))["s3_puts"] * 1_000 for devices in (1_000, 100_000)]
    assert puts[0] <= 20 and puts[1] <= 3


@pytest.mark.parametrize(
    ("devices", "interval", "shards", "lanes", "records"),
    [(1, 86_400, 4, 4, 1), (1_000, 10, 4, 4, 125), (20_001, 10, 5, 8, 2_000), (100_000, 10, 20, 32, 2_000)],
)
def test_shards_lanes_and_batches_follow_from_the_load(
    devices: int, interval: float, shards: int, lanes: int, records: float
) -> None:
    """Shards have room for twice the load; a batch has one window's records, or as many as fit."""
    load = expected_load(manifest(devices, interval=interval))
    assert (shards, lanes, pytest.approx(records)) == (load.shards, load.lanes, load.records_a_batch)
    assert load.batches <= load.commits <= load.batches * lanes / shards + 1e-9


def test_large_records_fill_a_batch_by_their_bytes() -> None:
    """An invocation takes 6 MB: fewer than 2,000 records of ten readings each."""
    one, ten = (expected_load(manifest(1_000_000)), expected_load(manifest(1_000_000)))
    ten = rates.Load(groups=ten.groups, array_s=100)
    assert (rates.BATCH_RECORDS, True) == (one.most_records, ten.most_records < rates.BATCH_RECORDS)
    size = ten.groups[0].record_bytes(10) * 4 / 3 + rates.EVENT_OVERHEAD
    assert rates.EVENT_BYTES == pytest.approx(ten.most_records * size)


def constant(path: str, name: str) -> object:
    """The value of a module's constant, without importing what the module imports."""
    for node in ast.parse((PROJECT / path).read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and name in [ast.unparse(each).strip("()") for each in node.targets]:
            return eval(compile(ast.Expression(node.value), path, "eval"))  # noqa: S307 - our own file
    raise AssertionError(f"{path} has no {name}")


@pytest.mark.parametrize(
    ("expected", "path", "name"),
    [
        (rates.BATCH_RECORDS, "lib/constructs/sensor_processor.py", "BATCH_SIZE"),
        (rates.MEMORIES_MB, "lib/constructs/sensor_processor.py", "MEMORIES_MB"),
        (rates.OTHER_MB, "lib/constructs/sensor_processor.py", "OTHER_MB"),
        (rates.PACKED_BYTES, "lib/constructs/sensor_processor.py", "STATE_BYTES"),
        (rates.LEAST_LANES, "lib/constructs/sensor_processor.py", "LEAST_LANES"),
        (
            (rates.LANE_READINGS, rates.LANE_DEVICES),
            "lib/constructs/sensor_processor.py",
            "LANE_READINGS, LANE_DEVICES",
        ),
        (rates.RECENT_MINUTES, "lambda/sensor_processor/planning/device_state.py", "RECENT"),
        (rates.STREAM_HOURS, "lib/constructs/telemetry_stream.py", "RETENTION_HOURS"),
        (terms.COOLED_BYTES, "lib/shared/context.py", "COOLED_FROM_BYTES"),
        (terms.STANDARD_DAYS, "lib/constructs/storage.py", "INTELLIGENT_TIERING_AFTER_DAYS"),
        (terms.STANDARD_DAYS + terms.TIERING_DAYS, "lib/shared/context.py", "GLACIER_AFTER_DAYS"),
    ],
)
def test_constants_are_those_of_the_platform(expected: float, path: str, name: str) -> None:
    """What the estimate assumes is what is deployed."""
    assert expected == constant(path, name)


def test_metrics_and_logs_are_those_of_the_processor() -> None:
    """Their number, the size of a line that has them, and how long logs are kept."""
    assert (terms.PAIR_METRICS, terms.PLANT_METRICS) == (len(METRICS), len(FACILITY_METRICS))
    line = metric_line(
        dict.fromkeys(METRICS, 10),
        namespace="Fleet/dev",
        facility="sg-01",
        device_type="press-monitor",
        timestamp=10**12,
    )
    assert len(json.dumps(line, separators=(",", ":"))) == pytest.approx(terms.METRIC_LINE_BYTES, rel=0.1)
    assert terms.LOG_DAYS == {name: each.operational_log_days for name, each in RETENTIONS.items()}
    assert terms.TRAIL_DAYS == {name: each.trail_days for name, each in RETENTIONS.items()}


HOUR_MS = 3_600_000


def test_a_run_has_the_minutes_and_hours_that_its_clocks_pass() -> None:
    """61 readings 10 s apart that end 10 s after an hour are in 11 minutes, one of which is the next hour's."""
    run = Run(load=expected_load(manifest(100)), samples=61, ends_ms=500_000 * HOUR_MS + 10_000, wall_s=90, batches=5)
    (group,) = run.load.groups
    assert (11, 2) == (run.periods(group, 60), run.periods(group, 3_600))
    slow = replace(group, interval_s=300)
    assert (61, 6) == (run.periods(slow, 60), run.periods(slow, 3_600))
    commits = 5 * 4 * 2 + 4 * 2  # of batches that all end minutes, and of the last sweep; each is acknowledged
    found = units_of_run(run)
    assert 100 * (11 + 1 + 1 + 90 / 900) + commits == pytest.approx(found["write_units"])
    assert (5 * 4 + 4 + 100, 5 + 5 * 4 + 4, 0) == (found["read_units"], found["s3_puts"], found["s3_gets"])


def test_a_run_has_the_messages_that_it_sends() -> None:
    """Repeats and poison are messages too; through Basic Ingest they are rules and actions only."""
    load = expected_load(manifest(100))
    found = units_of_run(
        Run(load=load, samples=60, ends_ms=HOUR_MS, wall_s=60, batches=5, repeats=0.05, poison=0.05, basic_ingest=0.5)
    )
    assert 6_600 * 0.5 == pytest.approx(found["messages"])
    assert 6_600 + 200 == pytest.approx(found["rules"]) == pytest.approx(found["actions"])
    assert 6_600 * 1024 == pytest.approx(found["ingested_bytes"]) == pytest.approx(found["retrieved_bytes"])


def test_redelivered_records_cost_reads_and_raw_objects_only() -> None:
    """They are archived and looked up again, and change nothing."""
    run = Run(load=expected_load(manifest(100)), samples=60, ends_ms=HOUR_MS, wall_s=60, batches=5)
    once, again = units_of_run(run), units_of_run(replace(run, redelivered=2))
    assert {"read_units": 2 * 4, "s3_puts": 2, "write_units": 0} == {
        unit: pytest.approx(again[unit] - once[unit]) for unit in ("read_units", "s3_puts", "write_units")
    }


def test_a_deviation_of_a_tenth_is_off() -> None:
    """Unless the run is too short for the unit, or the unit is not judged; a tolerable margin changes nothing."""
    expected = {"write_units": 1_000.0, "s3_puts": 20.0, "messages": 10.0, "notifications": 5.0, "s3_gets": 0.0}
    measured = {"write_units": 1_101.0, "s3_puts": 24.0, "messages": 9.0, "notifications": 9.0, "s3_gets": 1.0}
    found = compare(expected, measured, margins={"s3_puts": 4}, why_not={"notifications": "found by several"})
    assert ["write_units", "s3_gets"] == [each.unit for each in found if each.is_off]
    assert TOO_SHORT == found[1].why_not
    (long,) = compare({"s3_puts": 400.0}, {"s3_puts": 444.0}, margins={"s3_puts": 40})
    assert long.is_off
    assert "write_units: 1,101 measured, 1,000 expected (+10.1%)" == str(found[0])
    assert "s3_gets: 1 measured, 0 expected (none expected)" == str(found[4])
