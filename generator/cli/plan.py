"""The command `fleet plan`: what a change does before it does it."""

from __future__ import annotations

from pathlib import Path

import click

from fleet_iot.generator.cli.options import (
    environment_option,
    facility_option,
    found_manifest,
    identities_of,
    manifest_option,
    mending_in,
    printable,
    shown,
)
from fleet_iot.generator.diagnostics import visible

CHANGED = 2
"""The exit code of a plan with changes under `--detailed-exitcode`; terraform's, and that of wrong use too."""


@click.command()
@manifest_option
@environment_option
@facility_option
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
@click.option("--detailed-exitcode", "is_detailed", is_flag=True, help="Exit 2 where there are changes, 0 where none.")
def plan(
    manifest_path: Path | None,
    environment: str | None,
    facilities: tuple[str, ...],
    is_json: bool,
    is_detailed: bool,
) -> None:
    """Tells what the manifest changes, what that does to devices, and what it costs."""
    from fleet_iot.generator import pipeline
    from fleet_iot.generator.diff import report as impact_report
    from fleet_iot.generator.manifest.load import read_manifest

    path = found_manifest(manifest_path)
    manifest = read_manifest(path, name=shown(path), environment=environment)
    with mending_in(environment):
        comparison = pipeline.compare(
            manifest,
            path.parent,
            facilities=facilities,
            identities=identities_of(path.parent, manifest.environment_suffix),
        )
    if is_json:
        click.echo(impact_report.as_json(comparison, manifest=shown(path)))
    else:
        command = "fleet generate" + (f" --env {environment}" if environment else "")
        click.echo(printable(impact_report.as_text(comparison, manifest=visible(shown(path)), command=command)))
    if is_detailed and comparison.changes:
        click.get_current_context().exit(CHANGED)
