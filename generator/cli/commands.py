"""The commands of `fleet`; of the generator, only this module prints and exits."""

from __future__ import annotations

import importlib
import json
import sqlite3
import sys
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from fleet_iot.generator.cli.completion import SHELLS, complete_device_type, complete_name, script
from fleet_iot.generator.cli.options import (
    allow_option,
    environment_option,
    facility_option,
    found_manifest,
    identities_of,
    layers,
    manifest_option,
    printable,
    shown,
    suffix_of,
)
from fleet_iot.generator.diagnostics import (
    Diagnostic,
    EnvironmentFault,
    FleetError,
    ManifestError,
    visible,
)
from fleet_iot.generator.diff.impact import Impact
from fleet_iot.generator.filesystem import STANDARD_OUTPUT, fault_of, silence_stdout
from fleet_iot.generator.text import counted
from fleet_iot.lib.record.place import record_name


@click.command()
@click.argument("name", shell_complete=complete_name)
@manifest_option
@environment_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain(name: str, manifest_path: Path | None, environment: str | None, as_json: bool) -> None:
    """Explain a name: what it is, and where in the manifest it comes from.

    NAME is that of a thing, topic, policy, rule, group, type, metric, table, bucket, role, prefix or folder, with or
    without the environment suffix; or a thing's serial or MAC address.
    """
    from fleet_iot.generator.cli import explain as explaining
    from fleet_iot.generator.manifest.load import read_layers, validate
    from fleet_iot.generator.plan.build import plan_fleet

    path = found_manifest(manifest_path)
    document = read_layers(path, name=shown(path), environment=environment)
    manifest = validate(document)
    found = explaining.explain(
        plan_fleet(manifest),
        name,
        suffixes=(manifest.environment_suffix, suffix_of(manifest.environment_suffix)),
        locate=partial(document.at, is_key=True),
        record=record_name(environment),
        folder=path.parent / record_name(environment),
    )
    if as_json:
        click.echo(json.dumps({"name": name, "explanations": [item.plain() for item in found]}, indent=1))
        return
    click.echo(printable("\n\n".join("\n".join(item.lines()) for item in found)))


@click.command()
@click.argument("device_type", metavar="DEVICE_TYPE", shell_complete=complete_device_type)
@manifest_option
@environment_option
def message(device_type: str, manifest_path: Path | None, environment: str | None) -> None:
    """Print the JSON Schema of the messages of DEVICE_TYPE, for device makers."""
    from fleet_iot.generator.manifest.load import read_manifest
    from fleet_iot.generator.manifest.schema import message_schema

    path = found_manifest(manifest_path)
    manifest = read_manifest(path, name=shown(path), environment=environment)
    if device_type not in manifest.device_types:
        raise click.UsageError(
            f"{device_type!r} is no device type; there are {', '.join(sorted(manifest.device_types))}"
        )
    click.echo(json.dumps(message_schema(manifest, device_type), indent=1))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--application", metavar="ID", help="Root of the MQTT topics.")
@click.option("--environment-suffix", metavar="SUFFIX", help="Last part of every name.")
@click.option("--region", metavar="REGION", help="AWS region.")
@click.option("--facility", metavar="ID", help="Id of the first plant.")
@click.option("--facility-name", metavar="TEXT", help="Its name.")
@click.option("--timezone", metavar="ZONE", help="Its IANA time zone, such as Asia/Singapore.")
@click.option("--things", metavar="TYPE=COUNT,...", help="Its devices, such as press-monitor=4,compressor=2.")
@click.option("--ci", metavar="SYSTEM", help="Pipeline to write: github, gitlab, both or none.")
@click.option("--yes", is_flag=True, help="Ask nothing: use defaults for missing options.")
@click.option(
    "--from",
    "former",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Show what this version changes in the files around the manifest of an existing project.",
)
@click.option("--write", "is_written", is_flag=True, help="With --from: write it without a question.")
def init(folder: Path | None, yes: bool, former: Path | None, is_written: bool, **given: str | None) -> None:
    """Ask a few questions and write a project into FOLDER (default: this folder).

    Manifest, README, pipeline, and the files that git, pip and cdktf-cli read. Overwrites nothing. With --from, renew
    those files but the manifest in a project that an earlier version made; files that were edited are kept.
    """
    from fleet_iot.generator.cli import scaffold

    if former is not None:
        strange = [name for name, value in given.items() if value is not None and name != "ci"]
        if strange or folder is not None:
            raise click.UsageError("--from changes no manifest: only --ci and --write go with it")
        _renew(former, None if given["ci"] is None else _answer("ci", given["ci"], True), is_written)
        return
    if is_written:
        raise click.UsageError("--write goes with --from")
    folder = folder or Path()
    scaffold.refuse_existing(folder)
    answers = {name: _answer(name, given[name], yes) for name in scaffold.QUESTIONS}
    things = scaffold.read_things(answers.pop("things"))
    written, kept = scaffold.write_project(folder, scaffold.Answers(**answers, things=things))
    for path in written:
        click.echo(f"wrote {visible(shown(path))}")
    for path in kept:
        click.echo(f"kept {visible(shown(path))}, which was there")
    place = "" if shown(folder) == "." else f"cd {visible(shown(folder))}, "
    click.echo(f"Next: {place}edit fleet.yaml to your plant; then: fleet validate, fleet generate, fleet check")


