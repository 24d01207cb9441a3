"""The gate: synthesise, plan, scan, check, judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fleet_iot.operations.assurance.compliance import scanners
from fleet_iot.operations.assurance.compliance.checks import CHECKS
from fleet_iot.operations.assurance.compliance.controls import read_catalogue, read_skips
from fleet_iot.operations.assurance.compliance.findings import OWN
from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure
from fleet_iot.operations.assurance.compliance.planning import (
    ACCOUNT_ID,
    PLAN_DOCUMENT,
    Synthesised,
    plan_stacks,
    synthesise,
)
from fleet_iot.operations.assurance.compliance.requests import figures
from fleet_iot.operations.assurance.compliance.verdict import Verdict, coverage, synthesised_types
from fleet_iot.operations.project import Project

Say = Callable[[str], None]


def run_gate(project: Project, *, folder: Path, say: Say) -> Verdict:
    """Check the whole fleet of `project` against the controls, working in `folder`.

    Raises:
        FleetError: The scanners are missing, or synthesis, plan or scan failed.
    """
    skips = tuple(skip for skip in read_skips() if skip.retention in (None, project.fleet.retention))
    programs = scanners.require_scanners(project.root)
    say("==> synthesise: every stack, a CSR for each thing")
    synthesised = synthesise(project, folder=folder)
    say("==> plan: Terraform and its AWS provider, offline")
    planned = plan_fleet(project, synthesised, logs=folder / "logs")
    say("==> scan: checkov and parliament")
    of_plans = scanners.scan_plans(programs, [stack / PLAN_DOCUMENT for stack in synthesised.stacks])
    of_roles = scanners.scan_roles(programs, scanners.role_policies(planned))
    say("==> check: the project's own checks")
    own = (finding for check in CHECKS for finding in check.run(planned))
    findings = (*own, *of_plans.findings, *of_roles.findings)
    return Verdict(
        findings=findings,
        skips=skips,
        counts=coverage(
            synthesised_types(synthesised.stacks),
            planned=planned,
            findings=findings,
            catalogue=read_catalogue(),
            plans=of_plans,
            roles=of_roles,
            csrs=synthesised.csrs,
        ),
        parse_errors=of_plans.parse_errors + of_roles.parse_errors,
        resources=len(planned.resources),
        figures=figures(planned),
        titles={**of_plans.titles, **of_roles.titles, **{f"{OWN} {check.id}": check.demand for check in CHECKS}},
    )


def plan_fleet(project: Project, synthesised: Synthesised, *, logs: Path) -> PlannedInfrastructure:
    """Plan the synthesised stacks of `project` offline. Raises FleetError."""
    return plan_stacks(
        synthesised.stacks,
        environment_suffix=project.environment_suffix,
        retention=project.fleet.retention,
        region=project.fleet.region,
        account_id=ACCOUNT_ID,
        logs=logs,
    )
