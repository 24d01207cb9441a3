"""`fleet keys`."""

from __future__ import annotations

from pathlib import Path

import click

from fleet_iot.generator.cli.completion import complete_thing
from fleet_iot.generator.diagnostics import OutcomeError
from fleet_iot.generator.text import counted
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.cli.options import emit, facilities_option, json_option, on_project
from fleet_iot.operations.pki.csr import Created, create_missing
from fleet_iot.operations.pki.keystore import identities_folder, keys_folder, ledgers_of, open_store
from fleet_iot.operations.pki.spent import SpentKeys, journals_of
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry.names import resolve


@click.group()
def keys() -> None:
    """Make device keys and certificate signing requests."""


@keys.command()
@facilities_option
@click.option("--all", "every", is_flag=True, help="All facilities.")
@click.option(
    "--renew",
    "renewed",
    multiple=True,
    metavar="THING",
    shell_complete=complete_thing,
    help="Another key for one revoked or retired.",
)
@on_project
@json_option
def create(
    project: Project, facility_ids: tuple[str, ...], every: bool, renewed: tuple[str, ...], as_json: bool
) -> None:
    """Make missing keys and CSRs. Keys are sealed outside the repository; exit 1 where some were revoked or retired."""
    if every == bool(facility_ids):
        raise click.UsageError("say which: --facility ID (may be repeated) or --all")
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
    emit(results, _lines(project, results, folder), as_json=as_json)
    _refuse_spent(results)


def _refuse_spent(results: list[Created]) -> None:
    """Raise OutcomeError where things have revoked or retired keys: their CSRs would be refused everywhere."""
    spoiled = [(result.facility, name) for result in results for name in result.spent]
    if spoiled:
        facility, name = spoiled[0]
        more = f" (and {len(spoiled) - 1} more)" if len(spoiled) > 1 else ""
        raise OutcomeError(
            f"the key of {', '.join(name for _, name in spoiled[:3])}{more} was revoked or retired",
            hint=f"give each another: fleet keys create --facility {facility} --renew {name}",
        )


def _spent(project: Project) -> frozenset[bytes]:
    """Read the revoked and retired keys from the application's journals and ledgers on this machine."""
    known = SpentKeys([*journals_of(project), *ledgers_of(project)])
    try:
        return known.keys()
    finally:
        known.close()


def _planned_names(project: Project, facility: FacilitySpec, renewed: tuple[str, ...]) -> list[str]:
    """Return the full names of the facility's things. Raises RequestError for one that it does not plan."""
    return list(dict.fromkeys(resolve(project, each, facility=facility).name for each in renewed))


def _lines(project: Project, results: list[Created], folder: Path) -> list[str]:
    lines = [
        f"{result.facility}: {counted(result.things, 'thing')}, "
        f"{counted(result.keys, 'key')} and {counted(result.requests, 'CSR')} made"
        + (f", {result.handed_in} CSRs handed in" if result.handed_in else "")
        for result in results
    ]
    place = folder / project.environment_suffix
    return [*lines, f"keys: {keys_folder(project)} (sealed)   CSRs: {place} (commit them)"]
