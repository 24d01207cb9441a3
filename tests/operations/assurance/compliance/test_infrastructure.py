"""Reading stacks: planned values, references where only an apply would know, who belongs to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure, read_stack
from tests.operations.assurance.compliance.mutations.edits import with_body, without

BUCKET = {"bucket": "bucket-raw-dev"}


def plan_of(type_: str, name: str, after: dict[str, Any], unknown: dict[str, Any]) -> dict[str, Any]:
    return {
        "resource_changes": [
            {"mode": "managed", "type": type_, "name": name, "change": {"after": after, "after_unknown": unknown}},
            {"mode": "data", "type": "aws_caller_identity", "name": "current", "change": {}},
        ]
    }


def read(plan: dict[str, Any], bodies: dict[str, Any]) -> Any:
    _, resources = read_stack("tap-dev", synthesised={"resource": bodies}, plan=plan, plan_text="")
    (resource,) = resources
    return resource


def test_a_reference_stands_for_what_only_an_apply_knows() -> None:
    """Unknown values show what was synthesised; those that are not declared are left out."""
    plan = plan_of("aws_sqs_queue", "q", {"name": "queue-x-dev"}, {"kms_master_key_id": True, "arn": True})
    resource = read(plan, {"aws_sqs_queue": {"q": {"kms_master_key_id": "${aws_kms_key.key-data.arn}"}}})
    assert {"name": "queue-x-dev", "kms_master_key_id": "${aws_kms_key.key-data.arn}"} == resource.body


def test_a_single_block_is_declared_with_or_without_its_list() -> None:
    """An unknown value deep in blocks is found whichever way the block was written."""
    type_ = "aws_s3_bucket_server_side_encryption_configuration"
    after = {"rule": [{"apply_server_side_encryption_by_default": [{"sse_algorithm": "aws:kms"}]}]}
    unknown = {"rule": [{"apply_server_side_encryption_by_default": [{"kms_master_key_id": True}]}]}
    default = {"sse_algorithm": "aws:kms", "kms_master_key_id": "${aws_kms_key.key-data.arn}"}
    for declared in (default, [default]):
        bodies = {type_: {"x": {"rule": [{"apply_server_side_encryption_by_default": declared}]}}}
        resource = read(plan_of(type_, "x", after, unknown), bodies)
        assert [default] == resource.block("rule")["apply_server_side_encryption_by_default"]


def test_sets_that_were_sorted_anew_keep_their_references() -> None:
    """Each planned block takes the unknown values of the declared one that it comes from."""
    after = {"kinesis": [{"stream_name": "a"}, {"stream_name": "b"}]}
    unknown = {"kinesis": [{"role_arn": True}, {"role_arn": True}]}
    declared = [{"stream_name": "b", "role_arn": "${r.b.arn}"}, {"stream_name": "a", "role_arn": "${r.a.arn}"}]
    resource = read(
        plan_of("aws_iot_topic_rule", "r", after, unknown), {"aws_iot_topic_rule": {"r": {"kinesis": declared}}}
    )
    assert {"a": "${r.a.arn}", "b": "${r.b.arn}"} == {
        each["stream_name"]: each["role_arn"] for each in resource.blocks("kinesis")
    }


def test_lifecycle_is_kept_though_no_plan_has_it() -> None:
    """`prevent_destroy` is only in what was synthesised."""
    plan = plan_of("aws_kms_key", "k", {}, {})
    resource = read(plan, {"aws_kms_key": {"k": {"lifecycle": {"prevent_destroy": True}}}})
    assert {"prevent_destroy": True} == resource.block("lifecycle")


def test_resources_belong_by_reference_or_by_name(planned: Callable[..., PlannedInfrastructure]) -> None:
    """A bucket's policy is found by either; another bucket's is not."""
    found = planned(
        {
            "aws_s3_bucket.raw": BUCKET,
            "aws_s3_bucket_policy.by-reference": {"bucket": "${aws_s3_bucket.raw.id}"},
            "aws_s3_bucket_policy.by-name": {"bucket": "bucket-raw-dev"},
            "aws_s3_bucket_policy.of-another": {"bucket": "${aws_s3_bucket.other.id}"},
        }
    )
    (bucket,) = found.of("aws_s3_bucket")
    belonging = found.belonging("aws_s3_bucket_policy", "bucket", bucket)
    assert ["by-reference", "by-name"] == [each.id for each in belonging]


def test_an_escaped_expression_is_no_reference(planned: Callable[..., PlannedInfrastructure]) -> None:
    """`$${…}` is text of AWS's own."""
    found = planned({"aws_kms_key.k": {}, "aws_sqs_queue.q": {"kms_master_key_id": "$${aws_kms_key.k.arn}"}})
    (queue,) = found.of("aws_sqs_queue")
    assert found.target(queue, queue.body["kms_master_key_id"]) is None


def test_a_changed_estate_leaves_the_first_as_it_is(planned: Callable[..., PlannedInfrastructure]) -> None:
    """Mutations do not wear the infrastructure out."""
    first = planned({"aws_s3_bucket.raw": BUCKET})
    (bucket,) = first.of("aws_s3_bucket")
    second = with_body(first, bucket, {"bucket": "other"})
    assert ["bucket-raw-dev"] == [each.body["bucket"] for each in first.of("aws_s3_bucket")]
    assert ["other"] == [each.body["bucket"] for each in second.of("aws_s3_bucket")]
    assert [] == list(without(first, [bucket]).of("aws_s3_bucket"))
