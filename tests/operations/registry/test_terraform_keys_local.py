"""Keys of a plant that Terraform registers, on the local AWS with real Terraform and MQTT.

One plant of three things, and a story: each test continues where the one before it ended. Of the plant's stack, only
what devices need is applied.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from benchmarks.onboarding import PLANT, make_onboarding_project
from fleet_iot.lib.record.identities import read_requests
from fleet_iot.lib.record.read import read_things
from fleet_iot.lib.shared.things import thing_blocks
from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.local import deployment, emulator
from fleet_iot.operations.project import load_project
from fleet_iot.operations.registry.steps import is_of_key
from fleet_iot.operations.terraform import PlannedChange, Terraform, terraform_for
from tests.operations.registry.site import thing_name
from tests.operations.registry.works import Works

pytestmark = pytest.mark.local_aws

FIRST, SECOND, THIRD = (thing_name(number) for number in (1, 2, 3))
CERTIFIED = ("aws_iot_certificate", "aws_iot_policy_attachment", "aws_iot_thing_principal_attachment")
THINGS = ("aws_iot_thing", "aws_iot_thing_group_membership", *CERTIFIED)
KINDS = (*THINGS, "aws_iot_thing_group", "aws_iot_policy")


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The plant, its stack's folder, and Terraform; certificates of its things before they were rotated or ended."""

    works: Works
    terraform: Terraform
    ids: dict[str, str] = field(default_factory=dict)
    contexts: dict[str, ssl.SSLContext] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.works.local.output / "stacks" / f"facility-{PLANT}-dev"

    def let_in(self) -> list[bool]:
        """Which of the things are let in with the certificates of `contexts`."""
        return [self.works.lets_in(name, context) for name, context in self.contexts.items()]

    def synthesise(self) -> None:
        """Make the stack's file, without what devices do not need."""
        stacks = deployment.synthesise(self.works.local, root=self.works.project, facilities=(PLANT,))
        deployment.write_all_overrides(stacks)
        document = json.loads(self.file.read_text())
        document["resource"] = {kind: each for kind, each in document["resource"].items() if kind in KINDS}
        self.file.write_text(json.dumps(document, indent=2))
        override = self.folder / "local_override.tf.json"
        override.write_text(json.dumps({"provider": json.loads(override.read_text())["provider"]}))

    @property
    def file(self) -> Path:
        return self.folder / "cdk.tf.json"

    def plan(self) -> dict[str, str]:
        """Make the blocks of the things again, as synthesis does; return address → action of what an apply would
        change."""
        project = load_project(self.works.project)
        facility = project.facility(PLANT)
        requests = read_requests(self.works.project / "identities" / "dev" / f"{PLANT}.csrs.jsonl")
        rows = read_things(project.record / facility.module / facility.things_file)
        is_bulk = facility.registration == "bulk"
        made = thing_blocks(rows, facility=facility, suffix="dev", requests=requests).blocks
        document = json.loads(self.file.read_text())
        others = {kind: each for kind, each in document["resource"].items() if kind not in THINGS}
        document["resource"] = others if is_bulk else others | made
        self.file.write_text(json.dumps(document, indent=2))
        return {each.address: each.action for each in self.changes()}

    def changes(self) -> tuple[PlannedChange, ...]:
        return deployment.without_drift(self.terraform.plan(self.folder))

    def apply(self) -> None:
        self.terraform.apply(self.folder)

    def certificate(self, name: str) -> str:
        """The id of the thing's one certificate."""
        (found,) = self.works.certificate_ids(name)
        return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("terraform")
    project = make_onboarding_project(folder / "project", things=3, registration="terraform")
    local = emulator.start(folder=project / "build" / "local", region="ap-southeast-1")
    try:
        works = Works(project=project, local=local, keys=folder / "keys")
        works.fleet("keys", "create", "--facility", PLANT)
        local.client("iot").create_thing_type(thingTypeName="thing-type-press-dev")
        # The emulator settles sixty times faster than AWS IoT.
        terraform = terraform_for(environment=local.environment(), logs=local.logs, pauses=(0.5,) * 20)
        found = Stack(works=works, terraform=terraform)
        found.synthesise()
        found.terraform.init(found.folder)
        found.apply()
        yield found
    finally:
        emulator.stop(local)


