"""Devices with their states, as far as they are known without an AWS: what is not known is never another state."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.onboarding import OTHER_PLANT, PLANT, make_csrs, make_onboarding_project
from fleet_iot.generator.cli.commands import main
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.journal import Journal
from tests.operations.registry.journals import onboard, thing
from tests.operations.registry.site import thing_name


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bulk plants, of which the first has CSRs; an account's journal with devices in every state."""
    folder = tmp_path_factory.mktemp("states")
    project = make_onboarding_project(folder / "project", things=9, others=2)
    make_csrs(project)
    path = folder / "journals" / "123456789012-ap-southeast-1" / "bench-dev.sqlite"
    path.parent.mkdir(parents=True)
    with Journal(path) as journal:
        things = [thing(thing_name(number), f"S-{number}") for number in range(1, 8)]
        onboard(journal, PLANT, *things, thing(f"{PLANT}-press-old-dev", "S-99"))
        onboard(journal, "at-01", thing("at-01-lathe-0001-dev", "S-1", "lathe"))
        journal.write(
            entries.status(thing_name(2), "REVOKED"),
            entries.history(thing_name(2), "REVOKED", at=1.7e9, certificate_id=None, reason="stolen"),
            entries.status(thing_name(3), "INACTIVE"),
            entries.retired(thing_name(4)),
            entries.failed(thing_name(5), reason="x", remedy="y"),
            ("UPDATE devices SET state = 'planned' WHERE thing = ?", (thing_name(6),)),
            ("UPDATE devices SET state = 'moving' WHERE thing = ?", (thing_name(7),)),
        )
    return project


@pytest.fixture
def fleet(project: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `fleet device list` in the project."""
    monkeypatch.setenv("FLEET_JOURNAL_DIR", str(project.parent / "journals"))
    monkeypatch.delenv("FLEET_IDENTITIES", raising=False)

    def run(*arguments: str, code: int = 0) -> list[str]:
        with chdir(project):
            done = CliRunner(catch_exceptions=False).invoke(main, ["device", "list", *arguments])
        assert code == done.exit_code, done.output
        return done.stdout.splitlines()

    return run


def test_states_come_from_record_csrs_and_journal(fleet: Any) -> None:
    """A plant that the journal does not cover is unknown; devices that left the record are listed, also their plant."""
    found = {row["name"]: row for row in map(json.loads, fleet("--json"))}
    states = ["active", "revoked", "registered", "retired", "failed", "onboarding", "moving", "keyed", "keyed"]
    assert states == [found[thing_name(number)]["state"] for number in range(1, 10)]
    assert {"unknown"} == {row["state"] for row in found.values() if row["facility"] == OTHER_PLANT}
    assert [f"{PLANT}-press-old-dev", "at-01-lathe-0001-dev"] == [
        n for n, row in found.items() if not row["is_planned"]
    ]
    revoked = found[thing_name(2)]
    assert ("2023-11-14T22:13:20+00:00", "2033-05-18T03:33:20+00:00") == (revoked["changed"], revoked["expires"])
    assert (None, None) == (found[thing_name(8)]["certificate_id"], found[thing_name(8)]["expires"])


def test_counts_have_no_zeros_and_say_what_is_not_known(fleet: Any) -> None:
    """Of all chosen devices, whatever is listed; without a local AWS the account's journal answers."""
    told = fleet("--state", "active")
    assert [thing_name(1), f"{PLANT}-press-old-dev", "at-01-lathe-0001-dev"] == [line.split()[0] for line in told[1:4]]
    assert told[2].endswith("left the record")
    states = "2 keyed, 1 onboarding, 1 failed, 1 registered, 3 active, 1 revoked, 1 moving, 1 retired, 2 unknown"
    assert f"13 devices: {states}; 3 listed" == told[4]
    assert told[5].startswith("unknown until AWS IoT is asked: fleet device list --aws (no local AWS is in ")
    assert "10 devices: " in fleet("--facility", PLANT, "--expiring", "1d")[0]
    assert 5 == len(fleet("--facility", PLANT, "--expiring", "36500d", "--json"))
    fleet("--expiring", "soon", code=2)
    fleet("--state", "happy", code=2)


def test_a_device_that_terraform_registers_is_not_retired(fleet: Any, project: Path, tmp_path: Path) -> None:
    """It left the journal when the plant was handed over, and is unknown until AWS IoT is asked."""
    adopted = make_onboarding_project(tmp_path / "project", things=9, registration="terraform")
    with chdir(adopted):
        told = CliRunner(catch_exceptions=False).invoke(main, ["device", "list", "--facility", PLANT, "--json"])
    found = {row["name"]: row["state"] for row in map(json.loads, told.stdout.splitlines())}
    assert "unknown" == found[thing_name(4)] and "retired" not in found.values()
