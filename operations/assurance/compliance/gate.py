"""The gate: synthesise, plan, scan, check and judge; the verdict, and the report of it as data and as a page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.operations.assurance.compliance import scanners
from fleet_iot.operations.assurance.compliance.checks import CHECKS
from fleet_iot.operations.assurance.compliance.findings import (
    CHECKOV,
    OWN,
    Catalogue,
    Finding,
    Skip,
    read_catalogue,
    read_skips,
    stale,
)
from fleet_iot.operations.assurance.compliance.infrastructure import POLICY_ATTRIBUTES, PlannedInfrastructure, policies
from fleet_iot.operations.assurance.compliance.planning import (
    ACCOUNT_ID,
    PLAN_DOCUMENT,
    Synthesised,
    plan_stacks,
    synthesise,
)
from fleet_iot.operations.assurance.compliance.requests import figures
from fleet_iot.operations.assurance.compliance.scanners import Scan
from fleet_iot.operations.project import Project

# The verdict: what passed, what failed, what is accepted and why, and whether the gate looked at everything.

KNOWN_TO_CHECKOV = frozenset(
    {
        "aws_cloudtrail",
        "aws_cloudwatch_log_group",
        "aws_cloudwatch_metric_alarm",
        "aws_dynamodb_table",
        "aws_iam_role",
        "aws_iam_role_policy",
        "aws_kinesis_stream",
        "aws_kms_key",
        "aws_lambda_function",
        "aws_s3_bucket",
        "aws_s3_bucket_lifecycle_configuration",
        "aws_s3_bucket_ownership_controls",
        "aws_s3_bucket_policy",
        "aws_s3_bucket_public_access_block",
        "aws_scheduler_schedule",
        "aws_sns_topic",
        "aws_sns_topic_policy",
        "aws_sqs_queue",
        "aws_sqs_queue_policy",
    }
)
"""Types that checkov has checks for: each such resource must have a verdict. It has none for IoT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """The number of something in the plans, and the number that the gate looked at."""

    what: str
    expected: int
    seen: int

    @property
    def is_right(self) -> bool:
        return self.seen == self.expected


def synthesised_types(stacks: Iterable[Path]) -> dict[str, Counter[str]]:
    """Count the resources of each stack by type, from the synthesised files only."""
    found = {}
    for stack in stacks:
        resources = json.loads((stack / "cdk.tf.json").read_bytes()).get("resource", {})
        found[stack.name] = Counter({type_: len(bodies) for type_, bodies in resources.items()})
    return found


def coverage(
    synthesised: dict[str, Counter[str]],
    *,
    planned: PlannedInfrastructure,
    findings: Iterable[Finding],
    catalogue: Catalogue,
    plans: Scan,
    roles: Scan,
    csrs: int,
) -> tuple[Count, ...]:
    """Count what the gate looked at against what was synthesised, so that it cannot pass by looking at nothing."""
    findings = tuple(findings)
    total: Counter[str] = sum(synthesised.values(), Counter())
    counted = Counter(resource.stack for resource in planned.resources)
    judged = {each.resource for each in findings}
    judged_by_checkov = {each.resource for each in findings if each.scanner == CHECKOV}
    known = [each for each in planned.resources if each.type in KNOWN_TO_CHECKOV]
    own = {each.check for each in findings if each.scanner == OWN}
    applicable = {check.id for check in CHECKS if not check.about or total[check.about]}
    controls = _applicable_controls(catalogue, applicable, planned)
    answered = {control.id for finding in findings for control in catalogue.controls_of(finding)}
    return (
        *(
            Count(what=f"resources of {stack}, planned", expected=types.total(), seen=counted[stack])
            for stack, types in sorted(synthesised.items())
        ),
        Count(
            what="resources judged by at least one check",
            expected=total.total(),
            seen=sum(each.address in judged for each in planned.resources),
        ),
        Count(
            what="controls with a check that looked at something", expected=len(controls), seen=len(controls & answered)
        ),
        Count(what="resources that checkov read", expected=total.total(), seen=plans.resources),
        Count(
            what="resources of types that checkov knows, with a verdict",
            expected=sum(total[type_] for type_ in KNOWN_TO_CHECKOV),
            seen=sum(each.address in judged_by_checkov for each in known),
        ),
        Count(
            what="policies of roles that parliament read",
            expected=total["aws_iam_role_policy"] + total["aws_iam_policy"],
            seen=roles.resources,
        ),
        Count(
            what="policies that the own checks read",
            expected=sum(total[type_] for type_ in POLICY_ATTRIBUTES),
            seen=sum(bool(policy.statements) for policy in policies(planned)),
        ),
        Count(what="certificates, one for each CSR", expected=csrs, seen=total["aws_iot_certificate"]),
        Count(what="own checks that saw something", expected=len(applicable), seen=len(applicable & own)),
    )


