"""The commands that help a person along: `fleet init`, `fleet explain`, `fleet message` and `fleet completion`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click

from fleet_iot.generator.cli.completion import SHELLS, complete_name, script
from fleet_iot.generator.cli.options import (
    environment_option,
    found_manifest,
    manifest_option,
    printable,
    shown,
    suffix_of,
)
from fleet_iot.generator.diagnostics import visible


@click.command()
@click.argument("name", shell_complete=complete_name)
@manifest_option
@environment_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain(name: str, manifest_path: Path | None, environment: str | None, as_json: bool) -> None:
    """Says what NAME is, and where in the manifest it comes from.

    NAME is that of a thing, topic, policy, rule, group, type, metric, table, bucket, role, prefix or folder, with or
    without the environment suffix.
    """
    from fleet_iot.generator.cli import explain as explaining
    from fleet_iot.generator.manifest.environments import read_layers
    from fleet_iot.generator.manifest.load import validate
    from fleet_iot.generator.plan.build import plan_fleet

    path = found_manifest(manifest_path)
    document = read_layers(path, name=shown(path), environment=environment)
    manifest = validate(document)
    found = explaining.explain(
        plan_fleet(manifest),
        name,
        suffixes=(manifest.environment_suffix, suffix_of(manifest.environment_suffix)),
        locate=partial(document.sources.at, is_key=True),
    )
    if as_json:
        click.echo(json.dumps({"name": name, "explanations": [item.plain() for item in found]}, indent=1))
        return
    click.echo(printable("\n\n".join("\n".join(item.lines()) for item in found)))


@click.command()
@click.argument("device_type", metavar="DEVICE_TYPE")
@manifest_option
@environment_option
def message(device_type: str, manifest_path: Path | None, environment: str | None) -> None:
    """Prints the JSON Schema of what devices of DEVICE_TYPE send, for those who make them."""
    from fleet_iot.generator.manifest.load import read_manifest
    from fleet_iot.generator.manifest.message_schema import message_schema

    path = found_manifest(manifest_path)
    manifest = read_manifest(path, name=shown(path), environment=environment)
    if device_type not in manifest.device_types:
        raise click.UsageError(
            f"{device_type!r} is no device type; there are {', '.join(sorted(manifest.device_types))}"
        )
    click.echo(json.dumps(message_schema(manifest, device_type), indent=1))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--application", metavar="ID", help="Root of the MQTT topics.")
@click.option("--environment-suffix", metavar="SUFFIX", help="Last part of every name.")
@click.option("--region", metavar="REGION", help="AWS region.")
@click.option("--facility", metavar="ID", help="Id of the first plant.")
@click.option("--facility-name", metavar="TEXT", help="Its name, as people say it.")
@click.option("--timezone", metavar="ZONE", help="Its time zone, such as Asia/Singapore.")
@click.option("--things", metavar="TYPE=COUNT,...", help="Its devices, such as press-monitor=4,compressor=2.")
@click.option("--yes", is_flag=True, help="Ask nothing: take the default of what no option says.")
def init(folder: Path, yes: bool, **given: str | None) -> None:
    """Asks a few questions and writes a first manifest into FOLDER (this one by default)."""
    from fleet_iot.generator.cli import scaffold

    scaffold.refuse_existing(folder)
    answers = {name: _answer(name, given[name], yes) for name in scaffold.QUESTIONS}
    things = scaffold.read_things(answers.pop("things"))
    written = scaffold.write_manifest(folder, scaffold.Answers(**answers, things=things))
    for path in written:
        click.echo(f"wrote {visible(shown(path))}")
    click.echo("Edit it to your plant; then: fleet validate, fleet generate")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Prints the script with which SHELL completes commands, options and facility ids."""
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
