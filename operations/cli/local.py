"""The `fleet local` commands: an AWS on this machine, up, applied, looked at and down."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import click

from fleet_iot.generator.cli.completion import complete_facility
from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.local import deployment, emulator
from fleet_iot.operations.local.aws import LocalStatus, load, local_status, shell_commands
from fleet_iot.operations.local.strictness import DEFAULT_SPEED
from fleet_iot.operations.project import load_project

DEFAULT_FOLDER = Path("build") / "local"


def project_root() -> Path:
    """The folder of the project that the current folder is in."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "fleet.yaml").is_file():
            return folder
    raise EnvironmentFault("no fleet.yaml is in this folder or above it", hint="change to the project's folder")


def _folder(given: Path | None) -> Path:
    return given.resolve() if given else project_root() / DEFAULT_FOLDER


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


folder_option = click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), help="Its folder (default: build/local)."
)
port_type = click.IntRange(1, 65535)


@click.group()
def local() -> None:
    """An AWS on this machine: emulator, real Terraform, rules engine and event source."""
    # Ended politely, it still stops what it started.
    signal.signal(signal.SIGTERM, _interrupt)


@local.command()
@folder_option
@click.option("--port", type=port_type, help="HTTPS port (default: a free one).")
@click.option("--mqtt-port", type=port_type, help="MQTT port (default: a free one).")
@click.option(
    "--strict/--lenient", "is_strict", default=True, help="With AWS's rules and delays, or without (default: with)."
)
@click.option(
    "--speed",
    type=click.FloatRange(min=1),
    default=DEFAULT_SPEED,
    show_default=True,
    help="How many times faster than on AWS its delays pass.",
)
def up(folder: Path | None, port: int | None, mqtt_port: int | None, is_strict: bool, speed: float) -> None:
    """Start an empty local AWS."""
    region = load_project(project_root()).fleet.region
    started = emulator.start(
        folder=_folder(folder), region=region, port=port, mqtt_port=mqtt_port, speed=speed if is_strict else None
    )
    click.echo(f"local AWS at {started.url} (MQTT {started.mqtt_host}:{started.mqtt_port}), folder {started.folder}")


@local.command()
@folder_option
@click.option(
    "--facility",
    "facilities",
    multiple=True,
    metavar="ID",
    shell_complete=complete_facility,
    help="Only this plant; may be repeated.",
)
@click.option(
    "--identities",
    type=click.Path(path_type=Path),
    help="Folder of the CSRs (default: FLEET_IDENTITIES, else identities/).",
)
@click.option(
    "--redeliver",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="Share of batches given to the function anew, as if its answer was lost (default: 0).",
)
@click.option("--seed", type=int, default=0, help="Seed of --redeliver (default: 0).")
def apply(
    folder: Path | None, facilities: tuple[str, ...], identities: Path | None, redeliver: float, seed: int
) -> None:
    """Synthesise and apply the stacks, and start rules engine and event source."""
    root = project_root()
    for each in facilities:
        load_project(root).facility(each)
    if identities is not None and not identities.is_dir():
        raise EnvironmentFault(f"{identities} is no folder", hint="--identities takes a folder of CSRs")
    applied = deployment.apply(
        load(_folder(folder)),
        root=root,
        facilities=facilities,
        identities=identities,
        redeliver=redeliver,
        seed=seed,
        say=lambda line: click.echo(line, err=True),
    )
    click.echo(f"{len(applied.resources)} stacks with {sum(applied.resources.values())} resources are applied")


@local.command()
@folder_option
def env(folder: Path | None) -> None:
    """Print the shell's commands that turn AWS's own tools to it: eval "$(fleet local env)"."""
    click.echo("\n".join(shell_commands(load(_folder(folder)))))


@local.command()
@folder_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(folder: Path | None, as_json: bool) -> None:
    """Say what runs and what is applied; exit 7 where something has died."""
    found = local_status(load(_folder(folder)))
    click.echo(json.dumps(asdict(found), indent=2) if as_json else _described(found))
    if not found.is_whole:
        dead = ", ".join(process.name for process in found.processes if not process.is_running)
        raise EnvironmentFault(
            f"of the local AWS in {found.folder}, {dead or 'nothing'} {'has ended' if dead else 'was started'}",
            hint="start anew: fleet local down, then fleet local up (and fleet local apply)",
        )


@local.command()
@folder_option
def destroy(folder: Path | None) -> None:
    """Let Terraform destroy every stack; the local AWS goes on, empty."""
    destroyed = deployment.destroy(load(_folder(folder)), say=lambda line: click.echo(line, err=True))
    click.echo(f"{len(destroyed)} stacks are destroyed")


@local.command()
@folder_option
@click.option("--destroy", "is_destroyed", is_flag=True, help="Let Terraform destroy the stacks first.")
def down(folder: Path | None, is_destroyed: bool) -> None:
    """Stop the local AWS and delete all that it wrote."""
    stopped = load(_folder(folder), is_to_stop=not is_destroyed)
    if is_destroyed:
        deployment.destroy(stopped, say=lambda line: click.echo(line, err=True))
    emulator.stop(stopped)
    click.echo(f"local AWS ended; {stopped.folder} is deleted")


def _described(status: LocalStatus) -> str:
    lines = [f"local AWS at {status.url}, MQTT at {status.mqtt}, in {status.folder}"]
    for process in status.processes:
        lines.append(f"  {process.name}: {'runs' if process.is_running else 'HAS ENDED'} (pid {process.pid})")
        lines += [f"    {line}" for line in process.last_words]
    lines += [f"  {stack}: {count} resources" for stack, count in status.resources.items()]
    return "\n".join(lines if status.resources else [*lines, "  nothing is applied"])