def _renew(folder: Path, ci: str | None, is_written: bool) -> None:
    """Show an upgrade of a project's files, and write it if that is wanted."""
    from fleet_iot.generator.cli.scaffold import plan_upgrade

    upgrade = plan_upgrade(folder, ci=ci)
    for each in upgrade.renewals:
        if each.is_written or each.state == "kept":
            click.echo(printable(each.diff()), nl=False)
    words = {"kept": "kept, as it was edited: merge by hand what you want", "left out": "left out, as it was removed"}
    for each in upgrade.renewals:
        click.echo(f"{visible(each.path)}: {words.get(each.state, each.state)}")
    changes = [each for each in upgrade.renewals if each.is_written]
    if not changes:
        click.echo("Nothing to write.")
    elif is_written or (sys.stdin.isatty() and click.confirm(f"Write {counted(len(changes), 'file')}?", err=True)):
        upgrade.write()
        click.echo(f"Wrote {counted(len(changes), 'file')}.")
    else:
        click.echo("Nothing was written: --write does it.")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL: commands, options, and the names of the project."""
    click.echo(script(context.find_root().command, shell))


def _answer(name: str, given: str | None, is_silent: bool) -> str:
    from fleet_iot.generator.cli.scaffold import QUESTIONS

    question = QUESTIONS[name]

    def checked(text: str) -> str:
        if refusal := question.refusal(text.strip()):
            raise click.BadParameter(refusal, param_hint=f"--{name.replace('_', '-')}")
        return text.strip()

    if given is not None or is_silent:
        return checked(given if given is not None else question.default)
    return str(click.prompt(question.text, default=question.default, value_proc=checked, err=True))


CHANGED = 2
"""The exit code of a plan with changes under `--detailed-exitcode`; terraform's, and that of wrong use too."""


@click.command()
@manifest_option
@environment_option
@facility_option
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
@click.option("--detailed-exitcode", "is_detailed", is_flag=True, help="Exit 2 if there are changes, 0 if none.")
def plan(
    manifest_path: Path | None,
    environment: str | None,
    facilities: tuple[str, ...],
    is_json: bool,
    is_detailed: bool,
) -> None:
    """Show what a manifest change does to devices and data, and its AWS calls."""
    from fleet_iot.generator import pipeline
    from fleet_iot.generator.cost.estimate import estimate
    from fleet_iot.generator.diff import report as impact_report
    from fleet_iot.generator.manifest.load import read_manifest

    path = found_manifest(manifest_path)
    manifest = read_manifest(path, name=shown(path), environment=environment)
    comparison = pipeline.compare(
        manifest,
        path.parent,
        environment=environment,
        facilities=facilities,
        identities=identities_of(path, environment, manifest),
    )
    costs = estimate(manifest, facilities=facilities)
    if is_json:
        click.echo(impact_report.as_json(comparison, costs, manifest=shown(path), environment=environment))
    else:
        manifest_name = visible(layers(path, environment))
        click.echo(printable(impact_report.as_text(comparison, costs, manifest=manifest_name, environment=environment)))
    if is_detailed and comparison.changes:
        click.get_current_context().exit(CHANGED)


@click.command()
@manifest_option
@environment_option
@facility_option
@click.option("--basic-ingest", is_flag=True, help="Devices publish through Basic Ingest, which costs no messages.")
@click.option("--prices", type=click.Path(path_type=Path), metavar="FILE", help="Prices over those that are shipped.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def cost(
    manifest_path: Path | None,
    environment: str | None,
    facilities: tuple[str, ...],
    basic_ingest: bool,
    prices: Path | None,
    is_json: bool,
) -> None:
    """Estimate a month's cost by service from the manifest, and rank what would lower it."""
    from fleet_iot.generator.cost import report
    from fleet_iot.generator.cost.estimate import estimate
    from fleet_iot.generator.manifest.load import read_manifest

    path = found_manifest(manifest_path)
    manifest = read_manifest(path, name=shown(path), environment=environment)
    found = estimate(manifest, own_prices=prices, facilities=facilities, is_basic_ingest=basic_ingest)
    if is_json:
        click.echo(report.as_json(found, manifest=shown(path)))
    else:
        click.echo(printable(report.as_text(found, manifest=visible(layers(path, environment)))))


