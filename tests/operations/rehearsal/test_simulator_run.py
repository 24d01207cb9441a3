"""A simulation goes on without the things that cannot publish, and names them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.operations.rehearsal import simulator
from fleet_iot.operations.rehearsal.simulator import Message
from tests.operations.aws_stub import stub_local_aws
from tests.places import SAMPLE

REVOKED, REFUSED, SILENT, STRANGER = (f"sg-01-press-monitor-000{number}-dev" for number in (1, 2, 3, 4))


class Device:
    """A device that the broker accepts, but for some by name."""

    def __init__(self, name: str, *, broker: Any, context: Any, on_answer: Any) -> None:
        self.name, self.broker, self.refusal, self._on_answer, self._open = name, broker, None, on_answer, 0

    def connect(self) -> None:
        if self.name == STRANGER:
            raise OSError("handshake failure")

    def wait_connected(self, timeout_s: float) -> bool:
        return True

    def publish(self, topic: str, message: Message) -> None:
        if self.name == SILENT:
            self._open += 1
        else:
            self._on_answer(message, self.name != REFUSED)

    def outstanding(self) -> int:
        return self._open

    def close(self) -> None:
        pass


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`fleet simulate` with devices of that kind; `without` are things that have no active certificate."""
    monkeypatch.chdir(SAMPLE)
    stub_local_aws(monkeypatch, iot=None)
    monkeypatch.setattr(simulator.Aws, "broker", lambda self: SimpleNamespace(host="broker", port=1))
    monkeypatch.setattr(simulator, "Device", Device)
    monkeypatch.setattr(simulator, "tls_context", lambda *_, **__: None)
    monkeypatch.setattr(simulator, "private_keys", lambda store, things: {thing.name: None for thing in things})
    monkeypatch.setattr(simulator, "_ANSWER_TIMEOUT_S", 0.0)
    monkeypatch.setattr("fleet_iot.operations.cli.simulate.open_store", lambda project: None)
    truth = tmp_path / "truth.jsonl"

    def invoke(*arguments: str, without: Any = lambda name: False) -> Any:
        monkeypatch.setattr(
            simulator, "certificates", lambda iot, things, keys: {t.name: "" for t in things if not without(t.name)}
        )
        asked = ("--facility", "sg-01", "--things", "30", "--duration", "1", "--rate", "60", "--truth", str(truth))
        return CliRunner().invoke(main, ["simulate", *asked, *arguments])

    invoke.truth = truth  # type: ignore[attr-defined]
    return invoke


def test_others_go_on_without_a_revoked_device(simulate: Any) -> None:
    """Exit 1, each failed thing with its reason, and the truth is that of the others."""
    done = simulate("--json", without=lambda name: name == REVOKED)
    result = json.loads(done.stdout)
    assert 1 == done.exit_code
    assert {REVOKED, REFUSED, SILENT, STRANGER} == set(result["failed"])
    assert "it has no active certificate in AWS IoT" == result["failed"][REVOKED]
    assert f"{REFUSED}: the broker refused " in done.stderr and f"{SILENT}: the broker did not answer " in done.stderr
    assert f"{STRANGER}: it cannot reach broker:1: handshake failure" in done.stderr
    assert "error: 4 things did not publish all of their messages" in done.stderr
    things = {line.get("thing") for line in map(json.loads, simulate.truth.read_text().splitlines())} - {None}
    assert (26, 26) == (result["things"], len(things - set(result["failed"])))


def test_no_anomaly_is_noted_of_a_thing_that_does_not_publish(simulate: Any) -> None:
    """The truth has the anomalies of devices that connected."""
    simulate("--anomalies", "1", "--rate", "6000", without=lambda name: name == REVOKED)
    lines = [json.loads(line) for line in simulate.truth.read_text().splitlines()]
    anomalous = {line["thing"] for line in lines if line["line"] == "anomaly"}
    assert anomalous and not {REVOKED, STRANGER} & anomalous


def test_where_nothing_can_publish_the_environment_is_at_fault(simulate: Any) -> None:
    """Exit 7, with the first thing and its reason."""
    done = simulate(without=lambda name: True)
    assert 7 == done.exit_code
    assert "none of 30 things can publish" in done.stderr and "no active certificate" in done.stderr


def test_a_metric_that_no_thing_has_is_usage(simulate: Any) -> None:
    """Exit 2, before anything is connected."""
    done = simulate("--column", "nope=b")
    assert (2, True) == (done.exit_code, "'nope'" in done.stderr)


def test_a_recorded_series_is_replayed_over_and_over(simulate: Any, tmp_path: Path) -> None:
    """Its columns are metrics by name or by --column; empty cells send nothing of that metric."""
    series = tmp_path / "series.csv"
    series.write_text("time;temp;vibration\n1;20.5;0.1\n2;;0.2\n3;x;0.3\n")
    bad = simulate("--replay", str(series), "--column", "temperature=temp")
    assert (7, True) == (bad.exit_code, "series.csv:4: temp 'x' is no number" in bad.stderr)
    series.write_text("time;temp;vibration\n1;20.5;0.1\n2;;0.2\n")
    simulate("--replay", str(series), "--column", "temperature=temp")
    lines = [json.loads(line) for line in simulate.truth.read_text().splitlines()]
    press = [line["metrics"] for line in lines if line["line"] == "reading" and line["device_type"] == "press-monitor"]
    assert {"temperature": 20.5, "vibration": 0.1} == press[0]
    assert {"vibration": 0.2} in press
