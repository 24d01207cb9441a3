"""`fleet isolation`: what it prints, how it ends, and how long it takes for a large fleet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.operations.assurance.isolation.fleet import Fleet
from fleet_iot.operations.cli import assurance as cli
from tests.operations.assurance.isolation.conftest import Break
from tests.operations.assurance.isolation.mutations import BOTH

FACILITIES, TYPES, COUNT = 10, 5, 400
LIMIT_S = 60


@pytest.mark.slow
def test_the_command_says_what_was_looked_at() -> None:
    """One JSON object with every count, the verdict and no finding; exit 0."""
    result = CliRunner().invoke(main, ["isolation", "--json"])
    assert 0 == result.exit_code
    document = json.loads(result.stdout)
    assert (True, [], 194, 169) == tuple(document[key] for key in ("holds", "findings", "things", "group_pairs"))
    assert "isolated: every claim holds" in CliRunner().invoke(main, ["isolation"]).stdout


@pytest.mark.slow
def test_a_broken_fleet_ends_with_the_findings(broken: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 5, as for every gate; each finding names group, claim, resource and what shows it."""
    fleet: Fleet = broken(BOTH["anything on anything"])
    monkeypatch.setattr(cli, "gather_fleet", lambda _: fleet)
    result = CliRunner().invoke(main, ["isolation"])
    assert 5 == result.exit_code
    assert "not so: sg-01/press-monitor: iot:Connect" in result.stdout
    assert "more: see --json" in result.stdout
    assert "not so: th-ry-01" not in result.stdout
    assert "error: the fleet is not isolated" in result.stderr
    document = json.loads(CliRunner().invoke(main, ["isolation", "--json"]).stdout)
    assert document["findings"] and not document["holds"]


@pytest.mark.slow
def test_twenty_thousand_things_are_proven_within_a_minute(tmp_path: Path) -> None:
    """A generated fleet of 10 facilities, 5 device types and 20,000 things: every pair of groups, under 60 s."""
    (tmp_path / "fleet.yaml").write_text(json.dumps(large_manifest()), encoding="utf-8")
    run(tmp_path, "generate", "--manifest", "fleet.yaml")
    proof = json.loads(run(tmp_path, "isolation", "--json"))
    groups, things = FACILITIES * TYPES, FACILITIES * TYPES * COUNT
    assert (True, []) == (proof["holds"], proof["findings"])
    assert (groups, groups**2, things) == (proof["groups"], proof["group_pairs"], proof["things"])
    assert 6 * things == proof["rights"]
    assert proof["seconds"] < LIMIT_S


def large_manifest() -> dict[str, object]:
    """JSON is YAML too."""
    types = [f"type-{number}" for number in range(1, TYPES + 1)]
    metrics = {"temperature": {"unit": "celsius", "min": 0, "max": 90}}
    return {
        "version": 1,
        "application": "mfg",
        "environment_suffix": "dev",
        "region": "ap-southeast-1",
        "tags": {"owner": "tests"},
        "device_types": {each: {"description": each, "sample_interval_s": 60, "metrics": metrics} for each in types},
        "facilities": {
            f"plant-{number}": {
                "name": f"Plant {number}",
                "timezone": "Asia/Singapore",
                "registration": "bulk",
                "things": dict.fromkeys(types, COUNT),
            }
            for number in range(1, FACILITIES + 1)
        },
    }


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fleet_iot", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert 0 == done.returncode, done.stderr[-2000:]
    return done.stdout
