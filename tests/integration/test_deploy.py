"""Deployments that were interrupted and delayed, before the platform that the other tests use was complete."""

from __future__ import annotations

import json

import pytest

from fleet_iot.operations.local.aws import applied_stacks, attributes_of
from tests.integration.interruptions import INTERRUPTIONS, SEED, SIGNALS, TRANSIENT, injected, is_orderly
from tests.integration.plant import Plant

pytestmark = [
    pytest.mark.local_aws,
    pytest.mark.skipif(not INTERRUPTIONS, reason="FLEET_INTERRUPTIONS=0"),
]


def test_each_signal_ended_a_deployment(plant: Plant) -> None:
    """Ctrl-C and SIGTERM are an orderly end; SIGKILL is none."""
    assert [by.name for by in SIGNALS] == [each.by for each in plant.interrupted]
    assert all(is_orderly(each) for each in plant.interrupted), f"{plant.interrupted}; FLEET_KILLS_SEED={SEED}"


def test_what_was_begun_is_made_once(plant: Plant) -> None:
    """Each key, stream and certificate there is in a state: none is left over from an interruption."""
    local, told = plant.local, f"{plant.interrupted}; FLEET_KILLS_SEED={SEED}"
    stacks = applied_stacks(local)
    kms, iot = local.client("kms"), local.client("iot")
    keys = [kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in kms.list_keys()["Keys"]]
    enabled = {key["KeyId"] for key in keys if key["KeyState"] == "Enabled"}
    assert enabled == {key["key_id"] for stack in stacks for key in attributes_of(stack, "aws_kms_key")}, told
    certificates = {each["certificateArn"] for each in iot.list_certificates(pageSize=250)["certificates"]}
    made = {each["arn"] for stack in stacks for each in attributes_of(stack, "aws_iot_certificate")}
    assert made <= certificates and 1 == len(certificates - made), told  # the rules engine has one too


def test_transient_failures_were_tried_again(plant: Plant) -> None:
    """Each injected one was answered, and the deployment was completed nevertheless."""
    asked = sorted(f"{each['service']} {each['code']}" for each in TRANSIENT[:2] for _ in range(each["times"]))
    assert asked == sorted(injected(plant.local))


def test_a_facility_is_planned_and_approved_by_itself(plant: Plant) -> None:
    """Its plan is empty, and bound to the record; approved, it changes nothing."""
    plan = json.loads(plant.fleet("deploy", "--plan-only", "--facility", "sg-01", "--json").stdout)
    changes = {stack["name"]: stack["changes"] for stack in plan["stacks"]}
    assert {"tap-it", "facility-sg-01-it"} == set(changes)
    assert [] == changes["facility-sg-01-it"]
    again = plant.fleet("deploy", "--approve", plan["bundle"], "--digest", "0" * 64, exit_code=5)
    assert "is not what was planned" in again.stderr
