"""Planning offline: whole policies, no AWS endpoint, and the real Terraform's plan as an infrastructure."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.operations.assurance.compliance import planning
from fleet_iot.operations.assurance.compliance.checks import CHECKS
from fleet_iot.operations.assurance.compliance.infrastructure import CREDENTIAL, Body, PlannedInfrastructure, literal

ACCOUNT = "123456789012"


def whole(text: str, resources: dict[str, dict[str, Body]]) -> str:
    return literal(text, resources, region="eu-west-1", account_id=ACCOUNT)


def test_references_in_policies_become_arns() -> None:
    """As AWS makes them; the id of a key is made up, and always the same."""
    resources: dict[str, dict[str, Body]] = {
        "aws_kms_key": {"key-data": {}},
        "aws_sns_topic": {"alarms": {"name": "topic-alarms-dev"}},
    }
    made = whole("${aws_kms_key.key-data.arn} ${aws_sns_topic.alarms.arn}", resources)
    key, topic = made.split()
    assert key.startswith(f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/")
    assert f"arn:aws:sns:eu-west-1:{ACCOUNT}:topic-alarms-dev" == topic
    assert made == whole("${aws_kms_key.key-data.arn} ${aws_sns_topic.alarms.arn}", resources)


@pytest.mark.parametrize("text", ["${aws_kms_key.gone.arn}", "${aws_kms_key.k.key_id}", "$${aws_kms_key.k.arn}"])
def test_other_references_stay(text: str) -> None:
    """References that are not known stay as they are; the check of whole policies refuses them."""
    assert text == whole(text, {"aws_kms_key": {"k": {}}})


def test_nothing_of_a_persons_aws_is_used() -> None:
    """Profiles, tokens and endpoints stay outside; AWS's address refuses connections."""
    with planning.refusing_address() as address:
        made = planning.offline_environment(
            {"AWS_PROFILE": "mine", "AWS_SESSION_TOKEN": "x", "HOME": "/h"}, address=address
        )
        assert {"AWS_PROFILE", "AWS_SESSION_TOKEN"}.isdisjoint(made)
        assert ("/h", address, CREDENTIAL) == (made["HOME"], made["AWS_ENDPOINT_URL"], made["AWS_SECRET_ACCESS_KEY"])
        host, port = address.removeprefix("http://").split(":")
        with socket.socket() as caller:
            caller.settimeout(2)
            assert caller.connect_ex((host, int(port))) != 0


def sample(**key: Any) -> Body:
    """A stack with a key, a stream that uses it, and a role's policy that names it."""
    statement = {"Sid": "Use", "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "${aws_kms_key.key-data.arn}"}
    return {
        "terraform": {
            "required_providers": {"aws": {"source": "aws", "version": "5.100.0"}},
            "backend": {"local": {"path": "terraform.tap-dev.tfstate"}},
        },
        "provider": {"aws": [{"region": "eu-west-1", "allowed_account_ids": [ACCOUNT]}]},
        "resource": {
            "aws_kms_key": {"key-data": {"enable_key_rotation": True, "deletion_window_in_days": 7, **key}},
            "aws_kinesis_stream": {
                "stream-x": {
                    "name": "stream-x-dev",
                    "retention_period": 168,
                    "encryption_type": "KMS",
                    "kms_key_id": "${aws_kms_key.key-data.arn}",
                    "stream_mode_details": {"stream_mode": "ON_DEMAND"},
                }
            },
            "aws_iam_role_policy": {
                "role-x-policy": {
                    "name": "policy-x-dev",
                    "role": "role-x-dev",
                    "policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
                }
            },
        },
    }


def plan_sample(tmp_path: Path, stack: Body) -> PlannedInfrastructure:
    folder = tmp_path / "stacks" / "tap-dev"
    folder.mkdir(parents=True)
    (folder / planning.STACK_FILE).write_text(json.dumps(stack))
    return planning.plan_stacks(
        [folder],
        environment_suffix="dev",
        retention="short",
        region="eu-west-1",
        account_id=ACCOUNT,
        logs=tmp_path / "logs",
    )


@pytest.mark.slow
def test_a_fault_in_the_synthesised_stack_reaches_its_check(tmp_path: Path) -> None:
    """Through the real Terraform and provider: a key that never rotates, a key that cannot be destroyed, a wide policy.

    The mutations of the gate break what the checks read; this shows that they read what was synthesised.
    """
    fault = {"enable_key_rotation": False, "lifecycle": {"prevent_destroy": True}}
    planned = plan_sample(tmp_path, sample(**fault))
    problems = {each.check: each.problem for check in CHECKS for each in check.run(planned) if not each.has_passed}
    assert "does not rotate" == problems["key-rotation"]
    assert "prevents its own destruction" in problems["destroyable"]
    assert (
        "does not name the service (kms:ViaService); is not bound to an encryption context" == problems["key-use-bound"]
    )
    assert {"own-key", "stream-encrypted", "stream-retention", "named", "no-secret", "right-account"}.isdisjoint(
        problems
    )
    (stream,) = planned.of("aws_kinesis_stream")
    assert "${aws_kms_key.key-data.arn}" == stream.body["kms_key_id"]
    (policy,) = planned.of("aws_iam_role_policy")
    assert f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/" in policy.body["policy"]
