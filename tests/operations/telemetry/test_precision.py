"""Labels become precision by plant, device type and period, and proposals for the manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from moto import mock_aws

from fleet_iot.generator.cli.commands import main
from fleet_iot.lib.specs import DeviceTypeSpec, MetricSpec
from fleet_iot.operations.telemetry.anomalies import FALSE, TRUE, acknowledge
from fleet_iot.operations.telemetry.precision import Line, at_most, period_of, propose, report, wilson, words_of
from fleet_iot.sensor_processor.detection import Finding
from fleet_iot.sensor_processor.planning.items import Device, DeviceEvent, device_item, device_key, event_item
from tests.operations.aws_stub import stub_local_aws

NOW = datetime(2026, 11, 30, tzinfo=UTC)
READINGS, DEVICES = "table-readings-dev", "table-devices-dev"
THINGS = [f"sg-01-press-monitor-{number:04}-dev" for number in range(1, 7)]


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def device_type(*budgets: float) -> DeviceTypeSpec:
    """A pump with a metric for each budget."""
    metrics = tuple(
        MetricSpec(
            name=f"m{number}", unit="", minimum=None, maximum=None, detector="machine", false_alarm_budget=budget
        )
        for number, budget in enumerate(budgets)
    )
    return DeviceTypeSpec(id="pump", thing_type="t", description="", sample_interval_s=10.0, metrics=metrics)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Five of six things sent since the beginning of October, until now; each has an anomaly a week."""
    with mock_aws(), pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
        client = boto3.client("dynamodb", region_name="ap-southeast-1")
        for table, keys in ((READINGS, ("device", "bucket")), (DEVICES, ("device",))):
            client.create_table(
                TableName=table,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
                KeySchema=[
                    {"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
                ],
            )
        first = datetime(2026, 10, 1, tzinfo=UTC)
        for thing in THINGS[:5]:
            device = Device(
                name=thing,
                facility="sg-01",
                device_type="press-monitor",
                certificate_id="c",
                first_contact=ms(first),
                last_contact=ms(NOW),
                version=1,
                messages=1,
                last_sequence=None,
            )
            client.put_item(TableName=DEVICES, Item=device_key(thing) | device_item(device))
            for week in range(1, 8):
                finding = Finding(metric="temperature", detector="machine", value=1.0, score=1.0, reason="r")
                time = ms(first + timedelta(weeks=week, hours=1))
                event = DeviceEvent(
                    finding=finding, device=thing, facility="sg-01", device_type="press-monitor", time=time
                )
                item = event_item(event, retention_days=400)
                client.put_item(TableName=READINGS, Item=item)
                label = {1: None, 2: FALSE, 3: TRUE}.get(week % 4)
                if label:
                    acknowledge(client, READINGS, thing=thing, anomaly_id=item["bucket"]["S"], by="mei", note=None,
                                now=NOW, label=label)  # fmt: skip
        yield client


def test_labels_are_counted_by_plant_type_and_period_without_a_scan(client: Any) -> None:
    """Things that never sent cost a key of a batch; a device counts from a week after its first contact."""
    calls: list[str] = []
    client.meta.events.register("before-call.dynamodb.*", lambda model, **_: calls.append(model.name))
    found = report(
        client,
        readings=READINGS,
        devices=DEVICES,
        things=THINGS,
        device_types=[],
        since=datetime(2026, 10, 15, tzinfo=UTC),
        now=NOW,
        by="month",
        on_progress=lambda done: None,
    )

    assert ["BatchGetItem", *["Query"] * 5] == calls
    october, november = found.lines
    assert ("sg-01", "press-monitor", "2026-10") == (october.facility, october.device_type, october.period)
    assert (15, 10, 5, 5, 5) == tuple(
        getattr(october, name) for name in ("notified", "acknowledged", "true", "false", "unlabelled")
    )
    assert "5 of 10 true (27 to 73 %)" == october.precision_text
    assert (pytest.approx(5 * 17 / 30), pytest.approx(5 * 29 / 30)) == (october.device_months, november.device_months)
    assert (6, 5) == (found.things, found.connected)
    assert "read by 5 queries for 6 things" in words_of(found)[-1]


def test_the_command_reports_one_plant(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a table and as JSON, by week, beside the budget of the record."""
    stub_local_aws(monkeypatch, dynamodb=client)
    options = ("anomalies", "report", "--facility", "sg-01", "--by", "week", "--since", "2026-11-01")
    done, machine = (CliRunner().invoke(main, [*options, *more]) for more in ((), ("--json",)))

    assert 0 == done.exit_code == machine.exit_code, done.output
    rows = [line.split() for line in done.output.splitlines() if line.startswith("sg-01")]
    assert ["2026-W44", "2026-W45", "2026-W46", "2026-W47", "2026-W48"] == [row[2] for row in rows]
    assert ["5", "5", "0", "5", "0", "0", "of", "5", "true", "(0", "to", "35", "%)", "4.29", "1"] == rows[2][3:]
    lines = json.loads(machine.output)["lines"]
    assert [None, 0.0, 1.0] == [line["precision"] and line["precision"][0] for line in lines if line["notified"]]


@pytest.mark.parametrize(
    ("false", "unlabelled", "budgets", "lines"),
    [
        (14, 3, (0.05, 0.05), ("false_alarm_budget: 0.021",)),
        (9, 0, (0.05, 0.05), ()),  # of 6: by chance in 15 of 100 cases
        (14, 3, (0.05, 0.03), ("metrics.m0.false_alarm_budget: 0.017", "metrics.m1.false_alarm_budget: 0.01")),
        (2, 3, (1.0,), ("false_alarm_budget: 3",)),
        (2, 90, (1.0,), ()),  # unlabelled ones may all be false
        (1, 0, (0.05,), ()),  # of 6: half of the budget would have so few in 20 of 100 cases
        (40, 0, (0.01,), ()),  # the least budget there is
        (200, 0, (1.0, 1.0), ("false_alarm_budget: 0.6",)),
        (14, 0, (), ()),  # no metric has a budget
    ],
)
def test_a_budget_changes_only_where_labels_show_it(
    false: int, unlabelled: int, budgets: tuple[float, ...], lines: tuple[str, ...]
) -> None:
    """More false than the budget, beyond chance, lower it; far fewer may raise it; nothing is written."""
    line = Line(
        facility="sg-01",
        device_type="pump",
        period="2026-11",
        machine=false + unlabelled,
        machine_false=false,
        machine_unlabelled=unlabelled,
        device_months=120.0,
    )
    proposals = list(propose([line], [device_type(*budgets)]))
    assert lines == (proposals[0].lines if proposals else ())


def test_the_reason_of_a_proposal_has_its_numbers() -> None:
    """The proposal names the false alarms, the time and the budget."""
    line = Line(facility="sg-01", device_type="pump", period="2026-11", machine_false=14, device_months=120.0)
    (proposal,) = propose([line], [device_type(0.05)])
    assert "14 labelled false in 120.0 device-months, where a budget of 0.05 allows 6.0; to have 6.0" == proposal.reason


def test_intervals_and_tails_are_those_of_the_textbooks() -> None:
    """Wilson's interval of 8 in 10, and the distribution of Poisson."""
    assert (0.541, 0.931) == pytest.approx(wilson(8, 10), abs=0.001)
    assert (0.0, 1.0) == (wilson(0, 3)[0], wilson(3, 3)[1])
    assert 0.6767 == pytest.approx(at_most(2, 2.0), abs=1e-4)
    assert (0.0, 1.0) == (at_most(-1, 2.0), at_most(5, 0.0))
    assert 0.5 == pytest.approx(at_most(100_000, 100_000.0), abs=0.01)


def test_periods_are_those_of_the_calendar() -> None:
    """Weeks as ISO 8601 has them, also over New Year; months of every length."""
    friday = datetime(2027, 1, 1, 8, tzinfo=UTC)
    assert ("2026-W53", datetime(2027, 1, 4, tzinfo=UTC)) == period_of(friday, "week")
    assert ("2027-01", datetime(2027, 2, 1, tzinfo=UTC)) == period_of(friday, "month")
    assert ("2026-12", datetime(2027, 1, 1, tzinfo=UTC)) == period_of(datetime(2026, 12, 31, tzinfo=UTC), "month")
