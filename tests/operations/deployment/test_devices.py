"""Onboarded devices keep plants from being destroyed, and from being registered a second time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from fleet_iot.generator.diagnostics import GateError, OutcomeError
from fleet_iot.lib.shared.things import certificate_id, logical_id, thing_of
from fleet_iot.operations.deployment.bundle import Bundle, PlannedStack, impact_of
from fleet_iot.operations.deployment.devices import refuse_second_certificates, release_policies, with_rotations
from fleet_iot.operations.terraform import PlannedChange
from tests.operations.deployment.test_bundle import BINDING

GROUP, POLICY, OWN = "thing-group-mu-01-prod", "policy-mu-01-kompressor-prod", "mu-01-kompressor-0001-prod"


@pytest.fixture
def iot(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The registry of a plant that is deployed, with one thing that Terraform registered."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("iot", region_name="eu-central-1")
        arn = client.create_thing_group(thingGroupName=GROUP)["thingGroupArn"]
        client.create_policy(policyName=POLICY, policyDocument="{}")
        client.attach_policy(policyName=POLICY, target=arn)
        client.create_thing(thingName=OWN)
        client.add_thing_to_thing_group(thingGroupName=GROUP, thingName=OWN)
        yield client


@pytest.fixture
def stacks(tmp_path: Path) -> list[Path]:
    """The plant's stack, and the platform's, which has neither groups nor things."""
    body = {"aws_iot_thing_group": GROUP, "aws_iot_policy": POLICY, "aws_iot_thing": OWN}
    documents = {
        "facility-mu-01-prod": {"resource": {kind: {"x": {"name": name}} for kind, name in body.items()}},
        "tap-prod": {"resource": {"aws_sqs_queue": {"q": {"name": "q"}}}},
    }
    for name, document in documents.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "cdk.tf.json").write_text(json.dumps(document))
    return [tmp_path / name for name in documents]


def test_onboarded_devices_are_named(iot: Any, stacks: list[Path]) -> None:
    """Terraform's own things do not count; the policy stays attached."""
    iot.create_thing(thingName="mu-01-kompressor-0002-prod")
    iot.add_thing_to_thing_group(thingGroupName=GROUP, thingName="mu-01-kompressor-0002-prod")
    with pytest.raises(OutcomeError, match="1 onboarded device is registered, such as mu-01-kompressor-0002-prod"):
        release_policies(iot, stacks)
    assert 1 == len(iot.list_targets_for_policy(policyName=POLICY)["targets"])


def test_policies_are_detached_from_groups(iot: Any, stacks: list[Path]) -> None:
    """What onboarding attached is detached, so that AWS deletes the policy; a second time changes nothing."""
    release_policies(iot, stacks)
    release_policies(iot, stacks)
    assert [] == iot.list_targets_for_policy(policyName=POLICY)["targets"]


def test_a_plant_that_was_never_applied_has_nothing_to_release(iot: Any, stacks: list[Path]) -> None:
    """Its groups and policies do not exist."""
    for path in stacks:
        content = (path / "cdk.tf.json").read_text()
        (path / "cdk.tf.json").write_text(content.replace(GROUP, "other").replace(POLICY, "other"))
    release_policies(iot, stacks)
    assert 1 == len(iot.list_targets_for_policy(policyName=POLICY)["targets"])  # another plant's stays


def planned(folder: Path, *changes: tuple[str, str]) -> Bundle:
    """A plan of a stack with two things, of which one has a second key."""
    ids = {"t1": "t1", "t1_2": "t1", "t2": "t2"}
    resources = {
        "aws_iot_thing": {id_: {"name": f"mu-01-kompressor-{id_}-prod"} for id_ in ("t1", "t2")},
        "aws_iot_certificate": {id_: {"csr": "CSR", "active": id_ != "t2"} for id_ in ids},
        "aws_iot_thing_principal_attachment": {
            id_: {"thing": f"${{aws_iot_thing.{thing}.name}}", "principal": f"${{aws_iot_certificate.{id_}.arn}}"}
            for id_, thing in ids.items()
        },
    }
    (folder / "facility-mu-01-prod").mkdir()
    (folder / "facility-mu-01-prod" / "cdk.tf.json").write_text(json.dumps({"resource": resources}))
    stack = PlannedStack(
        name="facility-mu-01-prod",
        file="facility-mu-01-prod.plan",
        sha256="",
        stack_sha256="",
        changes=tuple(PlannedChange(address=address, action=action) for address, action in changes),
    )
    return Bundle(binding=BINDING, is_destroy=False, facilities=(), stacks=(stack,))


