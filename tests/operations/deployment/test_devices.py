"""What keeps plants from being destroyed: onboarded devices, and policies that onboarding attached."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from fleet_iot.generator.diagnostics import OutcomeError
from fleet_iot.operations.deployment.devices import release_policies

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
