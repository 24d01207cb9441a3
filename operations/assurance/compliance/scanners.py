"""Runs the scanners in their own environment: checkov over the plans, parliament over the policies of roles."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.assurance.compliance.findings import CHECKOV, PARLIAMENT, Finding
from fleet_iot.operations.assurance.compliance.infrastructure import Kind, PlannedInfrastructure, policies

ENVIRONMENT = ".venv-scan"

SCAN_POLICIES = Path(__file__).with_name("scan_policies.py")
"""Runs within the scanners' environment, and cannot be imported here."""

CLEAN_POLICY = "role-policy"
"""The check's name where parliament found nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The findings of a scanner, the number of things it looked at, and of files it could not read."""

    findings: tuple[Finding, ...]
    resources: int
    parse_errors: int
    titles: Mapping[str, str]


def require_scanners(root: Path) -> Path:
    """Return the programs of the scanners' environment. Raises EnvironmentFault where it is not installed."""
    programs = root / ENVIRONMENT / "bin"
    if not (root / ENVIRONMENT / ".complete").is_file():
        raise EnvironmentFault(
            f"the scanners are not installed: there is no {ENVIRONMENT}",
            hint="run `make compliance`, which installs them once from their lock",
        )
    return programs


def scanner_versions(root: Path) -> list[tuple[str, str]]:
    """Return each scanner's name and installed version."""
    installed = (root / ENVIRONMENT).glob("lib/python*/site-packages/*.dist-info")
    found = (path.name.removesuffix(".dist-info").split("-", 1) for path in installed)
    return sorted((name, version) for name, version in found if name in (CHECKOV, PARLIAMENT))


def scan_plans(programs: Path, plans: Iterable[Path]) -> Scan:
    """Run checkov over Terraform's plans. It exits 1 where it found something, and answers in JSON in any case."""
    files = [argument for plan in plans for argument in ("-f", str(plan))]
    command = [
        str(programs / "python"),
        str(programs / "checkov"),
        *files,
        *("--framework", "terraform_plan"),
        *("--output", "json", "--compact", "--skip-download"),
    ]
    report = json.loads(_run(command, allowed=(0, 1)))
    found = [part["results"] for part in (report if isinstance(report, list) else [report]) if "results" in part]
    records = [each for results in found for kind in ("passed_checks", "failed_checks") for each in results[kind]]
    summaries = [part["summary"] for part in (report if isinstance(report, list) else [report]) if "summary" in part]
    return Scan(
        findings=tuple(sorted({_checkov_finding(record) for record in records})),
        resources=sum(summary["resource_count"] for summary in summaries),
        parse_errors=sum(summary["parsing_errors"] for summary in summaries),
        titles={f"{CHECKOV} {record['check_id']}": record["check_name"] for record in records},
    )


def role_policies(planned: PlannedInfrastructure) -> dict[str, str]:
    """Return the policies of roles by address; of IoT, KMS and S3 resource policies parliament knows too little."""
    return {policy.resource.address: policy.text for policy in policies(planned, Kind.ROLE)}


def scan_roles(programs: Path, texts: Mapping[str, str]) -> Scan:
    """Run parliament over policies of roles, given by address."""
    answer = json.loads(_run([str(programs / "python"), str(SCAN_POLICIES)], stdin=json.dumps(dict(texts))))
    findings, titles = [], {f"{PARLIAMENT} {CLEAN_POLICY}": "The policy is well-formed and grants what it says"}
    for address, issues in answer.items():
        if not issues:
            findings.append(Finding(scanner=PARLIAMENT, check=CLEAN_POLICY, resource=address, attribute="policy"))
        for issue in issues:
            finding = _parliament_finding(address, issue)
            findings.append(finding)
            titles[f"{PARLIAMENT} {finding.check}"] = str(issue["title"] or issue["issue"])
    return Scan(findings=tuple(sorted(set(findings))), resources=len(answer), parse_errors=0, titles=titles)


def _checkov_finding(record: Mapping[str, Any]) -> Finding:
    evaluated = record["check_result"].get("evaluated_keys") or ()
    attributes = {key.split("/")[0] for key in evaluated} - {"resource_type"}
    keys = sorted(key for key in attributes if key.isidentifier())  # the others are queries of checkov's own
    has_passed = record["check_result"]["result"] == "PASSED"
    return Finding(
        scanner=CHECKOV,
        check=record["check_id"],
        resource=record["resource"] if record["resource"] != "aws.default" else _stack_of(record),
        attribute=", ".join(keys) or "resource",
        problem="" if has_passed else f"not met: {record['check_name']}",
    )


def _stack_of(record: Mapping[str, Any]) -> str:
    """Return the stack's name in place of a provider's address: it has none of its own."""
    return Path(record["file_abs_path"]).parent.name


def _parliament_finding(address: str, issue: Mapping[str, Any]) -> Finding:
    actions = sorted({str(each["action"]) for each in issue["detail"] if isinstance(each, dict) and "action" in each})
    return Finding(
        scanner=PARLIAMENT,
        check=" ".join([issue["issue"], *actions]),
        resource=address,
        attribute="policy",
        problem=str(issue["title"] or issue["issue"]),
    )


def _run(command: list[str], *, stdin: str = "", allowed: tuple[int, ...] = (0,)) -> str:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("BC_", "CKV_", "CHECKOV_"))
    }
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, env=environment | {"LOG_LEVEL": "ERROR"}
    )
    if done.returncode not in allowed or not done.stdout.strip():
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no output"]
        raise EnvironmentFault(
            f"{Path(command[1]).name} failed: {lines[-1]}", hint=f"to see all of it: {' '.join(command)}"
        )
    return done.stdout
