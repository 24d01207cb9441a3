"""`fleet keys`: makes the private keys and CSRs that things still miss."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from fleet_iot.generator.cli.completion import complete_facility
from fleet_iot.generator.diagnostics import OutcomeError, RequestError
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.lib.specs import FacilitySpec, suffixed
from fleet_iot.operations.pki.csr import Created, create_missing
from fleet_iot.operations.pki.keystore import identities_folder, keys_folder, ledgers_of, open_store
from fleet_iot.operations.pki.spent import SpentKeys, journals_of
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.project import Project, load_project


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
@click.option("--renew", "renewed", multiple=True, metavar="THING", help="Another key for one revoked or retired.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def create(facility_ids: tuple[str, ...], every: bool, renewed: tuple[str, ...], as_json: bool) -> None:
    """Make the keys and CSRs that are missing; keys stay outside the repository, sealed. Exit 1 where some are of keys
    that were revoked or retired."""
    if every == bool(facility_ids):
        raise click.UsageError("say which: --facility ID (may be repeated) or --all")
    project = load_project(find_project(Path.cwd()))
    chosen = project.facilities if every else tuple(project.facility(each) for each in facility_ids)
    if renewed and len(chosen) != 1:
        raise click.UsageError("--renew is of one facility's things: say which, --facility ID")
    if not any(next(project.things(facility), None) for facility in chosen):
        raise OutcomeError("the chosen facilities have no things", hint="see `things:` in fleet.yaml")
    names = _planned_names(project, chosen[0], renewed) if renewed else []
    spent, folder = _spent(project), identities_folder(project)
    store = open_store(project, founds=True)
    with Progress("keys and CSRs") as progress:
        results = [
            create_missing(
                project,
                facility,
                store=store,
                folder=folder,
                on_progress=progress.advance,
                spent=spent,
                renewed=names,
            )
            for facility in chosen
        ]
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results]))
    else:
        _tell(project, results, folder)
    _refuse_spent(results)


def _refuse_spent(results: list[Created]) -> None:
    """Raise OutcomeError where things have spent keys, whose CSRs would be refused wherever they are used."""
    spoiled = [(result.facility, name) for result in results for name in result.spent]
    if spoiled:
        facility, name = spoiled[0]
        more = f" (and {len(spoiled) - 1} more)" if len(spoiled) > 1 else ""
        raise OutcomeError(
            f"the key of {', '.join(name for _, name in spoiled[:3])}{more} was revoked or retired",
            hint=f"give each another: fleet keys create --facility {facility} --renew {name}",
        )


def _spent(project: Project) -> frozenset[bytes]:
    """The keys that the application's journals and its own authorities' ledgers on this machine know as spent."""
    known = SpentKeys([*journals_of(project), *ledgers_of(project)])
    try:
        return known.keys()
    finally:
        known.close()


def _planned_names(project: Project, facility: FacilitySpec, renewed: tuple[str, ...]) -> list[str]:
    """The full names of the facility's things. Raises RequestError for one that it does not plan."""
    suffix = project.environment_suffix
    names = [each if each.endswith(f"-{suffix}") else suffixed(each, suffix) for each in renewed]
    planned = {thing.name for thing in project.things(facility)}
    if unknown := sorted(set(names) - planned):
        raise RequestError(f"{facility.id} plans no thing {unknown[0]}", hint="see lib/facilities")
    return names


def _tell(project: Project, results: list[Created], folder: Path) -> None:
    for result in results:
        handed_in = f", {result.handed_in} CSRs handed in" if result.handed_in else ""
        click.echo(
            f"{result.facility}: {result.things} things, {result.keys} keys and {result.requests} CSRs made{handed_in}"
        )
    click.echo(f"keys: {keys_folder(project)} (sealed)   CSRs: {folder / project.environment_suffix} (commit them)")
