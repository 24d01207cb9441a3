"""`fleet demo`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import click

from fleet_iot.generator.cli.options import environment_option
from fleet_iot.generator.diagnostics import FleetError
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.operations.cli.options import PATH
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.project import Project, build_folder, load_project
from fleet_iot.operations.rehearsal.demo import DemoRequest, faults, run_demo, summary


class VerdictError(FleetError):
    """The demo ran, and its measurements are wrong."""

    exit_code = 1


@click.command()
@environment_option
@click.option("--things", type=click.IntRange(min=1), default=45, show_default=True, help="How many things publish.")
@click.option("--rate", type=click.FloatRange(min=1), default=200.0, show_default=True, help="Messages a second.")
@click.option("--duration", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--dir", "folder", type=PATH, help="Its folder (default: build/demo).")
def demo(environment: str | None, things: int, rate: float, duration: float, seed: int, folder: Path | None) -> None:
    """Run the whole platform on a local AWS, end to end, and judge it; exit 1 where the verdict is not clean."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that `kill` stops everything too
    root = find_project(Path.cwd())
    folder = (folder or build_folder(root, environment) / "demo").resolve()
    request = DemoRequest(folder=folder, things=things, rate=rate, duration_s=duration, seed=seed)
    with Progress("publishing") as progress:
        report = run_demo(
            request,
            generate=lambda: _generate(root, environment),
            say=lambda line: click.echo(line, err=True),
            on_progress=progress.advance,
        )
    (folder / "report.json").write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    click.echo(summary(report))
    wrong = faults(report)
    if wrong:
        raise VerdictError("; ".join(wrong), hint=f"see {folder / 'report.json'} and {folder / 'logs'}")
    click.echo(f"\nEvery reading was counted exactly once. {folder / 'report.json'}")


def _generate(root: Path, environment: str | None) -> Project:
    """Run `fleet generate` in a process of its own, and load the record."""
    option = ["--env", environment] if environment else []
    command = [sys.executable, "-P", "-m", "fleet_iot", "generate", *option]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if run.returncode:
        click.echo(run.stderr, err=True, nl=False)
        raise click.exceptions.Exit(run.returncode)
    return load_project(root, environment)
