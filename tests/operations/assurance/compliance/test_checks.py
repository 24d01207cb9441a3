"""Checks at their edges; test_gate.py shows that each fires on its mutations of the real stacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fleet_iot.operations.assurance.compliance.checks import CHECKS, hygiene
from fleet_iot.operations.assurance.compliance.findings import OWN, read_catalogue
from fleet_iot.operations.assurance.compliance.infrastructure import NAMED, NAMELESS, PlannedInfrastructure, Stack
from tests.operations.assurance.compliance.mutations import MUTATIONS, try_mutations
from tests.operations.assurance.compliance.mutations.edits import edited, mutation, put

BY_ID = {check.id: check for check in CHECKS}


def problems(check: str, planned: PlannedInfrastructure) -> list[str]:
    return [finding.problem for finding in BY_ID[check].run(planned) if not finding.has_passed]


def test_every_check_has_a_name_a_mutation_and_a_control() -> None:
    """None can be added without saying what it is for, and without a proof that it fires."""
    assert len(BY_ID) == len(CHECKS)
    assert set(BY_ID) == {each.check for each in MUTATIONS}
    assert {f"{OWN} {id_}" for id_ in BY_ID} <= set(read_catalogue().checks)


def test_mutations_are_told_apart() -> None:
    """No two have one name under one check."""
    assert len({(each.check, each.name) for each in MUTATIONS}) == len(MUTATIONS)


def test_catalogue_is_whole() -> None:
    """Every control that is mapped is there, each one there is mapped, and each belongs to a framework."""
    catalogue = read_catalogue()
    assert {id_ for ids in catalogue.checks.values() for id_ in ids} == set(catalogue.controls)
    assert {each.framework for each in catalogue.controls.values()} <= {each.id for each in catalogue.frameworks}
    assert all(any(id_.startswith(start) for id_ in catalogue.controls) for start in catalogue.only)


def test_a_type_is_named_or_nameless() -> None:
    """Never both."""
    assert not set(NAMED) & set(NAMELESS)


def test_a_fault_that_was_there_catches_no_mutation(planned: Callable[..., PlannedInfrastructure]) -> None:
    """Only a finding that the mutation brought counts."""
    broken = planned({"aws_kms_key.k": {"enable_key_rotation": False, "rotation_period_in_days": 365}})
    same = mutation("key-rotation", "nothing changes", edited("aws_kms_key", put("enable_key_rotation", False)))
    other = mutation("key-rotation", "slower", edited("aws_kms_key", put("rotation_period_in_days", 999)))
    assert [False, True] == [trial.is_caught for trial in try_mutations(broken, mutations=[same, other])]


def test_a_mutation_of_what_is_not_there_is_an_error(planned: Callable[..., PlannedInfrastructure]) -> None:
    """It would prove nothing."""
    with pytest.raises(LookupError):
        edited("aws_kms_key", put("enable_key_rotation", False))(planned({}))


def test_what_is_not_there_cannot_be_broken(planned: Callable[..., PlannedInfrastructure]) -> None:
    """A type that the fleet has nothing of is passed over, not a resource that is named and missing."""
    one = mutation("key-rotation", "not rotating", edited("aws_kms_key", put("enable_key_rotation", False), id_="gone"))
    assert () == try_mutations(planned({}), mutations=[one])
    with pytest.raises(LookupError, match=r"aws_kms_key\.gone"):
        try_mutations(planned({"aws_kms_key.k": {}}), mutations=[one])


@pytest.mark.parametrize(
    ("address", "name", "is_right"),
    [
        ("aws_kinesis_stream.x", "stream-telemetry-dev", True),
        ("aws_kinesis_stream.x", "stream--dev", False),
        ("aws_iot_topic_rule.x", "rule_telemetry_sg_01_dev", True),
        ("aws_iot_topic_rule.x", "rule-telemetry-dev", False),
        ("aws_cloudwatch_log_group.x", "/aws/lambda/function-sensor-processor-dev", True),
        ("aws_cloudwatch_log_group.x", "/aws/lambda/sensor-processor-dev", False),
        ("aws_iot_thing.x", "sg-01-press-monitor-0001-dev", True),
        ("aws_iot_thing.x", "sg-01-press-monitor-0001-prod", False),
    ],
)
def test_names(planned: Callable[..., PlannedInfrastructure], address: str, name: str, is_right: bool) -> None:
    """Type, purpose and environment, with the separator that AWS allows."""
    assert is_right == (not problems("named", planned({address: {"name": name}})))


def test_names_of_an_environment_with_a_hyphen(planned: Callable[..., PlannedInfrastructure]) -> None:
    """In a topic rule the suffix's hyphens are underscores too."""
    found = planned({"aws_iot_topic_rule.x": {"name": "rule_telemetry_p1_a_b"}}, environment_suffix="a-b")
    assert [] == problems("named", found)


