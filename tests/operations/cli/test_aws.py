"""Every command with --aws works on the account of the credentials, in the manifest's region, or refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.operations import aws
from fleet_iot.operations.aws import Broker
from fleet_iot.operations.project import load_project
from tests.operations.aws_stub import REGION, Account, stub_account
from tests.places import SAMPLE
from tests.test_documents import command_paths

OWN, OTHER = "111122223333", "444455556666"
THING = "sg-01-press-monitor-0001-dev"
ARGUMENTS = {
    "anomalies ack": [THING, "anomaly#x"],
    "anomalies list": [],
    "anomalies report": [],
    "anomalies shelve": [THING, "--for", "8h", "--note", "x"],
    "anomalies show": [THING, "anomaly#x"],
    "anomalies unshelve": [THING],
    "archive compact": [],
    "bundle": ["--facility", "sg-01"],
    "certificates": [],
    "deploy": [],
    "destroy": [],
    "device activate": [THING, "--reason", "x"],
    "device adopt": ["--facility", "sg-01"],
    "device list": [],
    "device move": [THING, "--to", "sg-01", "--reason", "x"],
    "device retire": [THING, "--reason", "x"],
    "device revoke": [THING, "--reason", "x"],
    "device rotate": [THING, "--reason", "x"],
    "device show": [THING],
    "device sync": ["--facility", "sg-01"],
    "history": [THING],
    "onboard": ["--facility", "sg-01"],
    "preflight": [],
    "quarantine list": [],
    "quarantine replay": ["--yes"],
    "quarantine show": ["1"],
    "replay": [],
    "simulate": ["--facility", "sg-01"],
}
"""By command: what it needs to get as far as AWS."""


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The sample is the project; the shell names another region than the manifest."""
    monkeypatch.chdir(SAMPLE)
    monkeypatch.setenv("FLEET_KEYS_DIR", str(tmp_path / "keys"))
    monkeypatch.setenv("FLEET_KEYS_PASSPHRASE", "a passphrase of tests")
    monkeypatch.setenv("FLEET_JOURNAL_DIR", str(tmp_path / "journal"))
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    for name in ("FLEET_ENV", "ENVIRONMENT_SUFFIX", "FLEET_ACCOUNT_ID"):
        monkeypatch.delenv(name, raising=False)


def fleet(path: str, *more: str) -> Any:
    return CliRunner().invoke(main, [*path.split(), *ARGUMENTS[path], *more])


def command_at(path: str) -> click.Command:
    command: click.Command = main
    for name in path.split():
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name) or command
    return command


def test_the_commands_are_all_that_have_the_option() -> None:
    """Each command with --aws is tried here, and has --dir too."""
    found = {
        path: {option for parameter in command_at(path).params for option in parameter.opts} for path in command_paths()
    }
    assert sorted(ARGUMENTS) == sorted(path for path, options in found.items() if "--aws" in options)
    assert all("--dir" in found[path] for path in ARGUMENTS)


@pytest.mark.parametrize("path", ARGUMENTS)
def test_another_account_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same sentence and exit code from every command, before any other service is asked."""
    account = stub_account(monkeypatch, OTHER)
    monkeypatch.setenv("FLEET_ACCOUNT_ID", OWN)
    answer = fleet(path, "--aws")
    sentence = f"error: these credentials are of account {OTHER}, the project's is {OWN}"
    assert (7, sentence) == (answer.exit_code, answer.output.splitlines()[0])
    assert ([REGION], ["sts"]) == (account.sessions, account.services)


@pytest.mark.parametrize("path", ARGUMENTS)
def test_credentials_that_do_not_work_are_reported(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As AWS says it, with a remedy."""
    expired = ClientError({"Error": {"Code": "ExpiredToken", "Message": "expired"}}, "GetCallerIdentity")

    def fail(*_: Any, **__: Any) -> None:
        raise expired

    monkeypatch.setattr(Account, "_client", fail)
    stub_account(monkeypatch, OWN)
    answer = fleet(path, "--aws")
    assert (7, True) == (answer.exit_code, "AWS does not say whose account this is" in answer.output), answer.output


@pytest.mark.parametrize("path", ARGUMENTS)
def test_without_aws_no_account_is_asked(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The local AWS of --dir is the one; where none is, the fault is the same from every command."""
    account = stub_account(monkeypatch, OWN)
    answer = fleet(path, "--dir", str(tmp_path / "none"))
    assert (7, True) == (answer.exit_code, f"no local AWS is in {tmp_path / 'none'}" in answer.output), answer.output
    assert [] == account.sessions


def test_the_local_aws_is_the_projects_from_any_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --dir it is build/local of the project, wherever in it the command runs."""
    monkeypatch.chdir(SAMPLE / "lib" / "facilities")
    folders: list[Path] = []

    def load(folder: Path) -> Any:
        folders.append(folder)
        raise aws.EnvironmentFault("stop")

    monkeypatch.setattr(aws, "load", load)
    assert 7 == fleet("anomalies list").exit_code
    assert [SAMPLE / "build" / "local"] == folders


def test_the_account_may_be_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account of the credentials is used, in the manifest's region, where nothing else gives an account."""
    account = stub_account(monkeypatch, OTHER, iot=Endpoint())
    found = aws.account_aws(load_project(SAMPLE))
    assert (OTHER, REGION, [REGION]) == (found.account, found.region, account.sessions)
    assert Broker(host="x-ats.iot", port=8883, ca_file=None) == found.broker()


class Endpoint:
    """AWS IoT's answer for the devices' endpoint."""

    def describe_endpoint(self, endpointType: str) -> dict[str, str]:  # noqa: N803 - the API's word
        assert "iot:Data-ATS" == endpointType
        return {"endpointAddress": "x-ats.iot"}


def test_an_account_without_anomalies_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The right account is asked, and its answer printed."""

    class Table:
        def get_paginator(self, _: str) -> Any:
            return self

        def paginate(self, **_: Any) -> Any:
            return [{"Items": []}]

        def get_item(self, **_: Any) -> Any:
            return {}

    account = stub_account(monkeypatch, OWN, dynamodb=Table())
    monkeypatch.setenv("FLEET_ACCOUNT_ID", OWN)
    answer = fleet("anomalies list", "--aws")
    assert (0, "0 unacknowledged anomalies\n") == (answer.exit_code, answer.output)
    assert ["sts", "dynamodb"] == account.services
    assert "" == fleet("anomalies list", "--aws", "--json").output
