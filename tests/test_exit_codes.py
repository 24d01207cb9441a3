"""One mistake has one exit code in every command, and nothing done is not success; the README has the table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import click
import pytest
from click.testing import CliRunner
from moto import mock_aws

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.diagnostics import (
    EnvironmentFault,
    FleetError,
    GateError,
    ManifestError,
    OutcomeError,
    RequestError,
    StaleError,
    WriteError,
)
from fleet_iot.lib.names import OPEN_ANOMALIES
from fleet_iot.operations.cli import telemetry
from fleet_iot.operations.telemetry.redrive import Outcome
from tests.operations.aws_stub import stub_local_aws
from tests.places import PROJECT, SAMPLE
from tests.test_documents import command_paths

THING = "sg-01-press-monitor-0001-dev"

COMMANDS: dict[str, dict[int, str]] = {
    "anomalies ack": {2: "ack only-a-thing", 7: f"ack {THING} x --dir none"},
    "anomalies list": {2: "list --facility nope", 7: "list --dir none"},
    "anomalies report": {2: "report --facility nope", 7: "report --dir none"},
    "anomalies show": {2: "show only-a-thing", 7: f"show {THING} x --dir none"},
    "anomalies shelve": {2: f"shelve {THING} --for 8d --note x", 7: f"shelve {THING} --for 8h --note x --dir none"},
    "anomalies unshelve": {2: "unshelve", 7: f"unshelve {THING} --dir none"},
    "archive compact": {2: "compact --nope", 7: "compact --dir none"},
    "archive query": {0: "query", 2: "query --facility nope"},
    "backtest": {2: "fleet.yaml --device-type nope", 7: "nowhere.csv"},
    "bundle": {2: "--facility nope --to x", 7: "--facility sg-01 --to x --dir none"},
    "ca crl": {2: "crl --days 0"},
    "ca init": {2: "init --curve nope"},
    "ca revoke": {2: f"revoke {THING} --reason nope"},
    "ca show": {2: "show"},
    "ca sign": {2: "sign --facility nope"},
    "certificates": {2: "--facility nope", 7: "--dir none"},
    "check": {2: "--env nope"},
    "completion": {0: "bash", 2: "nope"},
    "compliance": {2: "--nope"},
    "cost": {0: "", 2: "--facility nope", 3: "--manifest nowhere/fleet.yaml", 7: "--prices nowhere.json"},
    "demo": {2: "--nope"},
    "deploy": {2: "--facility nope", 7: "--dir none"},
    "destroy": {2: "--facility nope", 7: "--dir none"},
    "device activate": {2: "activate", 7: f"activate {THING} --reason x --dir none"},
    "device adopt": {2: "adopt --facility nope", 7: "adopt --facility sg-01 --dir none"},
    "device list": {2: "list --facility nope", 7: "list --dir none"},
    "device move": {2: f"move {THING} --to nope --reason x", 7: f"move {THING} --to sg-01 --reason x --dir none"},
    "device retire": {2: "retire", 7: f"retire {THING} --reason x --dir none"},
    "device revoke": {2: "revoke", 7: f"revoke {THING} --reason x --dir none"},
    "device rotate": {2: "rotate", 7: f"rotate {THING} --reason x --dir none"},
    "device show": {2: "show", 7: f"show {THING} --dir none"},
    "device sync": {2: "sync --facility nope", 7: "sync --facility sg-01 --dir none"},
    "explain": {0: "sg-01", 2: "nope"},
    "generate": {2: "--facility nope --check", 3: "--manifest nowhere/fleet.yaml"},
    "history": {2: f"{THING} --level nope", 7: f"{THING} --dir none"},
    "init": {2: "--nope"},
    "isolation": {2: "--nope"},
    "keys create": {2: "create --facility nope"},
    "local apply": {2: "apply --facility nope", 7: "apply --dir none"},
    "local env": {2: "env --nope", 7: "env --dir none"},
    "local destroy": {2: "destroy --nope", 7: "destroy --dir none"},
    "local down": {2: "down --nope", 7: "down --dir none"},
    "local status": {2: "status --nope", 7: "status --dir none"},
    "local up": {2: "up --nope"},
    "message": {0: "press-monitor", 2: "nope"},
    "onboard": {2: "--facility nope"},
    "plan": {2: "--facility nope", 3: "--manifest nowhere/fleet.yaml"},
    "preflight": {2: "--facility nope", 7: "--dir none"},
    "quarantine list": {2: "list --facility nope", 7: "list --dir none"},
    "quarantine replay": {2: "replay --facility nope --yes", 7: "replay --with nowhere.jsonl --yes"},
    "quarantine show": {2: "show", 7: "show 1 --dir none"},
    "replay": {2: "--nope", 7: "--dir none"},
    "simulate": {2: "--facility nope", 7: "--facility sg-01 --dir none"},
    "synth": {2: "--nope"},
    "validate": {0: "", 2: "--format nope", 3: "--manifest nowhere/fleet.yaml"},
}
"""By command: what is answered with which code. `nope` is a name that there is not, `none` and `nowhere` no place."""

CASES = [(path, code, rest) for path, codes in COMMANDS.items() for code, rest in codes.items()]


@pytest.fixture(autouse=True)
def own_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The sample is the project; keys and journals are in a temporary folder."""
    monkeypatch.chdir(SAMPLE)
    monkeypatch.setenv("FLEET_KEYS_DIR", str(tmp_path / "keys"))
    monkeypatch.setenv("FLEET_KEYS_PASSPHRASE", "a passphrase of tests")
    monkeypatch.setenv("FLEET_JOURNAL_DIR", str(tmp_path / "journal"))
    for name in ("FLEET_ENV", "ENVIRONMENT_SUFFIX"):
        monkeypatch.delenv(name, raising=False)