def declare(works: Works, registration: str) -> None:
    """Write who registers the plant's things into the manifest."""
    manifest = works.project / "fleet.yaml"
    data = json.loads(manifest.read_text())
    data["facilities"][PLANT]["registration"] = registration
    manifest.write_text(json.dumps(data))


def certified(name: str, generation: int = 1) -> set[str]:
    """The addresses of a thing's certificate and its attachments."""
    id_ = name.removesuffix("-dev") + (f"_{generation}" if generation > 1 else "")
    return {f"{kind}.{id_}" for kind in CERTIFIED}


def lines(works: Works, kind: str = "csrs") -> list[dict[str, Any]]:
    path = works.project / "identities" / "dev" / f"{PLANT}.{kind}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def newest_of(works: Works, name: str) -> str:
    """The id of the certificate of the thing's key in the store."""
    iot, key = works.local.client("iot"), key_digest(works.key(name).public_key())
    for arn in iot.list_thing_principals(thingName=name)["principals"]:
        described = iot.describe_certificate(certificateId=arn.rpartition("/")[2])["certificateDescription"]
        if is_of_key(described["certificatePem"], key):
            return str(described["certificateId"])
    raise AssertionError(f"{name} has no certificate of its key")


def context_of(works: Works, name: str) -> ssl.SSLContext:
    return works.context(newest_of(works, name), works.key(name))


def test_the_truth_is_read_from_aws_iot(stack: Stack) -> None:
    """Certificates, expiry and keys of things that no journal has; a plant of which nothing is known is unknown."""
    told = stack.works.fleet("certificates")
    assert "3 certificates; 0 expire within 90 days" in told
    assert f"{PLANT}: 3 things; certificates by AWS IoT: 3" in told
    assert "th-01: 1 thing; certificates by journal: unknown" in told
    assert 3 == len(json.loads(stack.works.fleet("certificates", "--expiring", "36500d", "--json"))["expiring"])
    (shown,) = json.loads(stack.works.fleet("device", "show", FIRST, "--json"))
    (certificate,) = shown["certificates"]
    assert (stack.certificate(FIRST), "ACTIVE") == (certificate["id"], certificate["status"])
    assert certificate["not_after"] > "2027"
    assert [{"generation": 1, "status": "in use", "certificate_id": certificate["id"]}] == shown["keys"]


def test_a_plant_changes_its_registration_and_no_certificate(stack: Stack) -> None:
    """To bulk and back: ids stay, plans are empty, devices connect, and commands work on either side."""
    works = stack.works
    contexts = {name: context_of(works, name) for name in (FIRST, SECOND, THIRD)}
    declare(works, "bulk")
    planned = works.fleet("plan")
    assert "registration: terraform → bulk" in planned and f"fleet device adopt --facility {PLANT}" in planned
    works.fleet("generate")
    adopt = ("device", "adopt", "--facility", PLANT)
    assert "3 devices handed over to bulk" in works.fleet(*adopt, "--yes")
    assert {} == stack.plan()
    assert "3 were already" in works.fleet("onboard", "--facility", PLANT)
    works.fleet("device", "rotate", FIRST, "--reason", "yearly")
    works.fleet("device", "rotate", FIRST, "--finish", "--reason", "yearly")
    contexts[FIRST] = context_of(works, FIRST)
    ids = {name: stack.certificate(name) for name in contexts}
    assert all(works.lets_in(name, context) for name, context in contexts.items())

    declare(works, "terraform")
    assert "registration: bulk → terraform" in works.fleet("plan")
    works.fleet("generate")
    assert "3 devices handed over to terraform" in works.fleet(*adopt)
    assert {} == stack.plan()
    assert ids == {name: stack.certificate(name) for name in ids}
    assert all(works.lets_in(name, context) for name, context in contexts.items())
    assert "handed over to Terraform" in works.fleet("device", "show", FIRST)


