"""Least privilege over all policies of the platform."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from moto.iam.aws_managed_policies import aws_managed_policies_data

from fleet_iot.lib import names as resource_names

pytestmark = pytest.mark.cdktf

RESOURCE_POLICIES = ("aws_s3_bucket_policy", "aws_sqs_queue_policy", "aws_sns_topic_policy")


def _allowed(stacks: Any, *kinds: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in kinds:
        for id_, body in stacks.platform.of(kind).items():
            for statement in json.loads(body["policy"])["Statement"]:
                if statement["Effect"] == "Allow":
                    yield f"{id_}/{statement['Sid']}", statement


def test_no_policy_allows_a_wildcard_action(stacks: Any) -> None:
    """Every allowed action is spelled out, in roles, keys, buckets and queues."""
    statements = dict(_allowed(stacks, "aws_iam_role_policy", "aws_kms_key", *RESOURCE_POLICIES))
    assert len(statements) >= 30
    assert [name for name, statement in statements.items() if "*" in "".join(statement["Action"])] == []


def test_only_traces_and_what_registers_devices_go_to_any_resource(stacks: Any) -> None:
    """X-Ray, and eight actions of AWS IoT's, have no resource to name; everything else names its own."""
    statements = dict(_allowed(stacks, "aws_iam_role_policy"))
    assert [name for name, statement in statements.items() if statement["Resource"] == "*"] == [
        "role-archive-compactor-policy/WriteTraces",
        "role-bulk-registration-policy/RegisterThing",
        "role-fleet-provisioning-policy/RegisterThing",
        "role-sensor-processor-policy/WriteTraces",
    ]


def test_every_use_of_a_key_names_service_and_context(stacks: Any) -> None:
    """No role can use a key on its own, or for another resource than its own."""
    uses = {n: s for n, s in _allowed(stacks, "aws_iam_role_policy") if s["Action"][0].startswith("kms:")}
    assert len(uses) == 13
    for statement in uses.values():
        conditions = statement["Condition"]["StringEquals"]
        assert conditions["kms:ViaService"].endswith(".ap-southeast-1.amazonaws.com")
        assert [key for key in conditions if key.startswith("kms:EncryptionContext:")] != []
        assert statement["Resource"].startswith("${aws_kms_key.")


def test_every_trust_names_account_and_source_where_the_service_sends_them(stacks: Any) -> None:
    """No other account can make AWS IoT act as one of its roles; Lambda and CloudTrail refuse such a condition."""
    trusts = {
        role: json.loads(body["assume_role_policy"])["Statement"]
        for role, body in stacks.platform.of("aws_iam_role").items()
    }
    assert {role: [s["Principal"]["Service"] for s in statements] for role, statements in trusts.items()} == {
        "role-archive-compactor": ["lambda.amazonaws.com"],
        "role-archive-schedule": ["scheduler.amazonaws.com"],
        "role-bulk-registration": ["iot.amazonaws.com"],
        "role-event-archive": ["iot.amazonaws.com"],
        "role-event-errors": ["iot.amazonaws.com"],
        "role-fleet-provisioning": ["iot.amazonaws.com"],
        "role-rule-errors": ["iot.amazonaws.com"],
        "role-sensor-processor": ["lambda.amazonaws.com"],
        "role-sweep": ["scheduler.amazonaws.com"],
        "role-topic-rule": ["iot.amazonaws.com"],
        "role-trail-logs": ["cloudtrail.amazonaws.com"],
    }
    for role, (statement,) in trusts.items():
        if role in ("role-archive-compactor", "role-sensor-processor", "role-trail-logs"):
            assert "Condition" not in statement
        else:
            assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}
            assert ":123456789012:" in statement["Condition"]["ArnLike"]["aws:SourceArn"]


