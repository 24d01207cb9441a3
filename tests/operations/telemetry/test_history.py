"""`fleet history` reads what the processor writes, open periods included."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fleet_iot.generator.cli.commands import main
from fleet_iot.operations.telemetry.history import history
from tests.operations.aws_stub import stub_local_aws
from tests.sensor_processor.conftest import make_event, make_payload, make_record, running_platform

TABLE = "table-readings-dev"
THING = "sg-01-press-monitor-0001-dev"
NOON = 1_795_435_200_000
"""2026-11-23T12:00Z in ms."""
MINUTE, HOUR = 60_000, 3_600_000


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Yield the tables' client after the processor handled a reading every ten minutes for 49 hours, to 12:50."""
    with running_platform(tmp_path_factory.mktemp("history")) as platform:
        times = range(NOON - 48 * HOUR, NOON + HOUR, 10 * MINUTE)
        for batch in (times[:7], times[7:200], times[200:]):
            records = [
                make_record(
                    payload=make_payload(time=at, sequence=number, metrics={"temperature": at // MINUTE % 60 / 2}),
                    received_at=at + 50,
                )
                for number, at in enumerate(batch)
            ]
            assert [] == platform.handle(make_event(*records))
        platform.sweep(at=NOON + 55 * MINUTE)
        yield platform.dynamodb


def rows(client: Any, level: str, since: int, until: int = NOON + 55 * MINUTE) -> list[Any]:
    return list(history(client, TABLE, thing=THING, level=level, since=since, until=until))


@pytest.mark.slow
def test_hours_are_told_with_the_one_that_goes_on(client: Any) -> None:
    """Stored hours, then what the minutes of this hour say; each with exact numbers and quantiles."""
    found = rows(client, "hour", NOON - 2 * HOUR)

    assert [(NOON - 2 * HOUR, True), (NOON - HOUR, True), (NOON, False)] == [(row.start, row.is_over) for row in found]
    for row in found:
        assert (6, "75", 12.5, 0.0, 25.0) == (row.count, row.sum, row.mean, row.min, row.max)
        assert 10.0 == pytest.approx(row.quantiles["p50"], rel=0.01)


def test_days_are_told_with_the_one_that_goes_on(client: Any) -> None:
    """The open day is the sum of its hours, the open one included."""
    found = rows(client, "day", NOON - 2 * 24 * HOUR)

    assert [(72, True), (144, True), (78, False)] == [(row.count, row.is_over) for row in found]
    assert [str(75 * hours) for hours in (12, 24, 13)] == [row.sum for row in found]


def test_minutes_are_told_from_when_to_when(client: Any) -> None:
    """Those with readings, borders included."""
    found = rows(client, "minute", NOON + 10 * MINUTE + 5_000, NOON + 30 * MINUTE)

    assert [5.0, 10.0, 15.0] == [row.mean for row in found]
    assert [] == rows(client, "minute", NOON + HOUR, NOON + 2 * HOUR)


@pytest.fixture
def ask(client: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command against those tables."""
    stub_local_aws(monkeypatch, dynamodb=client)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["history", THING, "--until", "2026-11-23T12:55Z", *arguments])

    return run


@pytest.mark.slow
def test_the_command_prints_a_table_csv_and_json(ask: Any) -> None:
    """The same rows in three forms; an asterisk marks an open period."""
    since = ("--since", "2026-11-23T11:00")
    table = ask(*since).output.splitlines()
    assert ["start", "metric", "count", "mean", "min", "max", "sum", "p05", "p50", "p95", "p99"] == table[0].split()
    assert ["2026-11-23T11Z", "2026-11-23T12Z*"] == [line.split()[0] for line in table[1:]]
    (first, _) = csv.DictReader(ask(*since, "--csv").output.splitlines())
    assert ("temperature", "6", "12.5", "75", "true") == tuple(
        first[name] for name in ("metric", "count", "mean", "sum", "is_over")
    )
    assert ["2026-11-23", "2026-11-23"] == [
        json.loads(ask("--level", level, "--json", *since).output.splitlines()[0])["start"][:10]
        for level in ("day", "hour")
    ]


def test_the_command_says_what_it_does_not_find(ask: Any) -> None:
    """A metric that there is not, one without readings, and a time that is none."""
    unknown = ask("--metric", "humidity")
    assert (2, True) == (unknown.exit_code, "press-monitor has no metric 'humidity'" in unknown.output)
    nothing = ask("--metric", "vibration")
    assert (1, f"error: {THING} has no readings of vibration in that time\n") == (nothing.exit_code, nothing.output)
    refused = ask("--since", "yesterday")
    assert 2 == refused.exit_code
    assert "'yesterday' is neither a time, such as 2026-11-23T14:00Z, nor how long ago, such as 24h" in refused.output