SOURCE = {"StringEquals": {"aws:SourceAccount": "123456789012"}, "ArnLike": {"aws:SourceArn": "arn:aws:x:*"}}


@pytest.mark.parametrize(
    ("service", "condition", "is_right"),
    [
        ("iot", SOURCE, True),
        ("iot", {}, False),
        ("cloudtrail", {}, True),
        ("cloudtrail", SOURCE, False),
        ("cloudtrail", {"ArnLikeIfExists": {"aws:sourcearn": "arn:aws:x:*"}}, False),
        ("cloudtrail", {"Null": {"AWS:SourceAccount": "false"}}, False),
        ("lambda", {}, True),
        ("lambda", {"StringEquals": {"aws:SourceAccount": "123456789012"}}, False),
        (["iot", "cloudtrail"], SOURCE, False),
        (["iot", "cloudtrail"], {}, False),
    ],
)
def test_trust_asks_a_service_for_what_it_sends(
    planned: Callable[..., PlannedInfrastructure],
    policy: Callable[..., str],
    service: str | list[str],
    condition: dict[str, Any],
    is_right: bool,
) -> None:
    """AWS IoT sends account and source; CloudTrail and Lambda send neither, and a trust that asks shuts them out."""
    services = [f"{each}.amazonaws.com" for each in ([service] if isinstance(service, str) else service)]
    trust = policy(Action="sts:AssumeRole", Principal={"Service": services}, Condition=condition)
    found = planned({"aws_iam_role.r": {"name": "role-x-dev", "assume_role_policy": trust}})
    assert is_right == (not problems("trust-bound", found))


@pytest.mark.parametrize(
    ("value", "is_own"),
    [
        ("${aws_kms_key.key-data.arn}", True),
        ("arn:aws:kms:eu-west-1:123456789012:key/1", True),
        ("alias/key-data-dev", True),
        ("alias/aws/sqs", False),
        ("${aws_sqs_queue.q.arn}", False),
        ("${aws_kms_key.gone.arn}", False),
        (None, False),
    ],
)
def test_own_keys(planned: Callable[..., PlannedInfrastructure], value: str | None, is_own: bool) -> None:
    """By reference, ARN or alias; never AWS's own, and never none."""
    found = planned({"aws_kms_key.key-data": {}, "aws_sqs_queue.q": {"kms_master_key_id": value}})
    assert is_own == (not problems("own-key", found))


@pytest.mark.parametrize(
    ("resource", "is_right"),
    [
        ("topic/dt/mfg/sg-01/press/${iot:Connection.Thing.ThingName}/telemetry", True),
        ("topic/$aws/rules/rule_x/dt/mfg/sg-01/press/${iot:Connection.Thing.ThingName}/telemetry", True),
        ("topicfilter/cmd/mfg/sg-01/press/${iot:Connection.Thing.ThingName}/request", True),
        ("topic/dt/mfg/sg-01/press/${iot:Connection.Thing.ThingName}/*", False),
        ("topic/dt/mfg/my-jb-01/press/${iot:Connection.Thing.ThingName}/telemetry", False),
        ("topic/dt/mfg/sg-01/press/telemetry", False),
        ("topic/dt/mfg/sg-01/press/${iot:ClientId}/telemetry", False),
        ("topic/dt/mfg/sg-01/press/x${iot:Connection.Thing.ThingName}/telemetry", False),
    ],
)
def test_device_policies(
    planned: Callable[..., PlannedInfrastructure], policy: Callable[..., str], resource: str, is_right: bool
) -> None:
    """A topic holds the thing's own name as a whole level, and its facility."""
    text = policy(Action="iot:Publish", Resource=f"arn:aws:iot:eu-west-1:123456789012:{resource}")
    found = planned({"aws_iot_policy.p": {"policy": text}}, of_stack="facility-sg-01-dev")
    assert is_right == (not problems("device-policy-scoped", found))


def test_secrets_of_the_environment_are_looked_for(
    planned: Callable[..., PlannedInfrastructure], stack: Callable[..., Stack]
) -> None:
    """Values of variables that are called secrets; paths, short values and other variables are none."""
    plan = "before hunter2-hunter2 after /some/long/path short innocent-value"
    environment = {
        "FLEET_KEYS_PASSPHRASE": "hunter2-hunter2",
        "SOME_KEY_FILE": "/some/long/path",
        "API_TOKEN": "short",
        "HARMLESS": "innocent-value",
    }
    found = list(hygiene.no_secret.look(planned({}, stacks=(stack(plan_text=plan),)), environment))
    assert ["holds a value of FLEET_KEYS_PASSPHRASE"] == [each.problem for each in found]


