"""`fleet keys`: makes the private keys and CSRs that things still miss."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from generator.completion import complete_facility
from generator.diagnostics import OutcomeError
from generator.project import find_project
from operations.identities.create import Created, create_missing
from operations.identities.places import identities_folder, keys_folder, open_store
from operations.progress import Progress
from operations.project import load_project


@click.group()
def keys() -> None:
    """Make device keys and certificate signing requests."""


@keys.command()
@click.option(
    "--facility",
    "facility_ids",
    multiple=True,
    metavar="ID",
    shell_complete=complete_facility,
    help="Only this facility; may be repeated.",
)
@click.option("--all", "every", is_flag=True, help="All facilities.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def create(facility_ids: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Make the keys and CSRs that are missing; keys stay outside the repository, sealed."""
    if every == bool(facility_ids):
        raise click.UsageError("say which: --facility ID (may be repeated) or --all")
    project = load_project(find_project(Path.cwd()))
    chosen = project.facilities if every else tuple(project.facility(each) for each in facility_ids)
    store, folder = open_store(project), identities_folder(project)
    with Progress("keys and CSRs") as progress:
        results = [
            create_missing(project, facility, store=store, folder=folder, on_progress=progress.advance)
            for facility in chosen
        ]
    _tell(results, as_json=as_json)
    if not any(result.things for result in results):
        raise OutcomeError("the chosen facilities have no things", hint="see `things:` in fleet.yaml")
    if not as_json:
        click.echo(f"keys: {keys_folder(project)} (sealed)   CSRs: {folder / project.environment_suffix} (commit them)")


def _tell(results: list[Created], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results]))
        return
    for result in results:
        handed_in = f", {result.handed_in} CSRs handed in" if result.handed_in else ""
        click.echo(
            f"{result.facility}: {result.things} things, {result.keys} keys and {result.requests} CSRs made{handed_in}"
        )
