"""cdktf-cli lists, synthesises and deploys: its file, its stacks, their order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_iot.lib.record.read import read_record
from fleet_iot.operations.local import deployment
from fleet_iot.operations.local.aws import ACCOUNT_ID, LocalAws, load
from fleet_iot.operations.terraform import find_provider_mirror
from tests.cdktf_cli import run_cdktf
from tests.places import PROJECT, link_wheels

KEPT = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "ENVIRO", "TERRAFORM_"))}
DASHBOARD = "aws_cloudwatch_dashboard"


def test_cdktf_json_is_json() -> None:
    """cdktf-cli reads it by the letter: no comment, no trailing comma."""
    assert "python -m lib.app" in json.loads((PROJECT / "cdktf.json").read_text("utf-8"))["app"]


def test_its_lock_has_hashes_and_names_no_host() -> None:
    """Each package of the lock has a hash and no address, so that any registry serves it."""
    lock = json.loads((PROJECT / "requirements" / "cdktf" / "package-lock.json").read_text("utf-8"))
    packages = {name: body for name, body in lock["packages"].items() if name}
    assert "0.21.0" == packages["node_modules/cdktf-cli"]["version"]
    assert [] == [name for name, body in packages.items() if "integrity" not in body and not body.get("inBundle")]
    assert [] == [name for name, body in packages.items() if "resolved" in body]


@pytest.mark.cdktf
@pytest.mark.slow
def test_it_lists_the_stacks_of_the_repository(tmp_path: Path) -> None:
    """Whatever manifest is there: the platform, the endpoint, and one stack a plant."""
    done = run_cdktf(
        PROJECT, "list", "--output", str(tmp_path), environment={**KEPT, "FLEET_ACCOUNT_ID": "123456789012"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = read_record(PROJECT)
    suffix = record.fleet.environment_suffix
    for stack in ("tap", "endpoint", *(f"facility-{id_}" for id_ in record.facilities)):
        assert f"{stack}-{suffix} " in done.stdout


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalAws]:
    """The local AWS of another company's project, generated and not deployed."""
    plant = tmp_path / "plant"
    _fleet(tmp_path, "init", "plant", "--yes", "--facility", "vn-01", "--facility-name", "Nhà máy Đồng Nai")
    _fleet(plant, "generate")
    link_wheels(plant)
    _fleet(plant, "local", "up")
    yield load(plant / "build" / "local")
    _fleet(plant, "local", "down")


def _fleet(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "fleet_iot", *arguments], cwd=folder, env=KEPT, check=True)


@pytest.mark.cdktf
@pytest.mark.local_aws
@pytest.mark.slow
def test_it_synthesises_and_deploys_a_project_of_ones_own(local: LocalAws, tmp_path: Path) -> None:
    """`cdktf synth` runs `fleet synth`; `cdktf deploy` makes a dashboard, and refuses a plant without the platform."""
    plant, configuration = tmp_path / "plant", tmp_path / "terraformrc"
    environment = {**local.environment(KEPT), "FLEET_ACCOUNT_ID": ACCOUNT_ID}
    done = run_cdktf(plant, "synth", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    stacks = json.loads((plant / "cdktf.out" / "manifest.json").read_text())["stacks"]
    assert {"endpoint-dev", "facility-vn-01-dev", "tap-dev"} == stacks.keys()
    assert ["tap-dev"] == stacks["facility-vn-01-dev"]["dependencies"]

    platform, stack = (plant / "cdktf.out" / "stacks" / name for name in ("tap-dev", "facility-vn-01-dev"))
    document = json.loads((stack / "cdk.tf.json").read_text())
    document["resource"] = {DASHBOARD: document["resource"][DASHBOARD]}
    (stack / "cdk.tf.json").write_text(json.dumps(document))
    deployment.write_all_overrides((platform, stack))
    if mirror := find_provider_mirror().mirror:
        configuration.write_text(f'provider_installation {{\n filesystem_mirror {{\n path = "{mirror}"\n }}\n}}\n')
        environment["TF_CLI_CONFIG_FILE"] = str(configuration)
    refused = run_cdktf(plant, "deploy", stack.name, "--auto-approve", "--skip-synth", environment=environment)
    assert refused.returncode != 0 and "tap-dev" in refused.stdout + refused.stderr
    chosen = ("--auto-approve", "--skip-synth", "--ignore-missing-stack-dependencies")
    done = run_cdktf(plant, "deploy", stack.name, *chosen, environment=environment)
    assert "Resources: 1 added, 0 changed, 0 destroyed" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
    (made,) = local.client("cloudwatch").list_dashboards()["DashboardEntries"]
    assert "vn-01" in made["DashboardName"]