def _applicable_controls(catalogue: Catalogue, applicable: set[str], planned: PlannedInfrastructure) -> set[str]:
    """Return the controls that something in this fleet must answer.

    A fleet that is registered in bulk has no certificates, so a control that only checks of certificates answer does
    not apply to it.
    """
    addresses = (*(each.address for each in planned.resources), *(stack.name for stack in planned.stacks))
    missing = tuple(
        prefix
        for prefix, starts in catalogue.only.items()
        if not any(address.startswith(starts) for address in addresses)
    )
    return {
        control
        for check, controls in catalogue.checks.items()
        if not check.startswith(f"{OWN} ") or check.removeprefix(f"{OWN} ") in applicable
        for control in controls
        if not control.startswith(missing)
    }


SHOWN_FAULTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Everything that a run of the gate found."""

    findings: tuple[Finding, ...]
    skips: tuple[Skip, ...]
    counts: tuple[Count, ...]
    parse_errors: int
    resources: int
    figures: Mapping[str, int]
    """Counts of attributes judged by AWS's service models, and of the constraints."""

    titles: Mapping[str, str]
    """The demand of each check, by `SCANNER CHECK`."""

    def skip_of(self, finding: Finding) -> Skip | None:
        """Return the skip that accepts a failed finding, where there is one."""
        if finding.has_passed:
            return None
        return next((skip for skip in self.skips if skip.covers(finding)), None)

    def word_for(self, finding: Finding) -> str:
        if finding.has_passed:
            return "passed"
        return "skipped" if self.skip_of(finding) else "failed"

    def totals(self) -> dict[str, int]:
        """Return the figures of the report."""
        words = Counter(map(self.word_for, self.findings))
        return {
            "passed": words["passed"],
            "failed": words["failed"],
            "skipped": words["skipped"],
            "parse_errors": self.parse_errors,
            "resources": self.resources,
            **self.figures,
        }

    def by_scanner(self) -> dict[str, dict[str, int]]:
        """Count each scanner's findings by verdict."""
        found: dict[str, Counter[str]] = {}
        for finding in self.findings:
            found.setdefault(finding.scanner, Counter())[self.word_for(finding)] += 1
        return {
            scanner: {word: words[word] for word in ("passed", "failed", "skipped")}
            for scanner, words in sorted(found.items())
        }

    def faults(self) -> tuple[str, ...]:
        """List everything for which the gate must fail, each in a sentence; empty where all is well."""
        return (
            *(
                f"{each.resource} {each.attribute}: {each.problem} ({each.scanner} {each.check})"
                for each in self.findings
                if self.word_for(each) == "failed"
            ),
            *(
                f"the skip of {each.check} on {each.resource} is stale: nothing fails there"
                for each in stale(self.skips, self.findings)
            ),
            *(
                f"{each.what}: {each.seen} where {each.expected} were expected"
                for each in self.counts
                if not each.is_right
            ),
            *([f"{self.parse_errors} files could not be parsed"] if self.parse_errors else []),
        )


def summary(verdict: Verdict) -> str:
    """Format the figures on a few lines."""
    totals = verdict.totals()
    scanners = "; ".join(
        f"{scanner} {words['passed']:,} passed, {words['failed']} failed, {words['skipped']} skipped"
        for scanner, words in verdict.by_scanner().items()
    )
    return (
        f"{totals['passed']:,} passed, {totals['failed']} failed, {totals['skipped']} skipped with a reason, "
        f"{totals['parse_errors']} parse errors, on {totals['resources']:,} resources\n"
        f"{scanners}\n"
        f"{totals['attributes']:,} attributes are accepted by AWS's service models, under {totals['constraints']:,} "
        f"constraints, {totals['different_constraints']:,} different ones"
    )


# The gate: synthesise, plan, scan, check, judge.

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
        data_events=project.fleet.audit.data_events,
        region=project.fleet.region,
        account_id=ACCOUNT_ID,
        logs=logs,
    )