def test_a_rotation_is_planned_and_devices_are_locked_out_at_once(stack: Stack) -> None:
    """The plan adds one certificate and touches no other, nor does it bring back what was locked out."""
    works = stack.works
    stack.ids.update({name: stack.certificate(name) for name in (FIRST, SECOND, THIRD)})
    stack.contexts.update({name: context_of(works, name) for name in stack.ids})
    assert [True, True, True] == stack.let_in()
    told = works.fleet("device", "rotate", FIRST, "--reason", "yearly")
    assert f"a CSR of generation 2 beside {stack.ids[FIRST]}" in told
    told = works.fleet("device", "rotate", FIRST, "--finish", "--reason", "soon", exit_code=2)
    assert f"no certificate in AWS IoT of its key of generation 2\nhint: apply the stack of {PLANT}" in told
    assert "1 certificate REVOKED; commit identities/" in works.fleet("device", "revoke", SECOND, "--reason", "stolen")
    told = works.fleet("device", "retire", THIRD, "--reason", "scrapped")
    assert f"then deleted: {stack.ids[THIRD]}; commit" in told
    assert [True, False, False] == stack.let_in()
    planned = works.fleet("plan")
    assert "certificates rotated of 1 thing (sg-01-press-0001)" in planned and "breaks-identity" not in planned
    works.fleet("generate")
    assert [(1, None), (2, None), (1, "revoked"), (1, "retired")] == [
        (line.get("generation", 1), line.get("status")) for line in lines(works, "lock")
    ]
    assert dict.fromkeys(certified(FIRST, 2), "create") == stack.plan()


@pytest.mark.skipif(not os.environ.get("FLEET_APPLY_KEYS"), reason="two more applies: make soak")
def test_a_rotation_is_applied_and_finished(stack: Stack) -> None:
    """No apply brings a locked out device back; the second deletes the former certificate alone, and makes one for each
    key that comes after an ended one."""
    works, iot = stack.works, stack.works.local.client("iot")
    stack.apply()
    assert [True, False, False] == stack.let_in()
    described = iot.describe_certificate(certificateId=stack.certificate(SECOND))
    assert "REVOKED" == described["certificateDescription"]["status"]
    with pytest.raises(ClientError):
        iot.describe_certificate(certificateId=stack.ids[THIRD])
    assert "has no key in use" in works.fleet("device", "activate", SECOND, "--reason", "found", exit_code=2)
    assert "has no key in use" in works.fleet("device", "rotate", SECOND, "--reason", "found", exit_code=2)
    shown = works.fleet("device", "show", SECOND, THIRD)
    assert "stolen" in shown and "key of generation 1: revoked, certificate" in shown
    assert "scrapped" in shown and "key of generation 1: retired, no certificate attached" in shown
    newest = newest_of(works, FIRST)
    assert {newest, stack.ids[FIRST]} == set(works.certificate_ids(FIRST, count=2))
    told = works.fleet("device", "rotate", FIRST, "--finish", "--reason", "yearly", exit_code=2)
    assert "does not say which certificate" in told and "--force" in told
    told = works.fleet("device", "rotate", FIRST, "--finish", "--force", "--reason", "yearly")
    assert f"{newest} stays" in told and f"deletes {stack.ids[FIRST]}" in told
    assert "rotations finished of 1 thing" in works.fleet("plan")
    works.fleet("keys", "create", "--facility", PLANT, "--renew", SECOND, "--renew", THIRD)
    works.fleet("generate")
    expected = dict.fromkeys(certified(FIRST), "delete")
    expected |= dict.fromkeys(certified(SECOND, 2) | certified(THIRD, 2), "create")
    assert expected == stack.plan()
    stack.apply()
    assert () == stack.changes()
    assert newest == stack.certificate(FIRST)
    with pytest.raises(ClientError):
        iot.describe_certificate(certificateId=stack.ids[FIRST])
    assert [False, False, False] == stack.let_in()
    assert all(works.lets_in(name, context_of(works, name)) for name in stack.ids)
    assert "4 certificates" in works.fleet("certificates")
