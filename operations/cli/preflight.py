"""`fleet preflight`: check before the first apply, and write the deployer's policies."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError
from fleet_iot.generator.text import counted
from fleet_iot.operations.assurance.deployer import CALLER, POLICIES_OF_A_ROLE, STATE, Policy
from fleet_iot.operations.assurance.preflight import ERROR, Finding, policies_of, preflight, summary
from fleet_iot.operations.cli.options import PATH, Site, emit, facilities_option, json_option, on_aws

READERS = {
    STATE: "for the role of the state bucket, TERRAFORM_STATE_ROLE_ARN",
    CALLER: "for the identity that assumes the roles",
}


@click.command("preflight")
@facilities_option
@click.option("--policy", "policy_folder", type=PATH, help="Only write the deployer's IAM policies into this folder.")
@on_aws
@json_option
def preflight_(site: Site, facility_ids: tuple[str, ...], policy_folder: Path | None, as_json: bool) -> None:
    """Check account, permissions, quotas, names and programs before the first apply. Reads only.

    Exit 1 where the apply would fail.
    """
    for each in facility_ids:
        site.project.facility(each)
    if policy_folder is not None:
        policies = policies_of(site.project, aws=site.deployer, facilities=facility_ids)
        emit([each.name for each in policies], _written(policies, policy_folder), as_json=as_json)
        return
    findings = preflight(site.project, aws=site.deployer, facilities=facility_ids)
    emit({"findings": [asdict(each) for each in findings]}, _lines(findings), as_json=as_json)
    errors = sum(each.status == ERROR for each in findings)
    if errors:
        raise OutcomeError(f"an apply would fail: {counted(errors, 'error')}", hint="see docs/preflight.md")


def _lines(findings: tuple[Finding, ...]) -> list[str]:
    lines = []
    for each in findings:
        lines.append(f"{each.status:<7}  {each.check:<11}  {each.what}")
        lines += [f"{'':<22}{each.remedy}"] if each.remedy else []
    return [*lines, summary(findings)]


def _written(policies: tuple[Policy, ...], folder: Path) -> list[str]:
    """Write the documents; return the commands that make them policies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for policy in policies:
            (folder / f"{policy.name}.json").write_text(policy.text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(f"{folder}: {error.strerror}", hint="name another folder with --policy") from None
    lines = []
    for policy in policies:
        lines += [f"# {READERS[policy.of]}"] if policy.of in READERS else []
        lines.append(
            f"aws iam create-policy --policy-name {policy.name} --policy-document file://{folder / policy.name}.json"
        )
    if len(policies) > POLICIES_OF_A_ROLE:
        lines.append(
            f"# a role can have {POLICIES_OF_A_ROLE} policies by default: ask Service Quotas, or split by plant"
        )
    return lines