def test_a_certificate_signed_elsewhere_needs_no_csr(planned: Callable[..., PlannedInfrastructure]) -> None:
    """One of the maker's own authority comes as PEM; one without either would be made by AWS, key and all."""
    pem = {"certificate_pem": "-----BEGIN CERTIFICATE-----\n"}
    assert [] == problems("certificate-from-csr", planned({"aws_iot_certificate.c": pem}))
    assert 1 == len(problems("certificate-from-csr", planned({"aws_iot_certificate.c": {"active": True}})))


def test_a_bucket_without_anything_fails_every_demand(planned: Callable[..., PlannedInfrastructure]) -> None:
    """Everything that a bucket lacks is reported, even where the resource that should bring it is missing."""
    bare = planned({"aws_s3_bucket.b": {"bucket": "bucket-raw-archive-dev"}})
    checks = ("tls-only", "tls-1.2", "bucket-encrypted", "bucket-versioning", "bucket-private", "bucket-lifecycle")
    for check in (*checks, "bucket-logged", "archive-tiering", "trail-data-events", "destroyable"):
        assert problems(check, bare), check


def test_a_service_may_call_a_function_for_one_source(planned: Callable[..., PlannedInfrastructure]) -> None:
    """A permission without source allows everybody's topics to call it."""
    function = {"aws_lambda_function.f": {"function_name": "function-x-dev"}}
    bound: dict[str, Any] = {"function_name": "function-x-dev", "source_arn": "arn:x", "source_account": "1"}
    assert [] == problems("function-private", planned({**function, "aws_lambda_permission.p": bound}))
    open_ = {"function_name": "function-x-dev", "source_arn": "arn:x"}
    assert 1 == len(problems("function-private", planned({**function, "aws_lambda_permission.p": open_})))


def test_records_are_protected_where_a_brief_platform_can_be_destroyed(
    planned: Callable[..., PlannedInfrastructure],
) -> None:
    """Retention `records` demands protection that brief retention refuses, and a lock of seven years per bucket."""
    table = {"aws_dynamodb_table.t": {"deletion_protection_enabled": True}}
    assert 1 == len(problems("destroyable", planned(table)))
    assert [] == problems("destroyable", planned(table, retention="records"))
    bucket = {"aws_s3_bucket.b": {"bucket": "bucket-x-dev"}}
    assert [] == problems("records-locked", planned(bucket))
    for days, found in ((2557, 0), (30, 1)):
        rule = [{"default_retention": [{"mode": "GOVERNANCE", "days": days}]}]
        lock = {"aws_s3_bucket_object_lock_configuration.l": {"bucket": "bucket-x-dev", "rule": rule}}
        assert found == len(problems("records-locked", planned(bucket | lock, retention="records")))
    assert ["locks its objects [] days"] == problems("records-locked", planned(bucket, retention="records"))


def test_what_aws_itself_tells_has_no_sender(planned: Callable[..., PlannedInfrastructure]) -> None:
    """Nobody else can publish on its topics; a rule on any other says whose message it is."""
    events = "SELECT * FROM '$aws/events/thing/+/+' WHERE regexp_matches(topic(4), '-dev$')"
    devices = events.replace("$aws/events/thing", "dt/mfg/a")
    assert [] == problems("rule-hears-its-own", planned({"aws_iot_topic_rule.r": {"sql": events}}))
    assert ["does not say who sent a message"] == problems(
        "rule-hears-its-own", planned({"aws_iot_topic_rule.r": {"sql": devices}})
    )


def test_templates_that_are_no_json_fail(planned: Callable[..., PlannedInfrastructure]) -> None:
    """A template that cannot be read is not passed over."""
    for body in ("", "{}", json.dumps({"Resources": {"x": {}}})):
        assert problems("template-scoped", planned({"aws_iot_provisioning_template.t": {"template_body": body}}))


def test_policies_elsewhere_are_found(
    planned: Callable[..., PlannedInfrastructure], policy: Callable[..., str]
) -> None:
    """A queue's own attribute, a role's inline policies: no other check would read them. A policy's name is none."""
    text = policy(Action="sqs:SendMessage", Resource="arn:x")
    aside = {
        "aws_sqs_queue.q": {"policy": text},
        "aws_iam_role.r": {"assume_role_policy": text, "inline_policy": [{"policy": text}]},
        "aws_iot_policy_attachment.a": {"policy": "policy-x-dev"},
    }
    assert ["carries a policy where no check reads it"] * 2 == problems("policies-whole", planned(aside))
