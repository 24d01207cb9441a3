"""The command lines of `fleet deploy` and `fleet destroy` that are refused before anything is done."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.operations.cli.deploy import _onboarded
from fleet_iot.operations.cli.options import Site
from fleet_iot.operations.project import load_project
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.journal import Journal
from tests.operations.aws_stub import stub_account
from tests.operations.registry.journals import onboard, thing
from tests.places import SAMPLE


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample, without settings of the shell."""
    monkeypatch.chdir(SAMPLE)
    for name in ("FLEET_ENV", "ENVIRONMENT_SUFFIX", "TERRAFORM_STATE_BUCKET", "FLEET_ASSUME_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLEET_ACCOUNT_ID", "123456789012")


def fleet(line: str) -> Any:
    return CliRunner().invoke(main, line.split())


@pytest.mark.parametrize(
    "line",
    [
        "deploy --approve x --plan-only",
        "deploy --approve x --out y",
        "deploy --approve x --facility sg-01",
        "deploy --digest 00",
        "deploy --detailed-exitcode",
        "deploy --local-state",
        "deploy --create-state-bucket",
        "deploy --endpoint",
        "deploy --allow everything",
        "deploy --plan-only --allow destroys-data",
        "destroy --endpoint",
        "destroy --create-state-bucket",
        "destroy --facility nope",
    ],
)
def test_what_does_not_go_together_is_usage(line: str) -> None:
    """Exit 2, before any AWS is looked for."""
    answer = fleet(line)
    assert (2, True) == (answer.exit_code, "rror" in answer.output), answer.output


@pytest.mark.parametrize("command", ["deploy", "destroy"])
def test_an_account_needs_a_place_for_the_states(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Without a bucket, and without saying that none is wanted, nothing is done."""
    stub_account(monkeypatch, "123456789012")
    answer = fleet(f"{command} --aws")
    assert 7 == answer.exit_code
    assert "TERRAFORM_STATE_BUCKET is not set" in answer.output and "--local-state" in answer.output


def test_devices_of_the_accounts_journal_are_onboarded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those that were retired are not, nor those of another account's journal."""
    monkeypatch.delenv("FLEET_ACCOUNT_ID")
    monkeypatch.setenv("FLEET_JOURNAL_DIR", str(tmp_path))
    site = Site(project=load_project(SAMPLE), folder=tmp_path, is_account=True)
    file = f"{site.project.fleet.application}-{site.project.environment_suffix}.sqlite"
    for account, name in (("123456789012", "here"), ("210987654321", "there")):
        folder = tmp_path / f"{account}-{site.project.fleet.region}"
        folder.mkdir()
        with Journal(folder / file) as journal:
            onboard(journal, "sg-01", thing(name, "1"), thing(f"{name}-gone", "2"))
            journal.write(entries.retired(f"{name}-gone"))
    target: Any = SimpleNamespace(account="123456789012")
    assert {"here"} == _onboarded(site, target, ["here", "here-gone", "there", "unknown"])