@pytest.mark.parametrize(
    ("changes", "is_safe"),
    [
        ({"aws_iot_certificate.t1_3": "delete", "aws_iot_policy_attachment.t1_3": "delete"}, True),
        ({"aws_iot_certificate.t1_3": "delete", "aws_iot_thing.t1": "update"}, True),
        ({"aws_iot_certificate.t1": "delete"}, True),
        ({"aws_iot_certificate.t1_3": "delete", "aws_iot_thing.t1": "replace"}, False),
        ({"aws_iot_certificate.t1_3": "delete", "aws_iot_thing.t1": "delete"}, False),
        (
            {f"aws_iot_certificate.{id_}": action for id_, action in (("t1_3", "delete"), ("t1", "delete"))}
            | {"aws_iot_certificate.t1_2": "create"},
            False,
        ),
        (
            {"aws_iot_certificate.t1_3": "delete", "aws_iot_certificate.t1": "replace"}
            | {"aws_iot_thing_principal_attachment.t1_2": "create"},
            False,
        ),
        ({"aws_iot_certificate.t2_2": "delete"}, False),
        ({"aws_iot_certificate.t3": "delete"}, False),
        ({"aws_iot_certificate.t1_5f_": "delete"}, False),
        ({"aws_iot_certificate.t1_3": "replace"}, False),
    ],
)
def test_a_finished_rotation_destroys_nothing(tmp_path: Path, changes: dict[str, str], is_safe: bool) -> None:
    """The thing keeps an active certificate that it had before; a thing without one is lost with its last."""
    bundle = planned(tmp_path, *changes.items())
    (stack,) = bundle.stacks
    found = with_rotations(tmp_path / stack.name, stack.changes)
    assert list(changes.items()) == [(each.address, each.action) for each in found]
    assert is_safe is not any(impact_of(each) for each in found)


@pytest.mark.parametrize("name", ["mu-01-kompressor-0001", "1_a.b", "ü_2", "_", "a_2_3"])
@pytest.mark.parametrize("generation", [1, 2, 31])
def test_a_certificates_identifier_has_its_thing(name: str, generation: int) -> None:
    """For every name and generation."""
    id_ = logical_id(name)
    assert id_ == thing_of(certificate_id(id_, generation))


@pytest.mark.parametrize("address", ["aws_iot_thing.t1", "aws_iot_certificate.t1", "aws_iot_certificate.t1_2"])
def test_an_onboarded_device_gets_no_second_certificate(tmp_path: Path, address: str) -> None:
    """Neither its thing nor a certificate of it is created; the remedy names the plant."""
    bundle = planned(tmp_path, ("aws_iot_thing.t2", "create"), (address, "create"))
    with pytest.raises(GateError, match="1 thing that is onboarded already, such as mu-01-kompressor-t1-prod") as found:
        refuse_second_certificates(bundle, lambda name: tmp_path / name, {"mu-01-kompressor-t1-prod"}.intersection)
    assert "fleet device adopt --facility mu-01;" in (found.value.hint or "")


def test_what_is_not_onboarded_or_not_created_is_deployed(tmp_path: Path) -> None:
    """The journal is asked about the things that are created, and only about these."""
    asked: list[Collection[str]] = []
    bundle = planned(tmp_path, ("aws_iot_thing.t1", "update"), ("aws_iot_certificate.t2", "create"))

    def onboarded(names: Collection[str]) -> set[str]:
        asked.append(names)
        return {"mu-01-kompressor-t1-prod"}.intersection(names)

    refuse_second_certificates(bundle, lambda name: tmp_path / name, onboarded)
    assert [{"mu-01-kompressor-t2-prod"}] == asked
