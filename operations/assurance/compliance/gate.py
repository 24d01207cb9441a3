"""The gate's story: synthesise, plan, scan, check, mutate, judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fleet_iot.operations.assurance.compliance import canaries, counts, scanners
from fleet_iot.operations.assurance.compliance.api.holding import figures
from fleet_iot.operations.assurance.compliance.checks import CHECKS
from fleet_iot.operations.assurance.compliance.controls import read_skips
from fleet_iot.operations.assurance.compliance.findings import OWN
from fleet_iot.operations.assurance.compliance.mutations import break_constraints, try_mutations
from fleet_iot.operations.assurance.compliance.planning import ACCOUNT_ID, PLAN_DOCUMENT, plan_estate, synthesise
from fleet_iot.operations.assurance.compliance.verdict import Verdict
from fleet_iot.operations.project import Project

Say = Callable[[str], None]


def run_gate(project: Project, *, folder: Path, say: Say) -> Verdict:
    """Holds the whole fleet of `project` against the controls, working in `folder`. Raises FleetError."""
    retention = project.fleet.retention
    skips = tuple(skip for skip in read_skips() if skip.retention in (None, retention))
    programs = scanners.require_scanners(project.root)
    say("==> synthesise: every stack, a CSR for each thing")
    synthesised = synthesise(project, folder=folder)
    say("==> plan: Terraform and its AWS provider, offline")
    estate = plan_estate(
        synthesised.stacks,
        environment_suffix=project.environment_suffix,
        retention=retention,
        region=project.fleet.region,
        account_id=ACCOUNT_ID,
        logs=folder / "logs",
    )
    say("==> scan: checkov and parliament")
    plans = [stack / PLAN_DOCUMENT for stack in synthesised.stacks]
    platform = next(plan for plan in plans if plan.parent.name == estate.platform)
    canary = canaries.write_plan(folder / "canaries", plan=platform)
    of_plans = scanners.scan_plans(programs, [*plans, canary])
    of_roles = scanners.scan_roles(programs, estate, canaries=canaries.role_policies())
    say("==> check and mutate: the project's own checks")
    own = [finding for check in CHECKS for finding in check.run(estate)]
    scanned = (*of_plans.findings, *of_roles.findings)
    titles = {**of_plans.titles, **of_roles.titles, **{f"{OWN} {check.id}": check.demand for check in CHECKS}}
    findings = (*own, *(each for each in scanned if not canaries.is_canary(each.resource)))
    trials = (*try_mutations(estate), *break_constraints(estate))
    return Verdict(
        findings=findings,
        skips=skips,
        trials=(*trials, *canaries.judge(scanned, titles)),
        counts=counts.count(
            counts.synthesised_types(synthesised.stacks),
            estate=estate,
            findings=findings,
            trials=trials,
            plans=of_plans,
            roles=of_roles,
            csrs=synthesised.csrs,
        ),
        parse_errors=of_plans.parse_errors + of_roles.parse_errors,
        resources=len(estate.resources),
        held=figures(estate),
        titles=titles,
    )