def test_no_resource_policy_allows_everyone(stacks: Any) -> None:
    """`*` as a principal is only ever denied something."""
    everyone = [name for name, s in _allowed(stacks, "aws_kms_key", *RESOURCE_POLICIES) if s["Principal"] == "*"]
    assert everyone == []


def test_every_service_in_a_bucket_policy_names_its_source(stacks: Any) -> None:
    """Log delivery and trails are bound to source and account."""
    statements = [s for _, s in _allowed(stacks, "aws_s3_bucket_policy") if "Service" in s["Principal"]]
    assert len(statements) == 4
    for statement in statements:
        keys = {key for operator in statement["Condition"].values() for key in operator}
        assert {"aws:SourceArn", "aws:SourceAccount"} <= keys


def test_bulk_registration_reaches_this_environment_alone(stacks: Any) -> None:
    """Its parameter files, and things, groups, types and policies that end in the suffix."""
    statements = stacks.platform.statements("aws_iam_role_policy", "role-bulk-registration-policy")
    assert (
        "arn:aws:s3:::bucket-mfg-raw-archive-123456789012-tst/bulk-registration/*/*"
        == (statements.pop("GetParameterFiles")["Resource"])
    )
    del statements["DecryptParameterFiles"], statements["RegisterThing"]
    arns = {arn for each in statements.values() for arn in [each["Resource"]] if isinstance(arn, str)}
    arns |= {arn for each in statements.values() if isinstance(each["Resource"], list) for arn in each["Resource"]}
    prefix = "arn:aws:iot:ap-southeast-1:123456789012"
    names = ("thing/*", "thinggroup/thing-group-*", "thingtype/thing-type-*", "policy/policy-*")
    assert arns == {*(f"{prefix}:{name}-tst" for name in names), f"{prefix}:cert/*"}


def test_provisioning_reaches_this_environment_alone(stacks: Any) -> None:
    """Things and groups that it touches end in the environment's suffix; certificates have no name to bind."""
    arns = set()
    statements = stacks.platform.statements("aws_iam_role_policy", "role-fleet-provisioning-policy")
    del statements["RegisterThing"]
    for statement in statements.values():
        resources = statement["Resource"]
        arns |= {resources} if isinstance(resources, str) else set(resources)
    prefix = "arn:aws:iot:ap-southeast-1:123456789012"
    names = ("thing/*", "thinggroup/thing-group-*", "thingtype/thing-type-*", "policy/policy-*")
    assert arns == {*(f"{prefix}:{name}-tst" for name in names), f"{prefix}:cert/*"}


def test_registration_may_do_what_awss_own_policy_allows_but_for_what_no_template_does(stacks: Any) -> None:
    """AWSIoTThingsRegistration has 30 actions; eight that no template here needs are left out, none is added."""
    left_out = {
        *("CreatePolicy", "RegisterCertificate", "DetachPolicy", "DetachThingPrincipal", "RemoveThingFromThingGroup"),
        *("AddThingToBillingGroup", "DescribeBillingGroup", "RemoveThingFromBillingGroup"),
    }
    managed = json.loads(aws_managed_policies_data)["AWSIoTThingsRegistration"]["Document"]["Statement"][0]["Action"]
    assert len(managed) == 30
    for role in ("role-fleet-provisioning", "role-bulk-registration"):
        statements = stacks.platform.statements("aws_iam_role_policy", f"{role}-policy").values()
        actions = {action for each in statements for action in each["Action"] if action.startswith("iot:")}
        assert actions == set(managed) - {f"iot:{name}" for name in left_out}


def test_role_names_hold_application_and_region(stacks: Any) -> None:
    """Roles are global in an account: two regions, or two applications, with one suffix have roles of their own."""
    roles = {id_: role["name"] for id_, role in stacks.platform.of("aws_iam_role").items()}
    assert roles == {id_: f"{id_}-mfg-ap-southeast-1-tst" for id_ in roles}
    assert max(roles, key=len) == resource_names.LONGEST_ROLE
