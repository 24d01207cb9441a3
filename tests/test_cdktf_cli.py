"""cdktf-cli reads the project: its file, its stacks, their order. Its deploy is in tests/integration."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.lib.record.read import read_record
from tests.cdktf_cli import run_cdktf
from tests.places import PROJECT, link_wheels

ACCOUNT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "ENVIRO", "TERRAFORM_"))},
    "FLEET_ACCOUNT_ID": "123456789012",
}


def test_cdktf_json_is_json() -> None:
    """cdktf-cli reads it by the letter: no comment, no trailing comma."""
    assert "python -m lib.app" in json.loads((PROJECT / "cdktf.json").read_text("utf-8"))["app"]


@pytest.mark.cdktf
@pytest.mark.slow
def test_it_lists_the_stacks_of_the_repository(tmp_path: Path) -> None:
    """Whatever manifest is there: the platform, the endpoint, and one stack a plant."""
    done = run_cdktf(PROJECT, "list", "--output", str(tmp_path), environment=ACCOUNT)
    assert done.returncode == 0, done.stdout + done.stderr
    record = read_record(PROJECT)
    suffix = record.fleet.environment_suffix
    for stack in ("tap", "endpoint", *(f"facility-{id_}" for id_ in record.facilities)):
        assert f"{stack}-{suffix} " in done.stdout


@pytest.mark.cdktf
@pytest.mark.slow
def test_it_synthesises_a_project_of_ones_own(tmp_path: Path) -> None:
    """By `fleet synth`, into cdktf.out; the plant's stack depends on the platform's."""
    plant = tmp_path / "plant"
    assert CliRunner().invoke(main, ["init", str(plant), "--yes", "--facility", "vn-01"]).exit_code == 0
    assert CliRunner().invoke(main, ["generate", "--manifest", str(plant / "fleet.yaml")]).exit_code == 0
    link_wheels(plant)
    done = run_cdktf(plant, "synth", environment=ACCOUNT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Generated Terraform code for the stacks: endpoint-dev, facility-vn-01-dev" in done.stdout
    stacks = json.loads((plant / "cdktf.out" / "manifest.json").read_text())["stacks"]
    assert ["tap-dev"] == stacks["facility-vn-01-dev"]["dependencies"]
