"""`fleet isolation`."""

from __future__ import annotations

from dataclasses import asdict

import click

from fleet_iot.generator.diagnostics import GateError
from fleet_iot.operations.assurance.isolation.fleet import gather_fleet
from fleet_iot.operations.assurance.isolation.proof import Proof, prove
from fleet_iot.operations.cli.options import json_option, on_project
from fleet_iot.operations.cli.output import emit, first
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.project import Project


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
