"""Run `fleet check`, `fleet isolation` and `fleet compliance`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click

from fleet_iot.generator.cli.completion import complete_environment
from fleet_iot.generator.cli.options import printable
from fleet_iot.generator.diagnostics import GateError
from fleet_iot.generator.filesystem import write_whole
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.generator.text import counted
from fleet_iot.lib.record.place import MANIFEST, environments
from fleet_iot.lib.record.read import INDEX_FILE
from fleet_iot.operations.assurance.check import (
    Checked,
    check_environment,
    failures,
    to_json,
    to_junit,
    to_sarif_log,
)
from fleet_iot.operations.assurance.compliance.findings import read_catalogue
from fleet_iot.operations.assurance.compliance.gate import SHOWN_FAULTS, run_gate, summary
from fleet_iot.operations.assurance.compliance.report import build_report, render_page
from fleet_iot.operations.assurance.compliance.scanners import scanner_versions
from fleet_iot.operations.assurance.isolation.fleet import gather_fleet
from fleet_iot.operations.assurance.isolation.proof import Proof, prove
from fleet_iot.operations.cli.options import PATH, emit, first, json_option, on_project
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.project import Project

CHECK_FORMATS: dict[str, Callable[[Sequence[Checked]], str]] = {
    "json": to_json,
    "sarif": to_sarif_log,
    "junit": lambda checked: to_junit(checked, now=datetime.now()),
}
"""Formats of `fleet check` for programs."""


def _say(line: str) -> None:
    click.echo(printable(line))


def _silent(line: str) -> None:
    """Discard a line for people."""


@click.command()
@click.option(
    "--env",
    "names",
    metavar="NAME",
    multiple=True,
    envvar="FLEET_ENV",
    shell_complete=complete_environment,
    help="Only this environment; may be repeated. Default: the manifest and every fleet.NAME.yaml.",
)
@click.option("--format", "output_format", type=click.Choice(["text", *CHECK_FORMATS]), default="text")
@click.option("--out", type=PATH, help="Write the format to this file, and lines for people to stdout.")
@click.pass_context
def check(ctx: click.Context, names: tuple[str, ...], output_format: str, out: Path | None) -> None:
    """Check the whole project: manifest, record, isolation, synthesis and AWS's rules, without an account.

    Checks the manifest's own environment and every one that has a fleet.NAME.yaml. The exit code is that of the first
    stage that fails.
    """
    root = find_project(Path.cwd())
    is_quiet = output_format != "text" and out is None
    chosen: Sequence[str | None] = names or (None, *environments(root / MANIFEST))
    checked = [check_environment(root, name, say=_silent if is_quiet else _say) for name in chosen]
    if output_format != "text":
        text = CHECK_FORMATS[output_format](checked)
        if out is None:
            click.echo(text)
        else:
            write_whole(out, f"{text}\n".encode())
    if failed := failures(checked):
        which = ", ".join(f"{stage.name} ({each.files})" for each, stage in failed)
        click.echo(f"error: {counted(len(failed), 'stage')} failed: {which}", err=True)
        ctx.exit(failed[0][1].exit_code)


@click.command()
@on_project
@json_option
@click.option("--others", type=click.IntRange(min=1), hidden=True, expose_value=False)  # of former scripts; no effect
def isolation(project: Project, as_json: bool) -> None:
    """Prove that no thing can connect as, publish as or subscribe for another; exit 5 where one can."""
    fleet = gather_fleet(project)
    with Progress("proving") as progress:
        proof = prove(fleet, on_progress=progress.advance)
    emit(asdict(proof) | {"holds": proof.holds}, _lines(proof), as_json=as_json)
    if not proof.holds:
        raise GateError(
            f"the fleet is not isolated: {len(proof.findings)} claims do not hold", hint="see docs/isolation.md"
        )


def _lines(proof: Proof) -> list[str]:
    lines = [
        f"{proof.policies} policies with {proof.grants} grants, {proof.things:,} things in {proof.facilities} "
        f"facilities, {proof.seconds:.1f} s",
        f"for all names: {proof.group_pairs:,} ordered pairs of facility and device type, "
        f"{proof.pattern_pairs:,} pairs of patterns decided",
        f"thing by thing: {proof.rights:,} rights evaluated",
    ]
    findings = [f"not so: {each.group}: {each.claim}: {each.detail}: {each.witness!r}" for each in proof.findings]
    lines += first(findings)
    return [*lines, "isolated: every claim holds" if proof.holds else "not isolated"]


DATA, PAGE = "report.json", "report.html"


@click.command()
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), help="Folder of the reports (default: build/compliance)."
)
@on_project
@json_option
def compliance(project: Project, folder: Path | None, as_json: bool) -> None:
    """Check every resource of the fleet against the compliance controls, without an AWS account."""
    folder = (folder or project.build / "compliance").resolve()
    for name in (DATA, PAGE):
        (folder / name).unlink(missing_ok=True)  # an older verdict must not outlive a run that breaks off
    verdict = run_gate(project, folder=folder, say=lambda line: click.echo(line, err=True))
    report = build_report(verdict, read_catalogue(), about=_about(project))
    (folder / DATA).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(render_page(report), encoding="utf-8")
    click.echo(json.dumps(report["totals"]) if as_json else summary(verdict))
    faults = verdict.faults()
    for fault in faults[:SHOWN_FAULTS]:
        click.echo(fault, err=True)
    if faults:
        more = f" (the first {SHOWN_FAULTS} are above)" if len(faults) > SHOWN_FAULTS else ""
        raise GateError(f"the compliance gate found {len(faults)} faults{more}", hint=f"see {folder / PAGE}")
    if not as_json:
        click.echo(str(folder / PAGE))


def _about(project: Project) -> dict[str, str]:
    """Describe what was checked: the approved record by its hash, and the scanners by their versions."""
    record = (project.record / INDEX_FILE).read_bytes()
    return {
        "application": project.fleet.application,
        "environment": project.environment_suffix,
        "region": project.fleet.region,
        "record": hashlib.sha256(record).hexdigest()[:16],
        "scanners": ", ".join(f"{name} {version}" for name, version in scanner_versions(project.root)),
    }
