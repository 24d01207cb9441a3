"""`fleet local up | apply | env | status | destroy | down`."""

from __future__ import annotations

import functools
import json
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import click

from fleet_iot.generator.cli.options import environment_option
from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.generator.manifest.project import environment_file, find_project
from fleet_iot.lib.record.place import MANIFEST
from fleet_iot.operations.assurance.preflight import read_deployment
from fleet_iot.operations.aws import local_folder
from fleet_iot.operations.cli.options import emit, facilities_option, folder_option, json_option, on_project
from fleet_iot.operations.local import deployment, emulator
from fleet_iot.operations.local.aws import ACCOUNT_ID, LocalStatus, load, local_status, shell_commands
from fleet_iot.operations.local.strictness import DEFAULT_SPEED
from fleet_iot.operations.project import Project


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _in_folder(command: Callable[..., None]) -> Callable[..., None]:
    """Add --dir and --env, and pass the folder of the local AWS."""

    @environment_option
    @folder_option
    @functools.wraps(command)
    def wrapped(environment: str | None, folder: Path | None, **arguments: Any) -> None:
        if folder is None:
            root = find_project(Path.cwd())
            if environment is not None:
                environment_file(root / MANIFEST, environment)
            folder = local_folder(root, environment)
        command(folder=folder.resolve(), **arguments)

    return wrapped


def _of_project(command: Callable[..., None]) -> Callable[..., None]:
    """Add --dir and --env, and pass the project and the folder of its local AWS."""

    @on_project
    @folder_option
    @functools.wraps(command)
    def wrapped(project: Project, folder: Path | None, **arguments: Any) -> None:
        folder = folder or local_folder(project.root, project.environment)
        command(project=project, folder=folder.resolve(), **arguments)

    return wrapped


port_type = click.IntRange(1, 65535)


@click.group()
def local() -> None:
    """Run an AWS on this machine, with emulator, real Terraform, rules engine and event source."""
    # So that SIGTERM too stops what was started.
    signal.signal(signal.SIGTERM, _interrupt)


@local.command()
@_of_project
@click.option("--port", type=port_type, help="HTTPS port (default: a free one).")
@click.option("--mqtt-port", type=port_type, help="MQTT port (default: a free one).")
@click.option(
    "--strict/--lenient", "is_strict", default=True, help="Apply AWS's rules and delays, or not (default: apply)."
)
@click.option(
    "--speed",
    type=click.FloatRange(min=1),
    default=DEFAULT_SPEED,
    show_default=True,
    help="How many times shorter than on AWS its delays are.",
)
@click.option("--as-deployer", is_flag=True, help="Run Terraform under the deployer's policies, not as root.")
def up(
    project: Project,
    folder: Path,
    port: int | None,
    mqtt_port: int | None,
    is_strict: bool,
    speed: float,
    as_deployer: bool,
) -> None:
    """Start an empty local AWS."""
    policies = read_deployment(project, account_id=ACCOUNT_ID).policies if as_deployer else ()
    region = project.fleet.region
    started = emulator.start(
        folder=folder, region=region, port=port, mqtt_port=mqtt_port, speed=speed if is_strict else None
    )
    if policies:
        texts = {each.name: each.text for each in policies}
        deployment.deploy_as_role(started, texts, suffix=project.environment_suffix)
    click.echo(f"local AWS at {started.url} (MQTT {started.mqtt_host}:{started.mqtt_port}), folder {started.folder}")


@local.command()
@_of_project
@facilities_option
@click.option(
    "--identities",
    type=click.Path(path_type=Path),
    help="Folder of the CSRs (default: FLEET_IDENTITIES, else identities/).",
)
@click.option(
    "--redeliver",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="Share of batches delivered twice, as if the function's answer was lost (default: 0).",
)
@click.option("--seed", type=int, default=0, help="Seed of --redeliver (default: 0).")
def apply(
    project: Project,
    folder: Path,
    facility_ids: tuple[str, ...],
    identities: Path | None,
    redeliver: float,
    seed: int,
) -> None:
    """Synthesise and apply the stacks. Then start rules engine and event source."""
    for each in facility_ids:
        project.facility(each)
    if identities is not None and not identities.is_dir():
        raise EnvironmentFault(f"{identities} is no folder", hint="--identities takes a folder of CSRs")
    applied = deployment.apply(
        load(folder),
        root=project.root,
        environment=project.environment,
        facilities=facility_ids,
        identities=identities,
        redeliver=redeliver,
        seed=seed,
        say=lambda line: click.echo(line, err=True),
    )
    click.echo(f"{len(applied.resources)} stacks with {sum(applied.resources.values())} resources are applied")


@local.command()
@_in_folder
def env(folder: Path) -> None:
    """Print shell commands for AWS's own tools. Use: eval "$(fleet local env)"."""
    click.echo("\n".join(shell_commands(load(folder))))


@local.command()
@_in_folder
@json_option
def status(folder: Path, as_json: bool) -> None:
    """Show what runs and what is applied. Exit 7 where a process has ended."""
    found = local_status(load(folder))
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        emit(None, _lines(found), as_json=False)
    if not found.is_whole:
        dead = ", ".join(process.name for process in found.processes if not process.is_running)
        raise EnvironmentFault(
            f"of the local AWS in {found.folder}, {dead or 'nothing'} {'has ended' if dead else 'was started'}",
            hint="start it again: fleet local down, then fleet local up (and fleet local apply)",
        )


@local.command()
@_in_folder
def destroy(folder: Path) -> None:
    """Destroy every stack with Terraform. The local AWS keeps running, empty."""
    destroyed = deployment.destroy(load(folder), say=lambda line: click.echo(line, err=True))
    click.echo(f"{len(destroyed)} stacks are destroyed")


@local.command()
@_in_folder
@click.option("--destroy", "is_destroyed", is_flag=True, help="Destroy the stacks first.")
def down(folder: Path, is_destroyed: bool) -> None:
    """Stop the local AWS and delete its folder."""
    stopped = load(folder, is_to_stop=not is_destroyed)
    if is_destroyed:
        deployment.destroy(stopped, say=lambda line: click.echo(line, err=True))
    emulator.stop(stopped)
    click.echo(f"local AWS ended; {stopped.folder} is deleted")


def _lines(status: LocalStatus) -> list[str]:
    lines = [f"local AWS at {status.url}, MQTT at {status.mqtt}, in {status.folder}"]
    for process in status.processes:
        lines.append(f"  {process.name}: {'runs' if process.is_running else 'HAS ENDED'} (pid {process.pid})")
        lines += [f"    {line}" for line in process.last_words]
    lines += [f"  {stack}: {count} resources" for stack, count in status.resources.items()]
    return lines if status.resources else [*lines, "  nothing is applied"]
