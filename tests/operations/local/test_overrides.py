"""Changes to the synthesised stacks for the emulator, and their agreement with the documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fleet_iot.operations.local.deployment import without_drift
from fleet_iot.operations.local.overrides import (
    ADAPTATIONS,
    EXTRA_FILE,
    FIRST_PLAN_DRIFT,
    LASTING_DRIFT,
    OVERRIDE_FILE,
    STACK_FILE,
    write_overrides,
)
from fleet_iot.operations.terraform import PlannedChange
from tests.places import PROJECT

DOCUMENT = PROJECT / "docs" / "local-aws.md"


def overridden(tmp_path: Path, resource: dict[str, Any], *, name: str = "facility-sg-01-dev") -> dict[str, Any]:
    """The override file of a stack with these resources."""
    stack = tmp_path / name
    stack.mkdir()
    (stack / STACK_FILE).write_text(json.dumps({"provider": {"aws": [{"region": "x"}]}, "resource": resource}))
    write_overrides(stack, suffix="dev")
    written: dict[str, Any] = json.loads((stack / OVERRIDE_FILE).read_text())
    return written


def test_a_rule_republishes_to_a_topic_of_its_own_name(tmp_path: Path) -> None:
    """The rule keeps its actions and gets one more, to local/rules and its name, under the local role."""
    written = overridden(
        tmp_path, {"aws_iot_topic_rule": {"rule": {"name": "rule_telemetry_sg_01_dev", "kinesis": [{}]}}}
    )
    action = {
        "role_arn": "arn:aws:iam::000000000000:role/role-local-republish-dev",
        "topic": "local/rules/rule_telemetry_sg_01_dev",
        "qos": 1,
    }
    assert written["resource"] == {"aws_iot_topic_rule": {"rule": {"republish": [action]}}}


def test_only_the_platform_gets_the_republish_role(tmp_path: Path) -> None:
    """The role is made once, in the platform's stack."""
    overridden(tmp_path, {}, name="facility-sg-01-dev")
    overridden(tmp_path, {}, name="tap-dev")
    made = [(tmp_path / name / EXTRA_FILE).exists() for name in ("facility-sg-01-dev", "tap-dev")]
    assert made == [False, True]


