"""The command line `fleet`: the only place of the generator that prints or exits."""

from __future__ import annotations

import importlib
import sqlite3
from pathlib import Path
from typing import Any, NoReturn

import click

from fleet_iot.generator.cli.assist import completion, explain, init, message
from fleet_iot.generator.cli.options import environment_option as _environment_option
from fleet_iot.generator.cli.options import facility_option as _facility_option
from fleet_iot.generator.cli.options import found_manifest as _manifest
from fleet_iot.generator.cli.options import identities_of, layers, mending_in
from fleet_iot.generator.cli.options import manifest_option as _manifest_option
from fleet_iot.generator.cli.options import shown as _shown
from fleet_iot.generator.cli.plan import plan
from fleet_iot.generator.diagnostics import Diagnostic, EnvironmentFault, FleetError, ManifestError, visible
from fleet_iot.generator.diff.impact import REFUSED, Impact
from fleet_iot.generator.filesystem import STANDARD_OUTPUT, fault_of, silence_stdout
from fleet_iot.generator.naming import OUTPUT_FOLDER

OPERATIONS: dict[str, tuple[str, str]] = {
    "synth": ("synth:synth", "Synthesise the Terraform stacks of the approved record."),
    "local": ("local:local", "Runs a local AWS with the whole platform on it."),
    "simulate": ("simulate:simulate", "Lets simulated devices publish believable readings."),
    "keys": ("keys:keys", "Makes device keys and certificate signing requests."),
    "ca": ("ca:ca", "Runs a certificate authority of your own for devices."),
    "onboard": ("onboard:onboard", "Registers the devices of a list, each under its certificate."),
    "bundle": ("bundle:bundle", "Packs all that the devices of a plant need to connect."),
    "device": ("device:device", "Shows, activates, rotates, revokes, moves and retires devices."),
    "certificates": ("device:certificates", "Tells which certificates expire when."),
    "isolation": ("isolation:isolation", "Proves that no thing reaches what belongs to another."),
    "compliance": ("compliance:compliance", "Holds every resource against the controls, without AWS."),
    "anomalies": ("anomalies:anomalies", "Shows what is strange, and notes who has seen it."),
    "archive": ("archive:archive", "Prints the SQL with which Athena reads the raw archive."),
    "backtest": ("backtest:backtest", "Runs the detectors over a history and draws what they find."),
    "history": ("history:history_", "Shows what a thing has measured, by the minute, hour or day."),
    "quarantine": ("quarantine:quarantine", "Looks at records that could not be processed."),
    "replay": ("replay:replay", "Gives records that ran out of retries to the processor again."),
    "demo": ("demo:demo", "Runs everything end to end and reports what came out."),
}
"""Commands that talk to AWS: where each is, and its line in the help. Imported only when one is called for."""

OUTPUT_FORMATS = ("text", "json", "sarif", "github")
"""How `fleet validate` tells faults; all but the first are those of `fleet_iot.generator.cli.formats`."""


class FleetGroup(click.Group):
    """Loads the operations by name, and tells expected faults, and those of disks and files, in one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *OPERATIONS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        return own if own is not None or cmd_name not in OPERATIONS else _load(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = {name: command.get_short_help_str(limit=80) for name, command in self.commands.items()}
        lines = own | {name: line for name, (_, line) in OPERATIONS.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(lines.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FleetError as error:
            _fail(ctx, error)
        except (OSError, sqlite3.Error) as error:
            fault = fault_of(error)
            if fault is None:
                raise
            if STANDARD_OUTPUT in fault.message:
                silence_stdout()
            _fail(ctx, fault)


def _fail(ctx: click.Context, error: FleetError) -> NoReturn:
    for line in error.lines():
        click.echo(line, err=True)
    ctx.exit(error.exit_code)


def _load(name: str) -> click.Command:
    module, _, attribute = OPERATIONS[name][0].partition(":")
    module_name = f"fleet_iot.operations.cli.{module}"
    try:
        loaded = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise EnvironmentFault(f"`fleet {name}` is not in this installation: there is no {module_name}") from None
        raise
    command = getattr(loaded, attribute)
    assert isinstance(command, click.Command), f"{OPERATIONS[name][0]} is no command"  # noqa: S101 - our own table
    return command


@click.version_option(package_name="fleet-iot", prog_name="fleet", message="%(prog)s %(version)s")
@click.group(cls=FleetGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Generates, deploys and proves AWS IoT fleets of many plants from one manifest."""


