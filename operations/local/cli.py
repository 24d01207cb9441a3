"""The `fleet local` commands: an AWS on this machine, up, applied, looked at and down."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import click

from generator.diagnostics import EnvironmentFault
from operations.local import lifecycle
from operations.local.aws import load
from operations.project import load_project

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
def up(folder: Path | None, port: int | None, mqtt_port: int | None) -> None:
    """Start an empty local AWS."""
    region = load_project(project_root()).fleet.region
    started = lifecycle.start(folder=_folder(folder), region=region, port=port, mqtt_port=mqtt_port)
    click.echo(f"local AWS at {started.url} (MQTT {started.mqtt_host}:{started.mqtt_port}), folder {started.folder}")


@local.command()
@folder_option
def down(folder: Path | None) -> None:
    """Stop the local AWS and delete all that it wrote."""
    stopped = load(_folder(folder))
    lifecycle.stop(stopped)
    click.echo(f"local AWS ended; {stopped.folder} is deleted")
