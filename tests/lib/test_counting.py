"""Counting what was synthesised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_iot.lib.faults import SynthesisError
from fleet_iot.lib.shared.context import StackContext
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.lib.synthesis.output import check_counts, facility_counts


def test_a_merged_resource_stops_synthesis() -> None:
    """Fewer resources of a type than planned are a fault that names stack, type and both numbers."""
    with pytest.raises(SynthesisError) as caught:
        check_counts(
            "s",
            {"aws_iot_thing": {"pump1": {"name": "pump.1"}}},
            planned={"aws_iot_thing": 2},
            declared={"aws_iot_thing": 1},
        )
    assert caught.value.message == "Stack s holds 1 aws_iot_thing where 2 were planned."
    assert caught.value.exit_code == 5


def test_a_type_that_is_planned_but_absent_stops_synthesis() -> None:
    """No block of a planned type counts as none."""
    with pytest.raises(SynthesisError, match="holds 0 aws_iot_policy where 1 were planned"):
        check_counts("s", {}, planned={"aws_iot_policy": 1}, declared={})


@pytest.mark.parametrize("declared", [{}, {"aws_sqs_queue": 2}], ids=["by nobody", "twice"])
def test_a_type_that_the_manifest_knows_nothing_of_is_counted_too(declared: dict[str, int]) -> None:
    """What is in the file is what was declared, no more and no less."""
    with pytest.raises(SynthesisError, match="holds 1 aws_sqs_queue where"):
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
    with pytest.raises(SynthesisError, match="holds 1 aws_iot_thing_type where 2 were planned"):
        check_counts("s", resources, planned={}, declared=stack.declared())


def test_bulk_registration_plans_no_things(facility: Callable[..., FacilitySpec]) -> None:
    """Terraform owns groups, policies, rule and template of such a plant, and none of its things."""
    planned = facility_counts(facility(registration="bulk", thing_count=50_000), certificates=0, has_markers=True)
    assert (planned["aws_iot_thing"], planned["aws_iot_certificate"], planned["aws_iot_policy"]) == (0, 0, 1)


def test_locked_archives_have_no_markers(facility: Callable[..., FacilitySpec]) -> None:
    """Where objects are locked none are made that only mark a prefix."""
    assert facility_counts(facility(), certificates=0, has_markers=False)["aws_s3_object"] == 0
