"""Counting what was synthesised."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.counting import check_counts, facility_counts
from lib.faults import SynthesisError
from lib.specs import FacilitySpec


def _write(outdir: Path, resources: dict[str, dict[str, dict[str, str]]]) -> None:
    stack = outdir / "stacks" / "s"
    stack.mkdir(parents=True)
    (stack / "cdk.tf.json").write_text(json.dumps({"resource": resources}))


def test_a_merged_resource_stops_synthesis(tmp_path: Path) -> None:
    """Fewer resources of a type than planned are a fault that names stack, type and both numbers."""
    _write(tmp_path, {"aws_iot_thing": {"pump1": {"name": "pump.1"}}})
    with pytest.raises(SynthesisError) as caught:
        check_counts("s", outdir=tmp_path, planned={"aws_iot_thing": 2})
    assert caught.value.message == "Stack s holds 1 aws_iot_thing where 2 were planned."
    assert caught.value.exit_code == 5


def test_a_type_that_is_planned_but_absent_stops_synthesis(tmp_path: Path) -> None:
    """No block of a planned type counts as none."""
    _write(tmp_path, {})
    with pytest.raises(SynthesisError, match="holds 0 aws_iot_policy where 1 were planned"):
        check_counts("s", outdir=tmp_path, planned={"aws_iot_policy": 1})


def test_bulk_registration_plans_no_things(facility: Callable[..., FacilitySpec]) -> None:
    """Terraform owns groups, policies, rule and template of such a plant, and none of its things."""
    planned = facility_counts(facility(registration="bulk", thing_count=50_000), certificates=0)
    assert (planned["aws_iot_thing"], planned["aws_iot_certificate"], planned["aws_iot_policy"]) == (0, 0, 1)
