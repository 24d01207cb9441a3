"""Planned attributes against AWS's service models: what is held, what is found, and that nothing is passed over."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.validate import ParamValidator

from fleet_iot.operations.assurance.compliance.calls import CALLS, DOCUMENTED, NEVER_SENT
from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure
from fleet_iot.operations.assurance.compliance.requests import UNKNOWN, Sent, figures, judge_resource, map_resource
from fleet_iot.operations.local.service_model import input_of
from tests.operations.assurance.compliance.mutations import break_constraints
from tests.operations.assurance.compliance.mutations.edits import Edit, drop, put

TAGS = {"application": "mfg", "environment": "dev"}
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
ROLE = "arn:aws:iam::123456789012:role/role-topic-rule-dev"

BODIES: dict[str, dict[str, Any]] = {
    "aws_cloudtrail": {
        "name": "trail-audit-dev",
        "s3_bucket_name": "bucket-mfg-audit-trail-dev",
        "enable_logging": True,
        "is_multi_region_trail": True,
        "advanced_event_selector": [
            {"name": "Management events", "field_selector": [{"field": "eventCategory", "equals": ["Management"]}]}
        ],
        "insight_selector": [{"insight_type": "ApiCallRateInsight"}],
        "tags_all": TAGS,
    },
    "aws_cloudwatch_log_group": {"name": "log-group-x-dev", "retention_in_days": 30, "skip_destroy": False},
    "aws_cloudwatch_log_metric_filter": {
        "name": "filter-x-dev",
        "log_group_name": "log-group-x-dev",
        "pattern": "",
        "metric_transformation": [{"name": "Errors", "namespace": "FleetLogs/dev", "value": "1", "unit": "None"}],
    },
    "aws_cloudwatch_metric_alarm": {
        "alarm_name": "alarm-x-dev",
        "comparison_operator": "GreaterThanOrEqualToThreshold",
        "evaluation_periods": 1,
        "period": 300,
        "statistic": "Sum",
        "dimensions": {"Facility": "sg-01"},
        "treat_missing_data": "notBreaching",
        "metric_query": [
            {
                "id": "q1",
                "expression": "",
                "account_id": "",
                "metric": [{"stat": "Sum", "period": 60, "metric_name": "Errors"}],
            }
        ],
        "tags_all": TAGS,
    },
    "aws_dynamodb_table": {
        "name": "table-readings-dev",
        "billing_mode": "PAY_PER_REQUEST",
        "hash_key": "device",
        "range_key": "bucket",
        "attribute": [{"name": "device", "type": "S"}, {"name": "bucket", "type": "S"}],
        "point_in_time_recovery": [{"enabled": True}],
        "tags_all": TAGS,
    },
    "aws_iam_role": {
        "name": "role-x-dev",
        "assume_role_policy": TRUST,
        "description": "Für die Regel",
        "max_session_duration": 3600,
        "path": "/",
        "tags_all": TAGS,
    },
    "aws_iot_certificate": {"active": True, "csr": "-----BEGIN CERTIFICATE REQUEST-----\n"},
    "aws_iot_event_configurations": {"event_configurations": {"THING": True, "THING_GROUP": False}},
    "aws_iot_logging_options": {"default_log_level": "WARN", "role_arn": ROLE},
    "aws_iot_policy": {"name": "policy-x-dev", "policy": TRUST, "tags_all": TAGS},
    "aws_iot_provisioning_template": {
        "name": "template-x-dev",
        "description": "Devices of 東京第一工場",
        "enabled": False,
        "provisioning_role_arn": ROLE,
        "template_body": "{}",
    },
    "aws_iot_thing": {
        "name": "sg-01-press-0001-dev",
        "thing_type_name": "thing-type-press-dev",
        "attributes": {"facility": "sg-01", "serial": "SG01-PRESS-0001"},
    },
    "aws_iot_thing_group": {
        "name": "thing-group-sg-01-dev",
        "properties": [{"description": "sg-01", "attribute_payload": [{"attributes": {"facility": "sg-01"}}]}],
        "tags_all": TAGS,
    },
    "aws_iot_thing_principal_attachment": {
        "thing": "sg-01-press-0001-dev",
        "principal": "${aws_iot_certificate.c.arn}",
    },
    "aws_iot_thing_type": {
        "name": "thing-type-press-dev",
        "deprecated": False,
        "properties": [{"description": "Hydraulic press, 400 t"}],
    },
    "aws_iot_topic_rule": {
        "name": "rule_telemetry_sg_01_dev",
        "description": "Werk Köln",
        "enabled": True,
        "sql": "SELECT * FROM 'dt/mfg/sg-01/+/+/telemetry'",
        "sql_version": "2016-03-23",
        "kinesis": [{"partition_key": "${clientid()}", "role_arn": ROLE, "stream_name": "stream-telemetry-dev"}],
        "error_action": [{"s3": [{"bucket_name": "bucket-x-dev", "key": "${newuuid()}", "role_arn": ROLE}]}],
        "tags_all": TAGS,
    },
    "aws_kinesis_stream": {
        "name": "stream-telemetry-dev",
        "retention_period": 168,
        "encryption_type": "KMS",
        "kms_key_id": "${aws_kms_key.key-data.arn}",
        "stream_mode_details": [{"stream_mode": "ON_DEMAND"}],
    },
    "aws_kms_alias": {"name": "alias/key-data-dev", "target_key_id": "${aws_kms_key.key-data.key_id}"},
    "aws_kms_key": {"deletion_window_in_days": 7, "rotation_period_in_days": 365, "policy": TRUST, "tags_all": TAGS},
    "aws_lambda_function": {
        "function_name": "function-sensor-processor-dev",
        "role": "${aws_iam_role.role.arn}",
        "runtime": "python3.11",
        "handler": "sensor_processor.handler.handle",
        "memory_size": 1024,
        "timeout": 120,
        "environment": [{"variables": {"LOG_LEVEL": "INFO"}}],
        "reserved_concurrent_executions": -1,
        "filename": "x.zip",
    },
    "aws_s3_bucket": {"bucket": "bucket-mfg-raw-archive-dev", "force_destroy": True, "tags_all": TAGS},
    "aws_s3_bucket_lifecycle_configuration": {
        "bucket": "bucket-x-dev",
        "rule": [
            {"id": "cool-down", "status": "Enabled", "prefix": "", "filter": [{"prefix": ""}]},
            {"id": "glacier", "status": "Enabled", "transition": [{"days": 90, "storage_class": "GLACIER"}]},
        ],
    },
    "aws_s3_bucket_object_lock_configuration": {
        "bucket": "bucket-x-dev",
        "object_lock_enabled": "Enabled",
        "rule": [{"default_retention": [{"mode": "GOVERNANCE", "days": 2557}]}],
    },
    "aws_s3_object": {"bucket": "bucket-x-dev", "key": "raw/", "tags_all": TAGS},
    "aws_sns_topic": {"name": "topic-alarms-dev", "fifo_topic": False, "tags_all": TAGS},
    "aws_sqs_queue": {"name": "queue-x-dev", "delay_seconds": 0, "message_retention_seconds": 1209600},
}
"""A resource of each of many types as a plan would have it, with nothing wrong."""

MANY = {f"key-{n}": "x" for n in range(60)}

MUTATIONS: tuple[tuple[str, Edit, str, str], ...] = (
    # What the models know: patterns
    ("aws_iot_thing_group", put("properties.0.description", "Werk Köln"), "properties[0].description", "pattern"),
    ("aws_iot_thing_type", put("properties.0.description", "プレス"), "properties[0].description", "pattern"),
    ("aws_iot_thing_type", put("properties.0.description", "a\tb"), "properties[0].description", "pattern"),
    ("aws_iot_thing_group", put("name", "thing group"), "name", "pattern"),
    ("aws_iot_thing", put("name", "sg-01.press"), "name", "pattern"),
    ("aws_iot_thing", put("attributes.hall", "north hall"), "attributes.hall", "pattern"),
    ("aws_iot_thing", put("attributes.größe", "9"), "attributes.größe", "pattern"),
    ("aws_iot_thing_group", put("properties.0.attribute_payload.0.attributes.x", "ü"), "attributes.x", "pattern"),
    ("aws_iot_topic_rule", put("name", "rule-telemetry"), "name", "pattern"),
    ("aws_iot_topic_rule", put("tags_all.a;b", "x"), "tags_all.a;b", "pattern"),
    ("aws_iot_policy", put("name", "policy sg"), "name", "pattern"),
    ("aws_iot_provisioning_template", put("name", "template.x"), "name", "pattern"),
    ("aws_iot_provisioning_template", put("description", "one\ntwo"), "description", "pattern"),
    ("aws_iam_role", put("name", "role/x"), "name", "pattern"),
    ("aws_iam_role", put("description", "東京"), "description", "pattern"),
    ("aws_iam_role", put("path", "x"), "path", "pattern"),
    ("aws_iam_role", put("tags_all.owner", "a*b"), "tags_all.owner", "pattern"),
    ("aws_cloudwatch_log_group", put("name", "log group"), "name", "pattern"),
    ("aws_cloudwatch_log_metric_filter", put("name", "a:b"), "name", "pattern"),
    ("aws_cloudwatch_log_metric_filter", put("metric_transformation.0.name", "$x"), "[0].name", "pattern"),
    ("aws_kinesis_stream", put("name", "stream telemetry"), "name", "pattern"),
    ("aws_lambda_function", put("handler", "a b"), "handler", "pattern"),
    ("aws_lambda_function", put("environment.0.variables.1X", "y"), "variables.1X", "pattern"),
    ("aws_lambda_function", put("role", "role-x"), "role", "pattern"),
    # lengths, of texts, lists and maps
    ("aws_iot_provisioning_template", put("name", "t" * 37), "name", "at most 36"),
    ("aws_iot_provisioning_template", put("template_body", "x" * 10_241), "template_body", "at most 10,240"),
    ("aws_iam_role", put("name", "r" * 65), "name", "at most 64"),
    ("aws_iam_role", put("tags_all", MANY), "", "at most 50 entries"),
    ("aws_iot_thing", put("attributes.hall", "x" * 801), "attributes.hall", "at most 800"),
    ("aws_iot_thing_type", put("properties.0.description", "x" * 2_029), "description", "at most 2,028"),
    ("aws_cloudwatch_metric_alarm", put("alarm_name", "a" * 256), "alarm_name", "at most 255"),
    ("aws_cloudwatch_metric_alarm", put("alarm_actions", ["arn"] * 6), "alarm_actions", "at most 5"),
    ("aws_cloudwatch_metric_alarm", put("dimensions", MANY), "", "at most 30"),
    ("aws_iot_certificate", put("csr", "x" * 4_097), "csr", "at most 4,096"),
    # ranges
    ("aws_iam_role", put("max_session_duration", 60), "max_session_duration", "at least 3,600"),
    ("aws_kinesis_stream", put("retention_period", 9_999), "retention_period", "24 to 8,760"),
    ("aws_lambda_function", put("memory_size", 64), "memory_size", "at least 128"),
    ("aws_lambda_function", put("timeout", 0), "timeout", "at least 1"),
    ("aws_kms_key", put("rotation_period_in_days", 30), "rotation_period_in_days", "at least 90"),
    ("aws_cloudwatch_metric_alarm", put("evaluation_periods", 0), "evaluation_periods", "at least 1"),
    # enumerations
    ("aws_cloudwatch_metric_alarm", put("comparison_operator", "Above"), "comparison_operator", "none of"),
    ("aws_dynamodb_table", put("attribute.1.type", "T"), "attribute[1].type", "none of"),
    ("aws_lambda_function", put("runtime", "python2.0"), "runtime", "none of"),
    ("aws_iot_logging_options", put("default_log_level", "LOUD"), "default_log_level", "none of"),
    ("aws_iot_event_configurations", put("event_configurations.PRESS", True), "event_configurations.PRESS", "none of"),
    ("aws_s3_bucket_lifecycle_configuration", put("rule.1.transition.0.storage_class", "ICE"), "rule[1]", "none of"),
    ("aws_s3_bucket_object_lock_configuration", put("rule.0.default_retention.0.mode", "SOFT"), "mode", "none of"),
    ("aws_cloudtrail", put("insight_selector.0.insight_type", "Guess"), "insight_type", "none of"),
    ("aws_kinesis_stream", put("stream_mode_details.0.stream_mode", "FAST"), "stream_mode", "none of"),
    # what is required, at the top and within
    ("aws_iot_thing_group", drop("name"), "", "needs thingGroupName"),
    ("aws_iam_role", drop("assume_role_policy"), "", "needs AssumeRolePolicyDocument"),
    ("aws_iot_topic_rule", drop("sql"), "", "needs sql"),
    ("aws_iot_topic_rule", drop("kinesis.0.stream_name"), "", "needs streamName"),
    ("aws_iot_topic_rule", drop("error_action.0.s3.0.key"), "", "needs key"),
    ("aws_s3_bucket_lifecycle_configuration", drop("rule.1.status"), "", "needs Status"),
    ("aws_dynamodb_table", drop("attribute.0.type"), "", "needs AttributeType"),
    # types
    ("aws_lambda_function", put("timeout", "soon"), "timeout", "not of the type integer"),
    ("aws_iot_certificate", put("active", "yes"), "active", "not of the type boolean"),
    ("aws_cloudwatch_metric_alarm", put("evaluation_periods", True), "evaluation_periods", "not of the type"),
    # What AWS's pages know, and its models do not
    ("aws_s3_bucket", put("bucket", "Bucket_X"), "bucket", "bucketnamingrules"),
    ("aws_s3_bucket", put("bucket", "bucket-x--ol-s3"), "bucket", "bucketnamingrules"),
    ("aws_s3_object", put("tags_all", {f"k{n}": "x" for n in range(11)}), "", "object-tagging"),
    ("aws_sqs_queue", put("name", "q" * 81), "name", "API_CreateQueue"),
    ("aws_sqs_queue", put("message_retention_seconds", 59), "message_retention_seconds", "60 to 1,209,600"),
    ("aws_sns_topic", put("name", "topic.x"), "name", "API_CreateTopic"),
    ("aws_cloudtrail", put("name", "trail--audit"), "name", "API_CreateTrail"),
    ("aws_kms_key", put("deletion_window_in_days", 3), "deletion_window_in_days", "7 to 30"),
    ("aws_lambda_function", put("function_name", "f" * 65), "function_name", "API_CreateFunction"),
    ("aws_iot_policy", put("policy", "x" * 2_049), "policy", "without white space"),
    ("aws_iam_role", put("assume_role_policy", "x" * 2_049), "assume_role_policy", "without white space"),
    # What no call is known for
    ("aws_iot_thing", put("shadow", "x"), "shadow", "is in no AWS call"),
    ("aws_iot_thing_group", put("properties.0.colour", "x"), "properties[0].colour", "is in no AWS call"),
    ("aws_s3_bucket_lifecycle_configuration", put("rule.1.transition.0.date", "x"), "date", "is in no AWS call"),
    ("aws_dynamodb_table", put("replica", [{"region_name": "x"}]), "replica[0].region_name", "is in no AWS call"),
    ("aws_lambda_function", put("snap_start", [{}]), "snap_start", "is in no AWS call"),
    ("aws_cloudtrail", put("advanced_event_selector.0.why", False), "advanced_event_selector[0].why", "in no AWS call"),
)
"""Type, edit, the attribute that must be named, and what must be said of it."""


@pytest.fixture
def held(planned: Callable[..., PlannedInfrastructure]) -> Callable[..., list[tuple[str, str]]]:
    """Return a function that lists the problems of one resource, given by type and body."""

    def build(type_: str, body: dict[str, Any]) -> list[tuple[str, str]]:
        found = planned({f"{type_}.x": body, "aws_kms_key.key-data": {}, "aws_iam_role.role": {"name": "role-x-dev"}})
        return list(judge_resource(found.resources[0], planned=found).problems)

    return build


@pytest.mark.parametrize("type_", BODIES)
def test_what_aws_takes_has_no_problem(held: Callable[..., list[tuple[str, str]]], type_: str) -> None:
    """Names of plants in any script too, where AWS takes them."""
    assert [] == held(type_, BODIES[type_])


@pytest.mark.parametrize(("type_", "edit", "attribute", "said"), MUTATIONS)
def test_each_mutation_is_caught(
    held: Callable[..., list[tuple[str, str]]], type_: str, edit: Edit, attribute: str, said: str
) -> None:
    """At its attribute, with what AWS takes there."""
    body = copy.deepcopy(BODIES[type_])
    edit(body)
    problems = held(type_, body)
    assert [name for name, problem in problems if attribute in name and said in problem], problems


def test_a_type_without_a_call_fails(held: Callable[..., list[tuple[str, str]]]) -> None:
    """Whoever adds a resource says which call makes it."""
    ((name, problem),) = held("aws_instance", {"ami": "x"})
    assert ("type", True) == (name, "calls.py" in problem)


@pytest.mark.parametrize("type_", CALLS)
def test_every_member_of_the_table_is_one_of_the_model(type_: str) -> None:
    """A member that the model has not would be held against nothing."""
    call = CALLS[type_]
    for target in [each for value in call.members.values() for each in value.split()] + list(call.given):
        operation, _, member = target.rpartition(":")
        shape = input_of(call.service, operation or call.operation)
        for step in member.replace("{}", ".{}").split("."):
            name, pair = step.partition("{")[0].partition("[")[0], step.partition("{")[2].rstrip("}")
            if name:
                assert "map" == shape.type_name or name in shape.members, (type_, member)
                shape = shape.value if "map" == shape.type_name else shape.members[name]
            if "[" in step or pair:
                assert "list" == shape.type_name, (type_, member)
                shape = shape.member
                assert set(filter(None, pair.split(","))) <= set(shape.members)
            elif "{" in step:
                shape = shape.value
        assert "structure" != shape.type_name or "{" in member, (type_, member)


def test_every_attribute_that_is_not_sent_has_a_reason() -> None:
    """A sentence, and not beside a member."""
    for call in CALLS.values():
        assert not call.not_sent.keys() & {path.replace("[]", "") for path in call.members}
    for reasons in (NEVER_SENT, *(call.not_sent for call in CALLS.values())):
        assert all(len(reason) >= 20 for reason in reasons.values())


def test_every_documented_limit_has_its_page_and_a_member() -> None:
    """A limit of a member that no call sends would be held against nothing."""
    targets = {
        f"{call.service}.{operation or call.operation}:{member.partition('{')[0]}"
        for call in CALLS.values()
        for value in call.members.values()
        for operation, _, member in (each.rpartition(":") for each in value.split())
    }
    assert set(DOCUMENTED) <= targets
    assert all(limit.page.startswith("https://docs.aws.amazon.com/") for each in DOCUMENTED.values() for limit in each)


def test_botocore_takes_the_requests_too(planned: Callable[..., PlannedInfrastructure]) -> None:
    """Its own validator finds neither a missing nor an unknown member in what the table makes of a plan."""
    found = planned({f"{type_}.x": body for type_, body in BODIES.items()})
    for resource in found.resources:
        mapped = map_resource(resource, planned=found)
        assert mapped is not None
        for operation, tree in mapped.requests.items():
            shape = input_of(CALLS[resource.type].service, operation)
            report = ParamValidator().validate(_plain(tree, shape), shape).generate_report()
            assert "" == report, (resource.type, operation)


def _plain(tree: Any, shape: Any) -> Any:
    """A request as botocore takes it."""
    if isinstance(tree, Sent):
        tree = "unknown" if tree.value is UNKNOWN else tree.value
    if isinstance(tree, dict):
        if shape.type_name == "list":
            return [_plain(tree[place], shape.member) for place in sorted(tree)]
        of: Any = shape.members if shape.type_name == "structure" else dict.fromkeys(tree, shape.value)
        return {
            name: _plain(each, of[name])
            for name, each in tree.items()
            if not (isinstance(each, Sent) and each.value == "") or name in shape.required_members
        }
    return str(tree) if shape.type_name == "string" else tree


def test_what_only_an_apply_knows_is_sent_and_not_judged(held: Callable[..., list[tuple[str, str]]]) -> None:
    """A reference counts as given; one whose ARN can be made up is held against the pattern."""
    body = BODIES["aws_iot_thing_principal_attachment"]
    assert [] == held("aws_iot_thing_principal_attachment", body)
    assert [] == held("aws_lambda_function", BODIES["aws_lambda_function"])
    wrong = {**BODIES["aws_lambda_function"], "role": "${aws_kms_key.key-data.arn}"}
    assert ["role"] == [name for name, _ in held("aws_lambda_function", wrong)]


def test_a_second_block_where_the_call_takes_one_fails(held: Callable[..., list[tuple[str, str]]]) -> None:
    """It would hide the first; and two rules of one configuration are none."""
    body = copy.deepcopy(BODIES["aws_s3_bucket_lifecycle_configuration"])
    put("rule.0.filter", [{"prefix": "a/"}, {"prefix": "b/"}])(body)
    found = held("aws_s3_bucket_lifecycle_configuration", body)
    assert [("rule[0].filter[1].prefix", "is of a second block, where the call accepts one")] == found


def test_text_that_only_looks_like_a_reference_is_judged(held: Callable[..., list[tuple[str, str]]]) -> None:
    """`${…}` in a description is text, and held against the pattern like any other."""
    body = copy.deepcopy(BODIES["aws_iot_thing_type"])
    put("properties.0.description", "Köln ${a.b.c}")(body)
    assert 1 == len(held("aws_iot_thing_type", body))


def test_empty_text_is_an_attribute_that_is_not_set(held: Callable[..., list[tuple[str, str]]]) -> None:
    """Empty text counts as not set where the member is optional; a required one would be sent empty, and is refused."""
    assert [] == held("aws_iot_thing", {**BODIES["aws_iot_thing"], "thing_type_name": ""})
    assert ["name"] * 2 == [name for name, _ in held("aws_iot_thing", {**BODIES["aws_iot_thing"], "name": ""})]


def test_a_certificate_signed_elsewhere_is_registered(held: Callable[..., list[tuple[str, str]]]) -> None:
    """Another call makes it, which needs no CSR."""
    assert [] == held("aws_iot_certificate", {"active": False, "certificate_pem": "-----BEGIN CERTIFICATE-----"})


def test_each_constraint_is_broken_and_caught(planned: Callable[..., PlannedInfrastructure]) -> None:
    """The gate derives a mutation from each constraint; none may go unnoticed."""
    found = planned({f"{type_}.x": body for type_, body in BODIES.items()})
    trials = list(break_constraints(found))
    assert len(trials) > 300
    assert [] == [trial.mutation for trial in trials if not trial.is_caught]
    assert len({trial.mutation for trial in trials}) == len(trials)


def test_a_constraint_that_is_not_looked_at_is_missed(
    planned: Callable[..., PlannedInfrastructure], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A matcher that takes everything shows in the derived mutations: they can fail."""
    monkeypatch.setattr("fleet_iot.operations.local.service_model._matches", lambda pattern, value: True)
    found = planned({"aws_iot_thing.x": BODIES["aws_iot_thing"]})
    missed = [trial.mutation for trial in break_constraints(found) if not trial.is_caught]
    assert "iot.CreateThing:thingName: pattern" in missed


def test_figures_count_what_is_held(planned: Callable[..., PlannedInfrastructure]) -> None:
    """A second resource of the same kind adds constraints, but no different ones."""
    one = planned({"aws_iot_thing.a": BODIES["aws_iot_thing"]})
    two = planned({"aws_iot_thing.a": BODIES["aws_iot_thing"], "aws_iot_thing.b": BODIES["aws_iot_thing"]})
    first, second = figures(one), figures(two)
    assert 3 == first["attributes"]
    assert (2 * first["attributes"], 2 * first["constraints"]) == (second["attributes"], second["constraints"])
    assert first["different_constraints"] == second["different_constraints"] > 10