OPERATIONS: dict[str, tuple[str, str]] = {
    "synth": ("synth:synth", "Synthesise the Terraform stacks of the approved record."),
    "deploy": ("deploy:deploy", "Plan all stacks and apply exactly that plan."),
    "destroy": ("deploy:destroy", "Destroy all stacks, or those of single facilities."),
    "local": ("local:local", "Run a local AWS with the whole platform on it."),
    "simulate": ("simulate:simulate", "Simulate devices."),
    "keys": ("keys:keys", "Make device keys and certificate signing requests."),
    "ca": ("ca:ca", "Run a certificate authority of your own for devices."),
    "onboard": ("onboard:onboard", "Register the devices of a list, each under its certificate."),
    "bundle": ("bundle:bundle", "Pack what the devices of a plant need to connect."),
    "device": ("device:device", "Show, activate, rotate, revoke, move, sync and retire devices."),
    "certificates": ("device:certificates", "List certificate expiry."),
    "check": ("assurance:check", "Check the whole project, without an AWS account."),
    "preflight": ("preflight:preflight_", "Check an account before the first apply."),
    "isolation": ("assurance:isolation", "Prove that no thing reaches what belongs to another."),
    "compliance": ("assurance:compliance", "Check resources against compliance controls, without AWS."),
    "anomalies": ("telemetry:anomalies", "List, explain, acknowledge, label and shelve anomalies."),
    "archive": ("telemetry:archive", "Print the SQL with which Athena reads the raw archive."),
    "backtest": ("backtest:backtest_", "Run the detectors over a recorded series and draw the result."),
    "history": ("telemetry:history_", "Show the history of a thing by minute, hour or day."),
    "quarantine": ("telemetry:quarantine", "List, show and replay records that could not be processed."),
    "replay": ("telemetry:replay", "Redrive records from the on-failure queue."),
    "demo": ("demo:demo", "Run everything end to end on a local AWS, and judge it."),
}
"""Commands of `operations`: module and help line of each. Imported only when called."""

OUTPUT_FORMATS = ("text", "json", "sarif", "github")
"""Output formats of `fleet validate`; all but the first are in `fleet_iot.generator.cli.formats`."""


class FleetGroup(click.Group):
    """Imports operations on demand; prints expected errors, and those of disks and files, without a traceback."""

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
    """Generate, deploy and verify AWS IoT fleets of many plants from one manifest."""


@main.command()
@manifest_option
@environment_option
@click.option(
    "--format",
    "output_format",
    type=click.Choice(OUTPUT_FORMATS),
    default=OUTPUT_FORMATS[0],
    show_default=True,
    help="Output format; all but text go to stdout, for programs.",
)
def validate(manifest_path: Path | None, environment: str | None, output_format: str) -> None:
    """Check the manifest and report every error with its place."""
    from fleet_iot.generator.manifest.load import read_with_warnings

    path = found_manifest(manifest_path)
    try:
        manifest, warnings = read_with_warnings(path, name=shown(path), environment=environment)
    except ManifestError as error:
        if output_format == "text":
            raise
        _echo_diagnostics(error.diagnostics, output_format)
        click.get_current_context().exit(error.exit_code)
    if output_format in ("json", "sarif"):
        _echo_diagnostics(warnings, output_format)
        return
    from fleet_iot.generator.cli.formats import in_command

    escaped = in_command if output_format == "github" else visible
    if output_format == "github" and warnings:
        _echo_diagnostics(warnings, output_format)
    for warning in warnings if output_format == "text" else ():
        click.echo(str(warning), err=True)
    things = sum(facility.thing_count for facility in manifest.facilities.values())
    click.echo(
        f"{escaped(layers(path, environment))} is valid: {counted(len(manifest.facilities), 'facility')}, "
        f"{counted(len(manifest.device_types), 'device type')}, {counted(things, 'thing')}."
    )


@main.command()
@manifest_option
@environment_option
@facility_option
@click.option("--check", is_flag=True, help="Write nothing; exit 4 if the record is stale.")
@click.option("--force", is_flag=True, help="Overwrite files that were edited by hand.")
@allow_option
def generate(
    manifest_path: Path | None,
    environment: str | None,
    facilities: tuple[str, ...],
    check: bool,
    force: bool,
    allowed: frozenset[Impact],
) -> None:
    """Write the approved record from the manifest: lib/facilities, or lib/environments/NAME."""
    from fleet_iot.generator import pipeline
    from fleet_iot.generator.manifest.load import read_manifest

    path, record = found_manifest(manifest_path), record_name(environment)
    manifest = read_manifest(path, name=shown(path), environment=environment)
    identities = identities_of(path, environment, manifest)
    if check:
        pipeline.check(manifest, path.parent, environment=environment, facilities=facilities, identities=identities)
        if environment is None:
            pipeline.refuse_orphans(path)
        click.echo(f"{record} is what {visible(layers(path, environment))} says.")
        return
    change = pipeline.generate(
        manifest,
        path.parent,
        environment=environment,
        facilities=facilities,
        force=force,
        allowed=allowed,
        identities=identities,
    )
    written = [f"wrote {record}/{name}" for name in change.written]
    removed = [f"removed {record}/{name}" for name in change.removed]
    if written or removed:
        click.echo("\n".join(written + removed))
    else:
        click.echo(f"{record} is what {visible(layers(path, environment))} says: nothing changed.")


def _echo_diagnostics(diagnostics: tuple[Diagnostic, ...], output_format: str) -> None:
    from fleet_iot.generator.cli.formats import FORMATS

    click.echo(FORMATS[output_format](diagnostics))


main.add_command(completion)
main.add_command(explain)
main.add_command(plan)
main.add_command(cost)
main.add_command(init)
main.add_command(message)
