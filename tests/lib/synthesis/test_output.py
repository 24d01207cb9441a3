"""Complete, count and publish the synthesised files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_iot.lib.faults import PrerequisiteError, SynthesisError
from fleet_iot.lib.shared.context import StackContext
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.lib.synthesis.output import (
    add_blocks,
    check_counts,
    check_owner,
    facility_counts,
    read_resources,
    stack_file,
    staging,
)


def _write(outdir: Path, document: dict[str, object]) -> Path:
    path = stack_file(outdir, "s")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def test_blocks_are_added_to_what_constructs_made(tmp_path: Path) -> None:
    """Other types and ids stay, all is sorted, and every argument has a line of its own."""
    path = _write(tmp_path, {"resource": {"t": {"b": {"x": 1}}}, "//": {}})
    add_blocks(path, {"t": {"a": {"y": "ü"}}, "s": {"c": {}}})
    assert read_resources(path) == {"s": {"c": {}}, "t": {"a": {"y": "ü"}, "b": {"x": 1}}}
    assert path.read_text(encoding="utf-8").splitlines()[:8] == [
        "{",
        '  "//": {},',
        '  "resource": {',
        '    "s": {',
        '      "c": {}',
        "    },",
        '    "t": {',
        '      "a": {',
    ]


def test_an_address_that_a_construct_has_is_refused(tmp_path: Path) -> None:
    """An override would win without a word."""
    path = _write(tmp_path, {"resource": {"t": {"a": {"x": 1}}}})
    with pytest.raises(SynthesisError, match=r"s would have t\.a twice"):
        add_blocks(path, {"t": {"a": {"y": 1}}})


def test_a_synthesis_that_fails_leaves_the_former_one(tmp_path: Path) -> None:
    """The former synthesis is kept, states and files of others included, and nothing half-made is left."""
    former = _write(tmp_path, {"resource": {}})
    with pytest.raises(ZeroDivisionError), staging(tmp_path) as staged:
        assert _write(staged, {"resource": {"t": {}}}).stat().st_size // 0
    assert read_resources(former) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["stacks"]


def test_a_synthesis_that_succeeds_replaces_its_own_files_alone(tmp_path: Path) -> None:
    """Terraform's state and the local overrides lie beside the stack's file."""
    outdir = tmp_path / "deep" / "out"
    former = _write(outdir, {"resource": {}})
    (former.parent / "terraform.s.tfstate").write_text("state")
    with staging(outdir) as staged:
        _write(staged, {"resource": {"t": {}}})
        asset = staged / "stacks" / "s" / "assets" / "code.zip"
        asset.parent.mkdir()
        asset.write_bytes(b"zip")
    assert read_resources(former) == {"t": {}}
    found = {path.relative_to(former.parent).as_posix() for path in former.parent.rglob("*") if path.is_file()}
    assert found == {"assets/code.zip", "cdk.tf.json", "terraform.s.tfstate"}


def test_a_state_of_another_application_is_refused(tmp_path: Path) -> None:
    """An apply would destroy what that application has; without a state, or with an empty one, nothing is lost."""
    provider = {"aws": [{"default_tags": [{"tags": {"application": "paint"}}]}]}
    state = _write(tmp_path, {"provider": provider}).with_name("terraform.s.tfstate")
    check_owner(tmp_path, "s", application="mfg", account_id="123456789012")
    state.write_text('{"version": 4, "resources": []}')
    check_owner(tmp_path, "s", application="mfg", account_id="123456789012")
    state.write_text('{"version": 4, "resources": [{"type": "aws_kinesis_stream"}]}')
    check_owner(tmp_path, "s", application="paint", account_id="123456789012")
    with pytest.raises(
        PrerequisiteError, match="has the state of the application 'paint', and this is 'mfg'"
    ) as caught:
        check_owner(tmp_path, "s", application="mfg", account_id="123456789012")
    assert "FLEET_OUTDIR" in caught.value.remedy


def test_a_state_of_another_account_is_refused(tmp_path: Path) -> None:
    """Two environments may have one suffix in two accounts; a folder has the state of one of them."""
    tags = [{"tags": {"application": "mfg"}}]
    provider = {"aws": [{"default_tags": tags, "allowed_account_ids": ["210987654321"]}]}
    state = _write(tmp_path, {"provider": provider}).with_name("terraform.s.tfstate")
    check_owner(tmp_path, "s", application="mfg", account_id="123456789012")
    state.write_text('{"version": 4, "resources": [{"type": "aws_kinesis_stream"}]}')
    check_owner(tmp_path, "s", application="mfg", account_id="210987654321")
    with pytest.raises(PrerequisiteError, match="has the state of the account 210987654321, and this is 123456789012"):
        check_owner(tmp_path, "s", application="mfg", account_id="123456789012")


def test_a_merged_resource_stops_synthesis() -> None:
    """Fewer resources of a type than planned are a fault that names stack, type and both numbers."""
    with pytest.raises(SynthesisError) as caught:
        check_counts(
            "s",
            {"aws_iot_thing": {"pump1": {"name": "pump.1"}}},
            planned={"aws_iot_thing": 2},
            declared={"aws_iot_thing": 1},
        )
    assert caught.value.message == "Stack s has 1 aws_iot_thing where 2 were planned."
    assert caught.value.exit_code == 5


def test_a_type_that_is_planned_but_absent_stops_synthesis() -> None:
    """No block of a planned type counts as none."""
    with pytest.raises(SynthesisError, match="has 0 aws_iot_policy where 1 were planned"):
        check_counts("s", {}, planned={"aws_iot_policy": 1}, declared={})


@pytest.mark.parametrize("declared", [{}, {"aws_sqs_queue": 2}], ids=["by nobody", "twice"])
def test_a_type_that_the_manifest_knows_nothing_of_is_counted_too(declared: dict[str, int]) -> None:
    """Resources in the file must be exactly as many as were declared."""
    with pytest.raises(SynthesisError, match="has 1 aws_sqs_queue where"):
        check_counts("s", {"aws_sqs_queue": {"q": {}}}, planned={}, declared=declared)


@pytest.mark.cdktf
def test_look_alike_ids_are_merged_by_cdktf_and_found_by_the_count(tmp_path: Path) -> None:
    """`pump.1` and `pump1` are two constructs and one block, of which CDKTF says nothing."""
    from fleet_iot.lib import bindings
    from fleet_iot.lib.stacks import BaseStack
    from fleet_iot.lib.synthesis import output
    from fleet_iot.lib.synthesis import run as synthesis

    app = bindings.App(outdir=str(tmp_path), context=synthesis.CONTEXT)
    context = StackContext(application="mfg", environment_suffix="tst", aws_region="eu-west-1", default_tags={})
    stack = BaseStack(app, "s", context)
    for id_ in ("pump.1", "pump1"):
        bindings.IotThingType(stack, id_, name=id_)
    app.synth()
    resources = output.read_resources(output.stack_file(tmp_path, "s"))
    assert (1, 2) == (len(resources["aws_iot_thing_type"]), stack.declared()["aws_iot_thing_type"])
    with pytest.raises(SynthesisError, match="has 1 aws_iot_thing_type where 2 were planned"):
        check_counts("s", resources, planned={}, declared=stack.declared())


def test_bulk_registration_plans_no_things(facility: Callable[..., FacilitySpec]) -> None:
    """Terraform owns groups, policies, rule and template of such a plant, and none of its things."""
    planned = facility_counts(facility(registration="bulk", thing_count=50_000), certificates=0, has_markers=True)
    assert (planned["aws_iot_thing"], planned["aws_iot_certificate"], planned["aws_iot_policy"]) == (0, 0, 1)


def test_locked_archives_have_no_markers(facility: Callable[..., FacilitySpec]) -> None:
    """Locked archives get no objects that only mark a prefix."""
    assert facility_counts(facility(), certificates=0, has_markers=False)["aws_s3_object"] == 0
