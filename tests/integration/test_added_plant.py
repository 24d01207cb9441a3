"""A third plant comes to a running platform and goes again; what Terraform shows of all stacks holds no secret.

Runs before test_running_plant, by name, and leaves the platform as that expects it; its second plan, after this plant
is gone, is the proof that the others' stacks were not touched.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet_iot.operations.local import deployment
from fleet_iot.operations.local.aws import applied_stacks, count_resources
from fleet_iot.operations.local.overrides import FIRST_PLAN_DRIFT
from fleet_iot.operations.rehearsal.demo import count_registry
from fleet_iot.operations.terraform import PlannedChange, Terraform
from tests.integration.plant import CANARIES, PASSPHRASE, SUFFIX, Plant
from tests.integration.secrets import secret_values, secrets_in

pytestmark = pytest.mark.local_aws

FACILITY = "jb-01"
STACK = f"facility-{FACILITY}-{SUFFIX}"
OTHERS = (f"facility-sg-01-{SUFFIX}", f"facility-th-01-{SUFFIX}", f"tap-{SUFFIX}")
MANIFEST = f"""
  {FACILITY}:
    name: Pasir Gudang Plant
    timezone: Asia/Kuala_Lumpur
    things: {{press-monitor: 2, boiler: 1}}
"""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Terraform's view of one stack: the changes it plans, state and plan as JSON."""

    changes: tuple[PlannedChange, ...]
    state: str
    plan: str


@dataclass(frozen=True, kw_only=True)
class Added:
    """The platform with one plant more: the manifest and the others' files as they were, and what is planned now."""

    manifest: str
    files: Mapping[str, bytes]
    terraform: Terraform
    environment: Mapping[str, str]
    shown: Mapping[str, Shown]


def stack_files(plant: Plant) -> dict[str, bytes]:
    """The synthesised file of each stack that is applied."""
    return {stack.name: (stack / "cdk.tf.json").read_bytes() for stack in applied_stacks(plant.local)}


@pytest.fixture(scope="module")
def added(plant: Plant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Added]:
    """Adds the plant to the manifest, generates it, makes its keys, applies its stack alone; plans every stack."""
    local, manifest = plant.local, plant.root / "fleet.yaml"
    former, files = manifest.read_text(), stack_files(plant)
    environment = {**plant.environment, **local.environment(plant.environment)}
    terraform = deployment.local_terraform(local, plant.environment)
    stack = local.output / "stacks" / STACK
    manifest.write_text(former.rstrip() + "\n" + MANIFEST)
    plant.fleet("generate", "--facility", FACILITY)
    plant.fleet("keys", "create", "--facility", FACILITY)
    deployment.write_all_overrides(deployment.synthesise(local, root=plant.root))
    terraform.init(stack)
    terraform.apply(stack)
    plans = tmp_path_factory.mktemp("plans")
    yield Added(
        manifest=former,
        files=files,
        terraform=terraform,
        environment=environment,
        shown={each.name: show(terraform, each, plans / each.name) for each in applied_stacks(local)},
    )
    if stack.exists():
        terraform.destroy(stack)
        shutil.rmtree(stack)


def show(terraform: Terraform, stack: Path, plan: Path) -> Shown:
    changes = deployment.without_drift(terraform.plan(stack, saved=plan))
    return Shown(changes=changes, state=terraform.show(stack), plan=terraform.show(stack, plan))


def test_the_added_plant_is_applied(plant: Plant, added: Added) -> None:
    """Its three things are registered beside the others' seven, each with its certificate."""
    registry = count_registry(plant.local.client("iot"), SUFFIX)
    assert (10, 10) == (registry.things, registry.certificates)
    assert sorted([STACK, *OTHERS]) == sorted(added.shown)


def test_a_new_try_makes_nothing_again(plant: Plant, added: Added) -> None:
    """Objects read back too early are kept; each certificate is made once, nothing is destroyed or left over."""
    said = added.terraform.log(plant.local.output / "stacks" / STACK).read_text()
    assert f"{STACK}: apply again in" in said
    assert 3 == len(re.findall(r"^aws_iot_certificate\..*: Creation complete", said, re.MULTILINE))
    assert 6 == len(re.findall(r"^aws_iot_(?:thing_principal|policy)_attachment\..*: Creating", said, re.MULTILINE))
    assert "Destroying" not in said
    iot = plant.local.client("iot")
    made = [each["certificateArn"] for each in iot.list_certificates(pageSize=250)["certificates"]]
    things = [iot.list_principal_things(principal=arn)["things"] for arn in made]
    assert all(len(each) == 1 for each in things)
    # The rules engine has one too.
    assert 10 + 1 == len(made) == len({each[0] for each in things})


def test_the_others_files_are_as_they_were(plant: Plant, added: Added) -> None:
    """Not a byte of another stack differs."""
    now = stack_files(plant)
    assert {name: now[name] for name in OTHERS} == added.files


def test_no_stack_would_change_but_for_the_documented_drift(added: Added) -> None:
    """Neither the plants', the new one included, nor the platform, whose late tags the list in overrides names."""
    assert {STACK: (), OTHERS[0]: (), OTHERS[1]: ()} == {
        name: shown.changes for name, shown in added.shown.items() if not name.startswith("tap-")
    }
    drift = {(change.action, change.address.partition(".")[0]) for change in added.shown[OTHERS[2]].changes}
    assert drift <= {("update", resource_type) for resource_type in FIRST_PLAN_DRIFT}


@pytest.mark.parametrize("name", [STACK, *OTHERS])
def test_state_and_plan_hold_no_secret(added: Added, name: str) -> None:
    """No key, no filled secret attribute, no value of the environment that the commands ran in."""
    looked_for = secret_values(added.environment)
    assert {PASSPHRASE, *CANARIES.values()} <= set(looked_for.values())
    for text in (added.shown[name].state, added.shown[name].plan):
        assert f"-{SUFFIX}" in text, "it was looked at"
        assert [] == secrets_in(text, added.environment)


def test_a_secret_would_be_found(added: Added) -> None:
    """In the same text, each kind of secret that is put in is found."""
    state = added.shown[STACK].state
    assert '"private_key":null' in state or '"private_key":""' in state
    with_key = state.replace('"private_key":null', '"private_key":"MIGHAgEAMBMGByqGSM49"')
    assert any("private_key" in found for found in secrets_in(with_key, added.environment))
    with_value = state.replace('"terraform_version":"', f'"terraform_version":"{CANARIES["DEPLOY_TOKEN"]}')
    assert ["the value of DEPLOY_TOKEN"] == secrets_in(with_value, added.environment)
    with_pem = state.replace(
        '"terraform_version":"', '"terraform_version":"-----BEGIN PRIVATE KEY-----\\nMIGHAgEAMBMGByqGSM49AgEG'
    )
    assert ["a private key"] == secrets_in(with_pem, added.environment)


def test_the_plant_goes_and_leaves_the_others(plant: Plant, added: Added) -> None:
    """Its stack destroyed and its section taken from the manifest, registry and files are those from before."""
    local = plant.local
    stack = local.output / "stacks" / STACK
    added.terraform.destroy(stack)
    assert 0 == count_resources(stack)
    shutil.rmtree(stack)
    (plant.root / "fleet.yaml").write_text(added.manifest)
    plant.fleet("generate", "--allow", "destroys-data", "--allow", "breaks-identity")
    deployment.write_all_overrides(deployment.synthesise(local, root=plant.root))
    assert added.files == stack_files(plant)
    registry = count_registry(local.client("iot"), SUFFIX)
    assert (7, 7) == (registry.things, registry.certificates)