def fleet(line: str) -> Any:
    return CliRunner().invoke(main, line.split())


@pytest.mark.parametrize(("path", "code", "rest"), CASES, ids=[f"{path}: {code}" for path, code, _ in CASES])
def test_a_mistake_has_its_code(path: str, code: int, rest: str) -> None:
    """Names that there are not are usage, places that there are not are the environment; never a traceback."""
    answer = fleet(f"{path.split()[0]} {rest}")
    assert (code, True) == (answer.exit_code, answer.exception is None or isinstance(answer.exception, SystemExit)), (
        answer.output
    )
    if code and "nope" in rest:
        assert "nope" in answer.output


@pytest.mark.parametrize(
    "line",
    [
        "anomalies ack nope#anomaly#x --dir none",
        "anomalies ack nope x --dir none",
        "anomalies list --facility nope",
        "anomalies list --thing nope --dir none",
        "archive query --device-type nope",
        "archive query --metric nope",
        "backtest fleet.yaml --device-type press-monitor --column nope=a",
        "bundle --facility nope",
        "device activate nope --reason x --dir none",
        f"device move {THING} --to th-ry-01 --as nope --reason x --dir none",
        "device move nope --to th-ry-01 --reason x --dir none",
        "device retire nope --reason x --dir none",
        "device revoke nope --reason x --dir none",
        "device rotate nope --reason x --dir none",
        "device show nope --dir none",
        "history nope --dir none",
        f"history {THING} --metric nope --dir none",
        "quarantine list --thing nope --dir none",
        "quarantine show --thing nope --dir none",
        "quarantine replay --thing nope --yes --dir none",
        "ca sign --facility nope",
        "keys create --facility sg-01 --renew nope",
        "onboard --facility sg-01 --device-type nope",
        "onboard --facility sg-01 --device-type nope --dry-run",
        "simulate --facility nope",
    ],
)
def test_an_unknown_name_is_usage(line: str) -> None:
    """Exit 2 for a facility, device type, metric or thing that there is not, before any AWS is looked for."""
    answer = fleet(line)
    assert (2, True) == (answer.exit_code, "nope" in answer.output), answer.output


