"""`fleet isolation`: proves that no thing reaches what belongs to another, from the generated policies alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from fleet_iot.generator.diagnostics import GateError, visible
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.operations.assurance.isolation.fleet import gather_fleet
from fleet_iot.operations.assurance.isolation.proof import Proof, prove
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.project import load_project

_SHOWN = 20


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def isolation(as_json: bool) -> None:
    """Prove that no thing can connect as, publish as or subscribe for another; exit 5 where one can."""
    fleet = gather_fleet(load_project(find_project(Path.cwd())))
    with Progress("proving") as progress:
        proof = prove(fleet, on_progress=progress.advance)
    click.echo(json.dumps(asdict(proof) | {"holds": proof.holds}) if as_json else _text(proof))
    if not proof.holds:
        raise GateError(
            f"the fleet is not isolated: {len(proof.findings)} claims do not hold", hint="see docs/isolation.md"
        )


def _text(proof: Proof) -> str:
    lines = [
        f"{proof.policies} policies with {proof.grants} grants, {proof.things:,} things in {proof.facilities} "
        f"facilities, {proof.seconds:.1f} s",
        f"for all names: {proof.group_pairs:,} ordered pairs of facility and device type, "
        f"{proof.pattern_pairs:,} pairs of patterns decided",
        f"thing by thing: {proof.rights:,} rights evaluated",
    ]
    lines += [
        visible(f"not so: {each.group}: {each.claim}: {each.detail}: {each.witness!r}")
        for each in proof.findings[:_SHOWN]
    ]
    if len(proof.findings) > _SHOWN:
        lines.append(f"and {len(proof.findings) - _SHOWN} more (--json lists all)")
    lines.append("isolated: every claim holds" if proof.holds else "not isolated")
    return "\n".join(lines)
