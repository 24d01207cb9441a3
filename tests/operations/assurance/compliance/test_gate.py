"""The sample's fleet, planned for real: each mutation of it is caught by its check, each canary by its scanner."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_iot.operations.assurance.compliance.checks import CHECKS
from fleet_iot.operations.assurance.compliance.gate import plan_fleet
from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure
from fleet_iot.operations.assurance.compliance.planning import PLAN_DOCUMENT, synthesise
from fleet_iot.operations.assurance.compliance.scanners import require_scanners, scan_plans, scan_roles
from fleet_iot.operations.project import load_project
from tests.operations.assurance.compliance import canaries
from tests.operations.assurance.compliance.mutations import break_constraints, try_mutations
from tests.places import PROJECT, SAMPLE

pytestmark = [pytest.mark.cdktf, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compliance")


@pytest.fixture(scope="module")
def planned(folder: Path) -> PlannedInfrastructure:
    """Return the plan that `fleet compliance` judges: every stack of the sample's fleet, each thing with a CSR."""
    project = load_project(SAMPLE)
    return plan_fleet(project, synthesise(project, folder=folder), logs=folder / "logs")


def test_every_mutation_is_caught_by_its_check(planned: PlannedInfrastructure) -> None:
    """Faults written by hand for every check that applies, and one derived from each constraint of AWS's models."""
    by_hand, derived = try_mutations(planned), tuple(break_constraints(planned))
    assert [] == [(trial.check, trial.mutation) for trial in (*by_hand, *derived) if not trial.is_caught]
    applicable = {check.id for check in CHECKS if not check.about or any(planned.of(check.about))}
    assert applicable == {trial.check for trial in by_hand}
    constraints = {trial.mutation.partition(":")[0] for trial in derived}
    assert {"iot.CreateThing", "kinesis.CreateStream", "s3.CreateBucket", "dynamodb.CreateTable"} <= constraints


def test_every_canary_is_found_by_its_scanner(planned: PlannedInfrastructure, folder: Path) -> None:
    """A scanner that has quietly stopped to look passes everything; it does not pass these."""
    programs = require_scanners(PROJECT)
    platform = folder / "cdktf.out" / "stacks" / planned.platform / PLAN_DOCUMENT
    plans = scan_plans(programs, [canaries.write_plan(folder / "canaries", plan=platform)])
    roles = scan_roles(programs, canaries.role_policies())
    assert (len(canaries.PLAN_CANARIES), len(canaries.POLICY_CANARIES)) == (plans.resources, roles.resources)
    trials = canaries.judge((*plans.findings, *roles.findings), {**plans.titles, **roles.titles})
    assert [] == [trial.mutation for trial in trials if not trial.is_caught]