def test_a_role_of_a_service_that_runs_outside_trusts_root_as_well(tmp_path: Path) -> None:
    """Lambda's role keeps its own trust and gains the emulator's root; CloudTrail's stays as it is."""
    statements = {
        service: {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": f"{service}.amazonaws.com"}}
        for service in ("lambda", "cloudtrail")
    }
    roles = {name: {"assume_role_policy": json.dumps({"Statement": [each]})} for name, each in statements.items()}
    written = overridden(tmp_path, {"aws_iam_role": roles})["resource"]["aws_iam_role"]
    assert list(written) == ["lambda"]
    trusted = [each["Principal"] for each in json.loads(written["lambda"]["assume_role_policy"])["Statement"]]
    assert trusted == [{"Service": "lambda.amazonaws.com"}, {"AWS": "arn:aws:iam::000000000000:root"}]


def test_what_the_emulator_refuses_is_taken_away(tmp_path: Path) -> None:
    """Insights selectors become an empty dynamic block, tiering is not made, the mapping is disabled."""
    written = overridden(
        tmp_path,
        {
            "aws_cloudtrail": {"with": {"insight_selector": [{"insight_type": "ApiCallRateInsight"}]}, "without": {}},
            "aws_s3_bucket_intelligent_tiering_configuration": {"tiering": {}},
            "aws_lambda_event_source_mapping": {"mapping": {}},
        },
    )
    empty = {"dynamic": {"insight_selector": {"for_each": [], "content": {"insight_type": "x"}}}}
    assert written["resource"] == {
        "aws_cloudtrail": {"with": empty},
        "aws_s3_bucket_intelligent_tiering_configuration": {"tiering": {"count": 0}},
        "aws_lambda_event_source_mapping": {"mapping": {"enabled": False}},
    }


def test_every_provider_block_is_overridden_by_its_alias(tmp_path: Path) -> None:
    """An aliased provider is matched by its alias, and a stack without adaptations has no empty resource block."""
    stack = tmp_path / "tap-dev"
    stack.mkdir()
    (stack / STACK_FILE).write_text(json.dumps({"provider": {"aws": [{}, {"alias": "audit"}]}}))
    write_overrides(stack, suffix="dev")
    written = json.loads((stack / OVERRIDE_FILE).read_text())
    assert [each.get("alias") for each in written.pop("provider")["aws"]] == [None, "audit"]
    assert written == {}


def test_the_document_lists_every_adaptation() -> None:
    """docs/local-aws.md has a row for each adaptation, in the same words, and no other."""
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `aws_")]
    listed = [f"| `{each.resource_type}` | {each.change} | {each.reason} |" for each in ADAPTATIONS]
    assert rows == listed


def test_the_document_names_what_drifts() -> None:
    """docs/local-aws.md names each type that a plan would still update after the first apply."""
    paragraph = next(part for part in DOCUMENT.read_text().split("\n\n") if "only with a second apply" in part)
    drifting = FIRST_PLAN_DRIFT | LASTING_DRIFT
    assert [name for name in sorted(drifting) if f"(`{name}`)" in paragraph] == sorted(drifting)


def test_records_can_be_destroyed_here(tmp_path: Path) -> None:
    """Protection by `retention: records` is removed here; a stack with short retention stays as it is."""
    records = {
        "aws_dynamodb_table": {"t": {"deletion_protection_enabled": True}},
        "aws_s3_bucket": {"b": {"force_destroy": False}},
        "aws_s3_bucket_object_lock_configuration": {"l": {}},
    }
    assert overridden(tmp_path, records)["resource"] == {
        "aws_dynamodb_table": {"t": {"deletion_protection_enabled": False}},
        "aws_s3_bucket": {"b": {"force_destroy": True}},
        "aws_s3_bucket_object_lock_configuration": {"l": {"count": 0}},
    }
    short = {
        "aws_dynamodb_table": {"t": {"deletion_protection_enabled": False}},
        "aws_s3_bucket": {"b": {"force_destroy": True}},
    }
    assert "resource" not in overridden(tmp_path, short, name="facility-th-01-dev")


def test_only_updates_of_what_drifts_for_ever_are_left_out() -> None:
    """An alarm that would be made, replaced or deleted is a change, and so is an update of anything else."""
    changes = [
        PlannedChange(address=f"{kind}.x", action=action)
        for kind in ("aws_cloudwatch_metric_alarm", "aws_sns_topic")
        for action in ("create", "update", "delete")
    ]
    assert [change for change in changes if change not in without_drift(changes)] == [changes[1]]


def test_only_rules_of_telemetry_are_played() -> None:
    """A rule without a Kinesis action has nothing that the rules engine could do."""
    (adaptation,) = [each for each in ADAPTATIONS if each.resource_type == "aws_iot_topic_rule"]
    assert adaptation.override({"name": "rule_events_thing_dev", "s3": [{}]}, "dev") is None
    assert adaptation.override({"name": "rule_telemetry_a_dev", "kinesis": [{}]}, "dev") is not None


def test_a_role_that_publishes_may_do_so_in_batches_here() -> None:
    """Of a role's policy only that statement grows, references to other resources stay; other policies are left."""
    (adaptation,) = [each for each in ADAPTATIONS if each.resource_type == "aws_iam_role_policy"]
    key = {"Action": ["kms:Decrypt"], "Resource": "${aws_kms_key.key-data.arn}"}
    document = {"Statement": [key, {"Action": ["sns:Publish"], "Resource": "t"}]}
    override = adaptation.override({"policy": json.dumps(document)}, "dev")

    assert override is not None
    grown = {"Action": ["sns:Publish", "sns:PublishBatch"], "Resource": "t"}
    assert {"Statement": [key, grown]} == json.loads(override["policy"])
    assert adaptation.override({"policy": json.dumps({"Statement": [key]})}, "dev") is None


def test_a_dashboard_has_no_markup_in_its_json(tmp_path: Path) -> None:
    """A plant's name with an ampersand is the same text in the dashboard's JSON, without the character."""
    body = json.dumps({"widgets": [{"title": "Werk <Süd> & Größe"}]}, ensure_ascii=False)
    written = overridden(tmp_path, {"aws_cloudwatch_dashboard": {"plant": {"dashboard_body": body}}})
    escaped = written["resource"]["aws_cloudwatch_dashboard"]["plant"]["dashboard_body"]
    assert json.loads(body) == json.loads(escaped) and not set("&<>") & set(escaped)