def test_every_command_is_in_the_table() -> None:
    """Each with the code of wrong use; each with a facility option is tried with an unknown one."""
    assert set(command_paths()) == set(COMMANDS)
    for path, codes in COMMANDS.items():
        command: click.Command = main
        for name in path.split():
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), name)
            assert found is not None
            command = found
        takes_plant = any(
            {"--facility", "--to"} & set(option.opts) and option.metavar == "ID" for option in command.params
        )
        takes_plant = takes_plant and path != "init"  # which names a new one
        assert 2 in codes and (not takes_plant or re.search(r"--(facility|to) nope", codes[2])), path


def test_the_readme_has_the_table() -> None:
    """Each class of fault has its own code, and the README names them all."""
    kinds = (OutcomeError, RequestError, ManifestError, StaleError, GateError, WriteError, EnvironmentFault)
    assert [1, 2, 3, 4, 5, 6, 7] == [kind.exit_code for kind in kinds]
    assert {kind.exit_code for kind in FleetError.__subclasses__()} == set(range(1, 8))
    readme = (PROJECT / "README.md").read_text("utf-8")
    assert [str(code) for code in range(8)] == re.findall(r"^\| ([0-7]) \|", readme, re.MULTILINE)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A table of readings with nothing in it."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("dynamodb")
        client.create_table(
            TableName="table-readings-dev",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "device", "AttributeType": "S"},
                {"AttributeName": "bucket", "AttributeType": "S"},
                {"AttributeName": "open_facility", "AttributeType": "S"},
                {"AttributeName": "began", "AttributeType": "S"},
            ],
            KeySchema=[{"AttributeName": "device", "KeyType": "HASH"}, {"AttributeName": "bucket", "KeyType": "RANGE"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": OPEN_ANOMALIES,
                    "KeySchema": [
                        {"AttributeName": "open_facility", "KeyType": "HASH"},
                        {"AttributeName": "began", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
        )
        stub_local_aws(monkeypatch, dynamodb=client)
        yield


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("anomalies list", 0),
        (f"anomalies list --thing {THING}", 0),
        ("anomalies list --thing sg-01-press-monitor-9999-dev", 2),
        ("anomalies list --thing sg-01-press-monitor-0001", 0),
        ("anomalies list --thing SG01-PRESS-MONITOR-0001", 0),
        ("anomalies list --thing sg-01-press-monitor-0001 --facility th-ry-01", 2),
        (f"anomalies ack {THING} anomaly#x", 1),
        ("anomalies ack sg-01-press-monitor-0001#anomaly#x", 1),
        ("anomalies ack sg-01-press-monitor-9999-dev anomaly#x", 2),
        (f"anomalies show {THING} anomaly#x", 1),
        (f"history {THING}", 1),
        (f"history {THING} --json", 1),
        (f"history {THING} --metric nope", 2),
        ("history sg-01-press-monitor-9999-dev --csv", 2),
    ],
)
def test_nothing_found_has_the_code_of_what_was_asked(line: str, code: int, readings: None) -> None:
    """No anomaly is good news; no such anomaly and no reading are not; a thing that there is not is usage."""
    answer = fleet(line)
    assert code == answer.exit_code, answer.output


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome(messages=0), 0),
        (Outcome(messages=1, replayed=3), 0),
        (Outcome(messages=1, replayed=3, gone=1), 1),
        (Outcome(messages=1, left=["denied"]), 1),
    ],
)
def test_an_empty_queue_is_well_and_lost_records_are_not(
    outcome: Outcome, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing to redrive is success; what stays in the queue, or is gone from the stream, is not."""
    monkeypatch.setattr(telemetry, "redrive_queue", lambda site: outcome)
    assert code == fleet("replay --aws").exit_code