@main.command()
@_manifest_option
@_environment_option
@click.option(
    "--format",
    "output_format",
    type=click.Choice(OUTPUT_FORMATS),
    default=OUTPUT_FORMATS[0],
    show_default=True,
    help="How faults are told: for people, or for programs, on stdout.",
)
def validate(manifest_path: Path | None, environment: str | None, output_format: str) -> None:
    """Checks the manifest and tells every fault with its place."""
    from fleet_iot.generator.aws.quotas import dashboards_usd
    from fleet_iot.generator.manifest.load import read_with_warnings

    path = _manifest(manifest_path)
    try:
        manifest, warnings = read_with_warnings(path, name=_shown(path), environment=environment)
    except ManifestError as error:
        if output_format == "text":
            raise
        _echo_diagnostics(error.diagnostics, output_format)
        click.get_current_context().exit(error.exit_code)
    if output_format in ("json", "sarif"):
        _echo_diagnostics(warnings, output_format)
        return
    from fleet_iot.generator.cli.formats import in_command

    told = in_command if output_format == "github" else visible
    if output_format == "github" and warnings:
        _echo_diagnostics(warnings, output_format)
    for warning in warnings if output_format == "text" else ():
        click.echo(str(warning), err=True)
    things = sum(facility.thing_count for facility in manifest.facilities.values())
    click.echo(
        f"{told(layers(path, environment))} is valid: {len(manifest.facilities)} facilities, "
        f"{len(manifest.device_types)} device types, {things:,} things."
    )
    if usd := dashboards_usd(len(manifest.facilities)):
        click.echo(f"CloudWatch charges some {usd:,} USD a month for its dashboards.")


@main.command()
@_manifest_option
@_environment_option
@_facility_option
@click.option("--check", is_flag=True, help="Write nothing; exit 4 where the generated tree is stale.")
@click.option("--force", is_flag=True, help="Overwrite files that were edited by hand.")
@click.option(
    "--allow",
    "allowed",
    type=click.Choice([impact.value for impact in REFUSED]),
    multiple=True,
    help="Write what does this to devices; may be repeated. `fleet plan` tells what it is.",
)
def generate(
    manifest_path: Path | None,
    environment: str | None,
    facilities: tuple[str, ...],
    check: bool,
    force: bool,
    allowed: tuple[str, ...],
) -> None:
    """Writes lib/facilities from the manifest."""
    from fleet_iot.generator import pipeline
    from fleet_iot.generator.manifest.load import read_manifest

    path = _manifest(manifest_path)
    manifest = read_manifest(path, name=_shown(path), environment=environment)
    identities = identities_of(path.parent, manifest.environment_suffix)
    if check:
        with mending_in(environment):
            pipeline.check(manifest, path.parent, facilities=facilities, identities=identities)
        click.echo(f"{OUTPUT_FOLDER} is what {visible(layers(path, environment))} says.")
        return
    with mending_in(environment):
        change = pipeline.generate(
            manifest,
            path.parent,
            facilities=facilities,
            force=force,
            allowed=frozenset(map(Impact, allowed)),
            identities=identities,
        )
    written = [f"wrote {OUTPUT_FOLDER}/{name}" for name in change.written]
    removed = [f"removed {OUTPUT_FOLDER}/{name}" for name in change.removed]
    if written or removed:
        click.echo("\n".join(written + removed))
    else:
        click.echo(f"{OUTPUT_FOLDER} is what {visible(layers(path, environment))} says: nothing changed.")


def _echo_diagnostics(diagnostics: tuple[Diagnostic, ...], output_format: str) -> None:
    from fleet_iot.generator.cli.formats import FORMATS

    click.echo(FORMATS[output_format](diagnostics))


main.add_command(completion)
main.add_command(explain)
main.add_command(plan)
main.add_command(init)
main.add_command(message)
